"""Rows as JSON text: constant pieces around the tokens of the row's values.

A template is the text of one row with slots for its values. The text of many rows is the pieces of the
template repeated, the slots of each field filled by one slice assignment: no object for an entity.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import orjson

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.dtypes import Field
from pecs_np.ecs.references import concatenated
from pecs_np.persistence.json.decimals import to_decimals
from pecs_np.persistence.json.runs import Path, Slot, runs_of
from pecs_np.persistence.json.tokens import base64_of, reference_tokens, text_of, tokens_of

__all__ = ["COMPACT", "PRETTY", "Style", "Template", "quoted"]

# Turns references, of any shape of u64, into stable ids.
Mapped = Callable[[Array], Array]


@dataclass(frozen=True)
class Style:
    """How JSON is laid out.

    Attributes
    ----------
    comma, colon : bytes
        Between the elements of a list on one line, and between a name and its value.
    indent : bytes
        Before a member of an object, for each level; without it nothing is broken into lines.
    """

    comma: bytes
    colon: bytes
    indent: bytes

    def line(self, level: int) -> bytes:
        """Return what begins a new line."""
        return b"\n" + self.indent * level if self.indent else b""

    def key(self, name: str) -> bytes:
        """Return the name of a member and the colon."""
        return quoted(name) + self.colon


# Fewer numbers side by side are as quickly written one by one.
_LEAST_NUMBERS = 4000
COMPACT = Style(b",", b":", b"")
PRETTY = Style(b", ", b": ", b"  ")


@functools.lru_cache(maxsize=4096)
def quoted(name: str) -> bytes:
    """Return a name as a JSON string."""
    return orjson.dumps(name)


class Template:
    """The text of a row, to be filled with the values of many.

    Parameters
    ----------
    style : Style

    Attributes
    ----------
    constants : list of bytes
        The text before, between and after the values of a row.
    """

    def __init__(self, style: Style) -> None:
        self.style = style
        self.constants = [b""]
        self._slots: dict[Path, Slot] = {}

    def __len__(self) -> int:
        """Return how many slots a row has."""
        return len(self.constants) - 1

    @property
    def slots(self) -> list[tuple[Path, Field | None, list[int]]]:
        """The path and field of each leaf, and the places in a row where its elements stand, in C order."""
        return [(slot.path, slot.field, slot.places) for slot in self._slots.values()]

    def text(self, text: bytes) -> None:
        """Append constant text."""
        self.constants[-1] += text

    def slot(self, path: Path, field: Field | None = None) -> None:
        """Append a place for a value; without *field* it is a stable id, which gets no quotes."""
        self._slots.setdefault(path, Slot(path, field)).places.append(len(self))
        self.constants.append(b"")

    def members(self, fields: tuple[Field, ...], path: Path, level: int | None) -> None:
        """Append an object of *fields*, broken into lines from *level*, or on one line where that is None."""
        style = self.style
        inside, outside = (b"", b"") if level is None else (style.line(level + 1), style.line(level))
        comma = style.comma if level is None else b","
        self.text(b"{")
        for i, f in enumerate(fields):
            self.text((comma if i else b"") + inside + style.key(f.name))
            self.value(f, (*path, f.name), None if level is None else level + 1)
        self.text((outside if fields else b"") + b"}")

    def value(self, field: Field, path: Path, level: int | None) -> None:
        """Append a value of *field*: nested lists for its subarray."""
        if field.variable or not field.shape:
            self._single(field, path, level)
            return
        ends = list(itertools.accumulate(reversed(field.shape), lambda a, b: a * b))
        for i in range(math.prod(field.shape)):
            opened = sum(i % end == 0 for end in ends)
            if i:
                self.text(b"]" * opened + self.style.comma)
            self.text(b"[" * opened)
            self._single(field, path, None)
        self.text(b"]" * len(ends))

    def _single(self, field: Field, path: Path, level: int | None) -> None:
        if field.fields and not field.variable:
            self.members(field.fields, path, level)
        else:
            self.slot(path, field)

    def render(
        self, count: int, values: Callable[[Path], Array], mapped: Mapped, between: bytes, before: bytes = b""
    ) -> bytes:
        """Return the text of *count* rows.

        Parameters
        ----------
        count : int
        values : callable
            Gives the values of a slot, shape (count, ...).
        mapped : callable
        between : bytes
            Text between rows.
        before : bytes
            Text before the first row.

        Raises
        ------
        ComponentValueError
            If a value could not be read again.
        """
        first = self.constants[0]
        if not count:
            return before
        if not len(self):
            return before + between.join([first] * count)
        runs = self._runs(count, values)
        pieces, others = self._pieces(runs)
        width = 2 * len(others)
        row = [between + first] * width
        row[2::2] = others[:-1]
        row[0] = others[-1] + between + first
        text = row * count
        text[0] = before + first
        for start, (_, texts) in runs.items():
            text[1 + 2 * pieces[start] :: width] = texts
        for slot in self._slots.values():
            if slot.places[0] in pieces and slot.places[0] not in runs:
                tokens = _slot_tokens(values(slot.path), slot.field, mapped, self.style)
                _fill(text, tokens, [pieces[place] for place in slot.places], width)
        text.append(others[-1])
        return b"".join(text)

    def _runs(self, count: int, values: Callable[[Path], Array]) -> dict[int, tuple[int, list[bytes]]]:
        """Return the stop and the text in each row of what can be written as one, by the first place."""
        found: dict[int, tuple[int, list[bytes]]] = {}
        if count * len(self) < _LEAST_NUMBERS:
            return found
        for run in runs_of(list(self._slots.values()), self.constants):
            if count * (run.stop - run.start) >= _LEAST_NUMBERS:
                texts = run.texts(count, values, self.constants)
                if texts is not None:
                    found[run.start] = run.stop, texts
        return found

    def _pieces(self, runs: dict[int, tuple[int, list[bytes]]]) -> tuple[dict[int, int], list[bytes]]:
        """Return the numbers of a row's pieces by their first places, and the constant text after each.

        A piece is a value or a run.
        """
        if not runs:
            return {place: place for place in range(len(self))}, self.constants[1:]
        pieces: dict[int, int] = {}
        others: list[bytes] = []
        place = 0
        while place < len(self):
            pieces[place] = len(others)
            place = runs[place][0] if place in runs else place + 1
            others.append(self.constants[place])
        return pieces, others


def _fill(text: list[bytes], tokens: list[bytes], places: list[int], width: int) -> None:
    """Put the tokens of all rows, one row's after another's, where they belong."""
    many = len(places)
    if many == 1:
        text[1 + 2 * places[0] :: width] = tokens
        return
    rows = len(tokens) // many
    if rows < many and places[-1] - places[0] == many - 1:
        for row in range(rows):
            start = 1 + row * width + 2 * places[0]
            text[start : start + 2 * many : 2] = tokens[row * many : (row + 1) * many]
        return
    for i, place in enumerate(places):
        text[1 + 2 * place :: width] = tokens[i::many]


def _slot_tokens(values: Array, field: Field | None, mapped: Mapped, style: Style) -> list[bytes]:
    if field is None:
        return to_decimals(values)
    if field.variable == "list":
        return _lists(values, field, mapped, style)
    if field.variable:
        write = text_of if field.variable == "str" else base64_of
        return list(map(write, values.tolist()))
    return reference_tokens(mapped(values)) if field.ref else tokens_of(values, field, style.comma)


def _lists(values: Array, field: Field, mapped: Mapped, style: Style) -> list[bytes]:
    """Return the JSON of each list of a column."""
    flat, ends = concatenated(values.tolist(), field.element().base)
    element = Field(field.name, field.dtype, field.ref, field.fields, field.shape, field.enum)
    if element.fields or element.shape:
        template = Template(style)
        template.value(element, (), None)

        def of(path: Path) -> Array:
            found = flat
            for name in path:
                found = found[name]
            return found

        # No JSON text holds a line break, so it can part them.
        rows = template.render(len(flat), of, mapped, b"\n")
        tokens = rows.split(b"\n") if len(flat) else []
    else:
        tokens = _slot_tokens(flat, element, mapped, style)
    comma = style.comma
    return [b"[" + comma.join(tokens[a:b]) + b"]" for a, b in pairwise([0, *ends.tolist()])]

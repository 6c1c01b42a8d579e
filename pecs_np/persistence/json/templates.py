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
from dataclasses import field as member
from itertools import pairwise

import orjson

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.dtypes import Field
from pecs_np.ecs.references import concatenated
from pecs_np.persistence.json.decimals import to_decimals
from pecs_np.persistence.json.tokens import base64_of, reference_tokens, text_of, tokens_of

__all__ = ["COMPACT", "PRETTY", "Path", "Style", "Template", "quoted"]

# Turns references, of any shape of u64, into stable ids.
Mapped = Callable[[Array], Array]
# Finds the values of a slot: the columns' keys, one inside the other.
Path = tuple[str, ...]


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


COMPACT = Style(b",", b":", b"")
PRETTY = Style(b", ", b": ", b"  ")


@functools.lru_cache(maxsize=4096)
def quoted(name: str) -> bytes:
    """Return a name as a JSON string."""
    return orjson.dumps(name)


@dataclass
class _Slot:
    """The places in a row where the elements of a leaf stand, in C order; without a field they are bare ids."""

    path: Path
    field: Field | None
    places: list[int] = member(default_factory=list)


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
        self._slots: dict[Path, _Slot] = {}

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
        self._slots.setdefault(path, _Slot(path, field)).places.append(len(self))
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
        first, *others = self.constants
        width = 2 * len(self)
        if not count:
            return before
        if not width:
            return before + between.join([first] * count)
        row = [between + first] * width
        row[2::2] = others[:-1]
        row[0] = others[-1] + between + first
        text = row * count
        text[0] = before + first
        for slot in self._slots.values():
            tokens = _slot_tokens(values(slot.path), slot.field, mapped, self.style)
            _fill(text, tokens, slot.places, width)
        text.append(others[-1])
        return b"".join(text)


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

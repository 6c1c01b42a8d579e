"""Entities written by the library itself, read from their text without an object for each.

The text of an entity of known types is constant but for its values: the template that writes it tells how
to read it. Where the text of some entities is that template over and over, and nothing else, the values are
taken out, by the commas between them or else by a pattern, and parsed a table or a field at a time. Anything
else, errors included, is left to the parser.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import orjson

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import Field
from pecs_np.errors import InvalidFormatError
from pecs_np.persistence.json.decimals import from_decimals
from pecs_np.persistence.json.document_types import DocumentTypes
from pecs_np.persistence.json.grid import Cut, Grid, doubles
from pecs_np.persistence.json.members import read_structs
from pecs_np.persistence.json.runs import Path
from pecs_np.persistence.json.templates import COMPACT, PRETTY, Style
from pecs_np.persistence.json.values import element_of, read_values
from pecs_np.persistence.json.writer import entity_template

__all__ = ["Scanned", "scan"]

_NUMBER = rb'([^,{}\[\]":\s]++)'
_TEXT = rb'("(?:[^"\\]++|\\.)*+")'
_EITHER = rb'([^,{}\[\]":\s]++|"[^"\\]*+")'
_PAIR = rb"(\[[^\[\]{}]*+\])"
_LIST = rb'(\[(?:"(?:[^"\\]++|\\.)*+"|[^\[\]{}"]++)*+\])'
_DECIMAL = b"([0-9]{1,39}+)"
# More values in a row are no quicker than parsed.
_MOST_SLOTS = 200
# Nor are fewer entities of one archetype after another.
_LEAST_RUN = 16
# In a shorter text, of so many bytes, a pattern finds values sooner.
_LEAST_GRID = 1 << 14
_FIRST = re.compile(rb'\s*\{\s*"stable_id"\s*:\s*"[0-9]+"\s*,\s*"components"\s*:')
_FIRST_END = re.compile(rb'\}[ \t\r\n]*,[ \t\r\n]*\{[ \t\r\n]*"stable_id"')


@dataclass(slots=True)
class Scanned:
    """Entities of one archetype.

    Attributes
    ----------
    types : tuple of ComponentType
    ids : array, shape (n,) of u128
    columns : list of array
        For each type, of its layout's portable dtype.
    """

    types: tuple[ComponentType, ...]
    ids: Array
    columns: list[Array]


def scan(text: bytes, types: DocumentTypes, allow: Callable[[int], None]) -> list[Scanned] | None:
    """Return the entities of *text*, by archetype, or None where it is not what the library writes.

    Parameters
    ----------
    text : bytes
        Of a list of entities, without its brackets.
    types : DocumentTypes
    allow : callable
        Called with the bytes of each column before it is made.
    """
    text = text.strip(b" \t\r\n")
    tables: list[Scanned] = []
    last = text.rfind(b"{", 0, max(text.rfind(b'"stable_id"'), 0))
    start = 0
    while start < len(text):
        pattern = _pattern_of(text, start, types)
        if pattern is None:
            return None
        # Where the last one is like the first, those between mostly are.
        run = text if not start and pattern.run(text, last) else b""
        taken = pattern.take(run)
        if taken is None:
            run = pattern.run(text, start)
            taken = pattern.take(run)
        if taken is None or (len(taken.ids) < _LEAST_RUN <= len(tables)):
            return None
        found = _read(pattern, taken, allow)
        if found is None:
            return None
        tables.append(found)
        start += len(run) + pattern.gap
    return tables or None


def _pattern_of(text: bytes, start: int, types: DocumentTypes) -> _Pattern | None:
    """Return the pattern of the entity that begins at *start*, or None where the library writes none such."""
    if not _FIRST.match(text, start):
        return None
    end = _FIRST_END.search(text, start)
    first = text[start:] if end is None else text[start : end.start() + 1]
    found = _types_of(first, types)
    return None if found is None else _pattern(found, PRETTY if b"\n" in first else COMPACT)


def _read(pattern: _Pattern, taken: _Tokens | _Cells, allow: Callable[[int], None]) -> Scanned | None:
    ids, odd = from_decimals(taken.ids)
    if odd is not None or not (ids["lo"] | ids["hi"]).all():
        return None
    try:
        columns = {}
        for type_ in pattern.types:
            allow(len(ids) * type_.layout.memory.itemsize)
            columns[type_.name] = np.empty(len(ids), type_.layout.portable)
        for path, field, values in taken.values():
            _fill(columns[path[0]], path[1:], field, values)
    except (orjson.JSONDecodeError, InvalidFormatError):
        return None
    return Scanned(pattern.types, ids, list(columns.values()))


def _types_of(first: bytes, types: DocumentTypes) -> tuple[ComponentType, ...] | None:
    """Return the types of the components of an entity, or None where the library would not write them so."""
    try:
        components = orjson.loads(first)["components"]
        names = [component["type_name"] for component in components]
        if names != sorted(set(names)):
            return None
        return tuple([types.of_name(name, "an entity") for name in names])
    except (orjson.JSONDecodeError, InvalidFormatError, KeyError, TypeError):
        return None


class _Tokens(NamedTuple):
    """The ids of some entities, and path, field and tokens, separated by commas, of each slot."""

    ids: list[bytes]
    slots: list[tuple[Path, Field, bytes]]

    def values(self) -> Iterator[tuple[Path, Field, list[Any] | Array]]:
        """Yield the path and field of each slot, and its values."""
        for path, field, tokens in self.slots:
            yield path, field, orjson.loads(b"[%b]" % tokens)


class _Cells(NamedTuple):
    """The ids of some entities, all their values, and path, field and places in a row of each slot."""

    cut: Cut
    slots: list[tuple[Path, Field, list[int]]]

    @property
    def ids(self) -> list[bytes]:
        return self.cut.first

    def values(self) -> Iterator[tuple[Path, Field, list[Any] | Array]]:
        """Yield the path and field of each slot, and its values, which are an array where all slots hold floats."""
        numbers = doubles(self.cut) if all(map(_is_float, self.slots)) else None
        if numbers is None:
            cells = self.cut.parsed()
            width = len(cells) // len(self.ids)
            for path, field, places in self.slots:
                yield path, field, _interleaved([cells[place - 1 :: width] for place in places])
            return
        dtypes = {field.dtype for _, field, _ in self.slots}
        if len(dtypes) == 1:
            numbers = _rounded(numbers, *dtypes)
        for path, field, places in self.slots:
            first, last = places[0] - 1, places[-1]
            together = last - first == len(places)
            part = numbers[:, first:last] if together else numbers[:, np.array(places) - 1]
            yield path, field, _rounded(part, field.dtype)


def _is_float(slot: tuple[Path, Field, list[int]]) -> bool:
    _, field, _ = slot
    return not field.variable and field.dtype is not None and field.dtype.kind == "f"


def _rounded(numbers: Array, dtype: Any) -> Array:
    """Return floats as those of *dtype*.

    Raises
    ------
    InvalidFormatError
        If one is too large.
    """
    if numbers.dtype == dtype:
        return numbers
    with np.errstate(over="ignore", under="ignore"):
        rounded = numbers.astype(dtype)
    if not np.isfinite(rounded).all():
        raise InvalidFormatError(f"expected numbers that fit {dtype.str}")
    return rounded


def _interleaved(columns: list[list[Any]]) -> list[Any]:
    """Return the values of columns row by row."""
    return columns[0] if len(columns) == 1 else list(chain.from_iterable(zip(*columns, strict=True)))


class _Pattern:
    """What matches the text of an entity, and takes its values out.

    Attributes
    ----------
    types : tuple of ComponentType
    gap : int
        Bytes between entities.
    """

    def __init__(self, types: tuple[ComponentType, ...], style: Style) -> None:
        self.types = types
        template = entity_template(types, style)
        self._width = len(template)
        # Of the values in a row, but for the id, which is the first.
        self._slots = [(path, field, places) for path, field, places in template.slots if field is not None]
        between = b"," + style.line(2)
        self._constant = sum(map(len, template.constants)) + len(between)
        self.gap = len(between)
        # Few floats have names, and numbers alone are quicker found.
        self._patterns: list[re.Pattern[bytes]] = []
        for floats in (_NUMBER, _EITHER):
            kinds = [_DECIMAL] * self._width
            for _, field, places in self._slots:
                for place in places:
                    kinds[place] = _token(field, floats)
            pattern = re.escape(template.constants[0])
            for kind, constant in zip(kinds, template.constants[1:], strict=True):
                pattern += kind + re.escape(constant)
            pattern += b"(?:" + re.escape(between) + rb"|\Z)"
            if not self._patterns or pattern != self._patterns[0].pattern:
                self._patterns.append(re.compile(pattern, re.DOTALL))

        commas = any(
            f.variable == "list" or (f.dtype is not None and f.dtype.kind == "c") for _, f, _ in self._slots
        )
        self._grid = None if commas else Grid(template.constants, between)
        self._run = re.compile(b"(?:" + self._patterns[-1].pattern + b")++", re.DOTALL)

    def run(self, text: bytes, start: int) -> bytes:
        """Return the text from *start* on in which one match follows directly after the other, perhaps none."""
        found = self._run.match(text, start)
        if found is None:
            return b""
        return found[0] if found.end() == len(text) else found[0][: -self.gap]

    def take(self, text: bytes) -> _Tokens | _Cells | None:
        """Return what varies between entities, or None where something else stands between them."""
        cut = self._grid.cut(text) if self._grid and len(text) >= _LEAST_GRID else None
        if cut is not None:
            return _Cells(cut, self._slots)
        for pattern in self._patterns:
            rows = pattern.findall(text)
            if not rows:
                continue
            taken = self._taken(rows)
            size = sum(map(len, taken.ids)) + sum(len(tokens) for _, _, tokens in taken.slots)
            size -= sum(len(rows) * len(places) - 1 for _, _, places in self._slots)
            # Where sizes agree, one match follows directly after the other, from the first byte to the last.
            if size + len(rows) * self._constant - self.gap == len(text):
                return taken
        return None

    def _taken(self, rows: list[Any]) -> _Tokens:
        width = self._width
        cells = rows if width == 1 else list(chain.from_iterable(rows))
        slots = []
        for path, field, places in self._slots:
            tokens = _interleaved([cells[place::width] for place in places])
            slots.append((path, field, b",".join(tokens)))
        return _Tokens(cells[::width], slots)


@functools.lru_cache(maxsize=64)
def _pattern(types: tuple[ComponentType, ...], style: Style) -> _Pattern | None:
    fields = [f for t in types for f in t.fields]
    if any(f.variable == "list" and (f.fields or f.shape) for f in fields):
        return None
    slots = sum([_count(f) for f in fields])
    return _Pattern(types, style) if slots < _MOST_SLOTS else None


def _count(field: Field) -> int:
    """Return how many values a field has in the text of a row."""
    inner = sum(map(_count, field.fields)) if field.fields else 1
    for size in field.shape:
        inner *= size
    return inner


def _token(field: Field, floats: bytes) -> bytes:
    """Return the pattern of a value; it may match more than is one, which parsing then refuses."""
    if field.variable == "list":
        return _LIST
    if field.variable or field.enum:
        return _TEXT
    if field.dtype is None:
        return _EITHER
    kind = field.dtype.kind
    if kind == "c":
        return _PAIR
    return _NUMBER if kind in "biu" else _TEXT if kind in "SU" else floats if kind == "f" else _EITHER


def _fill(column: Array, path: Path, field: Field, values: list[Any] | Array) -> None:
    """Put the values of a slot into a column."""
    target = column
    for name in path:
        target = target[name]
    if isinstance(values, np.ndarray):
        target[...] = values.reshape(target.shape)
    elif field.variable:
        target[...] = read_values(values, field, read_structs, _nowhere)
    else:
        element = Field(field.name, field.dtype, field.ref, enum=field.enum)
        target[...] = element_of(element, read_structs)(values, _nowhere).reshape(target.shape)


def _nowhere(_: int, suffix: str = "") -> str:
    return suffix

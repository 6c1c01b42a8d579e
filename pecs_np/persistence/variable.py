"""Variable-length fields as offsets and values: two arrays for a column of texts or lists."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import BYTE, Array
from pecs_np.ecs.dtypes import Field
from pecs_np.ecs.references import concatenated, split
from pecs_np.errors import ComponentValueError, CorruptedDataError

__all__ = ["decode", "encode", "offsets", "sizes"]

_CONTINUATION = 0x80
_ROWS = 1 << 16


def encode(column: Array, field: Field, where: str, first_row: int = 0) -> tuple[NDArray[np.uint64], Array]:
    """Return (offsets, values) of an object column, shape (n,), whose rows count from *first_row* in messages.

    Offsets, shape (n + 1,), count bytes for texts, else elements. Values have the element's dtype in
    memory: references are still entity ids.

    Raises
    ------
    ComponentValueError
        If a value is not what the field holds, or a text has no UTF-8 form.
    """
    objects = _checked(column, field, where, first_row)
    if field.variable == "list":
        flat, ends = concatenated(objects, field.element().base)
        return _offsets(ends), flat
    if field.variable == "str":
        joined = "".join(objects)
        if joined.isascii():
            # Length in characters is length in bytes.
            return _offsets(_ends(objects)), np.frombuffer(joined.encode(), BYTE)
        objects = [_utf8(t, i, where) for i, t in enumerate(objects, first_row)]
    return _offsets(_ends(objects)), np.frombuffer(b"".join(objects), BYTE)


def offsets(column: Array, field: Field, where: str, first_row: int = 0) -> NDArray[np.uint64]:
    """Return the offsets that `encode` returns, and raise what it raises, without making the values."""
    objects = _checked(column, field, where, first_row)
    lengths: Iterable[int] = map(len, objects)
    if field.variable == "str" and not all(map(str.isascii, objects)):
        lengths = (len(_utf8(t, i, where)) for i, t in enumerate(objects, first_row))
    return _offsets(np.cumsum(np.fromiter(lengths, np.intp, len(objects)), dtype=np.intp))


def sizes(column: Array, field: Field) -> NDArray[np.intp]:
    """Return about how many bytes each value of an object column, shape (n,), takes; 0 for what does not fit.

    Of texts it is the characters that are counted, which take up to 4 bytes.
    """
    item = field.element().itemsize
    objects = column.tolist()
    try:
        found = np.fromiter(map(len, objects), np.intp, len(objects))
    except TypeError:
        found = np.array([len(o) if hasattr(o, "__len__") and np.ndim(o) else 0 for o in objects], np.intp)
    return found * item


def _checked(column: Array, field: Field, where: str, first_row: int) -> list[Any]:
    """Return the objects of a column, which are what the field holds."""
    objects: list[Any] = column.tolist()
    if field.variable == "list":
        dtype = field.element().base
        shown = f"(n, {', '.join(map(str, field.shape))})" if field.shape else "(n,)"
        for row, value in enumerate(objects):
            if (
                not isinstance(value, np.ndarray)
                or value.dtype != dtype
                or value.shape[1:] != field.shape
                or not value.ndim
            ):
                raise _misfit(value, f"an array of {dtype}, shape {shown}", first_row + row, where)
        return objects
    kind = str if field.variable == "str" else bytes
    if not set(map(type, objects)) <= {kind}:
        row, value = next((i, v) for i, v in enumerate(objects) if type(v) is not kind)
        raise _misfit(value, kind.__name__, first_row + row, where)
    return objects


def _ends(values: list[Any]) -> NDArray[np.intp]:
    return np.cumsum(np.fromiter(map(len, values), np.intp, len(values)), dtype=np.intp)


def decode(offsets: NDArray[np.uint64], values: Array, field: Field, where: str) -> Array:
    """Return the object column, shape (n,), of *offsets*, shape (n + 1,), and *values*.

    *offsets* have been checked; list values have the element's memory dtype and are shared.

    Raises
    ------
    CorruptedDataError
        If a text is not UTF-8.
    """
    column = np.empty(len(offsets) - 1, object)
    # In blocks, so that the integers and texts on the way are few.
    for start in range(0, len(column), _ROWS):
        stops = offsets[start : start + _ROWS + 1].astype(np.intp)
        first = int(stops[0])
        stops -= first
        part = values[first : first + int(stops[-1])]
        if field.variable == "list":
            column[start : start + _ROWS] = split(part, stops[1:])
        else:
            column[start : start + _ROWS] = _texts(part, stops, field, where)
    return column


def _texts(data: Array, stops: NDArray[np.intp], field: Field, where: str) -> Array:
    """Return the texts that end at *stops* but the first, at which they begin, as an object array."""
    text: Any = data.tobytes()
    if field.variable == "str":
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise CorruptedDataError(f"expected UTF-8, found {error} in {where}") from None
        if len(text) != len(data):
            starts = (data & 0xC0) != _CONTINUATION
            if not starts[stops[stops < len(data)]].all():
                raise CorruptedDataError(f"expected whole characters, found one cut in two in {where}")
            stops = np.concatenate(([0], np.cumsum(starts)))[stops]
    pieces = np.empty(len(stops) - 1, object)
    pieces[:] = [text[a:b] for a, b in pairwise(stops.tolist())]
    return pieces


def _offsets(ends: NDArray[np.intp]) -> NDArray[np.uint64]:
    offsets = np.zeros(len(ends) + 1, "<u8")
    offsets[1:] = ends
    return offsets


def _utf8(text: str, row: int, where: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise _misfit(text, "text that has a UTF-8 form", row, where) from None


def _misfit(value: object, expected: str, row: int, where: str) -> ComponentValueError:
    return ComponentValueError(f"expected {expected}, found {value!r:.80} in row {row} of {where}")

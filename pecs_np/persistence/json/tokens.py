"""Values as JSON text: each element of an array as a token of bytes.

What JSON has no number for is text: ``"NaN"``, ``"Infinity"``, ``"-Infinity"``, bytes as base64, times as
ISO 8601, enum members and references by name and by stable id. Every number is the shortest decimal that
is read back bit for bit.
"""

from __future__ import annotations

import binascii
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.dtypes import Field
from pecs_np.errors import ComponentValueError
from pecs_np.messages import shown
from pecs_np.persistence.json.decimals import to_decimals

__all__ = [
    "NAMED_FLOATS",
    "QUIET_NAN",
    "all_numbers",
    "base64_of",
    "reference_tokens",
    "text_of",
    "tokens_of",
]

NAMED_FLOATS = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
# The bits of what "NaN" alone stands for.
QUIET_NAN = {2: 0x7E00, 4: 0x7FC00000, 8: 0x7FF8000000000000}
_NUMPY = orjson.OPT_SERIALIZE_NUMPY
# The one float32 whose shortest decimal, read as a double and then rounded, is its neighbour.
_TWICE_ROUNDED, _NINE_DIGITS = np.uint32(0x15AE43FD), b"7.03853069e-26"
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_LAST_TIME = 2**63 - 2000


def tokens_of(values: Array, field: Field, comma: bytes = b",") -> list[bytes]:
    """Return the JSON of each element of *values*, of any shape, in C order.

    Parameters
    ----------
    values : array
        Of the field's scalar dtype; references have `reference_tokens`.
    field : Field
    comma : bytes
        Between the parts of a complex number.

    Raises
    ------
    ComponentValueError
        If an element is not a value of the field.
    """
    flat = np.array(values, order="C").reshape(-1)
    if not flat.size:
        return []
    if field.enum:
        return _members(flat, field)
    if flat.dtype.kind == "c":
        parts = _floats(flat.view(f"f{flat.itemsize // 2}"))
        return [b"[%b%b%b]" % (re, comma, im) for re, im in zip(parts[::2], parts[1::2], strict=True)]
    return _WRITERS[flat.dtype.kind](flat)


def text_of(value: Any) -> bytes:
    """Return a str as a JSON string."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        raise ComponentValueError(f"expected text that has a UTF-8 form, found {shown(value)}") from None


def base64_of(value: Any) -> bytes:
    """Return bytes as a JSON string of base64."""
    return b'"%b"' % binascii.b2a_base64(value, newline=False)


def reference_tokens(ids: Array) -> list[bytes]:
    """Return stable ids, of any shape of u128, as quoted decimals, and 0 as null."""
    flat = ids.reshape(-1)
    if not flat.size:
        return []
    return [b"null" if text == b"0" else b'"%b"' % text for text in to_decimals(flat)]


def all_numbers(values: Array) -> bool:
    """Tell whether orjson writes all *values*, bool, integers or floats of 4 or 8 bytes, as JSON that gives them back."""
    if values.dtype.kind != "f":
        return True
    rounded = values.itemsize == 4 and _twice_rounded(values).any()
    return not rounded and bool(np.isfinite(values).all())


def _twice_rounded(values: Array) -> Array:
    found: Array = (values.view(np.uint32) & _MAGNITUDE) == _TWICE_ROUNDED
    return found


def _numbers(flat: Array) -> list[bytes]:
    return orjson.dumps(flat, option=_NUMPY)[1:-1].split(b",")


def _floats(flat: Array) -> list[bytes]:
    tokens = _halves(flat) if flat.itemsize == 2 else _numbers(flat)
    if flat.itemsize == 4:
        for i in np.flatnonzero(_twice_rounded(flat)).tolist():
            tokens[i] = b"-" * bool(flat[i] < 0) + _NINE_DIGITS
    for i in np.flatnonzero(~np.isfinite(flat)).tolist():
        tokens[i] = _special(flat[i])
    return tokens


def _special(value: Any) -> bytes:
    if not np.isnan(value):
        return b'"Infinity"' if value > 0 else b'"-Infinity"'
    size = value.dtype.itemsize
    bits = int(value.view(f"u{size}"))
    return b'"NaN"' if bits == QUIET_NAN[size] else b'"NaN(0x%0*x)"' % (2 * size, bits)


def _halves(flat: Array) -> list[bytes]:
    bits, places = np.unique(flat.view(np.uint16), return_inverse=True)
    texts = [str(half).encode() for half in bits.view(np.float16)]
    return [texts[i] for i in places.tolist()]


def _bytes(flat: Array) -> list[bytes]:
    return list(map(base64_of, flat.tolist()))


def _texts(flat: Array) -> list[bytes]:
    try:
        return list(map(text_of, flat.tolist()))
    except (ValueError, SystemError):
        raise ComponentValueError("expected text, found a code point that is not Unicode") from None


def _spans(flat: Array) -> list[bytes]:
    tokens = _numbers(flat.view(np.int64))
    for i in np.flatnonzero(np.isnat(flat)).tolist():
        tokens[i] = b'"NaT"'
    return tokens


def _times(flat: Array) -> list[bytes]:
    texts = np.datetime_as_string(flat)
    tokens = [b'"%b"' % text for text in texts.astype("S").tolist()]
    # NumPy's calendar overflows before its integers do, and beyond them where it counts years.
    counts = flat.view(np.int64)
    odd = (_read_back(texts, flat.dtype).view(np.int64) != counts) | (counts > _LAST_TIME)
    for i in np.flatnonzero(odd).tolist():
        tokens[i] = b"%d" % counts[i]
    return tokens


def _read_back(texts: Array, dtype: np.dtype[Any]) -> Array:
    try:
        return texts.astype(dtype)
    except (ValueError, OverflowError):
        return np.array([_read_one(text, dtype) for text in texts.tolist()], dtype)


def _read_one(text: str, dtype: np.dtype[Any]) -> Any:
    try:
        return np.array(text, dtype)
    except (ValueError, OverflowError):
        return np.array("NaT", dtype)


def _members(flat: Array, field: Field) -> list[bytes]:
    names = _names(field.enum)
    try:
        return [names[value] for value in flat.tolist()]
    except KeyError as error:
        raise ComponentValueError(
            f"expected values of its enum, found {error.args[0]} in {field.name!r}"
        ) from None


@functools.lru_cache(maxsize=64)
def _names(members: tuple[tuple[str, int], ...]) -> dict[int, bytes]:
    return {value: text_of(name) for name, value in reversed(members)}


_WRITERS: dict[str, Callable[[Array], list[bytes]]] = {
    "b": _numbers,
    "i": _numbers,
    "u": _numbers,
    "f": _floats,
    "S": _bytes,
    "U": _texts,
    "M": _times,
    "m": _spans,
}

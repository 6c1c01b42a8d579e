"""Parsed JSON values to arrays: a whole column at a time, every value checked.

Messages name the first value that does not fit by its path, which is worked out only then.
"""

from __future__ import annotations

import binascii
import functools
import re
import warnings
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import orjson

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.dtypes import Field
from pecs_np.ecs.references import split
from pecs_np.ecs.values import coerce
from pecs_np.errors import ComponentValueError, InvalidFormatError
from pecs_np.messages import shown
from pecs_np.persistence.json.decimals import from_decimals
from pecs_np.persistence.json.tokens import NAMED_FLOATS, QUIET_NAN

__all__ = ["Where", "as_json", "bad_value", "element_of", "read_ids", "read_list", "read_values"]

# What messages call the place of a value in a column, and of what is within it.
Where = Callable[..., str]
# Reads the members of structs: the values, their fields, where they stand.
Members = Callable[[list[Any], tuple[Field, ...], Where], list[Array]]

_NAMED_NAN = re.compile(r"NaN\(0x([0-9a-f]+)\)")
_ISO = re.compile(r"[+-]?\d{4,19}(-\d\d(-\d\d(T\d\d(:\d\d(:\d\d(\.\d{1,18})?)?)?)?)?)?")
_SHOWN = 60


def as_json(value: Any) -> str:
    """Return a parsed value as messages show it."""
    if isinstance(value, list | dict):
        return shown(value)
    text = orjson.dumps(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def bad_value(expected: str, value: Any, where: str) -> InvalidFormatError:
    """Return the error for a value that is not what it should be."""
    return InvalidFormatError(f"expected {expected}, found {as_json(value)} at {where}")


def element_of(field: Field, members: Members) -> Callable[[list[Any], Where], Array]:
    """Return what reads elements of *field*, without its shape, to an array of its dtype on disk, shape (n,)."""
    if field.ref:
        return functools.partial(read_ids, null=True)
    if field.fields:
        return functools.partial(_structs, field, members)
    assert field.dtype is not None  # noqa: S101 - for the type checker
    if field.enum:
        return functools.partial(_members_of_enum, field)
    return functools.partial(_READERS[field.dtype.kind], field)


def read_values(values: list[Any], field: Field, members: Members, where: Where) -> Array:
    r"""Return the values of a field.

    Parameters
    ----------
    values : list
        One a row, as ``orjson.loads`` gives them.
    field : Field
    members : callable
        Reads the members of structs.
    where : callable
        ``where(row, suffix)`` is the place of a value.

    Returns
    -------
    array, shape (n, \*field.shape) of the field's dtype on disk
        Of a variable-length field an object array, shape (n,), its lists of elements as on disk.

    Raises
    ------
    InvalidFormatError
        If a value is not one of the field.
    """
    if field.variable == "list":
        return read_list(values, field, members, where)
    if field.variable == "str":
        _check(values, {str}, "text", where)
        return _objects(values)
    if field.variable == "bytes":
        return _objects(_decoded(values, where))
    return _shaped(values, field, members, where)


def _shaped(values: list[Any], field: Field, members: Members, where: Where) -> Array:
    count = len(values)
    for size in field.shape:
        _check(values, {list}, f"a list of {size}", where)
        if not set(map(len, values)) <= {size}:
            row = next(i for i, v in enumerate(values) if len(v) != size)
            raise InvalidFormatError(f"expected a list of {size}, found {len(values[row])} at {where(row)}")
        values = list(chain.from_iterable(values))
        where = _within(where, size)
    flat = element_of(field, members)(values, where)
    return flat.reshape(count, *field.shape) if field.shape else flat


def _within(where: Where, size: int) -> Where:
    return lambda i, suffix="": where(i // size, f"[{i % size}]{suffix}")


def read_list(values: list[Any], field: Field, members: Members, where: Where) -> Array:
    """Return a column of lists of any length."""
    _check(values, {list}, "a list", where)
    ends = np.cumsum(np.fromiter(map(len, values), np.intp, len(values)), dtype=np.intp)

    def within(i: int, suffix: str = "") -> str:
        row = int(np.searchsorted(ends, i, "right"))
        return where(row, f"[{i - int(ends[row]) + len(values[row])}]{suffix}")

    elements = list(chain.from_iterable(values))
    return split(_shaped(elements, field, members, within), ends)


def read_ids(values: list[Any], where: Where, *, null: bool = False) -> Array:
    """Return stable ids, shape (n,) of u128, from decimal texts or integers; null is 0 where it is allowed."""
    kinds = set(map(type, values))
    expected = "a stable id below 2**128 as a decimal text" + " or null" * null
    if kinds - {str}:
        if kinds - ({str, int, type(None)} if null else {str, int}):
            _check(values, {str, int, type(None)} if null else {str, int}, expected, where)
        for i, value in enumerate(values):
            if type(value) is int and value < 0:
                raise bad_value(expected, value, where(i))
        values = ["0" if value is None else str(value) for value in values]
    ids, odd = from_decimals(values)
    if odd is not None:
        raise bad_value(expected, values[odd], where(odd))
    return ids


def _objects(values: list[Any]) -> Array:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _check(values: list[Any], kinds: set[type], expected: str, where: Where) -> None:
    """Raise unless the type of each value is one of *kinds*."""
    if not set(map(type, values)) <= kinds:
        row = next(i for i, value in enumerate(values) if type(value) not in kinds)
        raise bad_value(expected, values[row], where(row))


def _structs(field: Field, members: Members, values: list[Any], where: Where) -> Array:
    _check(values, {dict}, "an object", where)
    rows = np.empty(len(values), field.element(disk=True).base)
    for f, column in zip(field.fields, members(values, field.fields, where), strict=True):
        rows[f.name] = column
    return rows


def _bools(field: Field, values: list[Any], where: Where) -> Array:
    _check(values, {bool}, "true or false", where)
    return np.array(values, field.dtype)


def _integers(field: Field, values: list[Any], where: Where) -> Array:
    _check(values, {int}, "an integer", where)
    return _fitting(values, field.dtype, where)


def _fitting(values: list[Any], dtype: Any, where: Where) -> Array:
    try:
        return np.array(values, dtype)
    except OverflowError:
        info = np.iinfo(dtype)
        row = next(i for i, value in enumerate(values) if not info.min <= value <= info.max)
        raise bad_value(f"an integer that fits {dtype.str}", values[row], where(row)) from None


def _floats(field: Field, values: list[Any], where: Where) -> Array:
    return _numbers(values, field.dtype, where)


def _numbers(values: list[Any], dtype: Any, where: Where) -> Array:
    kinds = set(map(type, values))
    named: list[int] = []
    numbers = values
    if kinds - {float}:
        _check(values, {float, int, str}, "a number", where)
        if str in kinds:
            named = [i for i, value in enumerate(values) if type(value) is str]
            numbers = [0.0 if type(value) is str else value for value in values]
    array = np.array(numbers, "<f8")
    if dtype.itemsize < 8:
        with np.errstate(over="ignore", under="ignore"):
            array = array.astype(dtype)
        if not np.isfinite(array).all():
            row = int(np.argmin(np.isfinite(array)))
            raise bad_value(f"a number that fits {dtype.str}", values[row], where(row))
    bits = array.view(f"<u{dtype.itemsize}")
    for i in named:
        special = _named_bits(values[i], dtype)
        if special is None:
            expected = "a number" if values[i][:3] != "NaN" else f"the bits of a NaN of {dtype.str}"
            raise bad_value(expected, values[i], where(i))
        bits[i] = special
    return array


def _named_bits(name: str, dtype: Any) -> int | None:
    """Return the bits of a float that has a name, or None where it has none."""
    size = dtype.itemsize
    if name == "NaN":
        return QUIET_NAN[size]
    if name in NAMED_FLOATS:
        return int(np.array(NAMED_FLOATS[name], dtype).view(f"<u{size}"))
    found = _NAMED_NAN.fullmatch(name)
    if found is None or len(found[1]) != 2 * size:
        return None
    bits = int(found[1], 16)
    return bits if np.isnan(np.array(bits, f"<u{size}").view(dtype)) else None


def _complex(field: Field, values: list[Any], where: Where) -> Array:
    assert field.dtype is not None  # noqa: S101 - for the type checker
    _check(values, {list}, "a list of 2", where)
    if not set(map(len, values)) <= {2}:
        row = next(i for i, value in enumerate(values) if len(value) != 2)
        raise bad_value("a list of 2", values[row], where(row))
    part = np.dtype(f"<f{field.dtype.itemsize // 2}")
    return _numbers(list(chain.from_iterable(values)), part, _within(where, 2)).view(field.dtype)


def _decoded(values: list[Any], where: Where) -> list[bytes]:
    _check(values, {str}, "base64", where)
    found = []
    for i, value in enumerate(values):
        try:
            found.append(binascii.a2b_base64(value, strict_mode=True))
        except ValueError:
            raise bad_value("base64", value, where(i)) from None
    return found


def _bytes(field: Field, values: list[Any], where: Where) -> Array:
    return _fixed(values, _decoded(values, where), field.dtype, b"\0", where)


def _texts(field: Field, values: list[Any], where: Where) -> Array:
    _check(values, {str}, "text", where)
    return _fixed(values, values, field.dtype, "\0", where)


def _fixed(values: list[Any], texts: list[Any], dtype: Any, zero: Any, where: Where) -> Array:
    """Return texts of a fixed length, which have no zeros at the end."""
    most = dtype.itemsize // (4 if dtype.kind == "U" else 1)
    for i, text in enumerate(texts):
        if len(text) > most:
            raise bad_value(f"a text of at most {most}", values[i], where(i))
        if text.endswith(zero):
            raise bad_value("a text without zeros at its end", values[i], where(i))
    return np.array(texts, dtype)


def _spans(field: Field, values: list[Any], where: Where) -> Array:
    _check(values, {int, str}, 'an integer or "NaT"', where)
    dtype: Any = field.dtype
    counts = [_count(value, i, 'an integer or "NaT"', where) for i, value in enumerate(values)]
    return np.array(counts, "<i8").view(dtype)


def _count(value: Any, row: int, expected: str, where: Where) -> int:
    """Return the integer behind a time."""
    if value == "NaT":
        return -(2**63)
    if type(value) is not int or not -(2**63) < value < 2**63:
        raise bad_value(expected, value, where(row))
    return value


def _times(field: Field, values: list[Any], where: Where) -> Array:
    dtype: Any = field.dtype
    expected = f'a time as ISO 8601 text, which {dtype.str} can hold, an integer or "NaT"'
    _check(values, {int, str}, expected, where)
    if set(map(type, values)) == {str}:
        texts = np.array(values, "U")
        with warnings.catch_warnings():
            # NumPy warns where it drops a time zone.
            warnings.simplefilter("error")
            try:
                times = texts.astype(dtype)
            except (ValueError, OverflowError, UserWarning, DeprecationWarning):
                times = texts
        # Written like this by NumPy, they lose nothing.
        if times.dtype == dtype and (np.datetime_as_string(times) == texts).all():
            return times
    counts = np.empty(len(values), "<i8")
    one = Field(field.name, dtype)
    for i, value in enumerate(values):
        if type(value) is int or value == "NaT":
            counts[i] = _count(value, i, expected, where)
            continue
        if not _ISO.fullmatch(value):
            raise bad_value(expected, value, where(i))
        try:
            counts[i] = coerce(value, one, field.name).view("<i8")
        except ComponentValueError:
            raise bad_value(expected, value, where(i)) from None
    return counts.view(dtype)


def _members_of_enum(field: Field, values: list[Any], where: Where) -> Array:
    names = dict(field.enum)
    numbers: list[int | None] = list(map(names.get, values)) if set(map(type, values)) <= {str} else [None]
    if None in numbers:
        allowed = set(names.values())
        expected = f"one of {shown(list(names))}"
        numbers = []
        for i, value in enumerate(values):
            number = names.get(value) if type(value) is str else value
            if type(number) is not int or number not in allowed:
                raise bad_value(expected, value, where(i))
            numbers.append(number)
    return np.array(numbers, field.dtype)


_READERS: dict[str, Callable[[Field, list[Any], Where], Array]] = {
    "b": _bools,
    "i": _integers,
    "u": _integers,
    "f": _floats,
    "c": _complex,
    "S": _bytes,
    "U": _texts,
    "M": _times,
    "m": _spans,
}

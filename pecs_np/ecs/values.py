"""Values that users give, to arrays of a field's dtype; and arrays checked for bit patterns that are no value.

An integer that does not fit, a text that is too long, a time that the unit cannot hold or a float for
an integer field is an error, where a NumPy assignment would wrap, cut or truncate in silence. Only
floats are rounded, to the precision of their field.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from pecs_np.ecs.arrays import BYTE, Array, copy_rows
from pecs_np.ecs.dtypes import Field
from pecs_np.errors import ComponentValueError, PecsError
from pecs_np.messages import shown

__all__ = ["assemble", "coerce", "invalid_element", "invalid_value", "own_lists", "private_copy"]

_ACCEPTED = {"b": "b", "f": "fiub", "c": "cfiub"}
_LAST_CODE_POINT = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)


def coerce(value: Any, field: Field, where: str) -> Array:
    r"""Return *value* as an array of the field's base dtype, shape (..., \*field.shape).

    Parameters
    ----------
    value : scalar, sequence, ndarray or component
        One value, or as many as there are rows.
    field : Field
    where : str
        Such as ``Position.x``, for messages.

    Raises
    ------
    ComponentValueError
        If *value* has another kind or shape, or does not fit.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ComponentValueError(
            f"expected values for {where}, found masked ones", suggestion="fill them: values.filled(...)"
        )
    try:
        return _coerced(value, field, where)
    except PecsError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ComponentValueError(
            f"expected values that fit {where}, found {shown(value)}: {error}"
        ) from None


def _coerced(value: Any, field: Field, where: str) -> Array:
    if field.variable == "list":
        return _lists(value, field, where)
    if field.variable:
        return _texts(value, str if field.variable == "str" else bytes, where)
    array = _structs(value, field, where) if field.fields else _scalars(value, field, where)
    if not field.shape:
        return array
    if array.ndim == 0:
        return np.broadcast_to(array, field.shape)
    if array.shape[-len(field.shape) :] != field.shape:
        raise ComponentValueError(
            f"expected shape (..., {str(field.shape)[1:-1].rstrip(',')}), found {array.shape} for {where}"
        )
    return array


def _scalars(value: Any, field: Field, where: str) -> Array:
    dtype = field.element().base
    kind = dtype.kind
    if field.ref:
        value = _without_none(value)
    elif kind in "SU":
        return _fixed_texts(value, dtype, where)
    elif kind in "Mm":
        return _times(value, dtype, where)
    array = np.asarray(value)
    if array.dtype == dtype and not field.enum:
        return array
    whole = array.dtype.kind in "iub"
    if kind in "iu" and array.dtype.kind in "fO":
        # NumPy makes floats of a list that mixes large and small integers.
        exact = np.array(value, object) if isinstance(value, list | tuple) else array
        whole = exact.dtype == object and all(isinstance(v, int | np.integer) for v in exact.flat)
        array = exact if whole else array
    if array.size == 0:
        return array.astype(dtype)
    if kind in "iu" and whole:
        low, high = int(array.min()), int(array.max())
        info = np.iinfo(dtype)
        if low < info.min or high > info.max:
            raise _misfit(dtype, str(low if low < info.min else high), where, field)
    elif kind in "iu" or array.dtype.kind not in _ACCEPTED[kind]:
        raise _misfit(dtype, f"{array.dtype.str} values", where, field)
    with np.errstate(over="ignore"):
        array = array.astype(dtype, copy=False)
    if field.enum and (bad := _not_in(array, field.enum)) is not None:
        raise ComponentValueError(
            f"expected one of {[name for name, _ in field.enum]}, found {array.reshape(-1)[bad]} for {where}"
        )
    return array


def _fixed_texts(value: Any, dtype: np.dtype[Any], where: str) -> Array:
    """Return strings or bytes as an array of fixed length."""
    array = np.asarray(value) if isinstance(value, np.ndarray | np.generic) else None
    if array is None or array.dtype.kind in "OT":
        array = _texts(value, str if dtype.kind == "U" else bytes, where)
        if array.dtype == object:
            zero: Any = "\0" if dtype.kind == "U" else b"\0"
            if any(text.endswith(zero) for text in array.flat):
                raise ComponentValueError(
                    f"expected texts without zeros at the end, found some for {where}",
                    suggestion="a field of any length keeps them: str or bytes without a length",
                )
            longest = max(map(len, array.flat), default=0)
            array = array.astype(f"{dtype.kind}{max(longest, 1)}")
    if array.dtype.kind != dtype.kind and array.size:
        raise ComponentValueError(f"expected texts of {dtype.str}, found {array.dtype.str} for {where}")
    if array.dtype.itemsize > dtype.itemsize and array.size:
        longest = int(np.strings.str_len(array).max())
        if longest > dtype.itemsize // (4 if dtype.kind == "U" else 1):
            raise ComponentValueError(
                f"expected texts that fit {dtype.str}, found a text of length {longest} for {where}",
                suggestion="cut it first, or give the field more room",
            )
    return array.astype(dtype, copy=False)


def _misfit(dtype: np.dtype[Any], found: str, where: str, field: Field) -> ComponentValueError:
    if field.ref:
        return ComponentValueError(
            f"expected entity ids (u64), found {found} for {where}",
            suggestion="world.get_entity_id() turns stable ids into entity ids",
        )
    return ComponentValueError(
        f"expected values that fit {dtype.str}, found {found} for {where}",
        suggestion="convert them first, such as values.astype(...), where the loss is meant",
    )


def _without_none(value: Any) -> Any:
    """Return *value* with every None replaced by 0, "no entity"."""
    if value is None:
        return 0
    if isinstance(value, list | tuple) or getattr(getattr(value, "dtype", None), "kind", "") == "O":
        array: Array = np.array(value, object)
        array[np.array([v is None for v in array.flat], bool).reshape(array.shape)] = 0
        if all(isinstance(v, int | np.integer) and 0 <= v < 1 << 64 for v in array.flat):
            return array.astype(np.uint64)
    elif isinstance(value, int) and 0 <= value < 1 << 64:
        return np.uint64(value)
    return value


def _times(value: Any, dtype: np.dtype[Any], where: str) -> Array:
    """Return times, texts, datetime objects or None as times, if the unit holds them without loss."""
    array = np.asarray(value)
    if array.dtype == dtype:
        return array
    if array.size == 0:
        return array.astype(dtype)
    if array.dtype.kind not in "MmOU":
        raise ComponentValueError(
            f"expected times of {dtype.str}, found {array.dtype.str} values for {where}",
            suggestion="say their unit: values.astype('M8[s]')",
        )
    with warnings.catch_warnings():
        # NumPy warns where it drops a time zone.
        warnings.simplefilter("error")
        # Nothing but NaT has no unit, which is well here.
        warnings.filterwarnings("ignore", "The 'generic' unit", DeprecationWarning)
        try:
            natural = array if array.dtype.kind in "Mm" else np.array(value, dtype.kind + "8")
            if np.datetime_data(natural.dtype)[0] == "generic" and not np.isnat(natural).all():
                raise ComponentValueError(
                    f"expected times of {dtype.str}, found some without a unit for {where}",
                    suggestion="say their unit: values.astype('m8[s]')",
                )
            times = natural.astype(dtype, casting="same_kind")
            lossless = np.array_equal(times.astype(natural.dtype), natural, equal_nan=True)
        except (TypeError, ValueError, OverflowError, UserWarning, DeprecationWarning) as error:
            raise ComponentValueError(f"expected times of {dtype.str} for {where}: {error}") from None
    if not lossless:
        raise ComponentValueError(
            f"expected times that fit {dtype.str}, found finer or later ones for {where}",
            suggestion="convert them first: values.astype(...), where the loss is meant",
        )
    return times


def _structs(value: Any, field: Field, where: str) -> Array:
    """Return a component, a structured array, a tuple or a list of tuples as rows of a struct."""
    dtype = field.element().base
    members: Any
    if isinstance(value, tuple):
        members = value
    elif isinstance(value, list) and all(isinstance(row, tuple) for row in value):
        members = list(zip(*value, strict=True)) if value else [[]] * len(field.fields)
        members = [list(column) for column in members]
    elif isinstance(value, list) and value and not any(isinstance(row, np.ndarray) for row in value):
        rows = [np.asarray(row) for row in value]
        if any(row.dtype != dtype or row.ndim for row in rows):
            raise ComponentValueError(f"expected structs of {dtype.names}, found {shown(value)} for {where}")
        array = np.empty(len(rows), dtype)
        for i, row in enumerate(rows):
            array[i] = row
        return array
    else:
        array = np.asarray(value)
        if array.dtype == dtype:
            return array
        if array.dtype.names is None or set(array.dtype.names) != {f.name for f in field.fields}:
            raise ComponentValueError(
                f"expected a struct of {[f.name for f in field.fields]}, found {value!r:.80} for {where}"
            )
        members = [array[f.name] for f in field.fields]
    if len(members) != len(field.fields):
        raise ComponentValueError(f"expected {len(field.fields)} values, found {len(members)} for {where}")
    return assemble(field.fields, dtype, members, where)


def assemble(fields: tuple[Field, ...], dtype: np.dtype[Any], values: Any, where: str) -> Array:
    """Return the structured array, of the values' common shape, that holds *values*, one a field."""
    columns = [coerce(value, f, f"{where}.{f.name}") for f, value in zip(fields, values, strict=True)]
    shapes = [
        column.shape[: column.ndim - len(f.shape)] if f.variable is None else column.shape
        for f, column in zip(fields, columns, strict=True)
    ]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        found = ", ".join(f"{f.name} {s}" for f, s in zip(fields, shapes, strict=True))
        raise ComponentValueError(
            f"expected values of one shape for {where}, found {found}",
            suggestion="give every field one value or the same number of them",
        ) from None
    rows: Array = (np.zeros if dtype.hasobject else np.empty)(shape, dtype)
    for f, column in zip(fields, columns, strict=True):
        if f.variable == "list" and column.ndim < len(shape):
            rows[f.name] = own_lists(np.broadcast_to(column, shape))
        else:
            rows[f.name] = column
    return rows


def _texts(value: Any, kind: type, where: str) -> Array:
    """Return strings or bytes, one or a column, as an object array."""
    array: Array
    if isinstance(value, kind):
        array = np.empty((), object)
        array[()] = kind(value)
        return array
    if isinstance(value, list | tuple):
        # Not by way of NumPy's texts, which drop zeros at the end and are as long as the longest.
        array = np.fromiter(value, object, len(value))
    else:
        array = np.asarray(value).astype(object)
    if set(map(type, array.flat)) <= {kind}:
        return array
    for row, text in enumerate(array.flat):
        if not isinstance(text, kind):
            raise ComponentValueError(
                f"expected {kind.__name__}, found {shown(text)} in row {row} for {where}",
                suggestion="replace missing values first, such as by an empty text",
            )
    return np.fromiter((kind(text) for text in array.flat), object, array.size).reshape(array.shape)


def _lists(value: Any, field: Field, where: str) -> Array:
    """Return one list, or a column of lists, as an object array of arrays.

    One list is a flat sequence or an array of its elements' shape; a column is a sequence of sequences.
    """
    element = replace(field, variable=None)
    inner = len(field.shape) + 1
    if isinstance(value, np.ndarray):
        many = value.dtype == object or value.ndim == inner + 1
    else:
        # Of elements that are arrays themselves, empty ones can only be lists without elements.
        many = isinstance(value, list | tuple) and any(
            _depth(v) >= inner or (inner > 1 and isinstance(v, list) and not v) for v in value
        )
    rows = list(value) if many else [value]
    arrays = []
    for i, row in enumerate(rows):
        here = f"{where}[{i}]" if many else where
        if not isinstance(row, list | tuple | np.ndarray) and not hasattr(row, "__array__"):
            raise ComponentValueError(f"expected a list, found {row!r:.80} for {here}")
        if isinstance(row, list | tuple) and not row:
            array: Array = np.empty((0, *field.shape), field.element().base)
        else:
            array = coerce(list(row) if isinstance(row, tuple) else row, element, here)
        if array.ndim != inner:
            raise ComponentValueError(
                f"expected a list of elements of shape {field.shape}, found shape {array.shape} for {here}"
            )
        arrays.append(np.array(array))
    column = np.empty(len(arrays) if many else (), object)
    if many:
        for i, array in enumerate(arrays):
            column[i] = array
    else:
        column[()] = arrays[0]
    return column


def _depth(value: Any) -> int:
    """Return how many lists deep *value* is; a struct written as a tuple counts as one element."""
    if isinstance(value, np.ndarray):
        return value.ndim
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return len(np.shape(np.asarray(value))) if hasattr(value, "__array__") else 0


def private_copy(column: Array, fields: tuple[Field, ...], count: int | None = None) -> Array:
    """Return a copy of *column*, shape () or (n,), that shares no array with it, lists included.

    With *count*, a single value is repeated that often.
    """
    if count is None:
        count = len(column)
    copy: Array = np.empty(count, column.dtype)
    copy_rows(copy, column)
    for f in fields:
        if f.variable == "list":
            copy[f.name] = own_lists(copy[f.name])
    return copy


def own_lists(values: Array) -> Array:
    """Return the object array *values* with a copy of each array in it."""
    copies = np.empty(values.shape, object)
    for i, value in enumerate(values.flat):
        copies.flat[i] = value.copy() if isinstance(value, np.ndarray) else value
    return copies


def invalid_value(rows: Array, fields: tuple[Field, ...]) -> tuple[int, str, str] | None:
    """Return (row, field, what is wrong) of the first bit pattern in *rows* that is no value, or None.

    Bool bytes are 0 or 1, enums hold one of their values, and text holds Unicode scalar values.
    Variable-length fields are passed over: `invalid_element` is for what they hold.
    """
    for f in fields:
        if f.variable or not f.has_checks():
            continue
        column = rows[f.name]
        if (bad := _invalid(column, f)) is not None:
            at, path, what = bad
            return at // max(1, column.size // max(1, len(column))), path, what
    return None


def invalid_element(values: Array, field: Field) -> tuple[int, str, str] | None:
    """Return (element, field, what is wrong) as `invalid_value`, for the elements of a list field."""
    bad = _invalid(values, field) if field.has_checks() else None
    return bad and (bad[0] // max(1, values.size // max(1, len(values))), bad[1], bad[2])


def _invalid(column: Array, f: Field) -> tuple[int, str, str] | None:
    """Return (flat index, path, what is wrong) of the first element of *column* that is no value."""
    if f.fields:
        flat = column.reshape(-1)
        bad = invalid_value(flat, f.fields)
        return bad and (bad[0], f"{f.name}.{bad[1]}", bad[2])
    found: int | None = None
    what = ""
    if f.enum:
        found, what = _not_in(column, f.enum), "is not a value of its enum"
    elif column.dtype.kind == "b":
        found, what = _first(column.view(BYTE) > 1), "is not a bool"
    elif column.dtype.kind == "U":
        found, what = _not_text(column), "holds a code point that is not Unicode"
    return None if found is None else (found, f.name, what)


def _first(mask: Any) -> int | None:
    return int(np.argmax(mask)) if mask.any() else None


def _not_in(column: Array, enum: tuple[tuple[str, int], ...]) -> int | None:
    values = np.array([value for _, value in enum], column.dtype)
    if column.dtype.itemsize == 1:
        unknown = np.ones(256, bool)
        unknown[values.view(BYTE)] = False
        return _first(unknown[column.view(BYTE)])
    return _first(~np.isin(column, values))


def _not_text(column: Array) -> int | None:
    codes = column[..., np.newaxis].view("<u4")
    if codes.size == 0 or codes.max() < _SURROGATES[0]:
        return None
    bad = (codes > _LAST_CODE_POINT) | ((codes >= _SURROGATES[0]) & (codes <= _SURROGATES[1]))
    return _first(bad.any(axis=-1))

"""Fields as the portable list that saves hold, and back against a whitelist; no text of a file is evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pecs_np.ecs.dtypes import MOST_AXES, MOST_NESTED, PORTABLE, Field, axes, bytes_of, check_name
from pecs_np.errors import InvalidFormatError, LimitExceededError
from pecs_np.messages import shown

__all__ = ["fields_from_schema", "schema_of"]


def schema_of(fields: tuple[Field, ...]) -> list[dict[str, Any]]:
    """Return *fields* as the portable list of the binary format's schema document.

    Examples
    --------
    >>> schema_of((Field("x", np.dtype("<f4")), Field("name", variable="str")))
    [{'name': 'x', 'dtype': '<f4'}, {'name': 'name', 'variable': 'str'}]
    """
    return [_schema(f) for f in fields]


def _schema(f: Field) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": f.name}
    if f.variable:
        entry["variable"] = f.variable
    if f.dtype is not None:
        entry["dtype"] = f.dtype.str
    elif f.ref:
        entry["ref"] = True
    elif f.variable in (None, "list"):
        entry["fields"] = schema_of(f.fields)
    if f.shape:
        entry["shape"] = list(f.shape)
    if f.enum:
        entry["enum"] = dict(f.enum)
    return entry


def fields_from_schema(entries: Any, where: str, *, max_itemsize: int, _depth: int = 0) -> tuple[Field, ...]:
    """Return the fields that a schema document lists; the reverse of `schema_of`.

    Raises
    ------
    InvalidFormatError
        If an entry is not one that the format knows, naming its place.
    """
    if not isinstance(entries, list):
        raise _bad(where, "a list of fields", entries)
    if _depth > MOST_NESTED:
        raise _bad(where, f"at most {MOST_NESTED} nested structs", "more")
    fields: list[Field] = []
    names: set[str] = set()
    size = 0
    for i, entry in enumerate(entries):
        here = f"{where}[{i}]"
        f = _field_from_schema(entry, here, max_itemsize, _depth)
        if f.name in names:
            raise _bad(here, "a field name of its own", f.name)
        names.add(f.name)
        if f.variable and _depth:
            raise _bad(here, "a fixed-size member of a struct", f.variable)
        fields.append(f)
        if not f.variable:
            size += bytes_of(f)
        if size > max_itemsize:
            raise _too_large(here, max_itemsize, size)
    return tuple(fields)


def _field_from_schema(entry: Any, where: str, max_itemsize: int, depth: int) -> Field:
    if not isinstance(entry, Mapping):
        raise _bad(where, "a field", entry)
    unknown = entry.keys() - {"name", "dtype", "ref", "fields", "shape", "enum", "variable"}
    if unknown:
        raise _bad(where, "known members of a field", min(unknown))
    name: Any = entry.get("name")
    check_name(name, where, InvalidFormatError)
    where = f"{where} {name!r}"
    variable = entry.get("variable")
    if variable not in (None, "str", "bytes", "list"):
        raise _bad(where, "'str', 'bytes' or 'list'", variable)
    kinds = [key for key in ("dtype", "ref", "fields") if key in entry]
    if variable in ("str", "bytes"):
        if len(entry) != 2:
            raise _bad(where, "a name and 'variable' alone", sorted(entry))
        return Field(name, variable=variable)
    if len(kinds) != 1:
        raise _bad(where, "one of 'dtype', 'ref' and 'fields'", kinds)
    dtype, ref = None, False
    fields: tuple[Field, ...] = ()
    if kinds == ["dtype"]:
        if not isinstance(entry["dtype"], str) or not PORTABLE.fullmatch(entry["dtype"]):
            raise _bad(where, "a portable dtype such as '<f4'", entry["dtype"])
        try:
            dtype = np.dtype(entry["dtype"])
        except (TypeError, ValueError, OverflowError):
            raise _bad(where, "a portable dtype such as '<f4'", entry["dtype"]) from None
    elif kinds == ["ref"]:
        if entry["ref"] is not True:
            raise _bad(where, "true", entry["ref"])
        ref = True
    else:
        fields = fields_from_schema(
            entry["fields"], f"{where}.fields", max_itemsize=max_itemsize, _depth=depth + 1
        )
        if not fields:
            raise _bad(where, "a struct with fields", [])
    shape = entry.get("shape", [])
    if not isinstance(shape, list) or any(type(n) is not int or n < 1 for n in shape):
        raise _bad(where, "a shape of positive integers", shape)
    found = Field(name, dtype, ref, fields, tuple(shape), _enum_from_schema(entry, dtype, where), variable)
    if bytes_of(found) > max_itemsize:
        raise _too_large(where, max_itemsize, bytes_of(found))
    if axes(found) > MOST_AXES:
        raise _bad(where, f"at most {MOST_AXES} dimensions, nested ones included", axes(found))
    return found


def _enum_from_schema(
    entry: Mapping[str, Any], dtype: np.dtype[Any] | None, where: str
) -> tuple[tuple[str, int], ...]:
    if "enum" not in entry:
        return ()
    members = entry["enum"]
    if dtype is None or dtype.kind not in "iu":
        raise _bad(where, "an enum of integers", dtype)
    info = np.iinfo(dtype)
    if not isinstance(members, Mapping) or not members:
        raise _bad(where, "names and values of an enum", members)
    for name, value in members.items():
        check_name(name, where, InvalidFormatError)
        if type(value) is not int or not info.min <= value <= info.max:
            raise _bad(where, f"enum values that fit {dtype.str}", value)
    return tuple(members.items())


def _too_large(where: str, limit: int, found: int) -> LimitExceededError:
    return LimitExceededError(
        f"expected at most {limit} bytes a row, found {found} at {where}",
        suggestion="pass larger Limits if you trust where it comes from",
    )


def _bad(where: str, expected: str, found: object) -> InvalidFormatError:
    return InvalidFormatError(f"expected {expected}, found {shown(found)} at {where}")

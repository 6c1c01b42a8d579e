"""Objects of a document to columns, a field at a time: the data of components, and structs within."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import numpy as np

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import Field
from pecs_np.ecs.ids import STABLE_ID
from pecs_np.ecs.references import convert
from pecs_np.ecs.values import coerce
from pecs_np.errors import InvalidFormatError
from pecs_np.messages import shown
from pecs_np.persistence.json.values import Where, read_values

__all__ = ["read_column", "read_structs"]

_NO_DEFAULTS: Mapping[str, Any] = {}


def read_column(rows: list[Any], type_: ComponentType, where: Where) -> Array:
    """Return the data of a component of many entities as a column of the layout's portable dtype, shape (n,).

    Parameters
    ----------
    rows : list of dict
    type_ : ComponentType
        Whose defaults stand for fields that are missing.
    where : callable
        ``where(row, suffix)`` is the place of a row's data.

    Raises
    ------
    InvalidFormatError
        If a field is missing, unknown, or of another kind.
    """
    column = np.empty(len(rows), type_.layout.portable)
    for f, values in zip(type_.fields, _members(rows, type_.fields, type_.defaults, where), strict=True):
        column[f.name] = values
    return column


def read_structs(rows: list[Any], fields: tuple[Field, ...], where: Where) -> list[Array]:
    """Return an array for each of the fields of structs, which have no defaults."""
    return _members(rows, fields, _NO_DEFAULTS, where)


def _members(
    rows: list[Any], fields: tuple[Field, ...], defaults: Mapping[str, Any], where: Where
) -> list[Array]:
    columns = []
    whole = True
    for f in fields:
        try:
            values = list(map(itemgetter(f.name), rows))
        except KeyError:
            columns.append(_completed(rows, f, defaults, where))
            whole = False
        else:
            columns.append(read_values(values, f, read_structs, _member(where, f)))
    if not whole or not set(map(len, rows)) <= {len(fields)}:
        names = {f.name for f in fields}
        for i, row in enumerate(rows):
            if unknown := row.keys() - names:
                raise InvalidFormatError(
                    f"expected a field of {shown(sorted(names))}, found {min(unknown)!r:.80} at {where(i)}"
                )
    return columns


def _member(where: Where, f: Field) -> Where:
    return lambda i, suffix="": where(i, f".{f.name}{suffix}")


def _completed(rows: list[Any], f: Field, defaults: Mapping[str, Any], where: Where) -> Array:
    """Return the values of a field that some rows do not have."""
    given = [i for i, row in enumerate(rows) if f.name in row]
    if f.name not in defaults:
        missing = next(i for i, row in enumerate(rows) if f.name not in row)
        raise InvalidFormatError(
            f"expected a field {f.name!r}, found {shown(sorted(rows[missing]))} at {where(missing)}"
        )
    member = _member(where, f)
    values = read_values(
        [rows[i][f.name] for i in given], f, read_structs, lambda i, suffix="": member(given[i], suffix)
    )
    default = _default(f, defaults[f.name])
    column: Array = np.empty((len(rows), *values.shape[1:]), values.dtype)
    if f.variable == "list":
        for i in range(len(rows)):
            column[i] = default.copy()
    else:
        column[...] = default
    column[given] = values
    return column


def _default(f: Field, value: Any) -> Array:
    """Return a default as `read_values` would; its references are null."""
    found = coerce(value, f, f.name)
    if f.variable:
        found = found[()]
        if f.variable != "list":
            return found
    if not f.has_refs():
        return found
    element = Field(f.name, f.dtype, f.ref, f.fields, f.shape)
    source = np.empty(found.shape[: found.ndim - len(f.shape)], [(f.name, element.element())])
    source[f.name] = found
    target = np.empty(source.shape, [(f.name, element.element(disk=True))])
    convert(source, target, (element,), lambda references: np.zeros(references.shape, STABLE_ID))
    return target[f.name]

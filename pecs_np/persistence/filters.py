"""What of a snapshot is saved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.errors import ComponentValueError
from pecs_np.messages import shown

__all__ = ["without_transient"]


def without_transient(snapshot: Snapshot) -> Snapshot:
    """Return *snapshot* without its transient types and the values that are not persistent.

    A component whose class has a method ``is_persistent`` is kept where that returns true: a mask for
    a column, a bool for a single value. Entities that then have the same types share a table.

    Raises
    ------
    ComponentValueError
        If ``is_persistent`` returns no mask.
    """
    if not snapshot.has_transient:
        return snapshot
    tables = [part for table in snapshot.tables for part in _persistent(table)]
    resources = None
    if snapshot.resources is not None:
        (resources,) = _persistent(snapshot.resources)  # of its one row, all or nothing
    return replace(
        snapshot.with_tables(tables), resources=resources if resources and resources.types else None
    )


def _persistent(table: SnapshotTable) -> list[SnapshotTable]:
    """Return *table* as the tables that its rows belong to once what is transient is gone."""
    parts = [table.keep(t.name for t in table.types if not t.transient)]
    for type_ in parts[0].types:
        if type_.selective:
            parts = [part for whole in parts for part in _split(whole, type_)]
    return parts


def _split(table: SnapshotTable, type_: ComponentType) -> list[SnapshotTable]:
    if type_.name not in table.columns:
        return [table]
    mask = _mask(table.columns[type_.name], type_)
    if mask.all():
        return [table]
    others = [t.name for t in table.types if t is not type_]
    if not mask.any():
        return [table.keep(others)]
    return [table.take(mask), table.take(~mask).keep(others)]


def _mask(column: Array, type_: ComponentType) -> Array:
    method: Any = getattr(type_.cls, "is_persistent", None)
    answer = method(type_.cls._wrap(column))
    mask = np.asarray(answer)
    if mask.dtype != bool or mask.shape not in ((), column.shape):
        raise ComponentValueError(
            f"expected a mask of {len(column)} bools from {type_.name}.is_persistent, found {shown(answer)}",
            suggestion="calculate with the fields as columns: return self.age < 10",
        )
    return np.broadcast_to(mask, column.shape)

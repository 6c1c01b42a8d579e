"""Two worlds compared, whatever ids they gave their entities."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from pecs_np.ecs.arrays import Array, as_bytes
from pecs_np.ecs.difference import plain_states
from pecs_np.ecs.dtypes import Field
from pecs_np.ecs.id_lookup import IdLookup
from pecs_np.ecs.ids import as_int
from pecs_np.ecs.references import EntityMap, convert
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.ecs.world import World
from pecs_np.persistence import variable

__all__ = ["assert_worlds_equal"]


def assert_worlds_equal(left: World, right: World) -> None:
    """Raise AssertionError, saying where, unless two worlds hold the same.

    Entities are matched by stable id; their order and their entity ids do not count. Values are
    compared bit for bit, so NaN equals NaN; references are equal where they mean the same stable id.

    Examples
    --------
    >>> world = World(seed=1)
    >>> ids = world.spawn_batch(count=3)
    >>> assert_worlds_equal(world, World.from_snapshot(world.snapshot()))
    """
    a, b = left.snapshot(), right.snapshot()
    _same("entity count", a.entity_count, b.entity_count)
    _same("world version", a.version, b.version)
    _same("metadata", a.metadata, b.metadata)
    _same("generators", plain_states(a.rngs), plain_states(b.rngs))
    tables_a, tables_b = _by_types(a), _by_types(b)
    _same("sets of component types", set(tables_a), set(tables_b))
    maps = [EntityMap((t.entities, t.stable_ids) for t in s.tables) for s in (a, b)]
    for names, table in tables_a.items():
        other = tables_b[names]
        where = f"table ({', '.join(names)})"
        _same(f"rows of {where}", table.rows, other.rows)
        ids = table.stable_ids.array()
        order = IdLookup(other.stable_ids.array()).find(ids)
        if (order < 0).any():
            missing = as_int(ids[np.argmin(order)])
            raise AssertionError(f"{where}: stable id {missing:032x} is in one world only")
        _compare_columns(table, other, np.arange(table.rows), order, maps, where)
    _same("resource types", _names(a.resources), _names(b.resources))
    if a.resources is not None and b.resources is not None:
        row = np.zeros(1, np.intp)
        _compare_columns(a.resources, b.resources, row, row, maps, "resources")


def _compare_columns(
    left: SnapshotTable,
    right: SnapshotTable,
    rows_left: Array,
    rows_right: Array,
    maps: list[EntityMap],
    where: str,
) -> None:
    for ours, theirs in zip(left.types, right.types, strict=True):
        _same(f"version of {ours.name}", ours.version, theirs.version)
        _same(f"fields of {ours.name}", ours.fields, theirs.fields)
        a = left.columns[ours.name].take(rows_left)
        b = right.columns[ours.name].take(rows_right)
        layout = ours.layout
        fixed = []
        for column, mapped in zip((a, b), maps, strict=True):
            rows = np.zeros(len(column), layout.disk)
            convert(column, rows, layout.fixed, mapped)
            fixed.append(as_bytes(rows).reshape(len(rows), -1))
        different = np.argwhere(fixed[0] != fixed[1])
        if len(different):
            row, byte = different[0]
            offsets = {f.name: layout.disk.fields[f.name][1] for f in layout.fixed}  # type: ignore[index]
            field = [name for name, offset in offsets.items() if offset <= byte][-1]
            raise AssertionError(f"{where}: {ours.name}.{field} differs, first in row {row}")
        for f in layout.variable:
            sides = [
                _variable(column[f.name], f, mapped, where)
                for column, mapped in zip((a, b), maps, strict=True)
            ]
            for row, (x, y) in enumerate(zip(*sides, strict=True)):
                if x != y:
                    raise AssertionError(f"{where}: {ours.name}.{f.name} differs, first in row {row}")


def _variable(column: Array, f: Field, mapped: EntityMap, where: str) -> list[bytes]:
    """Return the bytes of each row of a variable-length field, references as stable ids."""
    offsets, values = variable.encode(column, f, where)
    if f.has_refs():
        one = Field(f.name, f.dtype, f.ref, f.fields, f.shape)
        source = np.empty(len(values), np.dtype([(f.name, one.element())]))
        source[f.name] = values
        target = np.empty(len(values), np.dtype([(f.name, one.element(disk=True))]))
        convert(source, target, (one,), mapped)
        values = target
    data = values.tobytes()
    ends = (offsets * np.uint64(f.element(disk=True).itemsize)).tolist()
    return [data[start:stop] for start, stop in pairwise(ends)]


def _by_types(snapshot: Snapshot) -> dict[tuple[str, ...], SnapshotTable]:
    return {tuple(_names(table)): table for table in snapshot.tables}


def _names(table: SnapshotTable | None) -> list[str]:
    return [] if table is None else [t.name for t in table.types]


def _same(what: str, left: object, right: object) -> None:
    if left != right:
        raise AssertionError(f"{what}: expected {left!r:.200}, found {right!r:.200}")

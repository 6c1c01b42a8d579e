"""`Snapshot`: a world as plain data, the narrow waist between the live world and all that persists it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pecs_np.ecs.arrays import Array, as_mask
from pecs_np.ecs.components import ComponentType, type_name
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn
from pecs_np.ecs.values import private_copy
from pecs_np.errors import ComponentValueError, StructuralChangeError, UnknownFieldError, WorldError
from pecs_np.messages import shown

__all__ = ["Revision", "Snapshot", "SnapshotTable", "TableFilter"]


class Revision:
    """How many structural changes a world has had, for all snapshots that share its memory.

    Attributes
    ----------
    number : int
    under_way : int
        How many are being made: what another thread sees now is the half of them.
    """

    __slots__ = ("number", "under_way")

    def __init__(self) -> None:
        self.number = self.under_way = 0


class Claim:
    """Whether a world has taken over the arrays of a table: shared by all tables that have the same arrays."""

    __slots__ = ("taken",)

    def __init__(self) -> None:
        self.taken = False


@dataclass(slots=True, eq=False)
class SnapshotTable:
    """The entities of one archetype.

    Attributes
    ----------
    types : tuple of ComponentType
        Sorted by name.
    rows : int
    entities, stable_ids : IdColumn
        ``.array()`` gives the ids, shape (rows,).
    columns : dict of str to ndarray
        By type name, shape (rows,), of the type's memory dtype; references are entity ids.
    """

    types: tuple[ComponentType, ...]
    rows: int
    entities: IdColumn
    stable_ids: IdColumn
    columns: Mapping[str, Array]
    claim: Claim = field(default_factory=Claim, repr=False)

    def take(self, rows: Any) -> SnapshotTable:
        """Return the given *rows*, as indices or as a mask of shape (rows,), as a table of its own."""
        try:
            rows = np.asarray(rows)
        except (ValueError, TypeError):
            raise WorldError(f"expected a mask or row numbers, found {shown(rows)}") from None
        mask = rows.dtype == bool
        if rows.ndim != 1 or (
            rows.shape != (self.rows,) if mask else rows.size and rows.dtype.kind not in "iu"
        ):
            raise WorldError(
                f"expected a mask of shape ({self.rows},) or row numbers, found {rows.dtype} of shape {rows.shape}"
            )
        rows = np.flatnonzero(rows) if mask else rows.astype(np.intp)
        if rows.size and not -self.rows <= rows.min() <= rows.max() < self.rows:
            raise WorldError(f"expected row numbers below {self.rows}, found {rows.max()}")
        return SnapshotTable(
            self.types,
            len(rows),
            IdColumn(ENTITY_ID, array=self.entities.array().take(rows)),
            IdColumn(STABLE_ID, array=self.stable_ids.array().take(rows)),
            {t.name: _own(self.columns[t.name].take(rows), t) for t in self.types},
        )

    def get(self, type_: Any) -> Any:
        """Return the column of a type, a class or a name, as a component of shape (rows,), or None."""
        name = type_name(type_)
        found = next((t for t in self.types if t.name == name), None)
        return None if found is None else found.cls._wrap(self.columns[name])

    def keep(self, types: Any) -> SnapshotTable:
        """Return the table with only these types, given as classes or names, one or several."""
        if isinstance(types, str | type) or not isinstance(types, Iterable):
            types = (types,)
        kept = set(map(type_name, types))
        return replace(
            self,
            types=tuple(t for t in self.types if t.name in kept),
            columns={name: column for name, column in self.columns.items() if name in kept},
        )

    def check(self) -> None:
        """Raise unless ids and columns have the rows and the dtypes that they should have."""
        if [t.name for t in self.types] != sorted(self.columns):
            raise ComponentValueError(
                f"expected a column for each of {[t.name for t in self.types]}, sorted by name,"
                f" found {list(self.columns)}"
            )
        for t in self.types:
            column = self.columns[t.name]
            if column.dtype != t.layout.memory or column.shape != (self.rows,):
                raise ComponentValueError(
                    f"expected {self.rows} rows of {t.layout.memory}, found shape {column.shape} of"
                    f" {column.dtype} for {t.name}"
                )

    def check_ids(self) -> None:
        """Raise unless there is an entity and a stable id, none of them 0, for each row."""
        if (self.entities.size, self.stable_ids.size) != (self.rows, self.rows):
            raise WorldError(
                f"expected {self.rows} entities and stable ids, found {self.entities.size} and"
                f" {self.stable_ids.size}"
            )
        stable = self.stable_ids.array()
        if not (self.entities.array().all() and (stable["lo"] | stable["hi"]).all()):
            raise WorldError("expected ids other than 0, which means 'no entity', found 0")


# A mask is a bool, or an array of bools of shape (rows,).
TableFilter = Callable[[SnapshotTable], "SnapshotTable | Iterable[SnapshotTable] | Array | bool | None"]


@dataclass(slots=True, eq=False)
class Snapshot:
    """A whole world as plain data.

    A snapshot that a world gives shares the world's memory and shows its later changes, unless it was
    made with ``copy=True``; its arrays are read-only. A snapshot that was read or copied owns its
    arrays; the one world made from it takes them over, and then they are that world's.

    Attributes
    ----------
    tables : tuple of SnapshotTable
        In the order of their type names; none is empty.
    resources : SnapshotTable or None
        One row without ids, a column for each resource.
    version : int
        The world's.
    metadata : dict
    rngs : dict of str to dict
        The state of each named bit generator, as NumPy gives it.
    id_source : (int, int) or None
        High half and next low half of the stable ids of a seeded world.
    sound : bool
        Whether ids are known to be distinct and every reference alive or null.
    shares : (Revision, int) or None
        Of the world whose memory it shares: its structural changes, and how many they were.
    cache : dict
        What encoders worked out for these tables, for as long as the snapshot lives.
    """

    tables: tuple[SnapshotTable, ...]
    resources: SnapshotTable | None = None
    version: int = 1
    metadata: dict[str, Any] = field(default_factory=dict)
    rngs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    id_source: tuple[int, int] | None = None
    sound: bool = False
    shares: tuple[Revision, int] | None = field(default=None, repr=False)
    cache: dict[str, Any] = field(default_factory=dict, repr=False, init=False)

    def __len__(self) -> int:
        return self.entity_count

    def __reduce__(self) -> tuple[Any, ...]:
        own = self.copy()
        parts = own.tables, own.resources, own.version, own.metadata, own.rngs, own.id_source, own.sound
        return Snapshot, parts

    def __repr__(self) -> str:
        return f"<Snapshot of {self.entity_count} entities in {len(self.tables)} tables: {', '.join(t.name for t in self.types)}>"

    @property
    def entity_count(self) -> int:
        """How many entities the tables hold."""
        return sum([table.rows for table in self.tables])

    @property
    def outdated(self) -> bool:
        """Whether the world whose memory it shares has had a structural change since, or is having one."""
        if self.shares is None:
            return False
        revision, number = self.shares
        # In this order, because a change that ends is counted first.
        return revision.under_way > 0 or revision.number != number

    @property
    def has_transient(self) -> bool:
        """Whether a type occurs that saves leave out, for all its values or for some."""
        found = self.cache.get("transient")
        if found is None:
            found = self.cache["transient"] = any(t.transient or t.selective for t in self.types)
        return bool(found)

    @property
    def types(self) -> tuple[ComponentType, ...]:
        """The component types that occur, resources too, sorted by name."""
        tables = (*self.tables, self.resources) if self.resources else self.tables
        types = {t.name: t for table in tables for t in table.types}
        return tuple([types[name] for name in sorted(types)])

    def column(self, type_: Any) -> Array:
        """Return all rows of one type, a class or a name, in table order, as one structured array.

        Raises
        ------
        UnknownFieldError
            If no entity has the type.
        """
        name = type_name(type_)
        parts = [table.columns[name] for table in self.tables if name in table.columns]
        if not parts:
            names = ", ".join(t.name for t in self.types)
            raise UnknownFieldError(f"expected a type of the snapshot ({names}), found {shown(name)}")
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def filtered(self, keep: TableFilter) -> Snapshot:
        """Return a snapshot of what *keep* returns for each table.

        That is a table, several, None, or a mask of the rows. Entities that then have the same types
        share a table.
        """
        if not callable(keep):
            raise WorldError(
                f"expected a filter, or a function of a SnapshotTable, found {keep!r:.80}",
                suggestion="filter=WhitelistFilter(Position), or filter=lambda table: …",
            )
        tables: list[SnapshotTable] = []
        for table in self.tables:
            tables += _kept(table, keep(replace(table)))
        return self.with_tables(tables)

    def with_tables(self, tables: Iterable[SnapshotTable], *, sound: bool = False) -> Snapshot:
        """Return the snapshot with other *tables*; those of the same types are joined, empty ones left out."""
        by_names: dict[tuple[str, ...], list[SnapshotTable]] = {}
        for table in tables:
            if table.rows:
                by_names.setdefault(tuple(t.name for t in table.types), []).append(table)
        joined = tuple(_joined(by_names[names]) for names in sorted(by_names))
        return replace(self, tables=joined, sound=sound)

    def copy(self) -> Snapshot:
        """Return a snapshot that owns its arrays and no longer changes with a world.

        Raises
        ------
        StructuralChangeError
            If it is outdated: its rows may no longer belong together.
        """

        def own(table: SnapshotTable) -> SnapshotTable:
            return SnapshotTable(
                table.types,
                table.rows,
                table.entities.frozen(copy=True),
                table.stable_ids.frozen(copy=True),
                {t.name: private_copy(table.columns[t.name], t.fields) for t in table.types},
            )

        resources = self.resources and own(self.resources)
        metadata = copy.deepcopy(self.metadata)
        tables = tuple(map(own, self.tables))
        if self.outdated:
            raise StructuralChangeError(
                "expected a world that stays as it is until its snapshot is copied, found that it changed",
                suggestion="call world.snapshot(copy=True), and stop the threads that change the world",
            )
        return replace(self, tables=tables, resources=resources, metadata=metadata, shares=None)


def _kept(table: SnapshotTable, answer: Any) -> list[SnapshotTable]:
    """Return the tables that the *answer* of a filter for *table* stands for."""
    if answer is None:
        return []
    if isinstance(answer, SnapshotTable):
        return [answer]
    if isinstance(answer, list | tuple) and all(isinstance(part, SnapshotTable) for part in answer):
        return list(answer)
    mask = as_mask(answer, table.rows)
    if mask is None:
        raise WorldError(
            f"expected a SnapshotTable, a mask of {table.rows} bools or None from the filter, found {shown(answer)}"
        )
    if mask.all():
        return [table]
    return [table.take(mask)] if mask.any() else []


def _joined(parts: list[SnapshotTable]) -> SnapshotTable:
    """Return tables of the same types as one."""
    if len(parts) == 1:
        return parts[0]
    return SnapshotTable(
        parts[0].types,
        sum(part.rows for part in parts),
        IdColumn(ENTITY_ID, array=np.concatenate([part.entities.array() for part in parts])),
        IdColumn(STABLE_ID, array=np.concatenate([part.stable_ids.array() for part in parts])),
        {t.name: _own(np.concatenate([part.columns[t.name] for part in parts]), t) for t in parts[0].types},
    )


def _own(column: Array, type_: ComponentType) -> Array:
    """Return the new array *column* with lists of its own."""
    return private_copy(column, type_.fields) if type_.layout.lists else column

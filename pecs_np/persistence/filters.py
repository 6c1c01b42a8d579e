"""What of a world is saved or loaded: filters by component type, by value and by entity.

A filter answers with masks over the columns of a table, never entity by entity; who prefers that form
overrides `PersistenceFilter.keeps_entity`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import repeat
from typing import Any, Literal

import numpy as np

from pecs_np.ecs.arrays import Array, as_mask
from pecs_np.ecs.components import Component, ComponentType, type_name
from pecs_np.ecs.entities import EntityId, StableId
from pecs_np.ecs.ids import as_int
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable, TableFilter
from pecs_np.errors import ComponentValueError, PersistenceError
from pecs_np.messages import is_one_of, shown

__all__ = [
    "BlacklistFilter",
    "CompositeFilter",
    "EntityRow",
    "NoTransientFilter",
    "PersistenceFilter",
    "WhitelistFilter",
    "filtered",
    "without_transient",
]

Mask = Any  # a bool, or an array of bools, shape (rows,)


class EntityRow:
    """One entity of a snapshot, for filters that look at them one by one.

    Attributes
    ----------
    table : SnapshotTable
    row : int
    """

    __slots__ = ("row", "table")

    def __init__(self, table: SnapshotTable, row: int) -> None:
        self.table = table
        self.row = row

    @property
    def entity(self) -> EntityId:
        """Its id in the world that the snapshot is of."""
        return EntityId(int(self.table.entities.array()[self.row]))

    @property
    def stable_id(self) -> StableId:
        """Its stable id."""
        return StableId(as_int(self.table.stable_ids.array()[self.row]))

    def has(self, *types: Any) -> bool:
        """Tell whether it has all of *types*, classes or names."""
        return all(type_name(type_) in self.table.columns for type_ in types)

    def get(self, type_: Any) -> Any:
        """Return its component of a type, a class or a name, or None."""
        column = self.table.get(type_)
        return None if column is None else column[self.row]


class PersistenceFilter:
    """A choice of entities and components.

    Override what the choice needs; what is not overridden keeps everything. An entity that keeps none of
    its components is still saved; one that is not kept is gone, and references to it become null.

    Examples
    --------
    >>> import numpy as np
    >>> from pecs_np import World, component
    >>> @component
    ... class Charge:
    ...     volts: np.int32
    >>> class Charged(PersistenceFilter):
    ...     def entity_mask(self, table):
    ...         charge = table.get(Charge)
    ...         return True if charge is None else charge.volts > 0
    >>> world = World()
    >>> ids = world.spawn_batch(Charge(volts=[3, 0, 5]))
    >>> len(World.from_bytes(world.to_bytes(filter=Charged())))
    2
    """

    def keeps_type(self, type_: ComponentType) -> bool:  # noqa: ARG002 - for subclasses
        """Tell whether components of that type are kept at all."""
        return True

    def entity_mask(self, table: SnapshotTable) -> Mask:
        """Return which entities of *table* are kept: a bool for all, or a mask of shape (rows,)."""
        if type(self).keeps_entity is PersistenceFilter.keeps_entity:
            return True
        return np.fromiter(map(self._keeps_row, repeat(table), range(table.rows)), bool, table.rows)

    def _keeps_row(self, table: SnapshotTable, row: int) -> bool:
        answer = self.keeps_entity(EntityRow(table, row))
        if not isinstance(answer, bool | np.bool_):
            raise ComponentValueError(
                f"expected True or False from keeps_entity of {type(self).__name__}, found {shown(answer)}"
            )
        return bool(answer)

    def component_mask(self, table: SnapshotTable, type_: ComponentType) -> Mask:  # noqa: ARG002 - for subclasses
        """Return which components of *type_* in *table* are kept: a bool for all, or a mask of shape (rows,)."""
        return self.keeps_type(type_)

    def keeps_entity(self, entity: EntityRow) -> bool:  # noqa: ARG002 - for subclasses
        """Tell whether one entity is kept; slower than a mask by the thousand."""
        return True

    def __and__(self, other: PersistenceFilter) -> CompositeFilter:
        return CompositeFilter.all(self, other)

    def __or__(self, other: PersistenceFilter) -> CompositeFilter:
        return CompositeFilter.any(self, other)

    def __call__(self, table: SnapshotTable) -> list[SnapshotTable]:
        """Return what is kept of *table*, as the tables of its rows' remaining components."""
        mask = self._checked(self.entity_mask(table), table, "entity_mask")
        if mask is False:
            return []
        return self.keep_components(table if mask is True else table.take(mask))

    def keep_components(self, table: SnapshotTable) -> list[SnapshotTable]:
        """Return *table* with the components that are kept; of the resources, which are no entities, too."""
        masks = {
            type_.name: self._checked(
                self.component_mask(table, type_), table, f"component_mask of {type_.name}"
            )
            for type_ in table.types
        }
        whole = [name for name, mask in masks.items() if mask is not False]
        parts = [(table if len(whole) == len(masks) else table.keep(whole), np.arange(0))]
        for name, mask in masks.items():
            if not isinstance(mask, bool):
                parts = [piece for part in parts for piece in _split(*part, name, mask)]
        return [part for part, _ in parts]

    def _checked(self, answer: Any, table: SnapshotTable, what: str) -> Mask:
        """Return a mask that is neither all true nor all false, else the bool it comes to."""
        if type(answer) is bool:
            return answer
        mask = as_mask(answer, table.rows)
        if mask is None:
            raise ComponentValueError(
                f"expected a bool or a mask of {table.rows} bools from {what} of {type(self).__name__}, found {shown(answer)}",
                suggestion="calculate with whole columns: return table.get(Age).years < 10",
            )
        if mask.all():
            return True
        return mask if mask.any() else False


def _split(
    table: SnapshotTable, rows: Array, name: str, mask: Array
) -> Iterator[tuple[SnapshotTable, Array]]:
    """Return the rows of *table* that keep the component *name*, and those without it.

    *rows* are the places in *mask* of the table's rows; none stand for all in order.
    """
    own = mask.take(rows) if len(rows) else mask
    others = [t.name for t in table.types if t.name != name]
    for kept in (True, False):
        chosen = np.flatnonzero(own == kept)
        if len(chosen):
            part = table if len(chosen) == len(own) else table.take(chosen)
            yield (part if kept else part.keep(others)), (rows.take(chosen) if len(rows) else chosen)


class WhitelistFilter(PersistenceFilter):
    """Only components of the given types, classes or names.

    Examples
    --------
    >>> from pecs_np import World, make_component
    >>> Mass, Name = make_component("Mass", {"kg": float}), make_component("Name", {"text": str})
    >>> world = World()
    >>> ids = world.spawn_batch(Mass(kg=[1, 2]), Name("a"))
    >>> World.from_bytes(world.to_bytes(filter=WhitelistFilter(Mass)))
    <World of 2 entities in 1 tables (Mass: 2)>
    """

    def __init__(self, *allowed_types: Any) -> None:
        self.allowed_types = _names(allowed_types)

    def keeps_type(self, type_: ComponentType) -> bool:
        """Tell whether the type is among those allowed."""
        return type_.name in self.allowed_types

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(sorted(self.allowed_types))})"


class BlacklistFilter(PersistenceFilter):
    """All components but those of the given types, classes or names."""

    def __init__(self, *denied_types: Any) -> None:
        self.denied_types = _names(denied_types)

    def keeps_type(self, type_: ComponentType) -> bool:
        """Tell whether the type is not among those denied."""
        return type_.name not in self.denied_types

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(sorted(self.denied_types))})"


class NoTransientFilter(PersistenceFilter):
    """What every save leaves out: types marked as transient, and values that are not persistent.

    A component whose class has a method ``is_persistent`` is kept where that returns true: a mask for a
    column, a bool for a single value.
    """

    def keeps_type(self, type_: ComponentType) -> bool:
        """Tell whether the type is not transient."""
        return not type_.transient

    def component_mask(self, table: SnapshotTable, type_: ComponentType) -> Mask:
        """Return where ``is_persistent`` holds."""
        if type_.transient or not type_.selective:
            return not type_.transient
        column = table.columns[type_.name]
        answer = type_.cls.is_persistent(type_.cls._wrap(column))  # type: ignore[attr-defined]
        mask = as_mask(answer, len(column))
        if mask is None:
            raise ComponentValueError(
                f"expected a mask of {len(column)} bools from {type_.name}.is_persistent, found {shown(answer)}",
                suggestion="calculate with the fields as columns: return self.age < 10",
            )
        return mask


class CompositeFilter(PersistenceFilter):
    """Several filters as one: what `all` of them keep, or what `any` of them keeps. Also ``a & b``, ``a | b``."""

    def __init__(self, filters: Iterable[PersistenceFilter], mode: Literal["all", "any"] = "all") -> None:
        if not isinstance(filters, Iterable):
            raise PersistenceError(f"expected filters, found {shown(filters)}")
        self.filters = tuple(filters)
        self.mode = mode
        for filter_ in self.filters:
            if not isinstance(filter_, PersistenceFilter):
                raise PersistenceError(f"expected filters, found {shown(filter_)}")
        if not is_one_of(mode, "all", "any"):
            raise PersistenceError(f"expected mode 'all' or 'any', found {shown(mode)}")

    @classmethod
    def all(cls, *filters: PersistenceFilter) -> CompositeFilter:
        """Return the filter that keeps what every one of *filters* keeps."""
        return cls(filters)

    @classmethod
    def any(cls, *filters: PersistenceFilter) -> CompositeFilter:
        """Return the filter that keeps what at least one of *filters* keeps."""
        return cls(filters, "any")

    def entity_mask(self, table: SnapshotTable) -> Mask:
        """Return the entities that all, or any, of the filters keep."""
        return self._combined([f._checked(f.entity_mask(table), table, "entity_mask") for f in self.filters])

    def component_mask(self, table: SnapshotTable, type_: ComponentType) -> Mask:
        """Return the components that all, or any, of the filters keep, each with the entity it is of."""
        what = f"component_mask of {type_.name}"
        masks = []
        for f in self.filters:
            mask = f._checked(f.component_mask(table, type_), table, what)
            if self.mode == "any" and mask is not False and table.entities.size:
                # Not the component of an entity that this filter does not keep.
                own = f._checked(f.entity_mask(table), table, "entity_mask")
                mask = mask if own is True else (own if mask is True else mask & own)
            masks.append(mask)
        return self._combined(masks)

    def _combined(self, masks: list[Mask]) -> Mask:
        if not masks:
            return True
        together = np.logical_and if self.mode == "all" else np.logical_or
        found = masks[0]
        for mask in masks[1:]:
            found = together(found, mask)
        return found if isinstance(found, np.ndarray) else bool(found)

    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self.mode}({', '.join(map(repr, self.filters))})"


_NO_TRANSIENT = NoTransientFilter()


def filtered(snapshot: Snapshot, filter_: PersistenceFilter | TableFilter | None) -> Snapshot:
    """Return what *filter_* keeps of *snapshot*, its resources included; entities of the same types share a table.

    A function in place of a filter takes a `SnapshotTable` and returns what is kept of it: a mask of its
    rows, a table, several, or None; resources are then kept.
    """
    if filter_ is None:
        return snapshot
    kept = snapshot.filtered(filter_)
    if isinstance(filter_, PersistenceFilter) and snapshot.resources is not None:
        (resources,) = filter_.keep_components(snapshot.resources)  # of its one row, all or nothing
        kept = replace(kept, resources=resources if resources.types else None)
    return kept


def without_transient(snapshot: Snapshot) -> Snapshot:
    """Return *snapshot* without its transient types and the values that are not persistent.

    Raises
    ------
    ComponentValueError
        If ``is_persistent`` returns no mask.
    """
    return filtered(snapshot, _NO_TRANSIENT) if snapshot.has_transient else snapshot


def _names(types: Iterable[Any]) -> frozenset[str]:
    """Return the names of classes and names, also where they come as one collection."""
    found: set[str] = set()
    for type_ in types:
        if isinstance(type_, Iterable) and not isinstance(type_, str | type | Component | np.ndarray):
            found |= _names(type_)
        else:
            found.add(type_name(type_))
    return frozenset(found)

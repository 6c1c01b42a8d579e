"""`WorldDraft`: the content of a save while migrations change it, column by column."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.components import Component, ComponentType, component_type, type_name
from pecs_np.ecs.dtypes import MOST_BYTES, PORTABLE, Field, Layout, check_name
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.ecs.values import assemble, invalid_value
from pecs_np.errors import MigrationError, PecsError
from pecs_np.messages import shown
from pecs_np.persistence.consistency import check_snapshot
from pecs_np.persistence.files import checked_flag

__all__ = ["WorldDraft", "migrate_column"]


class WorldDraft:
    """What a save holds, before it is a world: migrations change it in place.

    Attributes
    ----------
    version : int
        Of the world, as the save has it.
    metadata : dict
    rngs : dict of str to dict
        The states of the generators.

    Examples
    --------
    >>> from pecs_np import World, make_component
    >>> Flat = make_component("Flat", {"x": float, "y": float}, register=False)
    >>> Solid = make_component("Solid", {"x": float, "y": float, "z": float}, register=False)
    >>> world = World()
    >>> ids = world.spawn_batch(Flat(x=[1, 2], y=3))
    >>> draft = WorldDraft(world.snapshot(copy=True))
    >>> draft.change("Flat", lambda flat: Solid(x=flat.x, y=flat.y, z=0))
    >>> World.from_snapshot(draft.snapshot()).column("Solid")["x"]
    array([1., 2.])
    """

    def __init__(self, snapshot: Snapshot) -> None:
        check_snapshot(snapshot)
        self._base = snapshot
        self._tables = list(snapshot.tables)
        self._resources = snapshot.resources
        self.version = snapshot.version
        self.metadata = copy.deepcopy(snapshot.metadata)
        self.rngs = dict(snapshot.rngs)

    @property
    def types(self) -> dict[str, ComponentType]:
        """The component types by name, resources too; each has ``.version`` and ``.fields``."""
        return {t.name: t for table in self._all() for t in table.types}

    @property
    def entity_count(self) -> int:
        """How many entities there are."""
        return sum(table.rows for table in self._tables)

    def __repr__(self) -> str:
        return f"<WorldDraft of {self.entity_count} entities, version {self.version}: {', '.join(sorted(self.types))}>"

    def __contains__(self, type_: Any) -> bool:
        return type_name(type_) in self.types

    def columns(self, type_: Any) -> list[Array]:
        """Return the columns of a type, a class or a name: structured arrays, which may be changed in place."""
        name = type_name(type_)
        self._own(name)
        return [table.columns[name] for table in self._all() if name in table.columns]

    def rename(self, old: str, new: str) -> None:
        """Give the component *old* the name *new*.

        Raises
        ------
        MigrationError
            If an entity has both, or the new name is none.
        """
        old = type_name(old)
        check_name(new, f"the new name of {old}", MigrationError)
        for table in self._all():
            if old in table.columns and new in table.columns:
                raise MigrationError(
                    f"expected no entity with both {old!r} and {new!r}, found {table.rows}",
                    suggestion=f"merge them: world.change(({old!r}, {new!r}), function)",
                )
        self._retype(old, lambda t: ComponentType(new, t.version, t.layout, defaults=t.defaults))

    def rename_field(self, type_: Any, old: str, new: str) -> None:
        """Give the field *old* of a component the name *new*.

        Raises
        ------
        MigrationError
            If there is no such field, or one of the new name.
        """
        check_name(old, f"the name of a field of {type_name(type_)}", MigrationError)
        check_name(new, f"the new name of field {old}", MigrationError)

        def renamed(t: ComponentType) -> ComponentType:
            if old not in t.names or new in t.names:
                raise MigrationError(
                    f"expected a field {old!r} and none {new!r}, found {', '.join(t.names)} in {t.name}"
                )
            fields = tuple(replace(f, name=new) if f.name == old else f for f in t.fields)
            return ComponentType(t.name, t.version, Layout(fields))

        self._retype(type_name(type_), renamed)

    def drop(self, *types: Any) -> None:
        """Remove components, given as classes or names, from all entities and resources."""
        names = {type_name(t) for t in types}

        def without(table: SnapshotTable) -> SnapshotTable:
            return table.keep(t.name for t in table.types if t.name not in names)

        self._replace(without)

    def change(self, sources: Any, function: Callable[..., Any], *, keep: bool = False) -> None:
        """Put what *function* makes of some components in their place, for all entities that have them all.

        Parameters
        ----------
        sources : class, name, or several of them
        function : callable
            Takes a column of each, with the fields that the save describes, and returns a column of a
            component, or several: one in place of one, two in place of one (a split), one in place of
            two (a merge). Make what is frozen in time with ``make_component(…, register=False)``.
        keep : bool
            Keep the sources too.

        Raises
        ------
        MigrationError
            If *function* returns anything else, or what an entity has already.
        """
        if not callable(function):
            raise MigrationError(f"expected a function of columns, found {shown(function)}")
        keep = checked_flag(keep, "keep")
        several = isinstance(sources, list | tuple)
        names = [type_name(t) for t in (sources if several else (sources,))]
        for name in names:
            self._own(name)

        def changed(table: SnapshotTable) -> SnapshotTable:
            if not all(name in table.columns for name in names):
                return table
            given = [table.get(name) for name in names]
            answer = function(*given)
            made = [answer] if isinstance(answer, Component) else answer
            if not isinstance(made, list | tuple) or not all(isinstance(c, Component) for c in made):
                raise MigrationError(
                    f"expected a column of a component, or several, found {shown(answer)} of {', '.join(names)}",
                    suggestion="return Position(x=old.x, y=old.y)",
                )
            rest = table if keep else table.keep(t.name for t in table.types if t.name not in names)
            columns = dict(rest.columns)
            types = list(rest.types)
            for component in made:
                type_ = component_type(component)
                if type_.name in columns:
                    raise MigrationError(
                        f"expected entities without {type_.name!r}, found {table.rows} with it",
                        suggestion="name it among the sources too, and merge them",
                    )
                array: Array = np.asarray(component)
                if array.shape not in ((), (table.rows,)):
                    raise MigrationError(
                        f"expected {table.rows} rows of {type_.name}, found shape {array.shape}"
                    )
                columns[type_.name] = _own(np.broadcast_to(array, (table.rows,)), type_)
                types.append(type_)
            return _table(table, types, columns)

        self._replace(changed)

    def replace_type(
        self, name: str, migrate: Callable[[SnapshotTable, ComponentType], tuple[ComponentType, Array]]
    ) -> None:
        """Put the column and the type that *migrate* makes of each table's column *name* in their place."""
        made: ComponentType | None = None

        def replaced(table: SnapshotTable) -> SnapshotTable:
            nonlocal made
            old = next((t for t in table.types if t.name == name), None)
            if old is None:
                return table
            type_, column = migrate(table, old)
            made = made if made is not None and made.agrees_with(type_) else type_
            types = [made if t is old else t for t in table.types]
            return _table(table, types, {**table.columns, name: column})

        self._replace(replaced)

    def snapshot(self, name: str = "the snapshot") -> Snapshot:
        """Return what there is now as a snapshot."""
        types: dict[str, ComponentType] = {}
        for table in self._all():
            for type_ in table.types:
                if not types.setdefault(type_.name, type_).agrees_with(type_):
                    raise MigrationError(
                        f"expected one {types[type_.name]!r}, found {type_!r} too in {name} after its migrations"
                    )
        refers = any(type_.layout.refers for type_ in types.values())
        if not isinstance(self.metadata, dict) or not isinstance(self.rngs, dict):
            raise MigrationError(
                f"expected dicts as metadata and rngs, found {shown(self.metadata)} and {shown(self.rngs)} in"
                f" {name} after its migrations"
            )
        base = self._base.with_tables(self._tables, sound=self._base.sound and not refers)
        resources = self._resources if self._resources is not None and self._resources.types else None
        return replace(
            base, resources=resources, version=self.version, metadata=self.metadata, rngs=self.rngs
        )

    def _all(self) -> list[SnapshotTable]:
        return [*self._tables, self._resources] if self._resources is not None else self._tables

    def _replace(self, function: Callable[[SnapshotTable], SnapshotTable]) -> None:
        tables = [function(table) for table in self._tables]
        if self._resources is not None:
            self._resources = function(self._resources)
        self._tables = tables

    def _retype(self, name: str, function: Callable[[ComponentType], ComponentType]) -> None:
        """Give the columns of a type another type with fields of the same kinds."""
        made: dict[int, ComponentType] = {}

        def retyped(table: SnapshotTable) -> SnapshotTable:
            old = next((t for t in table.types if t.name == name), None)
            if old is None:
                return table
            new = made.setdefault(id(old), function(old))
            columns = {n: c for n, c in table.columns.items() if n != name}
            column, memory = table.columns[name], new.layout.memory
            if memory != old.layout.memory:
                # Arrays of objects have no views of another dtype; fields are assigned in their order.
                column = column.astype(memory) if memory.hasobject else column.view(memory)
            columns[new.name] = column
            return _table(table, [new if t is old else t for t in table.types], columns)

        self._replace(retyped)

    def _own(self, name: str) -> None:
        """Make the columns of a type arrays that may be changed."""

        def owned(table: SnapshotTable) -> SnapshotTable:
            column = table.columns.get(name)
            if column is None or column.flags.writeable:
                return table
            return replace(table, columns={**table.columns, name: column.copy()})

        self._replace(owned)


def migrate_column(
    function: Callable[[Array], Any],
    column: Array,
    old: ComponentType,
    new: ComponentType | None,
    where: str,
) -> tuple[ComponentType, Array]:
    """Return what *function* makes of *column*, and its type.

    Parameters
    ----------
    function : callable
        One step between versions of a component; see ``Component.migration``.
    column : structured array, shape (n,)
    old : ComponentType
        Of *column*.
    new : ComponentType or None
        What it is to become; None for a version between, whose fields the result tells.
    where : str
        What messages call the step.

    Raises
    ------
    MigrationError
        If it raises, or returns what is no such column.
    """
    try:
        answer = function(column)
    except Exception as error:
        raise MigrationError(f"{where} failed: {type(error).__name__}: {error}") from error
    rows = len(column)
    try:
        type_, array = _as_column(answer, old, new, rows)
    except PecsError as error:
        raise MigrationError(f"{where} returned what is no column: {error}") from error
    if array.shape != (rows,):
        raise MigrationError(f"{where}: expected {rows} rows, found shape {array.shape}")
    if type_.layout.checked and (bad := invalid_value(array, type_.layout.fixed)) is not None:
        raise MigrationError(f"{where}: {type_.name}.{bad[1]} {bad[2]} in row {bad[0]}")
    return type_, array


def _as_column(
    answer: Any, old: ComponentType, new: ComponentType | None, rows: int
) -> tuple[ComponentType, Array]:
    """Return the *answer* of a step as a column, and its type."""
    values: Mapping[str, Any]
    if isinstance(answer, Mapping):
        values = answer
    else:
        array = np.asarray(answer)
        if new is not None and array.dtype == new.layout.memory and not new.layout.variable:
            return new, _own(array, new)
        if array.dtype.names is None:
            raise MigrationError(
                f"expected a structured array, a component or a mapping of fields, found {shown(answer)}",
                suggestion='return {"x": old["x"], …}',
            )
        values = {name: array[name] for name in array.dtype.names}
    if new is None:
        new = _between(values, old)
    made = assemble(new.fields, new.layout.memory, new.arrange((), dict(values)), new.name)
    return new, _own(np.broadcast_to(made, (rows,)) if made.shape == () else made, new)


def _between(values: Mapping[str, Any], old: ComponentType) -> ComponentType:
    """Return the type of a version that no class defines any more, from the values of its fields."""
    known = {f.name: f for f in old.fields}
    fields = tuple(_field(name, value, known.get(name)) for name, value in values.items())
    return ComponentType(old.name, old.version + 1, Layout(fields))


def _field(name: str, value: Any, old: Field | None) -> Field:
    """Return the field that holds *value*, which is the *old* one of that name if it still can."""
    dtype = value.dtype if isinstance(value, np.ndarray) else np.asarray(value).dtype
    shape = np.shape(value)[1:]
    if old is not None:
        if old.variable and dtype.hasobject:
            return old
        base = old.element().base
        if not old.variable and base == dtype and old.shape == shape:
            return old
    if dtype.hasobject:
        kinds = {type(v) for v in np.asarray(value, object).flat}
        if kinds <= {str} or kinds <= {bytes}:
            return Field(name, variable="str" if kinds <= {str} else "bytes")
        raise MigrationError(f"expected texts in the new field {name!r}, found {shown(kinds)}")
    return _from_dtype(name, dtype, shape)


def _from_dtype(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Field:
    if dtype.subdtype is not None:
        dtype, inner = dtype.subdtype
        shape = (*shape, *inner)
    if dtype.names is not None:
        fields = _members(dtype)
        return Field(name, fields=fields, shape=shape)
    portable = dtype.newbyteorder("<")
    if not PORTABLE.fullmatch(portable.str) or dtype.itemsize > MOST_BYTES:
        raise MigrationError(f"expected values that a component can hold in field {name!r}, found {dtype}")
    return Field(name, portable, shape=shape)


def _members(dtype: np.dtype[Any]) -> tuple[Field, ...]:
    """Return the fields of a structured dtype."""
    return tuple(_from_dtype(n, dtype[n], ()) for n in dtype.names or ())


def _own(array: Array, type_: ComponentType) -> Array:
    """Return *array* as a column that a world can take over."""
    if (
        array.dtype == type_.layout.memory
        and array.flags.owndata
        and array.flags.c_contiguous
        and array.flags.writeable
    ):
        return array
    return np.array(array, type_.layout.memory)


def _table(
    table: SnapshotTable, types: Iterable[ComponentType], columns: Mapping[str, Array]
) -> SnapshotTable:
    """Return *table* with other columns, sorted by name."""
    ordered = tuple(sorted(types, key=lambda t: t.name))
    return replace(table, types=ordered, columns={t.name: columns[t.name] for t in ordered})

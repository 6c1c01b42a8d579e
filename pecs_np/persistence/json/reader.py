"""The JSON format, read: a document to a snapshot, a few thousand entities at a time.

See `writer` for the form. Documents may be edited by hand: order and white space are free, members that
the format does not know are passed over but in data, fields with a default may be missing, components
may name their type by name alone or by id alone, and ids may be integers. Those of the original Rust
library, with ids of 32 hexadecimal digits and components by name, are read too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import Field
from pecs_np.ecs.id_lookup import ColumnLookup, find_duplicate
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn, as_int, compact
from pecs_np.ecs.references import concatenated, split
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.errors import (
    CorruptedDataError,
    DanglingReferenceError,
    InvalidFormatError,
    LimitExceededError,
    PersistenceError,
)
from pecs_np.persistence.binary.columns import check_entity_count
from pecs_np.persistence.json.decimals import from_hex
from pecs_np.persistence.json.document_types import DocumentTypes
from pecs_np.persistence.json.documents import Document
from pecs_np.persistence.json.entities import Group, grouped
from pecs_np.persistence.json.members import read_column
from pecs_np.persistence.json.scanning import scan
from pecs_np.persistence.json.values import Where, as_json, bad_value, read_ids
from pecs_np.persistence.limits import Limits
from pecs_np.persistence.plugins import bytes_from
from pecs_np.persistence.world_document import read_world

__all__ = ["decode"]


def decode(data: Any, name: str, limits: Limits) -> Snapshot:
    """Return the snapshot that a document holds.

    Raises
    ------
    PersistenceError
        One of its kinds, whatever the bytes are.
    """
    document = Document(bytes_from(data, name), name, limits)
    if document.is_cut:
        try:
            return _Reader(document, limits).snapshot()
        except LimitExceededError:
            raise
        except PersistenceError:
            # Wrong, or cut at a wrong place: whole, it says which, and where.
            document.parse()
    return _Reader(document, limits).snapshot()


class _Table:
    """The parts of a table, in the order of the document."""

    def __init__(self, types: tuple[ComponentType, ...]) -> None:
        self.types = types
        self.ids: list[Array] = []
        self.numbers: list[Array] = []
        self.columns: dict[str, list[Array]] = {t.name: [] for t in types}


class _Reader:
    def __init__(self, document: Document, limits: Limits) -> None:
        self._document = document
        self._limits = limits
        self._types = DocumentTypes(document.members.get("component_types"), document.name, limits)
        self._tables: dict[tuple[str, ...], _Table] = {}
        self._count = 0
        self._bytes = 0

    def snapshot(self) -> Snapshot:
        members, name = self._document.members, self._document.name
        world = read_world(members.get("world", {}), name)
        if self._document.is_cut:
            for text in self._document.texts():
                self._add_text(text)
        else:
            self._add(self._document.entities)
        count = members.get("entity_count", self._count)
        if type(count) is not int or count != self._count:
            raise InvalidFormatError(
                f"expected {self._count} as entity_count, which is how many there are, found {as_json(count)} in {name}"
            )
        check_entity_count(self._count, name)
        ordered = [self._tables[names] for names in sorted(self._tables)]
        ids = [compact(np.concatenate(table.ids)) for table in ordered]
        self._check_distinct(ids, ordered)
        references = _References(ids, name)
        first = 1
        tables = []
        for table, stable_ids in zip(ordered, ids, strict=True):
            rows = stable_ids.size
            columns = {
                t.name: references.placed(table.columns.pop(t.name), t, self._where_in(table, t))
                for t in table.types
            }
            entities = IdColumn(ENTITY_ID, ((first, rows),))
            tables.append(SnapshotTable(table.types, rows, entities, stable_ids, columns))
            first += rows
        resources = self._resources(members["resources"], references) if "resources" in members else None
        return Snapshot(
            tuple(tables), resources, world.version, world.metadata, world.rngs, world.id_source, sound=True
        )

    def _add(self, entities: list[Any]) -> None:
        """Add a part of the entities to the tables."""
        first = self._count

        def where(i: int, suffix: str = "") -> str:
            return f"entities[{first + i}]{suffix} in {self._document.name}"

        ids: Array | None = None
        for group in grouped(entities, self._types, where):
            if ids is None:
                ids = _stable_ids(entities, where)
            types = self._types_of(group, where)
            columns = self._columns(group, types, where)
            rows = np.asarray(group.rows)
            self._append(types, ids.take(rows), rows + first, columns)
        self._count += len(entities)

    def _add_text(self, text: bytes) -> None:
        """Add a part of the entities that is still text."""
        size = self._bytes
        scanned = scan(text, self._types, self._allow)
        if scanned is None:
            self._bytes = size
            self._add(self._document.parsed(text))
            return
        for found in scanned:
            numbers = np.arange(self._count, self._count + len(found.ids))
            self._append(found.types, found.ids, numbers, found.columns)
            self._count += len(numbers)

    def _append(
        self, types: tuple[ComponentType, ...], ids: Array, numbers: Array, columns: list[Array]
    ) -> None:
        """Append rows to the table of *types*; *numbers* are those of the entities in the document."""
        names = tuple([t.name for t in types])
        table = self._tables.get(names)
        if table is None:
            table = self._tables[names] = _Table(types)
            self._check_sections()
        table.ids.append(ids)
        table.numbers.append(numbers)
        for name, column in zip(names, columns, strict=True):
            table.columns[name].append(column)

    def _types_of(self, group: Group, where: Where) -> tuple[ComponentType, ...]:
        found = []
        for number, name in enumerate(group.names):
            here = where(group.rows[0], f".components{group.path(number, 0)}")
            found.append(self._types.of_name(name, here))
        return tuple(found)

    def _columns(self, group: Group, types: tuple[ComponentType, ...], where: Where) -> list[Array]:
        columns = []
        for number, type_ in enumerate(types):
            rows = group.data(number)
            self._allow(len(rows) * type_.layout.memory.itemsize)

            def here(row: int, suffix: str = "", number: int = number) -> str:
                place = f".components{group.path(number, row)}.data{suffix}"
                return where(group.rows[row], place)

            columns.append(read_column(rows, type_, here))
        return columns

    def _allow(self, size: int) -> None:
        """Count the bytes of a column before it is made: a short text can stand for a large row."""
        self._bytes += size
        limits = self._limits
        most = min(limits.total_size, max(limits.free_size, limits.ratio * self._document.size))
        if self._bytes > most:
            raise LimitExceededError(
                f"expected at most {most} bytes of columns, found {self._bytes} in {self._document.name}",
                suggestion="pass larger Limits if you trust where it comes from",
            )

    def _check_sections(self) -> None:
        sections = sum(1 + len(names) for names in self._tables)
        if sections > self._limits.sections:
            raise LimitExceededError(
                f"expected at most {self._limits.sections} tables and columns, found {sections} in {self._document.name}",
                suggestion="pass larger Limits if you trust where it comes from",
            )

    def _check_distinct(self, ids: list[IdColumn], tables: list[_Table]) -> None:
        double = find_duplicate(ids)
        if double is None:
            return
        low, high = double & ((1 << 64) - 1), double >> 64
        places = []
        for table in tables:
            found = np.concatenate(table.ids)
            rows = (found["lo"] == low) & (found["hi"] == high)
            places += np.concatenate(table.numbers)[rows].tolist()
        places.sort()
        raise CorruptedDataError(
            f'expected distinct stable ids, found "{double}" at entities[{places[0]}] and entities[{places[1]}]'
            f" in {self._document.name}"
        )

    def _where_in(self, table: _Table, type_: ComponentType) -> Where:
        """Return what finds the place of a row of a finished column."""

        def where(row: int, suffix: str = "") -> str:
            number = int(np.concatenate(table.numbers)[row])
            if self._document.is_cut:
                return f"entities[{number}]"

            def here(_: int, inner: str = "") -> str:
                return f"entities[{number}]{inner}"

            (group,) = grouped([self._document.entities[number]], self._types, here)
            place = group.path(group.names.index(type_.name), 0)
            return f"entities[{number}].components{place}.data{suffix} in {self._document.name}"

        return where

    def _resources(self, resources: Any, references: _References) -> SnapshotTable | None:
        name = self._document.name

        def where(_: int, suffix: str = "") -> str:
            return f"resources{suffix.removeprefix('.components')} in {name}"

        if not isinstance(resources, list | dict):
            raise bad_value("a list of components", resources, where(0))
        if not resources:
            return None
        (group,) = grouped([{"components": resources}], self._types, where)
        types = self._types_of(group, where)
        columns = {}
        for number, (type_, column) in enumerate(zip(types, self._columns(group, types, where), strict=True)):

            def here(_: int, suffix: str = "", number: int = number) -> str:
                return where(0, f"{group.path(number, 0)}.data{suffix}")

            columns[type_.name] = references.placed([column], type_, here)
        return SnapshotTable(types, 1, IdColumn(ENTITY_ID), IdColumn(STABLE_ID), columns)


def _stable_ids(entities: list[Any], where: Where) -> Array:
    """Return the ids of entities, shape (n,) of u128, none of them 0."""
    try:
        ids = read_ids([entity["stable_id"] for entity in entities], _member(where, "stable_id"))
    except KeyError:
        ids = np.empty(len(entities), STABLE_ID)
        decimal = [i for i, entity in enumerate(entities) if "stable_id" in entity]
        hexadecimal = [i for i, entity in enumerate(entities) if "stable_id" not in entity]
        for i in hexadecimal:
            if not isinstance(entities[i].get("id"), str):
                found = as_json(entities[i]["id"]) if "id" in entities[i] else "none"
                raise InvalidFormatError(f"expected a stable_id, found {found} at {where(i)}") from None
        ids[decimal] = read_ids(
            [entities[i]["stable_id"] for i in decimal],
            lambda i, suffix="": where(decimal[i], f".stable_id{suffix}"),
        )
        texts = [entities[i]["id"] for i in hexadecimal]
        found_ids, odd = from_hex(texts)
        if odd is not None:
            raise bad_value("32 hexadecimal digits", texts[odd], where(hexadecimal[odd], ".id")) from None
        ids[hexadecimal] = found_ids
    null = (ids["lo"] | ids["hi"]) == 0
    if null.any():
        raise InvalidFormatError(f"expected an id other than 0, found 0 at {where(int(null.argmax()))}")
    return ids


def _member(where: Where, name: str) -> Where:
    return lambda i, suffix="": where(i, f".{name}{suffix}")


class _References:
    """Turns stable ids in columns into entity ids, which count from 1 in the order of the tables."""

    def __init__(self, ids: list[IdColumn], name: str) -> None:
        self._ids = ids
        self._name = name
        self._lookup: ColumnLookup | None = None

    def placed(self, parts: list[Array], type_: ComponentType, where: Where) -> Array:
        """Return the parts of a column, of its layout's portable dtype, as one of its memory dtype."""
        column: Array = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if not type_.layout.refers:
            return column
        placed = np.empty(len(column), type_.layout.memory)
        self._place(column, placed, type_.fields, where)
        return placed

    def _place(self, source: Array, target: Array, fields: tuple[Field, ...], where: Where) -> None:
        for f in fields:

            def here(i: int, suffix: str = "", f: Field = f) -> str:
                return where(i, f".{f.name}{suffix}")

            if not f.has_refs():
                target[f.name] = source[f.name]
            elif f.variable:
                flat, ends = concatenated(source[f.name].tolist(), f.element(disk=True).base)

                def within(i: int, suffix: str = "", ends: Any = ends, here: Where = here) -> str:
                    return here(int(np.searchsorted(ends, i, "right")), suffix)

                target[f.name] = split(self._elements(flat, f, within), ends)
            else:
                target[f.name] = self._elements(source[f.name], f, here)

    def _elements(self, source: Array, f: Field, where: Where) -> Array:
        """Return references, or structs that hold some, of any shape (n, ...)."""
        flat = source.reshape(-1)
        many = max(1, flat.size // max(1, len(source)))

        def here(i: int, suffix: str = "") -> str:
            return where(i // many, suffix)

        if f.ref:
            return self._entities(flat, here).reshape(source.shape)
        target = np.empty(flat.shape, f.element().base)
        self._place(flat, target, f.fields, here)
        return target.reshape(source.shape)

    def _entities(self, ids: Array, where: Where) -> Array:
        if self._lookup is None:
            self._lookup = ColumnLookup(self._ids)
        found = self._lookup.find(ids) + 1
        unknown = (found == 0) & ((ids["lo"] | ids["hi"]) != 0)
        if unknown.any():
            i = int(unknown.argmax())
            raise DanglingReferenceError(
                f'expected the stable id of an entity, found "{as_int(ids[i])}" at {where(i)}'
            )
        return found.astype(ENTITY_ID)

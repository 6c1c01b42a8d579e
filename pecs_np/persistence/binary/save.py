"""`Save`: an opened file, whose columns are read and checked when they are touched."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Self, cast

import numpy as np

from pecs_np.ecs.arrays import Array, copy_rows
from pecs_np.ecs.changes import ChangeSet
from pecs_np.ecs.components import ComponentType, type_name
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.errors import PersistenceError, UnknownFieldError
from pecs_np.messages import shown
from pecs_np.persistence.binary.columns import Mapped, assemble, check_distinct, mapping
from pecs_np.persistence.binary.content import ColumnContent, Content, RecordContent, TableEntry
from pecs_np.persistence.binary.delta_reader import is_delta
from pecs_np.persistence.binary.framing import VERSION
from pecs_np.persistence.binary.header import read_header
from pecs_np.persistence.binary.sources import FileSource, MappedSource, Source
from pecs_np.persistence.compression import usable_cores
from pecs_np.persistence.disk import PathLike
from pecs_np.persistence.input_files import InputFile
from pecs_np.persistence.limits import Limits, within_memory
from pecs_np.persistence.resolving import resolve_types

__all__ = ["Save", "SaveTable", "open_save"]


class SaveTable:
    """The entities of one archetype in an opened save: its columns belong together row by row.

    Attributes
    ----------
    rows : int
    types : tuple of ComponentType
    role : str
        "state", or of a delta "created" or "modified".
    """

    def __init__(self, save: Save, number: int, table: TableEntry) -> None:
        self._save = save
        self._number = number
        self.rows = table.rows
        self.role = table.role
        self.types = tuple([save.types[i] for i in table.types])

    def __repr__(self) -> str:
        return f"<{self.rows} rows of ({', '.join(t.name for t in self.types)})>"

    def __len__(self) -> int:
        return self.rows

    def __contains__(self, type_: Any) -> bool:
        return type_name(type_) in [t.name for t in self.types]

    def __getitem__(self, type_: Any) -> Array:
        """Return the table's column of a type, shape (rows,); see `Save`."""
        name = type_name(type_)
        for index, found in enumerate(self._save.types):
            if found.name == name and found in self.types:
                return self._save._read(self._number, index)
        raise _unknown(name, self.types, repr(self))

    def entities(self) -> Array:
        """Return the stable ids of the rows, shape (rows,), of dtype ``[("lo", "<u8"), ("hi", "<u8")]``."""
        with within_memory(self._save.name):
            return self._save._ids(self._number).array()


class Save:
    """An opened save: what it holds is told at once, columns are read and checked when they are touched.

    It needs none of the classes that the program which wrote it defined. ``save["Position"]`` is all rows
    of a component as a structured array, in table order; a new one each time, which you may change.
    References in it are the stable ids of their targets, as `entities` gives them. Close it, or use it in
    a ``with`` block.

    Of a save of version 1 only the header is read at once; the first touch reads all of it. A delta shows
    the components of the entities that were created or modified, and `changes` all that it says.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pecs_np
    >>> world = pecs_np.World(seed=1)
    >>> Spot = pecs_np.make_component("Spot", {"x": np.float32})
    >>> ids = world.spawn_batch(Spot(x=[1, 2, 3]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = world.save(Path(folder, "game.pecs"))
    ...     with pecs_np.open(Path(folder, "game.pecs")) as save:
    ...         print(save.entity_count, save.types, save["Spot"]["x"])
    3 (<component Spot v1 (x: f4)>,) [1. 2. 3.]
    >>> pecs_np.unregister("Spot")
    """

    def __init__(self, file: InputFile, source: Source, limits: Limits, threads: int) -> None:
        self._file = file
        self._source = source
        self._limits = limits
        self._threads = threads
        self._loaded: Content | None = None
        self._header = header = read_header(source, limits)
        if header.version == VERSION:
            self._loaded = ColumnContent(source, header, limits, threads)
        self._reading = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. What was read stays."""
        self._file.close()
        if isinstance(self._source, MappedSource):
            self._source.close()

    @property
    def name(self) -> str:
        """The path that was opened."""
        return self._source.name

    @property
    def format_version(self) -> int:
        """The version of the binary format: 1 or 2."""
        return self._header.version

    @property
    def save_id(self) -> int | None:
        """What deltas name it by; None of version 1."""
        return self._content().save_id

    @property
    def is_delta(self) -> bool:
        """Whether it is a delta, and no world by itself."""
        return is_delta(self._header)

    @property
    def base_id(self) -> int | None:
        """Of a delta, the ``save_id`` of the save or the delta that it applies to; None of a whole save."""
        return self._content().base_id

    def changes(self) -> ChangeSet:
        """Return what a delta says, all of it checked.

        Raises
        ------
        PersistenceError
            If it is a whole save.
        """
        content = self._content()
        if not self.is_delta or not isinstance(content, ColumnContent):
            raise PersistenceError(
                f"expected a delta, found a whole save in {self.name}", suggestion="call snapshot()"
            )
        with within_memory(self.name):
            return content.delta().changes

    @property
    def entity_count(self) -> int:
        """How many entities it holds; of version 1 a promise of the header, checked at the first touch."""
        return self._header.entity_count

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the world, as a copy."""
        return copy.deepcopy(self._content().metadata)

    @property
    def world_version(self) -> int:
        """The version of the world."""
        return self._content().world_version

    @property
    def types(self) -> tuple[ComponentType, ...]:
        """The component types as the save describes them, resources too, sorted by name."""
        return self._content().types

    @property
    def tables(self) -> tuple[SaveTable, ...]:
        """The tables of entities, one for each set of component types that occurs."""
        tables = enumerate(self._content().tables)
        return tuple([SaveTable(self, i, table) for i, table in tables if not table.is_resources])

    @property
    def resources(self) -> dict[str, Array]:
        """The resources by name, each of shape ()."""
        content = self._content()
        return {
            self.types[index].name: self._read(number, index).reshape(())
            for number, table in enumerate(content.tables)
            if table.is_resources
            for index in table.types
        }

    def __contains__(self, type_: Any) -> bool:
        return type_name(type_) in list(self)

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the component types that entities have."""
        content = self._content()
        found = {i for table in content.tables if not table.is_resources for i in table.types}
        return iter([content.types[i].name for i in sorted(found)])

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        what = "entities"
        if self.is_delta:
            what = f"changed or new entities, a delta to {self.base_id or 0:032x}"
        head = f"<Save {self.name}: {self._header.entity_count} {what}, version {self.format_version}>"
        if self._loaded is None:
            names = ", ".join(f"{name} v{version}" for name, version in self._header.registry)
            return f"{head}\n  {names or 'no components'}, not read yet"
        content = self._loaded
        lines = [head]
        for index, type_ in enumerate(content.types):
            here = [table for table in content.tables if index in table.types]
            rows = sum(table.rows for table in here if not table.is_resources)
            what = f"{rows:,} rows" if rows else "a resource"
            lines.append(f"  {type_!r}: {what}, {content.size(index):,} bytes")
        return "\n".join(lines)

    def __getitem__(self, type_: Any) -> Array:
        """Return all rows of a component type, given by name or class, in table order."""
        numbers, index = self._having(type_)
        if len(numbers) == 1:
            return self._read(numbers[0], index)
        tables = self._content().tables
        joined: Array | None = None
        start = 0
        for number in numbers:
            part = self._read(number, index)
            if joined is None:
                with within_memory(self.name):
                    joined = np.empty(sum(tables[n].rows for n in numbers), part.dtype)
            copy_rows(joined[start : start + len(part)], part)
            start += len(part)
        return cast(Array, joined)  # there is no type without a table

    def column(self, type_: Any, field: str | None = None) -> Array:
        """Return all rows of a component type, or of one of its fields, as an array of its own.

        Raises
        ------
        UnknownFieldError
            If the save has no such type or field.
        """
        rows = self[type_]
        if field is None:
            return rows
        names = rows.dtype.names or ()
        if not isinstance(field, str) or field not in names:
            raise UnknownFieldError(
                f"expected a field of {type_name(type_)} ({', '.join(names)}), found {shown(field)} in {self.name}"
            )
        found = rows[field]
        return found.copy() if rows.flags.writeable else found

    def entities(self, type_: Any = None) -> Array:
        """Return the stable ids of all entities, or of those with a type, in the order of its rows.

        The dtype is ``[("lo", "<u8"), ("hi", "<u8")]``.
        """
        content = self._content()
        if type_ is None:
            numbers = [i for i, table in enumerate(content.tables) if not table.is_resources]
        else:
            numbers, _ = self._having(type_)
        with within_memory(self.name):
            parts = [self._ids(number).array() for number in numbers]
            return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, STABLE_ID), *parts])

    def snapshot(self, types: Any = None) -> Snapshot:
        """Return the save as a snapshot, from which worlds can be made.

        Parameters
        ----------
        types : iterable of names or classes, optional
            Which components to read; all entities are there in any case.

        Raises
        ------
        UnsupportedVersionError, ComponentDefinitionError
            If a component is defined in this program in another version, or with other fields.
        """
        content = self._content()
        if self.is_delta:
            raise PersistenceError(
                f"expected a whole save, found a delta to {self.base_id or 0:032x} in {self.name}",
                suggestion="World.load(base, deltas=[path]) loads it with what it applies to",
            )
        wanted = [t.name for t in content.types]
        if types is not None:
            wanted = [type_name(t) for t in _several(types)]
            for name in wanted:
                self._index(name)
        numbers = [i for i, table in enumerate(content.tables) if not table.is_resources]
        ids = [self._ids(number) for number in numbers]
        check_distinct(ids, self.name)
        mapped = mapping(ids, self.name)
        chosen = tuple([t for t in content.types if t.name in wanted])
        own = {t.name: t for t in resolve_types(chosen, self.name)}
        tables: list[SnapshotTable] = []
        resources = None
        first = 1
        for number, (rows, indices, role) in enumerate(content.tables):
            types_here = tuple([own[name] for i in indices if (name := content.types[i].name) in own])
            columns = {
                t.name: self._read(number, i, mapped, t)
                for i in indices
                if (t := own.get(content.types[i].name)) is not None
            }
            if role == "resource":
                resources = SnapshotTable(types_here, 1, IdColumn(ENTITY_ID), IdColumn(STABLE_ID), columns)
                continue
            entities = IdColumn(ENTITY_ID, ((first, rows),))
            tables.append(SnapshotTable(types_here, rows, entities, ids[len(tables)], columns))
            first += rows
        snapshot = content.snapshot((), resources if resources and resources.types else None)
        return snapshot.with_tables(tables, sound=True)

    def verify(self) -> None:
        """Check all of the save: every sum, every value, every reference; no more than a column is in memory.

        Raises
        ------
        CorruptedDataError, InvalidFormatError
            Where `World.load` would raise them.
        """
        if self.is_delta:
            self.changes()
            return
        content = self._content()
        content.verify()
        numbers = [i for i, table in enumerate(content.tables) if not table.is_resources]
        ids = [self._ids(number) for number in numbers]
        check_distinct(ids, self.name)
        mapped = mapping(ids, self.name)
        for number, table in enumerate(content.tables):
            for index in table.types:
                self._read(number, index, mapped)

    def _content(self) -> Content:
        if self._file.descriptor < 0:
            raise PersistenceError(
                f"expected an open save, found {self.name} closed", suggestion="open it again"
            )
        if self._loaded is None:
            with self._reading, within_memory(self.name):
                # Another thread may have read it meanwhile.
                if self._loaded is None:
                    self._loaded = RecordContent(self._source, self._header, self._limits)
        return self._loaded

    def _read(
        self, number: int, index: int, mapped: Mapped | None = None, own: ComponentType | None = None
    ) -> Array:
        """Return a column of a table, its references mapped, of the type as it is defined here."""
        content = self._content()
        described = content.types[index]
        with within_memory(self.name):
            rows, values, here = content.parts(number, index)
            return assemble(own or described, described, rows, values, mapped, here)

    def _ids(self, number: int) -> IdColumn:
        """Return the stable ids of a table."""
        with within_memory(self.name):
            return self._content().ids(number)

    def _index(self, name: str) -> int:
        types = self._content().types
        for index, type_ in enumerate(types):
            if type_.name == name:
                return index
        raise _unknown(name, types, self.name)

    def _having(self, type_: Any) -> tuple[list[int], int]:
        """Return the tables of entities that have a type, and its place."""
        index = self._index(type_name(type_))
        tables = self._content().tables
        numbers = [i for i, table in enumerate(tables) if index in table.types and not table.is_resources]
        if not numbers:
            raise UnknownFieldError(
                f"expected a component of entities, found the resource {type_name(type_)!r} in {self.name}",
                suggestion="look into .resources",
            )
        return numbers, index


def _several(types: Any) -> list[Any]:
    """Return one type, or several, as a list."""
    if isinstance(types, str | type):
        return [types]
    try:
        return list(types)
    except TypeError:
        raise UnknownFieldError(f"expected names or classes of components, found {shown(types)}") from None


def _unknown(name: str, types: Sequence[ComponentType], where: str) -> UnknownFieldError:
    names = ", ".join(t.name for t in types)
    return UnknownFieldError(f"expected a type of the save ({names}), found {shown(name)} in {where}")


def open_save(
    path: PathLike, *, mmap: bool = False, limits: Limits | None = None, threads: int | None = None
) -> Save:
    """Open a save of the binary format without reading more than its head.

    Parameters
    ----------
    path : path
    mmap : bool
        Map the file into memory: an uncompressed column without references and texts is then a
        read-only view of the file, not a copy, where it stands in one table. Its sum is still checked
        when it is touched, but whoever changes the file later changes the column, and one who cuts it
        short makes the program crash: for files that nobody else writes to.
    limits : Limits, optional
    threads : int, optional
        How many threads decompress, by default as many as there are cores, up to 8.

    Raises
    ------
    PersistenceIOError
        If the file cannot be read.
    InvalidFormatError, CorruptedDataError, UnsupportedVersionError, LimitExceededError
        If its head is not that of a save.
    """
    if limits is not None and not isinstance(limits, Limits):
        raise PersistenceError(f"expected Limits, found {shown(limits)}")
    cores = usable_cores(threads)
    file = InputFile(path)
    try:
        if file.size is None:
            raise PersistenceError(
                f"expected a file, found a stream at {file.name}", suggestion="use World.load_binary_stream"
            )
        source: Source = MappedSource(file) if mmap else FileSource(file, cores)
        return Save(file, source, limits or Limits(), cores)
    except BaseException:
        file.close()
        raise

"""`World`, as users hold it: the entity-component system and its verbs for saving and loading."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Self, Unpack

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs import world as ecs
from pecs_np.ecs.applying import Conflict, apply
from pecs_np.ecs.changes import ChangeSet
from pecs_np.ecs.restore import Mode, fill
from pecs_np.ecs.snapshot import Snapshot, TableFilter
from pecs_np.errors import PersistenceError
from pecs_np.messages import shown
from pecs_np.persistence.binary.column_writer import to_bytes
from pecs_np.persistence.consistency import check_current
from pecs_np.persistence.deltas import Since, as_paths, load_with_deltas, save_changes
from pecs_np.persistence.disk import PathLike
from pecs_np.persistence.filters import PersistenceFilter, filtered, without_transient
from pecs_np.persistence.formats import BINARY, JSON, AnyFormat, for_path
from pecs_np.persistence.limits import too_little_memory, within_memory
from pecs_np.persistence.loading import LoadOptions, PrepareOptions, ReadOptions, load_snapshot, prepared
from pecs_np.persistence.migrations import Migration, MigrationChain
from pecs_np.persistence.plugins import PersistencePlugin, world_made_by
from pecs_np.persistence.reporting import Progress, SaveReport
from pecs_np.persistence.resolving import Unknown, is_current
from pecs_np.persistence.saving import SaveOptions, WriteOptions, check_plugin, save_stream, save_world

__all__ = ["World"]

_ANY = AnyFormat([BINARY, JSON])


class World(ecs.World):  # noqa: D101 - it has the docstring of its base
    __doc__ = ecs.World.__doc__

    def save(
        self,
        path: PathLike,
        *,
        filter: PersistenceFilter | TableFilter | None = None,  # noqa: A002 - the word for it
        durable: bool = True,
        backup: bool = False,
        retries: int = 0,
        progress: Progress | bool | None = None,
    ) -> SaveReport:
        """Save the world to a file: as JSON under a name that ends with ``.json``, else in the binary format.

        The file is the old one or the new one, whatever happens in between.

        Parameters
        ----------
        path : path
        filter : PersistenceFilter, optional
            What to save; transient components never are. A function of a `SnapshotTable` that returns a
            mask of its rows does too.
        durable : bool
            Flush to the disk, so that the save also survives a loss of power.
        backup : bool
            Keep the file that was there as ``<path>.bak``, which ``load(path, backup=True)`` finds.
        retries : int
            How many times to try again, after 0.1 s, 0.2 s, 0.4 s and so on, where the system refuses.
        progress : callable or bool, optional
            Called with the bytes written and the bytes in all, None where nobody knows them yet; True
            shows a bar, where tqdm is installed.

        Returns
        -------
        SaveReport
            Bytes, seconds, entities and path.

        Raises
        ------
        PersistenceIOError
            If the system refuses. An older file is untouched, unless it was a last step that failed, the
            backup or the flush of the folder: then the new file is there.
        ComponentValueError
            If a column holds what could not be loaded again; an older file is untouched.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> world = World(seed=1)
        >>> ids = world.spawn_batch(count=3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = world.save(Path(folder, "game.pecs"))
        ...     len(World.load(Path(folder, "game.pecs")))
        3
        """
        return save_world(
            self,
            path,
            for_path(path),
            filter=filter,
            durable=durable,
            backup=backup,
            retries=retries,
            progress=progress,
        )

    def save_binary(self, path: Any, **options: Unpack[SaveOptions]) -> SaveReport:
        """Save in the binary format, to a path or to a file object; see `save`."""
        return save_world(self, path, BINARY, **options)

    def save_json(self, path: Any, **options: Unpack[SaveOptions]) -> SaveReport:
        """Save as JSON, to a path or to a file object; see `save` and `JsonPlugin`."""
        return save_world(self, path, JSON, **options)

    def save_with(self, path: Any, plugin: PersistencePlugin, **options: Unpack[SaveOptions]) -> SaveReport:
        """Save in the format of *plugin*, to a path or to a file object; see `save`.

        A file object is written to as by `save_binary_stream`; ``durable``, ``backup`` and ``retries``
        are for paths.
        """
        return save_world(self, path, plugin, **options)

    def save_filtered(
        self,
        path: PathLike,
        filter: PersistenceFilter | TableFilter,  # noqa: A002 - the word for it
        **options: Unpack[WriteOptions],
    ) -> SaveReport:
        """Save what *filter* keeps; ``save(path, filter=filter)``."""
        return save_world(self, path, for_path(path), filter=filter, **options)

    def save_binary_stream(
        self,
        writer: Any,
        *,
        filter: PersistenceFilter | TableFilter | None = None,  # noqa: A002 - the word for it
        progress: Progress | bool | None = None,
    ) -> SaveReport:
        """Save in the binary format to anything with ``write``, such as a pipe or ``socket.makefile("wb")``.

        At most some 16 MiB are made at a time beyond the world itself; references need a table of all
        entities too, 24 bytes each.

        Raises
        ------
        PersistenceIOError
            If the writer fails; what it has taken is no save.
        ComponentValueError
            If a column holds what could not be loaded again; nothing has been written.

        Examples
        --------
        >>> import io
        >>> pipe = io.BytesIO()
        >>> World().save_binary_stream(pipe).bytes
        264
        >>> _ = pipe.seek(0)
        >>> len(World.load_binary_stream(pipe))
        0
        """
        return save_stream(self, writer, BINARY, filter=filter, progress=progress)

    def save_delta(
        self,
        path: PathLike,
        since: Since,
        *,
        filter: PersistenceFilter | TableFilter | None = None,  # noqa: A002 - the word for it
        compression: str | None = None,
        level: int | None = None,
        **options: Unpack[WriteOptions],
    ) -> SaveReport:
        """Save what changed since a save, or since the delta after it, to a file that `load` takes with that save.

        Parameters
        ----------
        path : path
        since : path, list of paths, Save, ChangeTracker or DeltaBase
            The save that the delta applies to; or ``[save, delta, …]``, of which it applies to the last.
            They are read and compared. A tracker that knows the id of its save, and a `DeltaBase`, have
            that state in memory; the tracker then goes on from here.
        filter : PersistenceFilter, optional
            What to save, the same as for the save.
        compression, level
            As for `BinaryPlugin`.
        **options
            As for `save`.

        Returns
        -------
        SaveReport
            With the ``save_id`` of the delta; its entities are those created, modified and despawned.

        Raises
        ------
        PersistenceError
            If *since* has no id, or its files do not belong together.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from pecs_np import ChangeTracker
        >>> world = World(seed=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     base, first, second = (Path(folder, name) for name in ("base.pecs", "1.pecs", "2.pecs"))
        ...     tracker = ChangeTracker(world, base_id=world.save(base).save_id)
        ...     ids = world.spawn_batch(count=3)
        ...     report = world.save_delta(first, since=tracker)
        ...     world.despawn(ids[0])
        ...     report = world.save_delta(second, since=tracker)
        ...     len(World.load(base, deltas=[first])), len(World.load(base, deltas=[first, second]))
        (3, 2)
        """
        return save_changes(self, path, since, filter=filter, compression=compression, level=level, **options)

    def apply(self, changes: ChangeSet, *, conflict: Conflict = "error") -> None:
        """Bring *changes*, of another world or of another time, into this one; all is checked first.

        A conflict is an entity to be created that is there, or one to be changed or despawned that is
        not, or, where the values from before are known, a component that has another value than before.

        Parameters
        ----------
        changes : ChangeSet
        conflict : {"error", "theirs", "ours"}
            Whether a conflict is an error, or the changes win, or what the world has stays.

        Raises
        ------
        DuplicateEntityError, EntityNotFoundError, WorldError
            If there is a conflict and *conflict* is "error"; the world is as before.

        Examples
        --------
        >>> from pecs_np import ChangeTracker
        >>> world, other = World(seed=1), World()
        >>> tracker = ChangeTracker(world)
        >>> ids = world.spawn_batch(count=3)
        >>> other.apply(changes := tracker.changes())
        >>> len(other)
        3
        >>> other.apply(changes.invert())
        >>> len(other)
        0
        """
        apply(self, changes, conflict=conflict)

    def to_bytes(
        self,
        plugin: PersistencePlugin | None = None,
        *,
        filter: PersistenceFilter | TableFilter | None = None,  # noqa: A002 - the word for it
    ) -> bytes:
        """Return the world in the format of *plugin*, by default the binary one. Equal worlds give equal bytes."""
        snapshot = without_transient(self._snapshot())
        if filter is not None:
            snapshot = filtered(snapshot, filter)
        if plugin is None:
            data = to_bytes(snapshot)
        else:
            check_plugin(plugin)
            data = plugin.to_bytes(snapshot)
        check_current(snapshot)
        return data

    @classmethod
    def load(
        cls,
        path: PathLike,
        *,
        backup: bool = False,
        filter: PersistenceFilter | TableFilter | None = None,  # noqa: A002 - the word for it
        unknown: Unknown = "keep",
        migrations: MigrationChain | Iterable[Migration] | None = None,
        progress: Progress | bool | None = None,
        deltas: Iterable[PathLike] = (),
    ) -> Self:
        """Return the world that a file holds; the format is told from the content.

        Components of older versions are brought up to date by their migrations; see
        `Component.migration`. The file stays as it is.

        Parameters
        ----------
        path : path
        backup : bool
            Where the file is missing or damaged, load ``<path>.bak`` instead, with a warning.
        filter : PersistenceFilter, optional
            What to load.
        unknown : {"keep", "refuse", "drop"}
            Components that this program does not define are used by name, by the file's own description
            of them, or are an error, or are dropped with a warning.
        migrations : MigrationChain, optional
            Of the world, from the version in the file.
        progress : callable or bool, optional
            Called with the bytes read and the bytes in all; True shows a bar, where tqdm is installed.
        deltas : iterable of paths
            Of `save_delta`, in the order in which they were written: the first applies to the file, each
            other to the one before.

        Raises
        ------
        PersistenceError
            If a delta does not apply to what stands before it: the message names both ids.
        PersistenceIOError
            If the file cannot be read.
        InvalidFormatError, CorruptedDataError, UnsupportedVersionError, LimitExceededError
            If it is not a save that this version reads whole and sound.
        ComponentDefinitionError
            If a component is defined here with other fields.
        MigrationError
            If an older version cannot be brought up to date.
        """
        options = LoadOptions(
            backup=backup, filter=filter, unknown=unknown, migrations=migrations, progress=progress
        )
        if paths := as_paths(deltas):
            return load_with_deltas(cls, path, paths, **options)
        return cls.from_snapshot(load_snapshot(path, _ANY, **options))

    @classmethod
    def load_binary(cls, path: Any, **options: Unpack[LoadOptions]) -> Self:
        """Return the world that a path or a file object holds in the binary format; see `load`."""
        return cls.from_snapshot(load_snapshot(path, BINARY, **options))

    @classmethod
    def load_json(cls, path: Any, **options: Unpack[LoadOptions]) -> Self:
        """Return the world that a path or a file object holds as JSON; see `load` and `JsonPlugin`."""
        return cls.from_snapshot(load_snapshot(path, JSON, **options))

    @classmethod
    def load_with(cls, path: Any, plugin: PersistencePlugin, **options: Unpack[LoadOptions]) -> Self:
        """Return the world that a path or a file object holds in the format of *plugin*; see `load`."""
        check_plugin(plugin)
        return cls.from_snapshot(load_snapshot(path, plugin, **options))

    @classmethod
    def load_with_migrations(
        cls,
        path: PathLike,
        migrations: MigrationChain | Iterable[Migration],
        **options: Unpack[ReadOptions],
    ) -> Self:
        """Return the world that a file holds, brought up to date by *migrations*; see `load`."""
        return cls.from_snapshot(load_snapshot(path, _ANY, migrations=migrations, **options))

    @classmethod
    def load_binary_stream(cls, reader: Any, **options: Unpack[PrepareOptions]) -> Self:
        """Return the world that comes next from anything with ``readinto`` or ``read``; see `load`.

        Columns are read straight into the world. Of a save of version 2 not a byte more is taken than
        it has, so that another can follow; one of version 1, which does not tell its size, is read to
        the end of the stream and held in memory until its columns are made.
        """
        with within_memory("the stream"):
            snapshot = BINARY.decode_stream(reader, to_end=False)
            return cls.from_snapshot(prepared(snapshot, "the stream", **options))

    @classmethod
    def from_bytes(
        cls, data: Any, plugin: PersistencePlugin | None = None, **options: Unpack[PrepareOptions]
    ) -> Self:
        """Return the world that the bytes-like *data* holds in the format of *plugin*, by default binary; see `load`."""
        if plugin is None:
            plugin = BINARY
        else:
            check_plugin(plugin)
        try:
            snapshot = plugin.decode(data, "<bytes>")
            if options or not is_current(snapshot):
                snapshot = prepared(snapshot, "<bytes>", **options)
            if not snapshot.sound:
                return cls.from_snapshot(snapshot)
            world = cls()
            fill(world, snapshot)
        except MemoryError:
            raise too_little_memory("<bytes>") from None
        return world

    # Into a world that is there already

    def restore(
        self, source: Snapshot | PathLike, *, mode: Mode = "exact", **options: Unpack[LoadOptions]
    ) -> NDArray[np.uint64]:
        """Bring the entities of a snapshot, or of a file, into this world and return their ids, in its order.

        A file is read and checked whole before the world is touched.

        Parameters
        ----------
        source : Snapshot or path
        mode : {"exact", "merge", "overwrite"}
            *exact*: into an empty world, ids and all. *merge*: as new entities, which keep their
            stable ids where those are free; references are remapped. *overwrite*: an entity whose
            stable id is here takes on the snapshot's components (transient ones stay); others are new.
        **options
            As for `load`.
        """
        if isinstance(source, str | bytes | os.PathLike):
            source = load_snapshot(source, _ANY, **options)
        elif options:
            raise PersistenceError(
                f"expected {', '.join(options)} with a path, found {shown(source)}",
                suggestion="these say how to load a file",
            )
        return super().restore(source, mode=mode)

    def merge(self, source: Snapshot | PathLike, **options: Unpack[LoadOptions]) -> NDArray[np.uint64]:
        """Add the entities of a snapshot, or of a file, as new ones and return their ids; see `restore`."""
        return self.restore(source, mode="merge", **options)


world_made_by(World)

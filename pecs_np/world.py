"""`World`, as users hold it: the entity-component system and its verbs for saving and loading."""

from __future__ import annotations

import functools
import warnings
from typing import Any, Self

from pecs_np.ecs import world as ecs
from pecs_np.ecs.restore import fill
from pecs_np.ecs.snapshot import Snapshot
from pecs_np.errors import (
    ComponentError,
    PersistenceError,
    PluginNotFoundError,
    UnsupportedVersionError,
)
from pecs_np.messages import shown
from pecs_np.persistence.binary.blocks import joined
from pecs_np.persistence.binary.column_writer import encode
from pecs_np.persistence.binary.plugin import BinaryPlugin
from pecs_np.persistence.files import PathLike, backup_of, has_suffix, replace_file
from pecs_np.persistence.filters import without_transient
from pecs_np.persistence.limits import too_little_memory, within_memory
from pecs_np.persistence.plugins import PersistencePlugin, world_made_by

__all__ = ["World"]

_BINARY = BinaryPlugin()


class World(ecs.World):  # noqa: D101 - it has the docstring of its base
    __doc__ = ecs.World.__doc__

    def save(self, path: PathLike, *, durable: bool = True, backup: bool = False, retries: int = 0) -> None:
        """Save the world to a file, in the binary format.

        The file is the old one or the new one, whatever happens in between.

        Parameters
        ----------
        path : path
        durable : bool
            Flush to the disk, so that the save also survives a loss of power.
        backup : bool
            Keep the file that was there as ``<path>.bak``, which ``load(path, backup=True)`` finds.
        retries : int
            How many times to try again, after 0.1 s, 0.2 s, 0.4 s and so on, where the system refuses.

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
        ...     world.save(Path(folder, "game.pecs"))
        ...     len(World.load(Path(folder, "game.pecs")))
        3
        """
        if has_suffix(path, ".json"):
            raise PluginNotFoundError(
                f"expected a path for the binary format, found {shown(path)}",
                suggestion="name it .pecs, or call save_binary to write binary under this name",
            )
        self.save_with(path, _BINARY, durable=durable, backup=backup, retries=retries)

    def save_binary(self, path: Any, *, durable: bool = True, backup: bool = False, retries: int = 0) -> None:
        """Save in the binary format, to a path or to a file object; see `save`."""
        self.save_with(path, _BINARY, durable=durable, backup=backup, retries=retries)

    def save_with(
        self,
        path: Any,
        plugin: PersistencePlugin,
        *,
        durable: bool = True,
        backup: bool = False,
        retries: int = 0,
    ) -> None:
        """Save in the format of *plugin*, to a path or to a file object; see `save`.

        A file object is written to as by `save_binary_stream`; the options are for paths.
        """
        _check_plugin(plugin)
        if hasattr(path, "write"):
            plugin.save(self, path)
            return
        encode = functools.partial(plugin.encode, without_transient(self.snapshot()))
        replace_file(path, encode, durable=durable, backup=backup, retries=retries)

    def save_binary_stream(self, writer: Any) -> None:
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
        >>> World().save_binary_stream(pipe)
        >>> _ = pipe.seek(0)
        >>> len(World.load_binary_stream(pipe))
        0
        """
        _BINARY.save(self, writer)

    def to_bytes(self, plugin: PersistencePlugin | None = None) -> bytes:
        """Return the world in the format of *plugin*, by default the binary one. Equal worlds give equal bytes."""
        if plugin is None:
            return joined(encode(without_transient(self._snapshot())))
        _check_plugin(plugin)
        return plugin.to_bytes(without_transient(self._snapshot()))

    @classmethod
    def load(cls, path: PathLike, *, backup: bool = False) -> Self:
        """Return the world that a file holds; the format is told from the content.

        Component types that this program does not define are loaded from the file's own description,
        and can be used by name.

        Parameters
        ----------
        path : path
        backup : bool
            Where the file is missing or damaged, load ``<path>.bak`` instead, with a warning.

        Raises
        ------
        PersistenceIOError
            If the file cannot be read.
        InvalidFormatError, CorruptedDataError, UnsupportedVersionError, LimitExceededError
            If it is not a save that this version reads whole and sound.
        ComponentDefinitionError
            If a component is defined here with other fields.
        """
        return cls._load(path, _BINARY, backup=backup)

    @classmethod
    def load_binary(cls, path: Any, *, backup: bool = False) -> Self:
        """Return the world that a path or a file object holds in the binary format; see `load`."""
        return cls._load(path, _BINARY, backup=backup)

    @classmethod
    def load_with(cls, path: Any, plugin: PersistencePlugin, *, backup: bool = False) -> Self:
        """Return the world that a path or a file object holds in the format of *plugin*; see `load`."""
        _check_plugin(plugin)
        return cls._load(path, plugin, backup=backup)

    @classmethod
    def _load(cls, path: Any, plugin: PersistencePlugin, *, backup: bool) -> Self:
        with within_memory(shown(path)):
            if hasattr(path, "read"):
                return cls.from_snapshot(plugin.decode_stream(path))
            return cls.from_snapshot(_read(path, plugin, backup=backup))

    @classmethod
    def load_binary_stream(cls, reader: Any) -> Self:
        """Return the world that comes next from anything with ``readinto`` or ``read``; see `load`.

        Columns are read straight into the world. Of a save of version 2 not a byte more is taken than
        it has, so that another can follow; one of version 1, which does not tell its size, is read to
        the end of the stream and held in memory until its columns are made.
        """
        with within_memory("the stream"):
            return cls.from_snapshot(_BINARY.decode_stream(reader, to_end=False))

    @classmethod
    def from_bytes(cls, data: Any, plugin: PersistencePlugin | None = None) -> Self:
        """Return the world that the bytes-like *data* holds in the format of *plugin*; see `load`."""
        if plugin is None:
            plugin = _BINARY
        else:
            _check_plugin(plugin)
        try:
            snapshot = plugin.decode(data, "<bytes>")
            if not snapshot.sound:
                return cls.from_snapshot(snapshot)
            world = cls()
            fill(world, snapshot)
        except MemoryError:
            raise too_little_memory("<bytes>") from None
        return world


def _read(path: PathLike, plugin: PersistencePlugin, *, backup: bool) -> Snapshot:
    """Return the snapshot that a file holds, or with *backup* that of its backup, where the file is not sound."""
    try:
        return plugin.decode_file(path)
    except PersistenceError as error:
        # What is wrong with the program rather than with the file: its backup would not load either, or should not.
        foreign = isinstance(error, UnsupportedVersionError) and error.what.startswith("component ")
        if not backup or foreign or isinstance(error, ComponentError | PluginNotFoundError):
            raise
        try:
            other = backup_of(path)
            snapshot = plugin.decode_file(other)
        except PersistenceError as second:
            error.add_note(f"the backup does not help: {second}")
            raise error from None
        warnings.warn(f"loaded the backup {other}: {error}", stacklevel=4)
        return snapshot


def _check_plugin(plugin: Any) -> None:
    if not isinstance(plugin, PersistencePlugin):
        raise PluginNotFoundError(
            f"expected a PersistencePlugin, found {shown(plugin)}", suggestion="pass BinaryPlugin()"
        )


world_made_by(World)

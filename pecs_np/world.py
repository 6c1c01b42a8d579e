"""`World`, as users hold it: the entity-component system and its verbs for saving and loading."""

from __future__ import annotations

import os
from typing import Any, Self

from pecs_np.ecs import world as ecs
from pecs_np.ecs.restore import fill
from pecs_np.errors import PluginNotFoundError
from pecs_np.messages import shown
from pecs_np.persistence.binary.column_reader import decode
from pecs_np.persistence.binary.column_writer import encode
from pecs_np.persistence.binary.plugin import BinaryPlugin, BytesSource
from pecs_np.persistence.files import PathLike, replace_file
from pecs_np.persistence.filters import without_transient
from pecs_np.persistence.plugins import PersistencePlugin, read_stream, world_made_by

__all__ = ["World"]

_BINARY = BinaryPlugin()


class World(ecs.World):  # noqa: D101 - it has the docstring of its base
    __doc__ = ecs.World.__doc__

    def save(self, path: PathLike, *, durable: bool = True, backup: bool = False) -> None:
        """Save the world to a file, in the binary format.

        The file is the old one or the new one, whatever happens in between.

        Parameters
        ----------
        path : path
        durable : bool
            Flush to the disk, so that the save also survives a loss of power.
        backup : bool
            Keep the file that was there as ``<path>.bak``.

        Raises
        ------
        PersistenceIOError
            If the system refuses; an older file is untouched.
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
        if isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).lower().endswith(".json"):
            raise PluginNotFoundError(
                f"expected a path for the binary format, found {os.fsdecode(path)!r}",
                suggestion="name it .pecs, or call save_binary to write binary under this name",
            )
        self.save_with(path, _BINARY, durable=durable, backup=backup)

    def save_binary(self, path: Any, *, durable: bool = True, backup: bool = False) -> None:
        """Save in the binary format, to a path or to a file object; see `save`."""
        self.save_with(path, _BINARY, durable=durable, backup=backup)

    def save_with(
        self, path: Any, plugin: PersistencePlugin, *, durable: bool = True, backup: bool = False
    ) -> None:
        """Save in the format of *plugin*, to a path or to a file object; see `save`."""
        _check_plugin(plugin)
        if hasattr(path, "write"):
            plugin.save(self, path)
        else:
            buffers = plugin.encode(without_transient(self.snapshot()))
            replace_file(path, buffers, durable=durable, backup=backup)

    def to_bytes(self) -> bytes:
        """Return the world in the binary format. Equal worlds give equal bytes."""
        return b"".join(encode(without_transient(self._snapshot())))

    @classmethod
    def load(cls, path: PathLike) -> Self:
        """Return the world that a file holds; the format is told from the content.

        Component types that this program does not define are loaded from the file's own description,
        and can be used by name.

        Raises
        ------
        PersistenceIOError
            If the file cannot be read.
        InvalidFormatError, CorruptedDataError, UnsupportedVersionError, LimitExceededError
            If it is not a save that this version reads whole and sound.
        ComponentDefinitionError
            If a component is defined here with other fields.
        """
        return cls.load_binary(path)

    @classmethod
    def load_binary(cls, path: Any) -> Self:
        """Return the world that a path or a file object holds in the binary format; see `load`."""
        return cls.load_with(path, _BINARY)

    @classmethod
    def load_with(cls, path: Any, plugin: PersistencePlugin) -> Self:
        """Return the world that a path or a file object holds in the format of *plugin*; see `load`."""
        _check_plugin(plugin)
        if hasattr(path, "read"):
            return cls.from_snapshot(plugin.decode(*read_stream(path)))
        return cls.from_snapshot(plugin.decode_file(path))

    @classmethod
    def from_bytes(cls, data: Any) -> Self:
        """Return the world that the bytes-like *data* holds in the binary format; see `load`."""
        world = cls()
        fill(world, decode(BytesSource(data, "<bytes>"), _BINARY.limits))
        return world


def _check_plugin(plugin: Any) -> None:
    if not isinstance(plugin, PersistencePlugin):
        raise PluginNotFoundError(
            f"expected a PersistencePlugin, found {shown(plugin)}", suggestion="pass BinaryPlugin()"
        )


world_made_by(World)

"""The contract of a save format: a world to a writer, and back from a reader."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

from pecs_np.ecs.snapshot import Snapshot
from pecs_np.ecs.world import World
from pecs_np.errors import InvalidFormatError, PersistenceError, PersistenceIOError
from pecs_np.messages import shown
from pecs_np.persistence.files import PathLike, read_file
from pecs_np.persistence.filters import without_transient

__all__ = ["PersistencePlugin", "Reader", "Writer", "read_stream", "world_made_by"]


class Writer(Protocol):
    """Anything with ``write``: a file, a socket's file, a BytesIO."""

    def write(self, data: Any, /) -> Any:
        """Take some or all of *data*."""
        ...


class Reader(Protocol):
    """Anything with ``read``."""

    def read(self, size: int = -1, /) -> Any:
        """Return up to *size* bytes, or all that there are."""
        ...


class PersistencePlugin(ABC):
    """A format for whole worlds.

    A format is two functions of snapshots, `encode` and `decode`; saving and loading worlds, files and
    transient components follow from them.
    """

    @abstractmethod
    def encode(self, snapshot: Snapshot) -> Sequence[Any]:
        """Return *snapshot*, which has no transient types, as bytes-like buffers to write in order."""

    @abstractmethod
    def decode(self, data: Any, name: str) -> Snapshot:
        """Return the snapshot that the bytes-like *data* holds; *name* stands for it in messages."""

    def decode_file(self, path: PathLike) -> Snapshot:
        """Return the snapshot that the file *path* holds."""
        return self.decode(read_file(path), os.fspath(path))

    @abstractmethod
    def format_name(self) -> str:
        """Return the name of the format, such as ``"binary"``."""

    @abstractmethod
    def format_version(self) -> int:
        """Return the version of the format that `encode` writes."""

    def can_load_version(self, version: int) -> bool:
        """Tell whether `decode` reads that version of the format."""
        return version == self.format_version()

    def save(self, world: World, writer: Writer) -> None:
        """Write *world* to *writer*.

        Raises
        ------
        PersistenceIOError
            If the writer fails.
        """
        if not isinstance(world, World):
            raise PersistenceError(f"expected a World, found {shown(world)}")
        for buffer in self.encode(without_transient(world.snapshot())):
            _write_whole(writer, memoryview(buffer).cast("B"))

    def load(self, reader: Reader) -> World:
        """Return the world that *reader* gives, which is read to its end.

        Raises
        ------
        PersistenceIOError
            If the reader fails.
        """
        return world_made_by().from_snapshot(self.decode(*read_stream(reader)))


def _write_whole(writer: Writer, view: memoryview) -> None:
    while view:
        try:
            written = writer.write(view)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise PersistenceIOError(
                f"writing to {shown(writer)} failed: {error}", suggestion="open the file with 'wb'"
            ) from error
        # Only raw files say that they took less; None means that they would have to wait.
        if written == 0 or (written is None and isinstance(writer, io.RawIOBase)):
            raise PersistenceIOError(
                f"writing to {shown(writer)} failed: it takes no more", suggestion="use a blocking file"
            )
        view = view[written if isinstance(written, int) else len(view) :]


def read_stream(reader: Reader) -> tuple[Any, str]:
    """Return all that *reader* still gives, and its name for messages."""
    name = str(getattr(reader, "name", "<stream>"))
    try:
        data = reader.read()
    except (OSError, ValueError) as error:
        raise PersistenceIOError(f"reading from {name} failed: {error}") from error
    if isinstance(data, str):
        raise InvalidFormatError(
            f"expected bytes, found text from {name}", suggestion="open the file with 'rb'"
        )
    return data, name


_world_type: type[World] = World


def world_made_by(world_type: type[World] | None = None) -> type[World]:
    """Return the class of the worlds that plugins make; with *world_type*, set it first.

    The package's own `World`, which can save itself, stands above the plugins and sets it.
    """
    global _world_type  # noqa: PLW0603 - set once, by the module on top
    if world_type is not None:
        _world_type = world_type
    return _world_type

"""The contract of a save format: a world to a writer, and back from a reader."""

from __future__ import annotations

import io
import operator
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Protocol

from pecs_np.ecs.snapshot import Snapshot
from pecs_np.ecs.world import World
from pecs_np.errors import InvalidFormatError, PersistenceError, PersistenceIOError
from pecs_np.messages import shown
from pecs_np.persistence.files import PathLike, read_file
from pecs_np.persistence.filters import without_transient

__all__ = ["PersistencePlugin", "Reader", "Writer", "bytes_from", "name_of", "world_made_by"]


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
    def encode(self, snapshot: Snapshot) -> Iterable[Any]:
        """Return *snapshot*, which has no transient types, as bytes-like buffers to write in order.

        What cannot be saved raises here, before the first buffer is written anywhere.
        """

    @abstractmethod
    def decode(self, data: Any, name: str) -> Snapshot:
        """Return the snapshot that the bytes-like *data* holds; *name* stands for it in messages."""

    def encode_stream(self, snapshot: Snapshot) -> Iterable[Any]:
        """Return the same buffers as `encode`, of which few should be in memory at a time."""
        return self.encode(snapshot)

    def to_bytes(self, snapshot: Snapshot) -> bytes:
        """Return *snapshot*, which has no transient types, as one piece."""
        return b"".join(self.encode(snapshot))

    def decode_file(self, path: PathLike) -> Snapshot:
        """Return the snapshot that the file *path* holds."""
        return self.decode(read_file(path), os.fsdecode(path))

    def decode_stream(self, reader: Reader) -> Snapshot:
        """Return the snapshot that *reader* gives, which is read to its end."""
        return self.decode(*_read_stream(reader))

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
        for buffer in self.encode_stream(without_transient(world.snapshot())):
            _write_whole(writer, memoryview(buffer).cast("B"))

    def load(self, reader: Reader) -> World:
        """Return the world that *reader* gives, which is read to its end.

        Raises
        ------
        PersistenceIOError
            If the reader fails.
        """
        return world_made_by().from_snapshot(self.decode_stream(reader))


def _write_whole(writer: Writer, view: memoryview) -> None:
    while view:
        try:
            written = writer.write(view)
        except MemoryError:
            raise
        except Exception as error:
            raise PersistenceIOError(
                f"writing to {shown(writer)} failed: {error}",
                errno=getattr(error, "errno", None),
                suggestion="open the file with 'wb'" if isinstance(error, TypeError) else None,
            ) from error
        # Only raw files say that they took less; None means that they would have to wait.
        if written == 0 or (written is None and isinstance(writer, io.RawIOBase)):
            raise PersistenceIOError(
                f"writing to {shown(writer)} failed: it takes no more", suggestion="use a blocking file"
            )
        count = len(view) if written is None else _as_count(written)
        if count is None or not 0 < count <= len(view):
            raise PersistenceIOError(
                f"writing to {shown(writer)} failed: expected up to {len(view)} bytes, found {shown(written)}"
            )
        view = view[count:]


def _as_count(written: Any) -> int | None:
    try:
        return None if written is True else operator.index(written)
    except TypeError:
        return None


def _read_stream(reader: Reader) -> tuple[Any, str]:
    """Return all that *reader* still gives, and its name for messages."""
    name = name_of(reader)
    try:
        data = reader.read()
    except MemoryError:
        raise
    except Exception as error:
        raise PersistenceIOError(
            f"reading from {name} failed: {error}", errno=getattr(error, "errno", None)
        ) from error
    return bytes_from(data, name), name


def name_of(stream: Any) -> str:
    """Return what messages call a stream."""
    try:
        return str(getattr(stream, "name", "<stream>"))
    except Exception:  # noqa: BLE001 - the stream is the user's, and its name may be anything
        return "<stream>"


def bytes_from(data: Any, name: str) -> memoryview:
    """Return what a stream gave as bytes.

    Raises
    ------
    InvalidFormatError
        If it is text, or no bytes at all.
    """
    try:
        return memoryview(data).cast("B")
    except TypeError:
        raise InvalidFormatError(
            f"expected bytes, found {shown(data)} from {name}",
            suggestion="open the file with 'rb'" if isinstance(data, str) else None,
        ) from None


_world_type: type[World] = World


def world_made_by(world_type: type[World] | None = None) -> type[World]:
    """Return the class of the worlds that plugins make; with *world_type*, set it first.

    The package's own `World`, which can save itself, stands above the plugins and sets it.
    """
    global _world_type  # noqa: PLW0603 - set once, by the module on top
    if world_type is not None:
        _world_type = world_type
    return _world_type

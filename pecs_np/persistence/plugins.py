"""The contract of a save format: a world to a writer, and back from a reader."""

from __future__ import annotations

import functools
import io
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Protocol

from pecs_np.ecs.snapshot import Snapshot
from pecs_np.ecs.world import World
from pecs_np.errors import InvalidFormatError, PersistenceError, PersistenceIOError
from pecs_np.messages import shown
from pecs_np.persistence.consistency import check_current, check_snapshot
from pecs_np.persistence.disk import PathLike
from pecs_np.persistence.files import replace_file
from pecs_np.persistence.filters import filtered, without_transient
from pecs_np.persistence.input_files import InputFile
from pecs_np.persistence.migrations import brought_up_to_date
from pecs_np.persistence.reporting import Progress, SavedSize, Tracked, Watch, watching

__all__ = [
    "PersistencePlugin",
    "Reader",
    "Writer",
    "bytes_from",
    "name_of",
    "persistent",
    "world_made_by",
    "write_stream",
]


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
    """A way to save whole worlds.

    Implement one of three pairs; all else follows: files and streams, filters, backups, migrations, progress.

    - `encode` and `decode`, functions of snapshots, are best: whole columns to bytes and back.
    - `save` and `load` take a world to a writer and give one back from a reader.
    - `save_snapshot` and `load_snapshot` are for what is no format of bytes, such as a database; a path
      is then whatever names a save there.

    `pecs_np.testing.PluginContract` is the test suite that every plugin passes.

    Attributes
    ----------
    suffixes : tuple of str
        Of the files that a `PersistenceManager` saves in this format, in lower case, such as ``(".json",)``.
    has_bytes : bool
        Whether it is a format for files and streams, and not a place of its own. A class that overrides
        `load_snapshot` is a place, unless it says otherwise: set it there, or on an instance.
    """

    suffixes: tuple[str, ...] = ()
    has_bytes: bool = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        said = any("has_bytes" in vars(base) for base in cls.__mro__ if base is not PersistencePlugin)
        if not said and cls.load_snapshot is not PersistencePlugin.load_snapshot:
            cls.has_bytes = False

    def encode(self, snapshot: Snapshot) -> Iterable[Any]:
        """Return *snapshot*, which has no transient types, as bytes-like buffers to write in order.

        What cannot be saved raises here, before the first buffer is written anywhere.
        """
        if type(self).save is PersistencePlugin.save:
            raise self._no_bytes()
        check_snapshot(snapshot)
        writer = io.BytesIO()
        self.save(world_made_by().from_snapshot(snapshot.copy()), writer)
        return [writer.getbuffer()]

    def decode(self, data: Any, name: str) -> Snapshot:
        """Return the snapshot that the bytes-like *data* holds; *name* stands for it in messages.

        Types are those that `resolve_types` gives for the types that the save describes.
        """
        if type(self).load is PersistencePlugin.load:
            raise self._no_bytes()
        reader = io.BytesIO(data)
        reader.name = name
        return self.load(reader).snapshot(copy=True)

    def encode_stream(self, snapshot: Snapshot) -> Iterable[Any]:
        """Return the same buffers as `encode`, of which few should be in memory at a time."""
        return self.encode(snapshot)

    def to_bytes(self, snapshot: Snapshot) -> bytes:
        """Return *snapshot*, which has no transient types, as one piece."""
        data = b"".join(self.encode(snapshot))
        check_current(snapshot)
        return data

    def decode_file(self, file: PathLike | InputFile) -> Snapshot:
        """Return the snapshot that a file holds."""
        with InputFile.of(file) as opened:
            return self.decode(opened.read_whole(), opened.name)

    def decode_stream(self, reader: Reader) -> Snapshot:
        """Return the snapshot that *reader* gives, which is read to its end."""
        return self.decode(*_read_stream(reader))

    def save_snapshot(
        self,
        snapshot: Snapshot,
        path: Any,
        *,
        durable: bool = True,
        backup: bool = False,
        retries: int = 0,
        progress: Progress | bool | None = None,
    ) -> int:
        """Save *snapshot*, which has no transient types, under *path*, and return how many bytes that took.

        All of it is saved or nothing. The options are those of `World.save`. Before what was written takes
        effect, ``pecs_np.persistence.check_current(snapshot)`` raises where the world has changed meanwhile.
        """
        first = [self.encode(snapshot)]
        total: int | None = getattr(first[0], "size", None)
        written = Tracked((), None)
        with watching(progress, total, "saving") as watch:

            def buffers() -> Tracked:
                nonlocal written
                made = first.pop() if first else self.encode(snapshot)
                written = Tracked(made, watch, functools.partial(check_current, snapshot))
                return written

            replace_file(path, buffers, durable=durable, backup=backup, retries=retries)
        return SavedSize.of(written)

    def load_snapshot(self, path: Any, *, progress: Progress | bool | None = None) -> Snapshot:
        """Return the snapshot that was saved under *path*."""
        with InputFile(path) as file, watching(progress, file.size, "loading") as file.watch:
            return self.decode_file(file)

    def recognises(self, start: bytes) -> bool:  # noqa: ARG002 - for subclasses
        """Tell whether a file that begins with *start*, up to 64 bytes, is of this format."""
        return False

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
        write_stream(self, persistent(world), writer)

    def load(self, reader: Reader) -> World:
        """Return the world that *reader* gives, which is read to its end.

        Raises
        ------
        PersistenceIOError
            If the reader fails.
        """
        return world_made_by().from_snapshot(brought_up_to_date(self.decode_stream(reader), name_of(reader)))

    def _no_bytes(self) -> PersistenceError:
        return PersistenceError(
            f"the format {self.format_name()!r} has no bytes of its own: it saves to and loads from paths",
            suggestion="call world.save_with(path, plugin) and World.load_with(path, plugin)",
        )


def persistent(world: World, filter_: Any = None) -> Snapshot:
    """Return what of *world* is saved: all but the transient, and of that what *filter_* keeps."""
    if not isinstance(world, World):
        raise PersistenceError(f"expected a World, found {shown(world)}")
    return filtered(without_transient(world.snapshot()), filter_)


def write_stream(
    plugin: PersistencePlugin, snapshot: Snapshot, writer: Writer, watch: Watch | None = None
) -> int:
    """Write *snapshot* to *writer* in the format of *plugin*, and return how many bytes that took.

    Raises
    ------
    PersistenceIOError
        If the writer fails.
    PersistenceError
        If the world changes meanwhile.
    """
    buffers = Tracked(plugin.encode_stream(snapshot), watch)
    for view in buffers:
        _write_whole(writer, view)
    check_current(snapshot)
    return SavedSize.of(buffers)


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

"""Where a save is read from: bytes in memory, a file, or a stream that only goes forward."""

from __future__ import annotations

import errno
import mmap
import threading
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from pecs_np.ecs.arrays import BYTE, aligned
from pecs_np.errors import (
    CorruptedDataError,
    InvalidFormatError,
    LimitExceededError,
    PecsError,
    PersistenceError,
    PersistenceIOError,
)
from pecs_np.messages import shown
from pecs_np.persistence.binary.blocks import SMALL
from pecs_np.persistence.checksum import combine, crc64
from pecs_np.persistence.disk import reporting
from pecs_np.persistence.input_files import InputFile
from pecs_np.persistence.limits import Limits
from pecs_np.persistence.plugins import bytes_from, name_of

__all__ = ["BytesSource", "FileSource", "MappedSource", "Registry", "Source", "StreamSource"]

Registry = tuple[tuple[str, int], ...]

# One read brings in the head of most saves.
_FIRST_READ = 1 << 11
# Read and summed while they are in the processor's cache: fewer at once take longer, for the calls they need.
_BLOCK = 1 << 21
# What is worth a second thread.
_LARGE = 4 << 20
# More than any save: what a stream's size is before its head tells.
_UNKNOWN = 1 << 64


class Source(Protocol):
    """Bytes that can be read at any place, or, of a stream, in the order they stand.

    Attributes
    ----------
    name : str
    size : int
        Bytes of the save. Of a stream, the head of the save says it.
    ahead : int
        How many bytes to read at first, and whether to read beyond what is needed at all.
    registry : tuple of (name, version)
        The types of the save, once they have been read: messages name the places of sections by them.
    """

    name: str
    size: int
    ahead: int
    registry: Registry

    def read(self, offset: int, size: int) -> bytes:
        """Return *size* bytes, which are there."""
        ...

    def fresh(self, offset: int, size: int) -> tuple[Any, int]:
        """Return *size* bytes, which are there, as a new writable buffer, and their sum.

        The buffer is a bytearray, or an array of u1.
        """
        ...

    def unpacks(self, size: int, coming: int = 0) -> None:
        """Raise where *size* bytes more of unpacked data are more than the limits allow.

        Where the size of the save is known, the head was checked for that. With *coming* it is what so many
        bytes to come are said to unpack to.
        """
        ...


def _new(size: int) -> Any:
    return bytearray(size) if size < SMALL else aligned(size)


def _filled(view: memoryview, offset: int, read_into: Callable[[memoryview, int], None]) -> int:
    """Let *read_into* fill *view* with what a save has from *offset* on, block by block, and return the sum."""
    crc = 0
    for start in range(0, len(view), _BLOCK):
        block = view[start : start + _BLOCK]
        read_into(block, offset + start)
        crc = crc64(block, crc)
    return crc


class BytesSource:
    """A save in memory. Columns are copied out of it."""

    ahead = _FIRST_READ
    registry: Registry = ()

    def __init__(self, data: Any, name: str) -> None:
        try:
            view = memoryview(data)
            self.view = view.cast("B") if view.contiguous else memoryview(bytes(view))
        except (TypeError, ValueError, BufferError):
            # NumPy has arrays without a buffer, and a memoryview may have been released.
            raise InvalidFormatError(
                f"expected the bytes of a save, found {type(data).__name__}",
                suggestion="use load(path) for a file",
            ) from None
        self.size = len(self.view)
        self.name = name if isinstance(name, str) else shown(name)

    def read(self, offset: int, size: int) -> bytes:
        """Return *size* bytes."""
        return bytes(self.view[offset : offset + size])

    def fresh(self, offset: int, size: int) -> tuple[Any, int]:
        """Return *size* bytes as a buffer of the caller's, and their sum."""
        if size < SMALL:
            small = bytearray(self.view[offset : offset + size])
            return small, crc64(small)
        data: Any = aligned(size)
        return data, _filled(memoryview(data), offset, self._read_into)

    def unpacks(self, size: int, coming: int = 0) -> None:
        """Do nothing: the size of the save is known."""

    def _read_into(self, view: memoryview, offset: int) -> None:
        # NumPy copies without holding the interpreter.
        np.frombuffer(view, BYTE)[:] = np.frombuffer(self.view, BYTE, len(view), offset)


class FileSource:
    """A save on disk. Columns are read straight into their arrays, large ones by two threads."""

    ahead = _FIRST_READ
    registry: Registry = ()

    def __init__(self, file: InputFile, threads: int = 1) -> None:
        self.file = file
        self.name = file.name
        self.size = file.size or 0
        self._threads = threads

    def read(self, offset: int, size: int) -> bytes:
        """Return *size* bytes."""
        data = bytearray(size)
        self.file.read_into(memoryview(data), offset)
        return bytes(data)

    def fresh(self, offset: int, size: int) -> tuple[Any, int]:
        """Return *size* bytes as a buffer of the caller's, and their sum."""
        data = _new(size)
        view = memoryview(data)
        if size < _LARGE or self._threads < 2:
            return data, self._fill(view, offset)
        half = size // 2
        found: list[Any] = []

        def second() -> None:
            try:
                found.append(self._fill(view[half:], offset + half))
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
                found.append(error)

        # Reading and summing leave the interpreter to others.
        thread = threading.Thread(target=second, name="pecs")
        try:
            thread.start()
        except RuntimeError:
            # No other thread can be had.
            return data, self._fill(view, offset)
        try:
            crc = self._fill(view[:half], offset)
        finally:
            thread.join()
        if isinstance(found[0], BaseException):
            raise found[0]
        return data, combine(crc, found[0], size - half)

    def unpacks(self, size: int, coming: int = 0) -> None:
        """Do nothing: the size of the save is known."""

    def _fill(self, view: memoryview, offset: int) -> int:
        """Read into *view* and return the sum of what was read."""
        return _filled(view, offset, self.file.read_into)


class MappedSource(BytesSource):
    """A file mapped into memory. Columns are views of it."""

    def __init__(self, file: InputFile) -> None:
        with reporting("mapping", file.name):
            try:
                # An empty file cannot be mapped.
                data = mmap.mmap(file.descriptor, 0, access=mmap.ACCESS_READ) if file.size else b""
            except ValueError as error:
                # It has become one.
                raise OSError(errno.EINVAL, str(error)) from None
        super().__init__(data, file.name)

    def close(self) -> None:
        """Let the file go, as soon as no column is a view of it any more."""
        self.view = memoryview(b"")

    def fresh(self, offset: int, size: int) -> tuple[Any, int]:
        """Return *size* bytes as a view of the file, and their sum."""
        view = self._open()
        part = np.frombuffer(view, BYTE, size, offset) if size else np.empty(0, BYTE)
        return part, crc64(part)

    def read(self, offset: int, size: int) -> bytes:
        """Return *size* bytes."""
        return bytes(self._open()[offset : offset + size])

    def _open(self) -> memoryview:
        view = self.view
        if len(view) < self.size:
            raise PersistenceError(
                f"expected an open save, found {self.name} closed", suggestion="open it again"
            )
        return view


class StreamSource:
    """A save that comes through a stream, of which not a byte more is taken than the save has.

    Parameters
    ----------
    reader : object with ``readinto`` or ``read``
        Each call may give less than it is asked for.
    """

    ahead = 0
    registry: Registry = ()

    def __init__(self, reader: Any, limits: Limits | None = None) -> None:
        self.name = name_of(reader)
        self._limits = limits or Limits()
        self._unpacked = 0
        self.size = _UNKNOWN
        self._reader = reader
        self._fill = getattr(reader, "readinto", None)
        self._at = 0
        if self._fill is None and not hasattr(reader, "read"):
            raise PersistenceIOError(
                f"reading a save failed: expected an object with read or readinto, found {shown(reader)}",
                suggestion="pass a file opened with 'rb', or the makefile('rb') of a socket",
            )

    def read(self, offset: int, size: int) -> bytes:
        """Return *size* bytes."""
        data = bytearray(size)
        self._read_into(memoryview(data), offset)
        return bytes(data)

    def fresh(self, offset: int, size: int) -> tuple[Any, int]:
        """Return *size* bytes as a buffer of the caller's, and their sum."""
        data = _new(size)
        return data, _filled(memoryview(data), offset, self._read_into)

    def all_after(self, data: bytes | bytearray, most: int) -> bytearray:
        """Return *data*, which has been read, and all that still comes, up to *most* bytes in all."""
        found = bytearray(data)
        block = bytearray(_BLOCK)
        while count := self._some(memoryview(block)):
            found += memoryview(block)[:count]
            if len(found) > most:
                raise LimitExceededError(
                    f"expected at most {most} bytes, found more in {self.name}",
                    suggestion="pass larger Limits if you trust where it comes from",
                )
        return found

    def unpacks(self, size: int, coming: int = 0) -> None:
        """Raise where what has come so far would unpack to more than the limits allow.

        With *coming*, bytes that are said to come, *size* is but a promise too and does not count yet.
        """
        most = max(self._limits.free_size, self._limits.ratio * (self._at + coming))
        self._unpacked += 0 if coming else size
        if self._unpacked + (size if coming else 0) > most:
            raise LimitExceededError(
                f"expected at most {most} bytes ({self._limits.ratio} times what has come) unpacked, found more"
                f" in {self.name}",
                suggestion="pass larger Limits if you trust where it comes from",
            )

    def expect_end(self) -> None:
        """Raise unless the stream ends here."""
        if self._some(memoryview(bytearray(1))):
            raise CorruptedDataError(
                f"expected the end at byte {self._at}, found more in {self.name}",
                suggestion="use load_binary_stream where more follows the save",
            )

    def _read_into(self, view: memoryview, offset: int) -> None:
        """Fill *view* with what comes next, which stands at *offset*."""
        if offset != self._at:
            raise PersistenceIOError(f"expected to read on at byte {self._at}, found {offset} of {self.name}")
        self._at += len(view)
        while view:
            count = self._some(view)
            if not count:
                raise CorruptedDataError(
                    f"expected more bytes, found the end at byte {self._at - len(view)} of {self.name}",
                    suggestion="the stream was cut short: ask for the save again",
                )
            view = view[count:]

    def _some(self, view: memoryview) -> int:
        """Read some bytes into *view*, none at the end, and return how many."""
        try:
            if self._fill is not None:
                count = self._fill(view)
                data = None
            else:
                found = self._reader.read(min(len(view), _BLOCK))
                data = None if found is None else bytes_from(found, self.name)
                count = None if data is None else len(data)
        except (MemoryError, PecsError):
            raise
        except Exception as error:
            raise PersistenceIOError(
                f"reading from {self.name} failed: {error}", errno=getattr(error, "errno", None)
            ) from error
        if count is None:
            raise PersistenceIOError(
                f"reading from {self.name} failed: nothing is there yet",
                suggestion="use a blocking file or socket",
            )
        if type(count) is not int or not 0 <= count <= len(view):
            raise PersistenceIOError(
                f"reading from {self.name} failed: expected up to {len(view)} bytes, found {shown(count)}"
            )
        if data is not None:
            view[:count] = data
        return count

"""`BinaryPlugin`: the binary format as a plugin."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from pecs_np.ecs.arrays import BYTE
from pecs_np.ecs.snapshot import Snapshot
from pecs_np.errors import InvalidFormatError, PersistenceError
from pecs_np.messages import shown
from pecs_np.persistence.binary.column_reader import decode
from pecs_np.persistence.binary.column_writer import encode
from pecs_np.persistence.binary.framing import SMALL, VERSION
from pecs_np.persistence.files import MOST_AT_ONCE, PathLike, reporting
from pecs_np.persistence.limits import Limits
from pecs_np.persistence.plugins import PersistencePlugin

__all__ = ["BinaryPlugin"]


class BytesSource:
    """A save in memory. Columns are copied out of it."""

    def __init__(self, data: Any, name: str) -> None:
        try:
            view = memoryview(data)
            self._view = view.cast("B") if view.contiguous else memoryview(bytes(view))
        except TypeError:
            raise InvalidFormatError(
                f"expected the bytes of a save, found {type(data).__name__}",
                suggestion="use load(path) for a file",
            ) from None
        self.size = len(self._view)
        self.name = name

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._view[offset : offset + size])

    def fresh(self, offset: int, size: int) -> Any:
        part = self._view[offset : offset + size]
        return bytearray(part) if size < SMALL else np.frombuffer(part, BYTE).copy()


class FileSource:
    """A save on disk. Columns are read straight into their arrays."""

    def __init__(self, file: io.FileIO, path: PathLike) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size
        self.name = os.fsdecode(path)

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self.fresh(offset, size))

    def fresh(self, offset: int, size: int) -> Any:
        data: Any = bytearray(size) if size < SMALL else np.empty(size, BYTE)
        view = memoryview(data)
        with reporting("reading", self.name):
            self._file.seek(offset)
            while view:
                count = self._file.readinto(view[:MOST_AT_ONCE])
                if not count:
                    raise PersistenceError(
                        f"expected {self.size} bytes, found the end at byte {offset + size - len(view)} of"
                        f" {self.name}",
                        suggestion="another program changed the file while it was read",
                    )
                view = view[count:]
        return data


class BinaryPlugin(PersistencePlugin):
    """The binary format, version 2: whole columns, raw. The default, and the fastest.

    Parameters
    ----------
    limits : Limits, optional
        On what a save may ask for when it is read.

    Examples
    --------
    >>> import io
    >>> from pecs_np import BinaryPlugin, World
    >>> file = io.BytesIO()
    >>> BinaryPlugin().save(World(), file)
    >>> len(file.getvalue())
    264
    """

    def __init__(self, *, limits: Limits | None = None) -> None:
        self.limits = Limits() if limits is None else limits
        if not isinstance(self.limits, Limits):
            raise PersistenceError(f"expected Limits, found {shown(limits)}")

    def encode(self, snapshot: Snapshot) -> Sequence[Any]:
        """Return *snapshot* as the buffers of a save; large columns are views of its memory."""
        return encode(snapshot)

    def decode(self, data: Any, name: str = "<bytes>") -> Snapshot:
        """Return the snapshot that *data* holds, every sum checked."""
        return decode(BytesSource(data, name), self.limits)

    def decode_file(self, path: PathLike) -> Snapshot:
        """Return the snapshot that the file *path* holds, read straight into columns."""
        with reporting("opening", path):
            file = io.FileIO(path)
        with file:
            return decode(FileSource(file, path), self.limits)

    def format_name(self) -> str:
        """Return ``"binary"``."""
        return "binary"

    def format_version(self) -> int:
        """Return 2."""
        return VERSION

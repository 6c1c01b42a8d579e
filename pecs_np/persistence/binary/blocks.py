"""The content of a section too large to stand in memory twice: made block by block, as often as needed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from pecs_np.ecs.arrays import BYTE
from pecs_np.ecs.snapshot import Snapshot
from pecs_np.errors import PecsError
from pecs_np.persistence.checksum import combine, crc64
from pecs_np.persistence.consistency import changed

__all__ = [
    "SMALL",
    "Blocks",
    "Budget",
    "Expanded",
    "Whole",
    "check_rows",
    "flat",
    "noticing_changes",
    "rechunked",
]


# Below this, bytes and bytearrays are cheaper to handle than arrays.
SMALL = 1 << 15


class Budget:
    """How many bytes of made blocks a save may still keep.

    Parameters
    ----------
    left : int or None
        None for any number.
    """

    __slots__ = ("left",)

    def __init__(self, left: int | None = None) -> None:
        self.left = left

    def take(self, size: int) -> bool:
        """Take *size* bytes if they are left."""
        if self.left is not None:
            if size > self.left:
                return False
            self.left -= size
        return True

    def give_back(self, size: int) -> None:
        """Give back *size* bytes that were taken."""
        if self.left is not None:
            self.left += size


class Blocks:
    """Bytes that come in blocks: made once to learn their size and sum, and again to write them.

    Where the budget allows, the blocks of the first time are kept.

    Parameters
    ----------
    make : callable
        Returns the blocks, the same each time.
    budget : Budget

    Attributes
    ----------
    size, crc : int
    lengths : list of int
        Bytes of each block.
    """

    __slots__ = ("_budget", "_first", "_kept", "_make", "crc", "lengths", "size")

    def __init__(self, make: Callable[[], Iterable[Any]], budget: Budget) -> None:
        self._make = make
        self._budget = budget
        self._first = b""
        self._kept: list[Any] | None = []
        self.lengths: list[int] = []
        self.crc = self.size = 0
        with noticing_changes():
            self._take()

    def _take(self) -> None:
        """Learn the size and the sum, and keep the blocks where the budget allows."""
        budget = self._budget
        for block in self._make():
            length = memoryview(block).nbytes
            self.lengths.append(length)
            self.size += length
            self.crc = crc64(block, self.crc)
            if self._kept is not None:
                if budget.take(length):
                    self._kept.append(block)
                else:
                    budget.give_back(self.size - length)
                    self._kept = None
            # Not in memory beside the next one.
            del block

    def lead(self, first: bytes) -> None:
        """Put *first* before the blocks."""
        self._first = first
        self.crc = combine(crc64(first), self.crc, self.size)
        self.size += len(first)

    def discard(self) -> None:
        """Forget what was kept, and give the budget back: these blocks will not be written."""
        if self._kept is not None:
            self._budget.give_back(sum(self.lengths))
            self._kept = None

    @property
    def whole(self) -> Any | None:
        """All bytes, where they are but one block and that was kept; else None."""
        return self._kept[0] if self._kept is not None and len(self._kept) == 1 else None

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Any]:
        if self._first:
            yield self._first
        if self._kept is not None:
            yield from self._kept
            return
        crc = crc64(self._first)
        with noticing_changes():
            for block in self._make():
                crc = crc64(block, crc)
                yield block
                del block
        if crc != self.crc:
            raise changed()


class Whole:
    """Bytes as they lie in the memory of a world, and the sum that they have.

    Attributes
    ----------
    view : bytes-like
    crc : int
    """

    __slots__ = ("_crc", "view")

    def __init__(self, view: Any) -> None:
        self.view = view
        self._crc: int | None = None

    @property
    def crc(self) -> int:
        """The sum, taken when it is first asked for, unless it was set to that of a copy."""
        if self._crc is None:
            self._crc = crc64(self.view)
        return self._crc

    @crc.setter
    def crc(self, value: int) -> None:
        self._crc = value

    def __len__(self) -> int:
        return len(self.view)

    def __iter__(self) -> Iterator[Any]:
        crc = self.crc
        yield self.view
        # Now it has been written.
        if crc64(self.view) != crc:
            raise changed()


def check_rows(snapshot: Snapshot) -> None:
    """Raise unless each table has an id and a value for each of its rows.

    A snapshot taken while another thread adds or removes entities may not: it sees the half of that.
    """
    for table in snapshot.tables:
        rows = table.rows
        if not rows == table.entities.size == table.stable_ids.size or any(
            len(table.columns[type_.name]) != rows for type_ in table.types
        ):
            raise changed()


@contextlib.contextmanager
def noticing_changes() -> Iterator[None]:
    """Turn what NumPy says of arrays that no longer fit together into the error for a world that changed."""
    try:
        yield
    except (ValueError, IndexError) as error:
        if isinstance(error, PecsError):
            raise
        raise changed() from error


class Expanded:
    """The parts of a save as buffers to write one after the other.

    Attributes
    ----------
    size : int
        Bytes of them all.
    save_id : int or None
        Where the save has one.
    """

    __slots__ = ("_parts", "save_id", "size")

    def __init__(self, parts: Sequence[Any], save_id: int | None = None) -> None:
        self._parts = parts
        self.save_id = save_id
        self.size = sum(map(len, parts))

    def __iter__(self) -> Iterator[Any]:
        for part in self._parts:
            if type(part) is Blocks or type(part) is Whole:
                yield from part
            else:
                yield part


def flat(part: Any) -> Any:
    """Return a part of a save as one buffer."""
    return b"".join(part) if type(part) is Blocks else part.view if type(part) is Whole else part


def rechunked(blocks: Iterable[Any], size: int) -> Iterator[Any]:
    """Yield the same bytes in blocks of *size*, the last one shorter."""
    pending: list[Any] = []
    length = 0
    for block in blocks:
        data = np.frombuffer(block, BYTE)
        start = 0
        while length + len(data) - start >= size:
            stop = start + size - length
            part = data[start:stop]
            yield np.concatenate([*pending, part]) if pending else part
            pending, length, start = [], 0, stop
        if start < len(data):
            pending.append(data[start:])
            length += len(data) - start
    if pending:
        yield np.concatenate(pending)

"""Columns compressed chunk by chunk, with filters that make numbers compress well.

A packed column is, all integers little-endian::

    chunk_raw_size u32, chunk_count u32, chunk_count x stored size u32, the chunks

Each chunk is one zstd or LZ4 frame that decodes alone. The chunk size is a multiple of the item size,
and the last chunk may be short. *Delta* sees items as lanes of u64, each minus the same lane of the
item before, wrapping; the first item of a chunk is kept. *Shuffle* comes after it: the first bytes of
all items of the chunk, then the second bytes, and so on.

zstd comes with Python 3.14, or from the package backports.zstd, lz4 from the package lz4; neither is
imported before it is used.
"""

from __future__ import annotations

import functools
import itertools
import os
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import BYTE
from pecs_np.errors import CorruptedDataError, InvalidFormatError, PersistenceError, PluginNotFoundError
from pecs_np.messages import shown

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = [
    "CHUNK",
    "CompressionType",
    "Filters",
    "Packing",
    "chunk_sizes",
    "chunk_table",
    "compressed",
    "in_order",
    "unpacked",
    "usable_cores",
]

# Small enough to stay in a core's cache between the filters and the codec.
CHUNK = 1 << 20
_SMALL_CHUNK = 1 << 14
# Bytes of chunks, which items may make larger, that are compressed at once.
_MOST_IN_WORK = 4 << 20
# What every zstd decoder has to take.
_WINDOW_LOG = 23
_TABLE = struct.Struct("<II")
# Lowest, highest, default.
_LEVELS = {"zstd": (-131072, 22, 3), "lz4": (-65536, 16, 0)}
# Beyond this, a transposition is as fast as moving one byte of all items after the other.
_WIDE = 256

Bytes = NDArray[np.uint8]
Item = TypeVar("Item")
Result = TypeVar("Result")


class CompressionType(StrEnum):
    """The codecs that columns can be compressed with."""

    Zstd = "zstd"
    Lz4 = "lz4"


@dataclass(frozen=True, slots=True)
class Filters:
    """What is done to the items of a column before they are compressed, and undone after.

    Attributes
    ----------
    item : int
        Bytes of an item.
    shuffle, delta : bool
        Delta needs items of a multiple of 8 bytes.

    Examples
    --------
    >>> Filters(item=2, shuffle=True).apply(np.array([1, 2, 1, 3], "u1"))
    array([1, 1, 2, 3], dtype=uint8)
    """

    item: int
    shuffle: bool = False
    delta: bool = False

    def apply(self, chunk: Bytes) -> Bytes:
        """Return *chunk*, whole items, filtered."""
        if self.delta:
            lanes = chunk.view("<u8").reshape(-1, self.item // 8)
            steps = lanes.copy()
            np.subtract(lanes[1:], lanes[:-1], out=steps[1:])
            chunk = steps.reshape(-1).view(BYTE)
        # A single item stays as it is.
        if self.shuffle and 1 < self.item < len(chunk):
            items = chunk.reshape(-1, self.item)
            planes = np.empty(items.shape[::-1], BYTE)
            if self.item < _WIDE:
                for i in range(self.item):
                    planes[i] = items[:, i]
            else:
                planes[...] = items.T
            chunk = planes.reshape(-1)
        return chunk

    def undo(self, data: bytes, target: Bytes) -> None:
        """Write the items that *data* was made of to *target*, of the same size."""
        filtered = np.frombuffer(data, BYTE)
        if self.shuffle and self.item > 1:
            items, planes = target.reshape(-1, self.item), filtered.reshape(self.item, -1)
            if self.item < _WIDE:
                for i in range(self.item):
                    items[:, i] = planes[i]
            else:
                items[...] = planes.T
        else:
            target[...] = filtered
        if self.delta:
            lanes = target.view("<u8").reshape(-1, self.item // 8)
            np.cumsum(lanes, axis=0, out=lanes)


@dataclass(frozen=True, slots=True)
class Packing:
    """How columns are compressed.

    Attributes
    ----------
    codec : CompressionType
    level : int
    shuffle : bool
    threads : int
    """

    codec: CompressionType
    level: int
    shuffle: bool
    threads: int

    @classmethod
    def of(cls, codec: str, level: int | None, shuffle: bool, threads: int | None) -> Packing:
        """Return the checked options of a user.

        Raises
        ------
        PersistenceError
            If there is no such codec or level.
        PluginNotFoundError
            If the codec's package is missing.
        """
        try:
            codec = CompressionType(codec)
        except ValueError:
            raise PersistenceError(
                f"expected compression 'zstd' or 'lz4', found {shown(codec)}",
                suggestion="pass None to save uncompressed",
            ) from None
        lowest, highest, default = _LEVELS[codec]
        if level is None:
            level = default
        if type(level) is not int or not lowest <= level <= highest:
            raise PersistenceError(
                f"expected a level of {codec} from {lowest} to {highest}, found {shown(level)}"
            )
        _CODECS[codec]()  # raises where the package is missing
        return cls(codec, level, bool(shuffle), usable_cores(threads))


def usable_cores(threads: int | None) -> int:
    """Return how many threads to use: as many as given, by default as many as there are cores, up to 8."""
    if threads is None:
        affinity = getattr(os, "sched_getaffinity", None)
        return min(8, len(affinity(0)) if affinity else os.cpu_count() or 1)
    if type(threads) is not int or threads < 1:
        raise PersistenceError(f"expected a number of threads from 1, found {shown(threads)}")
    return threads


def chunk_sizes(item: int) -> tuple[int, int]:
    """Return the size in bytes of chunks, and the one for data that pack very well.

    A frame costs some 50 bytes, which bounds how much a file of small chunks can unpack to.
    """
    return max(item, CHUNK - CHUNK % item), max(item, _SMALL_CHUNK - _SMALL_CHUNK % item)


def chunk_table(size: int, stored: list[int]) -> bytes:
    """Return what stands before chunks of *size* raw bytes: the bytes that each takes."""
    return _TABLE.pack(size, len(stored)) + np.array(stored, "<u4").tobytes()


def compressed(blocks: Iterable[Any], filters: Filters, packing: Packing, size: int) -> Iterator[bytes]:
    """Yield each of *blocks*, bytes-like, of whole items and at most *size* bytes, as a chunk."""
    compress = _CODECS[packing.codec]()[0]
    level = packing.level

    def chunk(block: Any) -> bytes:
        return compress(filters.apply(np.frombuffer(block, BYTE)), level)

    return in_order(chunk, blocks, max(1, min(packing.threads, _MOST_IN_WORK // max(size, 1))))


def unpacked(
    codec: CompressionType,
    read: Callable[[int], Any],
    stored_size: int,
    target: Bytes,
    filters: Filters,
    where: str,
    threads: int = 1,
    account: Callable[[int], None] = lambda _: None,
) -> None:
    """Fill *target* from a packed column.

    Parameters
    ----------
    codec : CompressionType
    read : callable
        Returns the next so many of the *stored_size* bytes.
    target : array of u1
    where : str
        What is read, for messages.
    threads : int
    account : callable
        Told how many bytes each chunk unpacks to, before it is.

    Raises
    ------
    InvalidFormatError, CorruptedDataError
        If the column does not decode to exactly the bytes that *target* has.
    PluginNotFoundError
        If the codec's package is missing.
    """
    if stored_size < _TABLE.size:
        raise InvalidFormatError(f"expected a table of chunks, found {stored_size} bytes in {where}")
    size, count = _TABLE.unpack(read(_TABLE.size))
    whole = size and not size % filters.item and count == -(-len(target) // size)
    left = stored_size - _TABLE.size - 4 * count
    if not whole or left < 0:
        raise InvalidFormatError(
            f"expected chunks of a multiple of {filters.item} bytes that make up {len(target)}, found {count} of"
            f" {size} in {where}"
        )
    lengths = np.frombuffer(read(4 * count), "<u4").tolist()
    if sum(lengths) != left:
        raise InvalidFormatError(f"expected chunks of {left} bytes in all, found {sum(lengths)} in {where}")
    decompress = _CODECS[codec]()[1]

    def expand(task: tuple[int, Any]) -> None:
        start, data = task
        part = target[start : start + size]
        found = decompress(data, len(part))
        if found is None or len(found) != len(part):
            raise CorruptedDataError(
                f"expected {codec} data of {len(part)} bytes, found other data at its byte {start} in {where}",
                suggestion="load a backup",
            )
        filters.undo(found, part)

    def chunks() -> Iterator[tuple[int, Any]]:
        for start, length in zip(range(0, len(target), size), lengths, strict=True):
            data = read(length)
            account(min(size, len(target) - start))
            yield start, data

    for _ in in_order(expand, chunks(), min(threads, count)):
        pass


def in_order(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Yield *function* of each of *items*, worked out by *threads* threads, only a few of them ahead."""
    items = iter(items)
    if threads > 1:
        # Threads are not worth their while for one.
        first = list(itertools.islice(items, 2))
        items = itertools.chain(first, items)
        threads = min(threads, len(first))
    pool_type = _pool_type() if threads > 1 else None
    if pool_type is None:
        yield from map(function, items)
        return

    def noted(item: Item, done: list[Result]) -> Result:
        result = function(item)
        done.append(result)
        return result

    with pool_type(threads, "pecs") as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                done: list[Result] = []
                try:
                    pending.append(pool.submit(noted, item, done))
                except RuntimeError:
                    # No other thread can be had.
                    while pending:
                        yield pending.popleft().result()
                    # But those that are there may have taken it.
                    pool.shutdown(cancel_futures=True)
                    yield done[0] if done else function(item)
                    yield from map(function, items)
                    return
                if len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _pool_type() -> type[ThreadPoolExecutor] | None:
    """Return what makes pools of threads, None where the program is ending and there are none any more."""
    try:
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - slow to import
    except RuntimeError:
        return None
    return ThreadPoolExecutor


Compress = Callable[[Bytes, int], bytes]
# Returns None where the data are no frame, or one of more than so many bytes.
Decompress = Callable[[Any, int], "bytes | None"]


@functools.cache
def _zstd() -> tuple[Compress, Decompress]:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore] # noqa: PLC0415 - 3.14
    except ImportError:
        try:
            from backports import zstd  # noqa: PLC0415 - an extra
        except ImportError:
            raise _missing("backports.zstd", "zstd") from None
    mine = threading.local()

    def compress(data: Bytes, level: int) -> bytes:
        # A compressor is dear to make, and serves one thread.
        if getattr(mine, "level", None) != level:
            mine.compressor, mine.level = zstd.ZstdCompressor(level), level
        return bytes(mine.compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME))

    def decompress(data: Any, size: int) -> bytes | None:
        # A frame of so many bytes needs no larger window, and one must not ask for the memory of one.
        window = {zstd.DecompressionParameter.window_log_max: max(_WINDOW_LOG, size.bit_length())}
        try:
            frame = zstd.ZstdDecompressor(options=window)
            found = bytes(frame.decompress(data, size + 1))
        except zstd.ZstdError as error:
            _check_memory(error)
            return None
        return found if frame.eof and not frame.unused_data else None

    return compress, decompress


@functools.cache
def _lz4() -> tuple[Compress, Decompress]:
    try:
        from lz4 import frame  # noqa: PLC0415 - an extra
    except ImportError:
        raise _missing("lz4", "lz4") from None

    def compress(data: Bytes, level: int) -> bytes:
        return bytes(frame.compress(data, compression_level=level))

    def decompress(data: Any, size: int) -> bytes | None:
        decompressor = frame.LZ4FrameDecompressor()
        try:
            found = bytes(decompressor.decompress(data, size + 1))
        except (RuntimeError, EOFError) as error:
            _check_memory(error)
            return None
        return found if decompressor.eof and not decompressor.unused_data else None

    return compress, decompress


_CODECS: dict[str, Callable[[], tuple[Compress, Decompress]]] = {"zstd": _zstd, "lz4": _lz4}


def _check_memory(error: Exception) -> None:
    """Raise MemoryError where that is what the codec lacked."""
    if any(sign in str(error) for sign in ("not enough memory", "allocation", "Unable to create")):
        raise MemoryError(str(error)) from error


def _missing(package: str, extra: str) -> PluginNotFoundError:
    return PluginNotFoundError(
        f"expected the package {package} for {extra} compression, found none",
        suggestion=f"pip install 'pecs_np[{extra}]'",
    )

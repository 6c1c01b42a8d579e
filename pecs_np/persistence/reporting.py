"""What a save says of itself: a report at its end, and progress on the way."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pecs_np.errors import PersistenceError
from pecs_np.messages import shown, warn

__all__ = ["Progress", "SaveReport", "SavedSize", "Tracked", "TrackedReader", "Watch", "watching"]

# Called with the bytes that are done, and of how many, which is None where nobody knows.
Progress = Callable[[int, int | None], object]
# Called with the bytes that were just done.
Watch = Callable[[int], object]

_STEP = 4 << 20


@dataclass(frozen=True, slots=True)
class SaveReport:
    """What was saved.

    Attributes
    ----------
    bytes : int
        Written.
    seconds : float
        From the call to the end, flushes to the disk included.
    entities : int
    path : str or None
        None for what was written to a stream.
    save_id : int or None
        What deltas name the save by; None in formats that have none.

    Examples
    --------
    >>> import io
    >>> from pecs_np import World
    >>> report = World().save_binary(io.BytesIO())
    >>> report.bytes, report.entities, report.path
    (264, 0, None)
    """

    bytes: int
    seconds: float
    entities: int
    path: str | None
    save_id: int | None = None

    def __str__(self) -> str:
        rate = f", {self.bytes / self.seconds / 1e6:.0f} MB/s" if self.seconds else ""
        return (
            f"{self.entities} entities, {self.bytes} bytes in {self.seconds:.3f} s{rate}"
            f" to {self.path or 'a stream'}"
        )


class SavedSize(int):
    """How many bytes a save took.

    Attributes
    ----------
    save_id : int or None
    """

    save_id: int | None = None

    @classmethod
    def of(cls, tracked: Tracked) -> SavedSize:
        """Return that of buffers which were all taken."""
        size = cls(tracked.done)
        size.save_id = tracked.save_id
        return size


@contextlib.contextmanager
def watching(progress: Progress | bool | None, total: int | None, doing: str) -> Iterator[Watch | None]:
    """Yield what to call with each number of bytes done, or None where nobody wants to know.

    With *progress* True, tqdm shows a bar; where that package is missing there is a warning and no bar.
    """
    if progress is None or progress is False:
        yield None
    elif progress is True:
        with _bar(total, doing) as watch:
            yield watch
    elif callable(progress):
        done = 0
        lock = threading.Lock()

        def watch(count: int) -> None:
            nonlocal done
            with lock:  # large columns are read by several threads
                done = _at_most(done + count, total)
                progress(done, total)

        yield watch
    else:
        raise PersistenceError(
            f"expected a function of (done, total) as progress, found {shown(progress)}",
            suggestion="pass progress=True for a bar",
        )


@contextlib.contextmanager
def _bar(total: int | None, doing: str) -> Iterator[Watch | None]:
    try:
        from tqdm.auto import tqdm  # noqa: PLC0415 - an extra
    except ImportError:
        warn("progress=True shows a bar where tqdm is installed: pip install tqdm")
        yield None
        return
    with tqdm(total=total, desc=doing, unit="B", unit_scale=True) as bar:
        done = 0

        def watch(count: int) -> None:
            nonlocal done
            before, done = done, _at_most(done + count, total)
            bar.update(done - before)

        yield watch


def _at_most(done: int, total: int | None) -> int:
    # The head of a save may be read twice, and a save written again.
    return done if total is None else min(done, total)


class Tracked:
    """Buffers that count what has been taken of them, in steps of some MiB where someone watches.

    *finish* is called when the last has been taken, and may raise.

    Attributes
    ----------
    done : int
        Bytes.
    size : int
        Of all, 0 if it is not known.
    save_id : int or None
        Of the save that they are, where it has one.
    """

    def __init__(
        self, buffers: Iterable[Any], watch: Watch | None, finish: Callable[[], None] | None = None
    ) -> None:
        self._buffers = buffers
        self._watch = watch
        self._finish = finish
        self.done = 0
        self.size: int = getattr(buffers, "size", 0)
        self.save_id: int | None = getattr(buffers, "save_id", None)

    def __iter__(self) -> Iterator[memoryview]:
        self.done = 0
        for buffer in self._buffers:
            view = memoryview(buffer).cast("B")
            if self._watch is None:
                self.done += view.nbytes
                yield view
                continue
            for start in range(0, view.nbytes, _STEP):
                part = view[start : start + _STEP]
                yield part
                self.done += part.nbytes
                self._watch(part.nbytes)
        if self._finish is not None:
            self._finish()


class TrackedReader:
    """A reader that tells how much is read of it."""

    def __init__(self, reader: Any, watch: Watch) -> None:
        self._reader = reader
        self._watch = watch
        if hasattr(reader, "readinto"):
            self.readinto = self._readinto
        if hasattr(reader, "name"):
            self.name = reader.name

    def read(self, size: int = -1) -> Any:
        """Return what the reader gives."""
        data = self._reader.read(size)
        self._watch(len(data or b""))
        return data

    def _readinto(self, buffer: Any) -> Any:
        count = self._reader.readinto(buffer)
        self._watch(count or 0)
        return count

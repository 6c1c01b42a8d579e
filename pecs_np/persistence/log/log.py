"""`DeltaLog`: what happened to a world, tick by tick, in a file that only grows."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any, Literal, NoReturn, Self

from pecs_np.ecs.applying import apply, concatenated_changes
from pecs_np.ecs.changes import ChangeSet
from pecs_np.ecs.world import World
from pecs_np.errors import PersistenceError, PersistenceIOError
from pecs_np.messages import shown
from pecs_np.persistence.binary.plugin import BinaryPlugin
from pecs_np.persistence.delta_plugins import DeltaPersistencePlugin
from pecs_np.persistence.disk import PathLike, reporting
from pecs_np.persistence.files import checked_flag
from pecs_np.persistence.limits import Limits
from pecs_np.persistence.log.base import load_base, remove_bases
from pecs_np.persistence.log.compaction import create, shorten
from pecs_np.persistence.log.following import follow
from pecs_np.persistence.log.moments import Moment, record_at
from pecs_np.persistence.log.reading import LogFile
from pecs_np.persistence.log.records import LoggedChanges, changes_of, payload_of
from pecs_np.persistence.log.salvage import SalvageReport, salvage
from pecs_np.persistence.log.stream import send
from pecs_np.persistence.log.writing import LogWriter, WriterLock
from pecs_np.persistence.plugins import persistent, world_made_by

__all__ = ["DeltaLog", "Durability"]

Durability = Literal["power", "process"]

# Times that a reader looks again where the log is being compacted under its eyes.
_LOOKS = 20


class DeltaLog(DeltaPersistencePlugin):
    """A file to which changes are appended, and from which the world at any past moment is told.

    It begins with a save beside it, ``<path>.<number>.pecs``, and goes on with one record after the other;
    both are one thing, to be moved together. One program at a time writes to it, any number read meanwhile.
    Call `open`, and use it in a ``with`` block, or `close` it.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from pecs_np import ChangeTracker, World, make_component
    >>> Heat = make_component("LoggedHeat", {"kelvin": np.float64})
    >>> world = World(seed=1)
    >>> ids = world.spawn_batch(Heat(kelvin=[280, 290]))
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = f"{folder.name}/heat.log"
    >>> tracker = ChangeTracker(world)
    >>> with DeltaLog.open(path, durability="process", world=world) as log:
    ...     for tick in range(3):
    ...         world.column(Heat)["kelvin"] += 1
    ...         number = log.append(tracker.take())
    >>> DeltaLog.restore(path).column(Heat)["kelvin"]
    array([283., 293.])
    >>> DeltaLog.restore(path, until=1).column(Heat)["kelvin"]
    array([281., 291.])
    >>> folder.cleanup()
    """

    def __init__(self) -> NoReturn:
        raise PersistenceError("a DeltaLog is not made, but opened", suggestion="call DeltaLog.open(path)")

    @classmethod
    def open(
        cls,
        path: PathLike,
        durability: Durability = "power",
        *,
        world: World | None = None,
        readonly: bool = False,
        compression: str | None = None,
        limits: Limits | None = None,
    ) -> Self:
        """Open the log at *path*, and make one where there is none.

        All of it is read and checked. A torn tail, what a program that was killed did not come to the end of,
        is cut off before the next record is appended.

        Parameters
        ----------
        path : path
        durability : {"power", "process"}
            What a record survives once `append` has returned: that the power fails, or that the program does.
        world : World, optional
            What a new log begins with, by default an empty world. Transient components are left out.
        readonly : bool
            Open a log that is there, which another program may write to.
        compression : "zstd" or "lz4", optional
            Of the records and saves that are written.
        limits : Limits, optional
            On what a record may ask for when it is read.

        Raises
        ------
        PersistenceIOError
            If the system refuses, or another program has the log open for writing.
        InvalidFormatError, UnsupportedVersionError
            If the file is no log that this version reads.
        CorruptedDataError
            If it is damaged; `salvage` keeps what is sound.
        PersistenceError
            If there is a log already and a *world* is given.
        """
        if durability not in ("power", "process"):
            raise PersistenceError(f"expected durability 'power' or 'process', found {shown(durability)}")
        readonly = checked_flag(readonly, "readonly")
        if world is not None and (readonly or not isinstance(world, World)):
            raise PersistenceError(
                f"expected a World for a log that is written, found {shown(world)}, readonly={readonly}"
            )
        log = cls.__new__(cls)
        log._plugin = BinaryPlugin(compression=compression, limits=limits)
        log._durability = durability
        log._mutex = threading.RLock()
        log._writer = log._lock = None
        with reporting("opening", path):
            log.path = os.path.realpath(os.fsdecode(path))
        if readonly:
            log._file = log._opened()
            return log
        log._lock = WriterLock(log.path)
        try:
            log._open_to_write(world)
        except BaseException:
            log._lock.close()
            raise
        return log

    path: str
    _plugin: BinaryPlugin
    _durability: Durability
    _mutex: Any
    _lock: WriterLock | None
    _writer: LogWriter | None
    _file: LogFile

    def _open_to_write(self, world: World | None) -> None:
        if not os.path.lexists(self.path):
            create(self.path, None if world is None else persistent(world), self._plugin)
        elif world is not None:
            raise PersistenceError(
                f"expected no log where one is to begin with a world, found one at {self.path}",
                suggestion="open it without world=…; DeltaLog.restore(path) gives the world that it tells of",
            )
        self._file = self._opened()
        try:
            self._writer = LogWriter(self.path, self._file, durable=self._durability == "power")
            self._tidy()
        except BaseException:
            self._file.close()
            raise

    def _opened(self) -> LogFile:
        """Return the log as it is now, all of it read."""
        file = LogFile(self.path)
        try:
            for _ in file.refresh():
                pass
        except BaseException:
            file.close()
            raise
        return file

    def _tidy(self) -> None:
        start = self._file.start
        remove_bases(self.path, start.sequence if start.has_base else None)

    def close(self) -> None:
        """Close the log; a second time does nothing."""
        with self._mutex, contextlib.ExitStack() as stack:
            if self._lock is not None:
                stack.callback(self._lock.close)
            stack.callback(self._file.close)
            if self._writer is not None:
                stack.callback(self._writer.close)

    def __repr__(self) -> str:
        end = self._file.end
        return f"<DeltaLog {self.path}: records {self.start + 1} to {end.sequence}, {end.offset} bytes>"

    def __reduce__(self) -> NoReturn:
        raise PersistenceError(f"an open log cannot be copied: {self.path}", suggestion="open it again")

    @property
    def start(self) -> int:
        """The number of the record before the first: the earliest state that the log tells of."""
        return self._file.start.sequence

    @property
    def sequence(self) -> int:
        """The number of the last record, as far as it was read; `start` where there is none."""
        return self._file.end.sequence

    @property
    def durability(self) -> Durability:
        """What a record survives: "power" or "process"."""
        return self._durability

    @property
    def readonly(self) -> bool:
        """Whether nothing can be appended."""
        return self._writer is None

    # Writing

    def append(self, changes: ChangeSet) -> int:
        """Append *changes* as a record and return its number; also where nothing changed.

        Transient components are left out, as they are of saves.

        Raises
        ------
        PersistenceIOError
            If the system refuses; the log is as it was.
        """
        kind, at, payload = payload_of(changes, self._plugin.packing)
        with self._mutex:
            return self._writing().append(kind, at, payload)

    def flush(self) -> None:
        """Flush what was appended to the disk: with durability "process", a point that survives a loss of power."""
        with self._mutex:
            self._writing().flush()

    def compact(self, world: World | None = None, *, until: Moment | None = None) -> None:
        """Make the log begin with the state after one of its records, by default the last, and forget those before.

        However it is interrupted, the log is the old one or the new one. Both files are flushed to the disk,
        whatever the durability.

        Parameters
        ----------
        world : World, optional
            As it was when the last record was appended; without it, that world is made from the log.
        until : int, float or datetime, optional
            The record, or the time, up to which to forget.
        """
        with self._mutex:
            writer = self._writing()
            writer.check()
            if world is not None and until is not None:
                raise PersistenceError(f"expected a world, or until, found both: {shown(until)}")
            sequence = self.sequence if until is None else record_at(self._file, until, "until")
            if sequence == self.start:
                return
            snapshot = persistent(self._world(sequence) if world is None else world)
            try:
                shorten(self.path, self._file, sequence, snapshot, self._plugin)
            finally:
                # Where it failed, nobody knows which of the two is there.
                self._reopen()
            self._tidy()

    def _reopen(self) -> None:
        """Go on with the log that is at the path now; where that fails, this one is closed."""
        if self._writer is not None:
            self._writer.close()
        self._file.close()
        self._file = self._opened()
        self._writer = LogWriter(self.path, self._file, durable=self._durability == "power")

    def _writing(self) -> LogWriter:
        if self._writer is None:
            raise PersistenceError(
                f"expected a log open for writing, found {self.path} open for reading",
                suggestion="open it without readonly=True",
            )
        return self._writer

    # Reading

    def replay(self, since: Moment | None = None, until: Moment | None = None) -> Iterator[LoggedChanges]:
        """Give the changes after *since* up to and with *until*, in order.

        Parameters
        ----------
        since, until : int, float or datetime, optional
            A sequence number, as an int; or a time, in seconds since 1970 as a float, or as a datetime: then
            the last record up to that time. By default the beginning and the end of the log.

        Raises
        ------
        PersistenceError
            If the log does not tell of that moment, because it is yet to come, or was compacted away.
        """
        with self._mutex:
            self._refresh()
            file = self._file
            first = file.start.sequence if since is None else record_at(file, since, "since")
            last = file.end.sequence if until is None else record_at(self._file, until, "until")
        return changes_of(file.records(first, max(first, last)), self._plugin.limits)

    def world(self, until: Moment | None = None) -> World:
        """Return the world as it was after a record, or at a time, by default after the last one; see `replay`."""
        with self._mutex:
            for look in range(_LOOKS):
                self._refresh()
                try:
                    return self._world(
                        self.sequence if until is None else record_at(self._file, until, "until")
                    )
                except PersistenceIOError:
                    # Compacted meanwhile, so that the save has gone.
                    if self._writer is not None or look == _LOOKS - 1 or self._file.is_at(self.path):
                        raise
        raise AssertionError

    def _world(self, sequence: int) -> World:
        file, limits = self._file, self._plugin.limits
        world = world_made_by()()
        if file.start.has_base:
            world = world_made_by().from_snapshot(load_base(self.path, file.start, limits))
        for changes in changes_of(file.records(file.start.sequence, sequence), limits):
            apply(world, changes, conflict="theirs")
        return world

    def follow(
        self, since: Moment | None = None, *, timeout: float | None = None, pause: float = 0.02
    ) -> Iterator[LoggedChanges]:
        """Give changes as they are appended, by whatever program, and wait for the next.

        Parameters
        ----------
        since : int, float or datetime, optional
            The record, or the time, after which to begin, by default `sequence`: that of the state which
            `world` returned last.
        timeout : float, optional
            Seconds without a record after which to end; 0 for what is there now. By default it never ends.
        pause : float
            Seconds between two looks at the file.

        Raises
        ------
        PersistenceError
            If the next record was compacted away before it was read.
        """
        with self._mutex:
            # What is known here can be read on from even where it was compacted away meanwhile.
            if since is not None and not (isinstance(since, int) and self.start <= since <= self.sequence):
                self._refresh()
            at = self.sequence if since is None else record_at(self._file, since, "since")
            file = self._file.again(at)
        records = follow(file, self.path, pause=pause, timeout=timeout)
        return changes_of(records, self._plugin.limits)

    def send(self, writer: Any, *, since: int | None = None) -> int:
        """Write the log to a pipe or a socket, for a `LogStream`, and return the number of the last record sent.

        Parameters
        ----------
        writer : object with ``write``
        since : int, optional
            What was sent last; by default nothing, so that the save goes first.

        Examples
        --------
        >>> import io, tempfile
        >>> from pecs_np import ChangeSet, LogStream, World
        >>> pipe = io.BytesIO()
        >>> with tempfile.TemporaryDirectory() as folder, DeltaLog.open(f"{folder}/a.log", world=World()) as log:
        ...     sent = log.send(pipe)
        ...     number = log.append(ChangeSet())
        ...     log.send(pipe, since=sent)
        1
        >>> _ = pipe.seek(0)
        >>> stream = LogStream(pipe)
        >>> len(stream.world()), [changes.sequence for changes in stream]
        (0, [1])
        """
        with self._mutex:
            self._refresh()
            if since is not None:
                since = record_at(self._file, since, "since")
            return send(self._file, self.path, writer, since)

    def _refresh(self) -> None:
        """Take note of what another program has written."""
        if self._writer is not None:
            return
        for _ in range(_LOOKS):
            current = self._file.is_at(self.path)
            for _ in self._file.refresh():
                pass
            if current:
                return
            self._file.close()
            self._file = self._opened()

    # As a plugin for changes

    def save_changes(self, changes: ChangeSet) -> None:
        """Append changes, if there are any; see `append`."""
        if changes or not isinstance(changes, ChangeSet):
            self.append(changes)

    def load_changes(self, since: float = 0.0) -> ChangeSet:
        """Return the changes after a time as one; see `replay`."""
        return concatenated_changes(self.replay(float(since)))

    def current_timestamp(self) -> float:
        """Return the time of the last record, seconds since 1970."""
        with self._mutex:
            self._refresh()
            return self._file.end.time

    # The whole of it

    @classmethod
    def restore(cls, path: PathLike, until: Moment | None = None, *, limits: Limits | None = None) -> World:
        """Return the world that the log at *path* tells of, as it was at the end, or at a past moment; see `replay`."""
        with cls.open(path, readonly=True, limits=limits) as log:
            return log.world(until)

    @staticmethod
    def salvage(path: PathLike, into: PathLike, *, limits: Limits | None = None) -> SalvageReport:
        """Copy what is sound of a damaged log to a new one: its save, and the records up to the damage.

        Raises
        ------
        PersistenceIOError
            If the system refuses.
        InvalidFormatError, CorruptedDataError
            If the head of the log, or the save that it begins with, is damaged: then there is nothing to go from.
        """
        return salvage(path, into, limits or Limits())

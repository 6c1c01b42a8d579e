"""Each call to the operating system that a log makes fails in turn: no record that was appended is lost, or half there."""

from __future__ import annotations

import contextlib
import errno
import os
import re

import pytest

from pecs_np import PecsError, PersistenceIOError
from pecs_np.persistence import disk
from pecs_np.persistence.log.log import DeltaLog

LEFT = re.compile(r"a\.log(\.lock|\.\d+\.pecs)?|\.pecs-.*\.tmp")


class Player:
    """Lets a story be logged, whatever fails, and knows what was acknowledged.

    Attributes
    ----------
    number : int
        Of the last record of which `append` returned.
    trying : int
        Of the record that may be there too.
    """

    def __init__(self, path, story, durability):
        self.path, self.story, self.durability = path, story, durability
        self.number = self.trying = 0
        # Where records are not flushed the calls are nearly the same: not all of them once more.
        self.step = 1 if durability == "power" else 5

    def play(self, *, again=0):
        """Append what is yet to come, and compact on the way; try each append *again* so many times."""
        world = None if self.path.exists() else self.story.world()
        with DeltaLog.open(self.path, self.durability, world=world) as log:
            self.number = log.sequence
            for changes in self.story.changes[log.sequence :]:
                self.trying = self.number + 1
                for attempt in range(again + 1):
                    try:
                        assert log.append(changes) == self.trying
                    except PecsError:
                        if attempt == again:
                            raise
                    else:
                        break
                self.number = self.trying
                if self.number == 2:
                    log.compact()
                if self.number == 4:
                    log.compact(until=3)

    def check(self):
        """Assert that the log is what it may be, and goes on to the end of the story."""
        folder = self.path.parent
        assert all(LEFT.fullmatch(name) for name in os.listdir(folder))
        if self.path.exists():
            restored = DeltaLog.restore(self.path).to_bytes()
            allowed = {self.story.states[self.number], self.story.states[self.trying]}
            assert restored in allowed
        else:
            assert self.number == 0
        self.play()
        assert DeltaLog.restore(self.path).to_bytes() == self.story.states[-1]
        with DeltaLog.open(self.path, readonly=True) as log:
            bases = [name for name in os.listdir(folder) if name.endswith(".pecs")]
            assert bases == [f"a.log.{log.start}.pecs"]


def clear(folder):
    for name in os.listdir(folder):
        os.unlink(folder / name)


@pytest.fixture(params=["power", "process"])
def player(request, folder, story):
    return lambda: clear(folder) or Player(folder / "a.log", story, request.param)


def test_any_call_that_fails_leaves_every_record_that_was_acknowledged(
    player, faulty, save_faults, read_faults, interrupts, refusal, open_descriptors, tally
):
    system = faulty()
    player().play()
    kinds = [call.kind for call in system.calls]
    assert {"open", "write", "fsync", "lock", "fstat", "stat", "replace", "unlink", "read_at"} <= set(kinds)
    faults = {fault.name: fault for fault in (*save_faults, *read_faults, *interrupts)}
    faults = {
        name: faults[name] for name in ("EIO", "ENOSPC", "one byte", "half", "nothing", "EIO after all")
    }
    faults["an interrupt"] = interrupts[0]
    descriptors = open_descriptors()
    for fault in faults.values():
        for at, kind in list(enumerate(kinds))[:: player().step]:
            if not fault.fits(kind):
                continue
            one = player()
            faulty(at, fault, "once")
            with contextlib.suppress(PecsError, KeyboardInterrupt, MemoryError):
                one.play()
            faulty()
            one.check()
            tally["calls that failed"] += 1
    assert open_descriptors() == descriptors


def test_all_calls_fail_from_one_on(player, faulty, refusal, power_cut, tally):
    system = faulty()
    player().play()
    kinds = [call.kind for call in system.calls]
    for fault, mode in ((refusal(errno.EIO), "all"), (refusal(errno.ENOSPC), "kind"), (power_cut, "once")):
        for at in range(0, len(kinds), player().step):
            one = player()
            faulty(at, fault, mode)
            with contextlib.suppress(PecsError, BaseException):
                one.play()
            faulty()
            one.check()
            tally["failures that last"] += 1


def test_an_append_that_the_system_refused_may_be_tried_again(player, faulty, refusal, tally):
    system = faulty()
    player().play()
    for at, call in enumerate(system.calls):
        if call.kind != "write" or not call.path.endswith("a.log"):
            continue
        for fault in (refusal(errno.ENOSPC), refusal(errno.EINTR)):
            one = player()
            faulty(at, fault)
            one.play(again=1)
            assert one.number == len(one.story.changes)
            faulty()
            one.check()
            tally["appends tried again"] += 1


def test_after_a_flush_that_failed_nothing_more_is_taken(folder, story, faulty, refusal):
    path = folder / "a.log"
    with DeltaLog.open(path, world=story.world()) as log:
        log.append(story.changes[0])
        faulty(0, refusal(errno.EIO), "kind")
        disk.system._fault.kinds = frozenset({"fsync"})
        system = disk.system
        system._hits = lambda number, kind: kind == "fsync"
        with pytest.raises(PersistenceIOError, match="failed: Input/output error"):
            log.append(story.changes[1])
        faulty()
        for call in (lambda: log.append(story.changes[1]), log.flush, log.compact):
            with pytest.raises(PersistenceIOError, match="a flush failed; close it and open it again"):
                call()
        assert log.sequence == 1
    with DeltaLog.open(path) as log:
        assert log.append(story.changes[1]) == 2


def test_records_are_flushed_before_they_are_acknowledged_or_never(folder, story, faulty):
    path = folder / "a.log"
    for durability, flushes in (("power", 1), ("process", 0)):
        clear(folder)
        with DeltaLog.open(path, durability, world=story.world()) as log:
            for changes in story.changes:
                system = faulty()
                log.append(changes)
                kinds = [call.kind for call in system.calls]
                assert kinds == ["write"] + ["fsync"] * flushes
            log.flush()
            assert [call.kind for call in system.calls][-1] == "fsync"
            system = faulty()
            log.compact()
            # The save, its folder, the log, its folder: also where records are not flushed.
            order = [call.kind for call in system.calls if call.kind in ("fsync", "replace")]
            assert order == ["fsync", "replace", "fsync"] * 2


def test_an_error_of_the_disk_is_never_taken_for_the_end(folder, story, faulty, refusal, tally):
    path = folder / "a.log"
    with DeltaLog.open(path, world=story.world()) as log:
        for changes in story.changes:
            log.append(changes)
    system = faulty()
    DeltaLog.restore(path)
    for at, call in enumerate(system.calls):
        if call.kind in {"read_at", "open", "fstat"}:
            for code in (errno.EIO, errno.ENXIO):
                faulty(at, refusal(code))
                with pytest.raises(PersistenceIOError) as caught:
                    DeltaLog.restore(path)
                assert caught.value.errno == code
                tally["reads that failed"] += 1

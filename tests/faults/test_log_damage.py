"""Logs that were cut anywhere, that end in zeros, and of which any bit is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pecs_np import (
    CorruptedDataError,
    InvalidFormatError,
    LimitExceededError,
    PersistenceError,
    PersistenceIOError,
    UnsupportedVersionError,
)
from pecs_np.persistence.log.framing import HEAD_SIZE, START_SIZE, SUM_SIZE
from pecs_np.persistence.log.log import DeltaLog


@pytest.fixture
def written(folder, story):
    """A log of the story: its path, its bytes, and where each record ends."""
    path = folder / "a.log"
    with DeltaLog.open(path, "process", world=story.world()) as log:
        for changes in story.changes:
            log.append(changes)
        ends = [log._file.after(i).offset for i in range(len(story.changes) + 1)]
    data = path.read_bytes()
    assert ends[0] == START_SIZE
    assert ends[-1] == len(data)
    return path, data, ends


def whole(ends, size):
    return sum(end <= size for end in ends) - 1


def test_a_log_cut_at_any_byte_tells_what_was_whole_and_goes_on(written, story, tally):
    path, data, ends = written
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        if size < START_SIZE:
            with pytest.raises(InvalidFormatError):
                DeltaLog.open(path)
            assert path.read_bytes() == data[:size]
            continue
        number = whole(ends, size)
        with DeltaLog.open(path, "process") as log:
            assert path.read_bytes() == data[:size]  # opening alone cuts nothing
            assert log.sequence == number
            assert log.world().to_bytes() == story.states[number]
            for changes in story.changes[number : number + 1]:
                log.append(changes)
        assert path.read_bytes() == data[: ends[min(number + 1, len(ends) - 1)]]
        tally["cuts"] += 1


def test_a_log_that_ends_in_zeros_from_any_byte_on_is_torn_or_told_to_be_damaged(written, story, tally):
    path, data, ends = written
    sums = {end - i for end in ends[1:] for i in range(1, SUM_SIZE)}
    sums |= {end + HEAD_SIZE - i for end in ends[:-1] for i in range(1, SUM_SIZE)}
    for size in range(START_SIZE, len(data)):
        path.write_bytes(data[:size] + bytes(len(data) - size + 5000 * (size % 2)))
        tally["tails of zeros"] += 1
        if size in sums:
            # Half a sum is not told from a wrong one.
            with pytest.raises(CorruptedDataError):
                DeltaLog.open(path, readonly=True)
            continue
        number = whole(ends, size)
        with DeltaLog.open(path, "process") as log:
            assert log.sequence == number
            log.append(story.changes[number])
        assert path.read_bytes() == data[: ends[number + 1]]


def test_any_wrong_bit_of_a_log_is_damage(written, tally):
    path, data, _ = written
    wrong = bytearray(data)
    with open(path, "r+b", buffering=0) as file:
        for at in range(len(data)):
            for bit in range(8):
                wrong[at] = data[at] ^ 1 << bit
                file.seek(at)
                file.write(wrong[at : at + 1])
                with pytest.raises((CorruptedDataError, InvalidFormatError)):
                    DeltaLog.open(path, readonly=True)
                tally["flipped bits"] += 1
            wrong[at] = data[at]
            file.seek(at)
            file.write(wrong[at : at + 1])
    assert path.read_bytes() == data


def test_a_damaged_log_is_salvaged_up_to_the_damage(written, story, folder, tally):
    path, data, ends = written
    last = len(ends) - 1
    for at in range(START_SIZE, len(data), 41):
        number = whole(ends, at)
        wrong = bytearray(data)
        wrong[at] ^= 4
        path.write_bytes(wrong)
        with pytest.raises(CorruptedDataError, match="salvage"):
            DeltaLog.open(path)
        into = folder / f"{at}.log"
        report = DeltaLog.salvage(path, into)
        assert (report.first, report.last) == (0, number)
        assert f"record {number + 1}" in report.damage
        assert report.beyond == (((number + 2, last),) if number + 2 <= last else ())
        assert report.lost == len(data) - ends[number]
        assert f"{number} records kept" in str(report)
        assert into.read_bytes() == data[: ends[number]]
        with DeltaLog.open(into) as log:
            assert log.world().to_bytes() == story.states[number]
            for changes in story.changes[number:]:
                log.append(changes)
        assert into.read_bytes() == data
        assert path.read_bytes() == wrong
        tally["salvaged logs"] += 1
    with pytest.raises(PersistenceError, match="where nothing is"):
        DeltaLog.salvage(path, into)


def test_a_sound_log_is_salvaged_whole_and_one_without_a_base_not(written, story, folder):
    path, data, _ = written
    path.write_bytes(data + b"PREC half")
    report = DeltaLog.salvage(path, folder / "b.log")
    assert (report.damage, report.beyond, report.lost) == (None, (), 9)
    assert (folder / "b.log").read_bytes() == data
    base = folder / "a.log.0.pecs"
    save = base.read_bytes()
    base.write_bytes(save[:-1])
    with pytest.raises(CorruptedDataError):
        DeltaLog.salvage(path, folder / "c.log")
    base.unlink()
    with pytest.raises(PersistenceIOError):
        DeltaLog.salvage(path, folder / "c.log")
    assert not (folder / "c.log").exists()


def test_any_wrong_bit_of_the_base_is_found(written, story, folder, tally):
    path, _, _ = written
    base = folder / "a.log.0.pecs"
    save = base.read_bytes()
    for at in range(len(save)):
        wrong = bytearray(save)
        wrong[at] ^= 1 << at % 8
        base.write_bytes(wrong)
        with pytest.raises(PersistenceError) as caught:
            DeltaLog.restore(path)
        assert caught.value.is_corruption or isinstance(
            caught.value, LimitExceededError | UnsupportedVersionError
        )
        tally["flipped bits of bases"] += 1
    base.write_bytes(
        type(story)(story.start, [], []).world().to_bytes().replace(b"LoggedSpot", b"loggedSpot")
    )
    with pytest.raises(PersistenceError):
        DeltaLog.restore(path)


def test_another_save_in_the_place_of_the_base_is_refused(written, story, folder):
    path, _, _ = written
    world = story.world()
    world.spawn()
    world.save(folder / "a.log.0.pecs")
    with pytest.raises(
        CorruptedDataError, match=r"expected save [0-9a-f]{32}, with which the log begins, found"
    ):
        DeltaLog.restore(path)


def test_records_of_another_log_do_not_fit_in(folder, story):
    """Of the same changes, and so with the same lengths and numbers."""
    ends = []
    for name, offset in (("a", 0), ("b", 1)):
        with DeltaLog.open(folder / f"{name}.log", "process", world=story.world()) as log:
            for changes in story.changes:
                log.append(replace(changes, timestamp=changes.timestamp + offset))
            ends.append([log._file.after(i).offset for i in range(len(story.changes) + 1)])
    assert ends[0] == ends[1]
    a, b = ((folder / f"{name}.log").read_bytes() for name in "ab")
    for end in ends[0][1:-1]:
        (folder / "a.log").write_bytes(a[:end] + b[end:])
        with pytest.raises(CorruptedDataError, match="expected a record after that with checksum"):
            DeltaLog.open(folder / "a.log")
    # One left out, one twice.
    first, second = ends[0][1:3]
    for data in (a[:first] + a[second:], a[:second] + a[first:]):
        (folder / "a.log").write_bytes(data)
        with pytest.raises(CorruptedDataError, match="expected record"):
            DeltaLog.open(folder / "a.log")


def test_what_is_no_file_is_no_log(folder):
    for name, error in (("", PersistenceIOError), (".", PersistenceIOError)):
        with pytest.raises(error):
            DeltaLog.open(f"{folder}/{name}")
    (folder / "x.log").write_bytes(b"")
    with pytest.raises(InvalidFormatError, match="expected a log of changes"):
        DeltaLog.open(folder / "x.log")
    with pytest.raises(PersistenceIOError):
        DeltaLog.open(folder / "none.log", readonly=True)
    with pytest.raises(PersistenceIOError):
        DeltaLog.open("a\0b")
    with pytest.raises(PersistenceIOError):
        DeltaLog.open(5.5)

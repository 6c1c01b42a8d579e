"""Logs read record by record, also while somebody writes."""

from __future__ import annotations

import os

import pytest

from pecs_np import CorruptedDataError, DeltaLog, PersistenceError, PersistenceIOError
from pecs_np.persistence import disk
from pecs_np.persistence.log.framing import RecordHead, record_buffers
from pecs_np.persistence.log.reading import LogFile


@pytest.fixture
def path(tmp_path, story):
    with DeltaLog.open(tmp_path / "a.log", world=story.world()) as log:
        for changes in story.changes:
            log.append(changes)
    return tmp_path / "a.log"


def read(file):
    return [record.head.sequence for record in file.refresh()]


def test_records_are_known_once_they_were_read(path):
    with LogFile(path) as file:
        assert (file.end.sequence, file.end.offset) == (0, 64)
        assert read(file) == [1, 2, 3, 4, 5]
        assert file.end.offset == path.stat().st_size == file.size()
        assert read(file) == []
        assert [record.head.sequence for record in file.records(1, 3)] == [2, 3]
        assert file.before(1001.0) == 2
        assert file.before(0.5) == 0
        file.forget(2)
        assert read(file) == [3, 4, 5]
        with file.again(3) as other:
            assert other.start is file.start
            assert read(other) == [4, 5]
    with pytest.raises(PersistenceIOError):
        read(file)


def test_it_knows_whether_it_is_still_in_its_place(path):
    with LogFile(path) as file:
        assert file.is_at(path)
        data = path.read_bytes()
        path.with_name("b").write_bytes(data)
        os.replace(path.with_name("b"), path)
        assert not file.is_at(path)
        assert read(file) == [1, 2, 3, 4, 5]
        os.unlink(path)
        with pytest.raises(PersistenceIOError):
            file.is_at(path)


def meddling(monkeypatch, meddle):
    """Let *meddle* happen once, before the third read from now on."""
    real, calls = disk.system.read_at, []

    def read_at(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            meddle()
        return real(*arguments)

    monkeypatch.setattr(disk.system, "read_at", read_at, raising=False)


def test_a_writer_that_cuts_a_torn_tail_and_goes_on_is_no_damage(path, story, monkeypatch):
    data = path.read_bytes()
    with LogFile(path) as file:
        ends = [64, *(file.end.offset for _ in file.refresh())]
    # The second record was torn when its head was read, and is another one when its payload is.
    other, _ = path.with_name("b.log"), path.write_bytes(data[: ends[1]])
    with DeltaLog.open(path, "process") as log:
        log.append(story.changes[4])
    other.write_bytes(path.read_bytes())
    path.write_bytes(data[: ends[2]])
    assert other.stat().st_size < ends[2]
    with LogFile(path) as file:
        meddling(monkeypatch, lambda: path.write_bytes(other.read_bytes()))
        assert read(file) == [1, 2]
        monkeypatch.undo()
        assert file.end.offset == other.stat().st_size


def test_a_tail_that_is_cut_while_it_is_read_is_the_end(path, monkeypatch):
    with LogFile(path) as file:
        whole = next(iter(file.refresh())).head.size + 64
        file.forget(0)
        meddling(monkeypatch, lambda: os.truncate(path, whole))
        assert read(file) == [1]


def test_a_known_record_that_is_gone_is_no_end(path):
    with LogFile(path) as file:
        read(file)
        os.truncate(path, 300)
        with pytest.raises(PersistenceError):
            list(file.records(0, 5))


def test_records_that_may_be_skipped_are(path, story):
    with LogFile(path) as file:
        read(file)
        end = file.end
    _, buffers, _ = record_buffers(RecordHead(0x8007, 0, 6, 2000.0, end.sum), [b"of a later version"])
    with open(path, "ab") as log:
        log.write(b"".join(buffers))
    with DeltaLog.open(path) as log:
        assert log.sequence == 6
        assert log.append(story.changes[-2]) == 7
        assert [changes.sequence for changes in log.replay()] == [1, 2, 3, 4, 5, 7]
        assert log.world().to_bytes() == story.states[-1]


def test_a_pipe_is_no_log(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    descriptor = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        with pytest.raises(PersistenceError, match=r"found a stream at .*; read it with LogStream"):
            LogFile(tmp_path / "pipe")
    finally:
        os.close(descriptor)


def test_a_payload_that_is_no_delta_is_told_with_its_place(path, story):
    with LogFile(path) as file:
        read(file)
        end = file.end
    _, buffers, _ = record_buffers(RecordHead(1, 0, 6, 2000.0, end.sum), [b"nonsense" * 9])
    with open(path, "ab") as log:
        log.write(b"".join(buffers))
    with DeltaLog.open(path) as log:
        with pytest.raises(PersistenceError, match=rf"record 6 at byte {end.offset} of .*a\.log"):
            list(log.replay())
        assert log.world(5).to_bytes() == story.states[5]
        with pytest.raises(PersistenceError) as caught:
            log.world()
        assert not isinstance(caught.value, CorruptedDataError) or caught.value.suggestion

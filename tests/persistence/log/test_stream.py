"""Logs through streams, in pieces of any size, cut and damaged."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading

import pytest

from pecs_np import (
    CorruptedDataError,
    DeltaLog,
    InvalidFormatError,
    LimitExceededError,
    Limits,
    LogStream,
    PersistenceError,
    PersistenceIOError,
    World,
)
from pecs_np.persistence.log.framing import BASE, START_SIZE, RecordHead, record_buffers


@pytest.fixture
def sent(tmp_path, story):
    """What a log of the story sends, and where each record of it ends."""
    pipe = io.BytesIO()
    with DeltaLog.open(tmp_path / "a.log", world=story.world()) as log:
        number = log.send(pipe)
        ends = [pipe.tell()]
        for changes in story.changes:
            log.append(changes)
            number = log.send(pipe, since=number)
            ends.append(pipe.tell())
    return pipe.getvalue(), ends


def followed(stream):
    world = stream.world()
    states = [world.to_bytes()]
    for changes in stream:
        world.apply(changes)
        states.append(world.to_bytes())
    return states


class Trickle(io.RawIOBase):
    """Gives a byte at a time."""

    def __init__(self, data):
        self.data = io.BytesIO(data)

    def readinto(self, view):
        return self.data.readinto(memoryview(view)[:1])


def test_a_stream_tells_all_that_a_log_tells(sent, story):
    data, _ = sent
    for reader in (io.BytesIO(data), Trickle(data), io.BufferedReader(io.BytesIO(data))):
        stream = LogStream(reader)
        assert stream.sequence == 0
        assert followed(stream) == story.states
        assert stream.sequence == len(story.changes)
        assert list(stream) == []


def test_a_stream_that_ends_within_a_record_is_told_and_what_came_before_is_given(sent, story):
    data, ends = sent
    for size in range(0, len(data), 3):
        try:
            stream = LogStream(io.BytesIO(data[:size]))
        except (CorruptedDataError, InvalidFormatError):
            assert size < ends[0]
            continue
        ends_here = contextlib.nullcontext()
        if size not in ends:
            ends_here = pytest.raises(CorruptedDataError, match="the stream was cut short")
        with ends_here:
            list(stream)
        assert stream.sequence == sum(end <= size for end in ends) - 1


def test_any_wrong_bit_of_a_stream_is_found(sent):
    data, _ = sent
    for at in range(len(data)):
        wrong = bytearray(data)
        wrong[at] ^= 1 << at % 8
        with pytest.raises(PersistenceError):
            followed(LogStream(io.BytesIO(wrong)))


def test_a_stream_begins_with_its_save_and_has_no_other(sent, story):
    data, ends = sent
    head, base = data[:START_SIZE], data[START_SIZE : ends[0]]
    with pytest.raises(CorruptedDataError, match="expected the save with which the log begins at byte 64"):
        LogStream(io.BytesIO(head + data[ends[0] :]))
    with pytest.raises(CorruptedDataError, match="expected the save with which the log begins"):
        LogStream(io.BytesIO(head))
    with pytest.raises(CorruptedDataError, match="expected changes, found another save"):
        list(LogStream(io.BytesIO(head + base + base)))
    with pytest.raises(CorruptedDataError, match="expected record 1, found record 2"):
        list(LogStream(io.BytesIO(data[: ends[0]] + data[ends[1] :])))
    other = World()
    other.spawn()
    _, buffers, _ = record_buffers(RecordHead(BASE, 0, 0, 0.0, 0), [other.to_bytes()])
    with pytest.raises(CorruptedDataError, match="expected save"):
        LogStream(io.BytesIO(head + b"".join(buffers))).world()


def test_a_log_without_a_save_is_sent_without_one(tmp_path, story):
    pipe = io.BytesIO()
    with DeltaLog.open(tmp_path / "a.log") as log:
        log.append(story.changes[-2])
        assert log.send(pipe) == 1
    pipe.seek(0)
    stream = LogStream(pipe)
    assert len(stream.world()) == 0
    assert [changes.sequence for changes in stream] == [1]


def test_what_is_no_stream_is_told(sent, story):
    data, _ = sent
    for bad in (None, 5, "text"):
        with pytest.raises(PersistenceIOError):
            LogStream(bad)
    with pytest.raises(InvalidFormatError, match="open the file with 'rb'"):
        LogStream(io.StringIO("text"))
    with pytest.raises(LimitExceededError, match="in a record"):
        LogStream(io.BytesIO(data), limits=Limits(total_size=100))
    huge = RecordHead(BASE, 1 << 39, 0, 0.0, 0).pack()
    with pytest.raises(CorruptedDataError, match="the stream was cut short"):
        LogStream(io.BytesIO(data[:START_SIZE] + huge + b"x"))


class Full:
    def write(self, data):
        raise OSError(28, "no room")


def test_a_writer_that_fails_leaves_the_log_as_it_is(tmp_path, story):
    with DeltaLog.open(tmp_path / "a.log", world=story.world()) as log:
        with pytest.raises(PersistenceIOError, match="no room"):
            log.send(Full())
        assert log.append(story.changes[0]) == 1


def test_one_process_follows_another_through_a_socket(tmp_path, story):
    ours, theirs = socket.socketpair()
    states = []

    def read():
        with theirs.makefile("rb") as reader:
            states.extend(followed(LogStream(reader)))

    thread = threading.Thread(target=read)
    thread.start()
    with DeltaLog.open(tmp_path / "a.log", world=story.world()) as log, ours, ours.makefile("wb") as writer:
        number = log.send(writer)
        for changes in story.changes:
            log.append(changes)
            number = log.send(writer, since=number)
            writer.flush()
    thread.join(60)
    theirs.close()
    assert states == story.states


def test_a_pipe_of_bare_descriptors_serves(tmp_path, story):
    reading, writing = os.pipe()
    with (
        DeltaLog.open(tmp_path / "a.log", world=story.world()) as log,
        open(writing, "wb", buffering=0) as pipe,
    ):
        log.append(story.changes[0])
        log.send(pipe)
    with open(reading, "rb", buffering=0) as pipe:
        assert followed(LogStream(pipe)) == story.states[:2]

"""The bytes of a log, written down here once more."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from pecs_np import (
    ChangeSet,
    CorruptedDataError,
    DeltaLog,
    InvalidFormatError,
    UnsupportedVersionError,
    World,
)
from pecs_np.persistence.binary.delta_reader import decode_delta
from pecs_np.persistence.checksum import crc64_we
from pecs_np.persistence.log.framing import (
    DELTA,
    HEAD_SIZE,
    NOTHING,
    START_SIZE,
    LogStart,
    RecordHead,
    _stored,
    record_buffers,
    record_sum,
)


def summed(data):
    return data + struct.pack("<Q", crc64_we(data) or 1)


def head_of(kind=NOTHING, flags=0, length=0, sequence=1, time=0.0, previous=0, magic=b"PREC"):
    return summed(struct.pack("<4sHHQQdQ", magic, kind, flags, length, sequence, time, previous))


def start_of(version=1, flags=0, sequence=0, previous=0, time=0.0, base_id=bytes(16)):
    return summed(struct.pack("<8sIIQQd16s", b"PECSLOG\0", version, flags, sequence, previous, time, base_id))


def test_a_log_is_these_bytes(tmp_path):
    world = World(seed=1)
    tracked = ChangeSet(despawned=np.array([(5, 0)], [("lo", "<u8"), ("hi", "<u8")]), timestamp=2.5)
    with DeltaLog.open(tmp_path / "a.log", world=world) as log:
        log.append(ChangeSet(timestamp=1.5))
        log.append(tracked)
    data = (tmp_path / "a.log").read_bytes()
    save = (tmp_path / "a.log.0.pecs").read_bytes()
    save_id = save[96:112]
    assert data[:64] == start_of(base_id=save_id)
    first = head_of(NOTHING, length=0, sequence=1, time=1.5)
    first_sum = struct.pack("<Q", crc64_we(first[:40]))
    assert data[64:120] == first + first_sum
    length = int.from_bytes(data[128:136], "little")
    (previous,) = struct.unpack("<Q", first_sum)
    second = head_of(DELTA, length=length, sequence=2, time=2.5, previous=previous)
    payload = data[168 : 168 + length]
    assert data[120:168] == second
    assert data[168 + length :] == struct.pack("<Q", crc64_we(second[:40] + payload))
    assert decode_delta(payload).changes.despawned.tolist() == [(5, 0)]


def test_the_head_of_a_log_is_read_as_it_was_written():
    start = LogStart(7, 1 << 63, -2.5, bytes(range(16)))
    assert start.pack() == start_of(1, 0, 7, 1 << 63, -2.5, bytes(range(16)))
    assert LogStart.unpack(start.pack() + b"more", "x") == start
    assert (start.has_base, LogStart().has_base) == (True, False)
    assert len(start.pack()) == START_SIZE


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", InvalidFormatError, "expected a log of changes, found b'' at byte 0 of x"),
        (start_of()[:-1], InvalidFormatError, "expected a log"),
        (b"PECS" + bytes(60), InvalidFormatError, "expected a log"),
        (start_of()[:-1] + b"\x01", CorruptedDataError, "of the head, found 0x01"),
        (
            start_of(version=2),
            UnsupportedVersionError,
            "expected version 1 of the log of changes x, found version 2",
        ),
        (start_of(flags=1), InvalidFormatError, "expected no flags"),
        (start_of(time=float("nan")), InvalidFormatError, "expected no flags and a time"),
    ],
)
def test_what_is_no_head_of_a_log_is_refused(data, error, message):
    with pytest.raises(error, match=message):
        LogStart.unpack(data, "x")


def test_the_head_of_a_record_is_read_as_it_was_written():
    head = RecordHead(DELTA, 1 << 40, 9, 1.25, 77)
    assert head.pack() == head_of(DELTA, 0, 1 << 40, 9, 1.25, 77)
    assert RecordHead.unpack(head.pack(), "here") == head
    assert head.size == HEAD_SIZE + (1 << 40) + 8
    assert RecordHead.unpack(head.pack()[:-1] + b"\0", "here") is None
    skippable = head_of(0x8009)
    assert RecordHead.unpack(skippable, "here").kind == 0x8009


@pytest.mark.parametrize(
    "data", [head_of(9), head_of(0), head_of(flags=1), head_of(magic=b"XREC"), head_of(time=float("inf"))]
)
def test_records_of_unknown_kinds_are_refused(data):
    with pytest.raises(
        InvalidFormatError, match=r"expected a record of a known type without flags, found .* here"
    ):
        RecordHead.unpack(data, "here")


def test_a_record_is_few_buffers_and_large_ones_are_not_copied():
    large = np.arange(100_000, dtype=np.uint64)
    parts = [b"head", b"", large, bytearray(b"tail")]
    head, buffers, total = record_buffers(RecordHead(DELTA, 0, 1, 0.0, 0), parts)
    assert head.length == 8 + large.nbytes
    assert [len(buffer) for buffer in buffers] == [HEAD_SIZE + 4, large.nbytes, 4 + 8]
    assert np.shares_memory(np.asarray(buffers[1]), large)
    data = b"".join(buffers)
    assert data[:HEAD_SIZE] == head.pack()
    assert data[-8:] == total.to_bytes(8, "little")
    assert total == record_sum(head, parts) == crc64_we(data[:40] + data[HEAD_SIZE:-8])


def test_no_sum_is_zero():
    """Zeros are what a system that lost power leaves for what it had not written."""
    assert (_stored(0), _stored(1), _stored(7)) == (1, 1, 7)

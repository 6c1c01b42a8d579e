"""What a reader refuses because it asks for too much."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tracemalloc
from dataclasses import FrozenInstanceError, asdict, fields, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

import pecs_np
from pecs_np import (
    BinaryPlugin,
    JsonPlugin,
    KeyValueEntityPlugin,
    LimitExceededError,
    Limits,
    PecsError,
    PersistenceError,
    World,
    component,
)
from pecs_np.persistence import pack, unpack

ROOT = Path(pecs_np.__file__).parents[1]


@component
class LimitedPoint:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component
class LimitedNumber:
    value: np.int64 = 0


@pytest.fixture(scope="module")
def saved():
    world = World(seed=3)
    world.spawn_batch(LimitedPoint(x=[1, 2, 3]))
    world.spawn()
    return world.to_bytes()


def exact_limits(reference, data):
    """The least that a save needs of each limit."""
    save = reference.read(data)
    first = int.from_bytes(data[data.index(b"PCOL") + 64 + 24 :][:8], "little")
    return Limits(
        head_size=first,
        types=1,
        sections=len(save.parts),
        schema_size=len(save.schema_text),
        itemsize=8,
        total_size=sum(part.raw_size for part in save.parts),
    )


def test_a_save_that_needs_exactly_what_is_allowed_loads(reference, saved):
    snapshot = BinaryPlugin(limits=exact_limits(reference, saved)).decode(saved)
    assert snapshot.entity_count == 4


@pytest.mark.parametrize("name", ["head_size", "types", "sections", "schema_size", "itemsize", "total_size"])
def test_one_less_than_needed_is_refused(reference, saved, name):
    limits = exact_limits(reference, saved)
    limits = replace(limits, **{name: getattr(limits, name) - 1})
    with pytest.raises(LimitExceededError):
        BinaryPlugin(limits=limits).decode(saved)


def test_ids_that_unpack_to_far_more_than_the_file_are_refused(reference):
    rows = (1 << 30) + 1
    data = reference.make([], [{"runs": [(1, rows)]}]).to_bytes()
    with pytest.raises(LimitExceededError, match="1000 times"):
        World.from_bytes(data)
    assert BinaryPlugin(limits=Limits(ratio=10**8)).decode(data).entity_count == rows


def test_rows_beyond_any_memory_are_refused_before_anything_is_allocated(reference):
    data = reference.make([], [{"runs": [(1, (1 << 60) - 1)]}]).to_bytes()
    with pytest.raises(LimitExceededError):
        BinaryPlugin(limits=Limits(ratio=1 << 60)).decode(data)


def test_a_save_larger_than_the_ratio_alone_would_allow_is_no_trouble_below_a_gibibyte(reference):
    data = reference.make([], [{"runs": [(1, 1 << 20)]}]).to_bytes()
    assert len(World.from_bytes(data)) == 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory that the system keeps to")
@pytest.mark.parametrize("form", ["many runs", "a run and an id", "a run and a reference"])
def test_a_small_file_that_promises_a_thousand_million_ids_does_not_eat_all_memory(reference, form):
    save = {
        "many runs": lambda: reference.make([], [{"runs": [(1 + (i << 40), 10**7) for i in range(100)]}]),
        "a run and an id": lambda: reference.make(
            [("LimitedForeign", 1, [])],
            [{"runs": [(9, 10**9)]}, {"ids": [5, 1, 7], "columns": {"LimitedForeign": b""}}],
        ),
        "a run and a reference": lambda: reference.make(
            [("LimitedForeign", 1, [{"name": "to", "ref": True}])],
            [{"runs": [(9, 10**9)]}, {"ids": [5], "columns": {"LimitedForeign": b"\x09" + bytes(15)}}],
        ),
    }[form]()
    data = save.to_bytes()
    assert len(data) < 4000
    code = """
import resource, sys
import pecs_np
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
try:
    pecs_np.World.from_bytes(sys.stdin.buffer.read())
except pecs_np.PecsError:
    pass
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=data, capture_output=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-300:]


def test_default_limits_hold_for_plugins_and_never_change():
    assert BinaryPlugin().limits == Limits()
    assert all(value > 0 for value in asdict(Limits()).values())
    with pytest.raises(FrozenInstanceError):
        Limits().types = 3


# One less than needed, of each limit, however the save is read.


def through_bytes(data, path, limits):
    return BinaryPlugin(limits=limits).decode(data).entity_count


def through_a_file(data, path, limits):
    path.write_bytes(data)
    return len(World.load_with(path, BinaryPlugin(limits=limits)))


def through_a_stream(data, path, limits):
    return BinaryPlugin(limits=limits).decode_stream(io.BytesIO(data), to_end=False).entity_count


def through_a_pipe(data, path, limits):
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as reader, open(writing, "wb", buffering=0) as writer:
        assert writer.write(data) == len(data) < 1 << 16
        writer.close()
        return len(BinaryPlugin(limits=limits).load(reader))


def through_open(data, path, limits, *, mmap=False):
    path.write_bytes(data)
    with pecs_np.open(path, limits=limits, mmap=mmap) as save:
        save.verify()
        return save.snapshot().entity_count


def through_open_mapped(data, path, limits):
    return through_open(data, path, limits, mmap=True)


WAYS = [through_bytes, through_a_file, through_a_stream, through_a_pipe, through_open, through_open_mapped]
ways = pytest.mark.parametrize("way", WAYS)


def limited_world():
    world = World(seed=3)
    world.spawn_batch(LimitedPoint(x=np.zeros(3000)), LimitedNumber(5))
    world.spawn_batch(LimitedNumber(value=np.zeros(500, np.int64)))
    world.spawn()
    return world


def needed(reference, data):
    """The least of each limit that a save of columns needs, but for ratio and free size."""
    head = data.index(b"PCOL")
    _, _, _, _, _, count, schema_size, _, _ = reference.EXTENSION.unpack_from(data, head)
    end = head + 64 + 64 * count + schema_size + 8
    entries = [reference.ENTRY.unpack_from(data, head + 64 + 64 * i) for i in range(count)]
    return Limits(
        head_size=end + reference.padding(end),
        types=2,
        sections=count,
        name_length=len("LimitedNumber"),
        schema_size=schema_size,
        itemsize=8,
        total_size=sum(entry[8] for entry in entries),
    )


COLUMN_LIMITS = ["head_size", "types", "sections", "name_length", "schema_size", "itemsize", "total_size"]


@ways
@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_each_limit_is_kept_to_the_byte_by_all_ways_of_reading_columns(reference, tmp_path, way, compression):
    data = limited_world().to_bytes(BinaryPlugin(compression=compression))
    limits = needed(reference, data)
    assert way(data, tmp_path / "a", limits) == 3501
    for name in COLUMN_LIMITS:
        less = replace(limits, **{name: getattr(limits, name) - 1})
        with pytest.raises(LimitExceededError, match="pass larger Limits"):
            way(data, tmp_path / "a", less)
        only = replace(Limits(), **{name: getattr(limits, name) - 1})
        with pytest.raises(LimitExceededError):
            way(data, tmp_path / "a", only)


@ways
def test_each_limit_is_kept_to_the_byte_by_all_ways_of_reading_version_1(tmp_path, way):
    world = World()
    world.spawn_batch(LimitedPoint(x=[1, 2, 3]), LimitedNumber(5))
    world.spawn_batch(LimitedNumber(value=[1, 2]))
    world.spawn()
    data = world.to_bytes(BinaryPlugin(version=1))
    head = 24 + sum(24 + len(name) for name in ("LimitedPoint", "LimitedNumber"))
    limits = Limits(head_size=head, types=2, sections=6, name_length=13, total_size=len(data))
    assert way(data, tmp_path / "a", limits) == 6
    for name in ("head_size", "types", "sections", "name_length", "total_size"):
        less = replace(limits, **{name: getattr(limits, name) - 1})
        with pytest.raises(LimitExceededError, match="pass larger Limits"):
            way(data, tmp_path / "a", less)


def test_the_bytes_of_a_row_are_limited_in_version_1_too(tmp_path):
    world = World()
    world.spawn_batch(LimitedPoint(x=[1, 2, 3]))
    data = world.to_bytes(BinaryPlugin(version=1))
    for way in WAYS:
        assert way(data, tmp_path / "a", Limits(itemsize=8)) == 3
        with pytest.raises(LimitExceededError):
            way(data, tmp_path / "a", Limits(itemsize=7))


@ways
def test_how_much_more_than_the_file_is_unpacked_is_limited(reference, tmp_path, way):
    data = limited_world().to_bytes(BinaryPlugin(compression="zstd"))
    head = data.index(b"PCOL") + 64
    count = int.from_bytes(data[head - 64 + 24 :][:4], "little")
    entries = [reference.ENTRY.unpack_from(data, head + 64 * i) for i in range(count)]
    # Stable ids that stay packed are counted apart.
    kept = sum(entry[8] for entry in entries if entry[1] == 3)
    total = sum(entry[8] for entry in entries if entry[1] != 3)
    assert (kept, total) == (16 * 3501, 3000 * 16 + 500 * 8)
    ratio = -(-max(kept, total) // len(data))
    assert ratio > 10
    assert way(data, tmp_path / "a", Limits(ratio=ratio, free_size=0)) == 3501
    with pytest.raises(LimitExceededError, match=rf"\({ratio - 1} times the file\)"):
        way(data, tmp_path / "a", Limits(ratio=ratio - 1, free_size=0))
    assert way(data, tmp_path / "a", Limits(ratio=0, free_size=total)) == 3501
    with pytest.raises(LimitExceededError):
        way(data, tmp_path / "a", Limits(ratio=0, free_size=total - 1))


@ways
def test_ids_that_stay_packed_may_be_sixteen_times_the_free_size(reference, tmp_path, way):
    data = reference.make([], [{"runs": [(1, 1600)]}]).to_bytes()
    assert way(data, tmp_path / "a", Limits(ratio=0, free_size=1600)) == 1600
    with pytest.raises(LimitExceededError):
        way(data, tmp_path / "a", Limits(ratio=0, free_size=1599))
    # Ids of many runs are unpacked, and count as all else does.
    many = reference.make([], [{"runs": [(1 + 100 * i, 16) for i in range(100)]}]).to_bytes()
    assert way(many, tmp_path / "a", Limits(ratio=0, free_size=16 * 1600)) == 1600
    with pytest.raises(LimitExceededError):
        way(many, tmp_path / "a", Limits(ratio=0, free_size=16 * 1600 - 1))


@ways
def test_limits_of_nothing_refuse_everything_but_an_empty_save(tmp_path, way):
    nothing = Limits(types=0, sections=0, name_length=0, itemsize=0, total_size=0, ratio=0, free_size=0)
    assert way(World().to_bytes(), tmp_path / "a", nothing) == 0
    for plugin in (BinaryPlugin(), BinaryPlugin(version=1)):
        with pytest.raises(LimitExceededError):
            way(limited_world().to_bytes(plugin)[: 1 << 15], tmp_path / "a", nothing)
        with pytest.raises(LimitExceededError):
            way(World().to_bytes(plugin), tmp_path / "a", replace(nothing, head_size=0))


# `Limits.strict`: what the default takes and strangers may not ask for.


def of_many_types(define):
    world = World()
    for start in range(0, 1025, 41):
        world.spawn(*[define(f"LimitedMany{i}", {})() for i in range(start, start + 41)])
    return world.to_bytes()


def of_many_sections(define):
    types = [define(f"LimitedMany{i}", {}) for i in range(1000)]
    world = World()
    for i in range(9):
        world.spawn(*[cls() for cls in types[i:]])
    return world.to_bytes()


def of_a_long_name(define):
    world = World()
    world.spawn(define("L" * 257, {"x": np.int8})(1))
    return world.to_bytes()


def of_a_large_schema(define):
    return World(metadata={"text": "x" * (1 << 18)}).to_bytes()


def of_large_rows(define):
    world = World()
    world.spawn(define("LimitedWide", {"x": Annotated[np.uint8, (1 << 16) + 1]})(0))
    return world.to_bytes()


def of_a_large_total(define):
    world = World()
    world.spawn_batch(count=(1 << 24) + 1)
    return world.to_bytes()


def of_well_packed_columns(define):
    world = World()
    world.spawn_batch(LimitedNumber(value=np.zeros((1 << 21) + 1, np.int64)))
    return world.to_bytes(BinaryPlugin(compression="zstd"))


STRICT = {
    "types": (of_many_types, "expected at most 1024 types, found 1025"),
    "sections": (of_many_sections, "expected at most 8192 sections"),
    "name_length": (of_a_long_name, "expected at most 256 bytes of a type's name, found 257"),
    "schema_size": (of_a_large_schema, "expected at most 262144 bytes of schema"),
    "itemsize": (of_large_rows, "expected at most 65536 bytes a row"),
    "total_size": (of_a_large_total, "expected at most 268435456 bytes in all sections"),
    "ratio and free_size": (of_well_packed_columns, r"16777216 \(100 times the file\) unpacked"),
}


@pytest.mark.parametrize("name", STRICT)
def test_strict_limits_refuse_what_a_stranger_may_not_ask_for(define, tmp_path, name):
    make, message = STRICT[name]
    data = make(define)
    assert BinaryPlugin().decode(data).entity_count >= 0
    for way in WAYS:
        if way is not through_a_pipe or len(data) < 1 << 16:
            with pytest.raises(LimitExceededError, match=message):
                way(data, tmp_path / "a", Limits.strict())


def test_the_strict_limit_of_the_head_holds_where_that_of_the_schema_is_raised(tmp_path):
    data = World(metadata={"text": "x" * (1 << 20)}).to_bytes()
    limits = replace(Limits.strict(), schema_size=Limits().schema_size)
    for way in (through_bytes, through_a_file, through_a_stream, through_open):
        with pytest.raises(LimitExceededError, match="expected at most 1048576 bytes of head"):
            way(data, tmp_path / "a", limits)
        assert way(data, tmp_path / "a", replace(limits, head_size=1 << 21)) == 0


def test_strict_limits_take_what_is_usual(tmp_path):
    world = limited_world()
    for plugin in (BinaryPlugin(), BinaryPlugin(compression="zstd"), BinaryPlugin(version=1)):
        data = world.to_bytes(plugin)
        for way in WAYS:
            if way is not through_a_pipe or len(data) < 1 << 16:
                assert way(data, tmp_path / "a", Limits.strict()) == 3501


def test_strict_limits_are_nowhere_wider_than_the_default():
    strict, default = asdict(Limits.strict()), asdict(Limits())
    assert strict.keys() == default.keys()
    assert all(strict[name] < default[name] for name in strict)

    class LimitedMore(Limits):
        pass

    assert type(LimitedMore.strict()) is LimitedMore


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_limits_are_numbers_from_0(name):
    assert getattr(Limits(**{name: 0}), name) == 0
    assert getattr(Limits(**{name: 1 << 100}), name) == 1 << 100
    for wrong in (-1, 1.0, True, None, "1", np.int64(1), [1]):
        with pytest.raises(PersistenceError, match=f"expected a number from 0 for {name}, found"):
            Limits(**{name: wrong})


# Streams say how long they are, and need not be.


class LimitedReader:
    """A reader of some bytes and then of zeros, which counts what it gave."""

    def __init__(self, data, zeros):
        self.file, self.zeros, self.given = io.BytesIO(data), zeros, 0

    def read(self, size=-1):
        part = self.file.read(size)
        if not part:
            part = bytes(min(size, self.zeros))
            self.zeros -= len(part)
        self.given += len(part)
        return part


def peak_of(call):
    """Return the most memory that *call* took, which is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(PecsError):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_stream_of_version_1_that_does_not_end_is_refused_at_the_limit():
    data = limited_world().to_bytes(BinaryPlugin(version=1))
    reader = LimitedReader(data[:-8], 64 << 20)
    plugin = BinaryPlugin(limits=Limits(total_size=1 << 20))
    with pytest.raises(LimitExceededError, match="expected at most 1048576 bytes"):
        plugin.decode_stream(reader)
    assert reader.given < 4 << 20


def test_a_file_of_version_1_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(limited_world().to_bytes(BinaryPlugin(version=1)))
    os.truncate(path, 64 << 20)
    limits = Limits(total_size=1 << 20)
    assert peak_of(lambda: BinaryPlugin(limits=limits).decode_file(path)) < 8 << 20
    with pecs_np.open(path, limits=limits) as save:
        assert peak_of(save.verify) < 8 << 20


def boasting_stream(reference, size, promised):
    """A few kilobytes that unpack to *size*, and the promise of *promised* bytes that do not come."""
    zstd = pytest.importorskip("backports.zstd" if sys.version_info < (3, 14) else "compression.zstd")
    chunk = 1 << 20
    frame = zstd.compress(bytes(chunk))
    count = size // chunk
    stored = struct.pack(f"<{2 + count}I", chunk, count, *[len(frame)] * count) + frame * count
    save = reference.make(
        [("LimitedBomb", 1, [{"name": "x", "dtype": "|u1"}])],
        [{"runs": [(1, size)], "columns": {"LimitedBomb": b""}}],
    )
    column = save.part(2, 0, "LimitedBomb")
    column.codec, column.rows, column.raw_size, column.data = 1, size, size, stored
    save.flags |= 1
    save.parts.append(reference.Part(0x8000, 0, 0, 0, 0, 0, 0, b""))
    save.entries = {2: {"stored_size": promised}}
    data = bytearray(save.to_bytes())
    at = data.index(b"PCOL")
    _, _, _, _, file_size, sections, schema_size, _, _ = reference.EXTENSION.unpack_from(data, at)
    struct.pack_into("<Q", data, at + 16, file_size + promised)
    crc_at = at + 64 + 64 * sections + schema_size
    struct.pack_into("<Q", data, crc_at, reference.crc(data[:crc_at]))
    return bytes(data)


def test_a_stream_does_not_unpack_more_by_promising_more(reference):
    """The ratio is to the bytes that came, not to those that the head says will come."""
    data = boasting_stream(reference, 64 << 20, 1 << 30)
    assert len(data) < 10_000
    plugin = BinaryPlugin(limits=Limits(ratio=100, free_size=1 << 20))
    assert peak_of(lambda: plugin.decode_stream(io.BytesIO(data))) < 8 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory that the system keeps to")
def test_a_stream_that_promises_more_than_there_is_memory_is_an_error_of_the_library(reference):
    save = reference.make(
        [("LimitedBomb", 1, [{"name": "x", "dtype": "<f8"}])],
        [{"runs": [(1, 1 << 31)], "columns": {"LimitedBomb": b""}}],
    )
    size = 1 << 34
    column = save.part(2, 0, "LimitedBomb")
    column.rows, column.raw_size = 1 << 31, size
    save.entries = {1: {"stored_size": size}}
    data = bytearray(save.to_bytes())
    at = data.index(b"PCOL")
    _, _, _, _, file_size, sections, schema_size, _, _ = reference.EXTENSION.unpack_from(data, at)
    struct.pack_into("<Q", data, at + 16, file_size + size)
    crc_at = at + 64 + 64 * sections + schema_size
    struct.pack_into("<Q", data, crc_at, reference.crc(data[:crc_at]))
    code = """
import resource, sys
import pecs_np
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
try:
    pecs_np.World.load_binary_stream(sys.stdin.buffer)
except pecs_np.LimitExceededError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=bytes(data), capture_output=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-300:]
    assert b"expected memory for <stdin>, found too little" in done.stdout


@pytest.mark.parametrize("wrong", [0, -1, "strict", Limits, {}, np.array([1, 2])])
def test_what_are_no_limits_is_refused_wherever_some_are_taken(wrong):
    document, buffers = pack(World().snapshot())
    for call in (
        Limits.of,
        lambda limits: BinaryPlugin(limits=limits),
        lambda limits: JsonPlugin(limits=limits),
        lambda limits: KeyValueEntityPlugin(limits=limits),
        lambda limits: unpack(document, buffers, "a save", limits),
    ):
        with pytest.raises(PersistenceError, match="expected Limits"):
            call(wrong)
    assert Limits.of(None) == Limits()
    assert Limits.of(Limits.strict()) == Limits.strict()

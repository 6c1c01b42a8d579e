"""Saves changed under right sums: an error of the library or a sound world, in bounded time and memory.

The cases are read in processes of their own, because a crash, a hang or a lack of memory must not take
the tests along; `damage` makes and judges them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import struct
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import pecs_np
from pecs_np import BinaryPlugin, Limits, PecsError, PluginNotFoundError, World
from pecs_np.persistence.compression import in_order
from pecs_np.testing import assert_worlds_equal


def _load_damage():
    if "pecs_damage" not in sys.modules:
        spec = importlib.util.spec_from_file_location("pecs_damage", Path(__file__).with_name("damage.py"))
        sys.modules["pecs_damage"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["pecs_damage"]


damage = _load_damage()
RUNS = [(name, types) for name in damage.SAVES for types in ("known", "foreign")]
MIB = 1 << 20


@pytest.fixture(scope="module")
def results(request):
    """The results of all runs, worked out two at a time; their counts are printed at the end."""
    with ThreadPoolExecutor(2) as pool:
        futures = {run: pool.submit(damage.child, "all", *run) for run in RUNS if _can_be_made(run[0])}
        yield futures
    counts = {}
    for future in futures.values():
        code, lines, _ = future.result()
        for what, count in json.loads(lines[-1])["counts"].items() if code == 0 else ():
            counts[what] = counts.get(what, 0) + count
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.ensure_newline()
        told = "; ".join(f"{what} {count:,}" for what, count in sorted(counts.items()))
        reporter.write_line(f"{Path(__file__).name}: {told}")


def _can_be_made(name):
    try:
        damage.save_of(name)
    except PluginNotFoundError:
        return False
    return True


@pytest.fixture(params=RUNS, ids="-".join)
def result(request, results):
    """What a run found: saves by what became of them, and faults by kind."""
    if request.param not in results:
        pytest.skip("the codec is missing here")
    code, lines, errors = results[request.param].result()
    assert code == 0, f"the process died of {code} at {lines[-1:]}: {errors[-1000:]}"
    return json.loads(lines[-1])


def test_hostile_saves_give_errors_of_the_library_or_worlds(result):
    assert result["faults"]["escaped"] == []
    counts = result["counts"]
    assert counts["cases"] > 300
    for kind in ("default", "strict"):
        assert counts[f"{kind}: refused"] > 0
        assert counts[f"{kind}: loaded"] > 0


def test_worlds_of_hostile_saves_are_the_original_or_sound(result):
    assert result["faults"]["unequal"] == []
    assert result["counts"]["equal"] + result["counts"]["other worlds"] > 0


def test_every_way_of_reading_a_hostile_save_agrees(result):
    assert result["faults"]["disagreeing"] == []


# --- what needs more than one number to be wrong ----------------------------------------------------


@pytest.fixture
def target(tmp_path):
    return tmp_path / "hostile.pecs"


def foreign(types, tables, world=None):
    """Return a save, in pieces, of types and tables as the schema has them, with sections as they come.

    *tables* are (rows, runs of ids, [(type, kind, field, rows, raw size, codec, bytes)]).
    """
    registry = b""
    for entry in types:
        name = entry["name"].encode()
        key = damage.hashlib.blake2b(name, digest_size=16).digest()
        registry += key + struct.pack("<I", len(name)) + name + struct.pack("<I", entry["version"])
    entries, sections, announced, flags = [], [], [], 8
    for number, (rows, runs, parts) in enumerate(tables):
        ids = b"".join(first.to_bytes(16, "little") + struct.pack("<Q", count) for first, count in runs)
        parts = [(damage.NONE, damage.IDS, damage.NONE, rows, 16 * rows, damage.RUNS, ids), *parts]
        for type_, kind, field, count, raw_size, codec, data in parts:
            entries.append([kind, codec, number, type_, field, count, 0, 0, raw_size, 0, 0])
            sections.append(data)
            flags |= codec & 0xFF if codec & 0xFF in (1, 2) else 0
        indices = sorted({part[0] for part in parts} - {damage.NONE})
        announced.append({"rows": rows, "types": indices, "role": "state"})
    document = {"writer": "x", "world": world or {}, "types": types, "tables": announced}
    header = [b"PECS", 2, flags, sum(table[0] for table in tables), len(types)]
    extension = [b"PCOL", 0, 0, 0, 0, 0, 0, bytes(16), bytes(16)]
    schema = json.dumps(document, separators=(",", ":")).encode()
    return damage.Pieces(header, registry, extension, entries, schema, sections)


def zstd_zeros(size):
    """Return *size* zero bytes as a compressed section."""
    try:
        from compression import zstd
    except ImportError:
        zstd = pytest.importorskip("backports.zstd")
    chunk = 1 << 20
    whole, rest = divmod(size, chunk)
    frames = [zstd.compress(bytes(chunk))] * whole + [zstd.compress(bytes(rest))] * (rest > 0)
    table = struct.pack(f"<II{len(frames)}I", chunk, len(frames), *map(len, frames))
    return table + b"".join(frames)


def test_a_foreign_save_of_these_tests_is_sound():
    spot = {"name": "HostileFieldsSpot", "version": 3, "fields": [{"name": "x", "dtype": "<u2"}]}
    part = (0, damage.COLUMN, damage.NONE, 2, 4, damage.RAW, b"\1\0\2\0")
    world = World.from_bytes(foreign([spot], [(2, [(7, 2)], [part])]).join())
    assert world.column("HostileFieldsSpot")["x"].tolist() == [1, 2]
    assert world.validate()


@pytest.mark.parametrize("change", [("version", 2), ("version", -1), ("version", 2**32), ("name", "Other"), ("name", "\0"), ("name", ""), ("name", "DamageTag"), ("name", "DamageSpot")])  # fmt: skip
def test_a_schema_of_other_types_than_the_registry_is_refused_by_opened_saves_too(target, change):
    _, data = damage.save_of("raw")
    pieces = damage.Pieces.of(data)
    document = json.loads(pieces.schema)
    document["types"][0][change[0]] = change[1]
    pieces.schema = json.dumps(document).encode()
    target.write_bytes(pieces.join())
    with pytest.raises(pecs_np.InvalidFormatError, match="registry"):
        World.load(target)
    with pytest.raises(PecsError), pecs_np.open(target) as save:
        save.verify()
    with pytest.raises(PecsError), pecs_np.open(target) as save:
        save.snapshot()


@pytest.mark.parametrize("name", ["", "a\0", "é" * 513])
def test_a_generator_without_a_proper_name_is_refused_while_reading(target, name):
    _, data = damage.save_of("extras")
    pieces = damage.Pieces.of(data)
    document = json.loads(pieces.schema)
    document["world"]["rng"][name] = document["world"]["rng"].pop("dice")
    pieces.schema = json.dumps(document).encode()
    target.write_bytes(pieces.join())
    with pytest.raises(pecs_np.InvalidFormatError):
        World.load(target)
    with pytest.raises(pecs_np.InvalidFormatError), pecs_np.open(target) as save:
        save.verify()


def test_metadata_are_read_in_a_time_that_grows_with_them():
    # A long key over a long list: the place of each of its members must not be spelt out.
    count = 1 << 21
    world = {"metadata": {"k" * count: [0] * count}}
    outcome, _ = damage.bounded(foreign([], [], world).join(), seconds=8)
    assert outcome == "loaded"


def test_sections_that_a_schema_promises_are_not_listed_before_they_are_counted():
    # Thousands of small tables of a type of thousands of fields, and not one section.
    fields = [{"name": f"{i:x}", "variable": "str"} for i in range(3000)]
    types = [{"name": "HostileFieldWide", "version": 1, "fields": fields}]
    types += [{"name": f"HostileFields{i:02}", "version": 1, "fields": []} for i in range(80)]
    pieces = foreign(types, [])
    document = json.loads(pieces.schema)
    pairs = [[0, i, j] for i in range(1, 80) for j in range(i + 1, 80)][:2000]
    document["tables"] = [{"rows": 1, "types": pair, "role": "state"} for pair in pairs]
    pieces.header[3] = len(pairs)
    pieces.schema = json.dumps(document, separators=(",", ":")).encode()
    data = pieces.join()
    assert len(data) < Limits.strict().schema_size
    outcome, peak = damage.bounded(data, limits="strict")
    assert outcome.startswith("refused: ")
    assert "section" in outcome
    assert peak < 64 * MIB


def test_references_are_found_in_a_time_that_grows_with_the_save():
    # Tables of many runs, each with a high half of its own, and as many tables that refer to something.
    count, runs = 150, 64
    types = [{"name": f"HostileFieldsA{i:03}", "version": 1, "fields": []} for i in range(count)]
    types += [
        {"name": f"HostileFieldsB{i:03}", "version": 1, "fields": [{"name": "to", "ref": True}]}
        for i in range(count)
    ]
    none = damage.NONE
    tables = []
    for i in range(count):
        ids = [((1 + runs * i + k << 64) + 5, 257) for k in range(runs)]
        tables.append((257 * runs, ids, [(i, damage.COLUMN, none, 257 * runs, 0, damage.RAW, b"")]))
    for i in range(count, 2 * count):
        part = (i, damage.COLUMN, none, 1, 16, damage.RAW, (1 << 64 | 5).to_bytes(16, "little"))
        tables.append((1, [(2**100 + i, 1)], [part]))
    outcome, _ = damage.bounded(foreign(types, tables).join(), limits="strict", seconds=6)
    assert outcome == "loaded"


@pytest.mark.parametrize("variable", ["list", "str"])
def test_rows_of_variable_length_count_as_what_they_become(variable):
    # Each empty list of two million would be an array of its own; empty texts are all the same one.
    count = Limits.strict().free_size // 8 - 1
    field = {"name": "v", "variable": variable} | ({"dtype": "|u1"} if variable == "list" else {})
    parts = [
        (0, damage.COLUMN, damage.NONE, count, 0, damage.RAW, b""),
        (0, damage.OFFSETS, 0, count, 8 * count + 8, damage.ZSTD, zstd_zeros(8 * count + 8)),
        (0, damage.VALUES, 0, 0, 0, damage.RAW, b""),
    ]
    types = [{"name": "HostileFieldsLists", "version": 1, "fields": [field]}]
    data = foreign(types, [(count, [(1, count)], parts)]).join()
    assert len(data) < 5000
    outcome, peak = damage.bounded(data, limits="strict")
    assert outcome == "loaded" or outcome.startswith("refused: LimitExceededError")
    assert peak < 8 * Limits.strict().free_size


@pytest.mark.parametrize("way", ["columns", "verify", "open", "bytes", "stream", "file", "mmap"])
def test_a_lack_of_memory_is_an_error_of_the_library_however_a_save_is_read(way):
    size = 512 * MIB
    types = [{"name": "HostileFieldsLarge", "version": 1, "fields": [{"name": "x", "dtype": "<u8"}]}]
    part = (0, damage.COLUMN, damage.NONE, size // 8, size, damage.ZSTD, zstd_zeros(size))
    data = foreign(types, [(size // 8, [(1, size // 8)], [part])]).join()
    outcome, _ = damage.bounded(data, way, memory=256 * MIB)
    assert outcome.startswith("refused: LimitExceededError: expected memory") or outcome == "loaded"


def test_a_lack_of_memory_for_metadata_is_an_error_of_the_library():
    # Of three bytes each: in memory twenty times as large, and copied for the world.
    pieces = foreign([], [], {"metadata": {"a": []}})
    pieces.schema = pieces.schema.replace(b"[]", b"[" + b",".join([b"{}"] * 500_000) + b"]", 1)
    outcome, _ = damage.bounded(pieces.join(), memory=130 * MIB)
    assert outcome.startswith("refused: LimitExceededError: expected memory") or outcome == "loaded"


@pytest.mark.parametrize("options", [{}, {"version": 1}, {"compression": "zstd"}, {"compression": "lz4"}])
def test_a_system_without_another_thread_reads_or_gives_an_error_of_the_library(options, target, monkeypatch):
    """As where a container may have no more processes, or no memory for another stack."""
    world = World()
    try:
        plugin = BinaryPlugin(**options, **({"threads": 4} if "compression" in options else {}))
    except PluginNotFoundError as error:
        pytest.skip(str(error))
    values = np.random.default_rng(1).integers(1 << 15, size=1 << 20)
    world.spawn_batch(damage.DamageSpot(x=values, n=[1, 2]), count=len(values))
    world.save_with(target, plugin, durable=False)

    def refused(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    for read in (World.load, lambda path: World.from_bytes(path.read_bytes())):
        with contextlib.suppress(PecsError):
            assert_worlds_equal(read(target), world)
    with contextlib.suppress(PecsError), pecs_np.open(target) as save:
        assert len(save["DamageSpot"]) == len(world)


@pytest.mark.parametrize("started", [0, 1, 2, 3])
def test_chunks_are_worked_out_once_each_however_many_threads_can_be_had(started, monkeypatch):
    """A task that was handed to a pool is there even where the pool cannot start a thread for it."""
    left = [started]
    start = threading.Thread.start

    def limited(thread):
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(thread)

    runs = []

    def work(item):
        # Long enough for tasks to meet one another.
        time.sleep(0.01)
        runs.append(item)
        return 2 * item

    monkeypatch.setattr(threading.Thread, "start", limited)
    found = list(in_order(work, range(12), 4))
    monkeypatch.undo()
    assert found == [2 * item for item in range(12)]
    assert sorted(runs) == list(range(12))


def test_a_codec_without_memory_is_an_error_of_the_library(monkeypatch):
    zstd = sys.modules.get("compression.zstd") or pytest.importorskip("backports.zstd")
    _, data = damage.save_of("zstd")

    def refused(*arguments, **options):
        raise zstd.ZstdError("Unable to create ZSTD_DCtx instance.")

    monkeypatch.setattr(zstd, "ZstdDecompressor", refused)
    with pytest.raises(pecs_np.PersistenceError):
        World.from_bytes(data)


class Endless:
    """A stream that begins as a save of version 1 and does not end."""

    def __init__(self, most):
        self.data = World().to_bytes(BinaryPlugin(version=1))[:-8]
        self.taken, self.most = 0, most

    def read(self, size):
        if self.taken > self.most:
            return b""
        self.taken += size
        data, self.data = self.data[:size], self.data[size:]
        return data + bytes(size - len(data))


def test_a_stream_of_version_1_is_not_read_beyond_the_limits():
    reader = Endless(64 * MIB)
    plugin = BinaryPlugin(limits=Limits(total_size=4 * MIB))
    with pytest.raises(pecs_np.LimitExceededError):
        plugin.decode_stream(reader)
    assert reader.taken < 8 * MIB


@pytest.mark.parametrize("tables", [[2**32], [2**32 - 1], [2**31, 2**31], [2**40]])
def test_more_entities_than_a_world_can_number_are_refused(tables):
    types = [{"name": f"HostileFields{i}", "version": 1, "fields": []} for i in range(len(tables))]
    parts = [[(i, damage.COLUMN, damage.NONE, rows, 0, damage.RAW, b"")] for i, rows in enumerate(tables)]
    data = foreign(types, [(rows, [(1 + (i << 64), rows)], parts[i]) for i, rows in enumerate(tables)]).join()
    plugin = BinaryPlugin(limits=Limits(free_size=1 << 50, total_size=1 << 60))
    if sum(tables) < 2**32:
        assert len(World.from_bytes(data, plugin)) == 2**32 - 1
    else:
        with pytest.raises(pecs_np.PersistenceError):
            World.from_bytes(data, plugin)


def test_saves_that_were_read_are_not_kept_in_memory():
    def load(i):
        return World.from_bytes(World(metadata={"x": [float(j + i) for j in range(12_000)]}).to_bytes())

    load(0)
    tracemalloc.start()
    try:
        kept = load(1)
        one, _ = tracemalloc.get_traced_memory()
        del kept
        for i in range(2, 12):
            load(i)
        now, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now < 3 * one


def decoded(path):
    return BinaryPlugin().decode(path.read_bytes())


def opened(path):
    with pecs_np.open(path) as save:
        return save.snapshot()


@pytest.mark.parametrize("read", [decoded, opened])
def test_changing_what_was_read_changes_nothing_that_is_read_later(target, read):
    world = World(metadata={"names": [read.__name__]})
    world.rngs["dice"] = np.random.Generator(np.random.PCG64(5))
    data = world.to_bytes()
    target.write_bytes(data)
    snapshot = read(target)
    snapshot.metadata["names"].append(1)
    snapshot.rngs["dice"]["state"]["state"] = 5
    assert World.from_bytes(data).to_bytes() == data
    assert World.load(target).to_bytes() == data


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_chunks_that_are_not_what_their_table_says_are_refused(codec, threads):
    """Many chunks, so that several threads unpack them."""
    world = World()
    count = 600_000
    try:
        plugin = BinaryPlugin(compression=codec, threads=threads, limits=Limits(free_size=1 << 28))
    except PluginNotFoundError as error:
        pytest.skip(str(error))
    values = np.random.default_rng(1).integers(1000, size=count)
    world.spawn_batch(damage.DamageSpot(x=values, n=[1, 2]), count=count)
    original = world.to_bytes(plugin)
    pieces = damage.Pieces.of(original)
    place = [entry[damage.KIND] for entry in pieces.entries].index(damage.COLUMN)
    section = pieces.sections[place]
    size, chunks = struct.unpack_from("<II", section)
    assert chunks == 5
    lengths = list(struct.unpack_from(f"<{chunks}I", section, 8))
    starts = [8 + 4 * chunks + sum(lengths[:i]) for i in range(chunks)]
    frames = [section[start : start + length] for start, length in zip(starts, lengths, strict=True)]

    def load(size, lengths, frames):
        pieces.sections[place] = struct.pack(f"<II{len(lengths)}I", size, len(lengths), *lengths) + b"".join(
            frames
        )
        return World.from_bytes(pieces.join(), plugin)

    def as_they_are(frames):
        return list(map(len, frames)), frames

    assert load(size, *as_they_are(frames)).to_bytes(plugin) == original
    # Whole chunks in another order are other content; the last, which is short, fits nowhere else.
    swapped = load(size, *as_they_are([frames[1], frames[0], *frames[2:]]))
    assert swapped.validate()
    assert swapped.to_bytes(plugin) != original
    for bad in (
        frames[:-1],
        [*frames, frames[-1]],
        [*frames[:3], frames[4], frames[3]],
        [*frames[:4], frames[0]],
        [b"", *frames[1:]],
        [frames[0][:-1], *frames[1:]],
        [frames[0] + b"\0", *frames[1:]],
        [frames[0] + frames[1], b"", *frames[2:]],
        [*frames[:2], bytes(len(frames[2])), *frames[3:]],
    ):
        with pytest.raises(PecsError):
            load(size, *as_they_are(bad))
    for bad_lengths in ([lengths[0] + 1, *lengths[1:]], [2**32 - 1] * chunks, [0] * chunks):
        with pytest.raises(PecsError):
            load(size, bad_lengths, frames)
    for bad_size in (0, 1, 7, 8, size - 1, size - 8, size + 8, 2 * size, 2**31, 2**32 - 8, 2**32 - 1):
        with pytest.raises(PecsError):
            load(bad_size, *as_they_are(frames))

"""Codecs and filters: options, chunks, threads, and what happens where a codec's package is missing."""

from __future__ import annotations

import hashlib
import io
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pecs_np
from pecs_np import BinaryPlugin, CompressionType, PersistenceError, World, component
from pecs_np.persistence.compression import CHUNK, Filters, chunk_sizes, in_order, usable_cores
from pecs_np.testing import assert_worlds_equal

ROOT = Path(pecs_np.__file__).parents[1]


@component
class PackedPoint:
    x: np.float64 = 0.0
    y: np.float64 = 0.0


@component
class PackedText:
    text: str = ""


@component
class PackedCells:
    cells: Annotated[np.uint16, 7]


@pytest.fixture(scope="module")
def world():
    world = World(seed=3)
    steps = np.arange(200_000.0)
    ids = [int(i) << 64 | 5 for i in np.random.default_rng(1).permutation(1000) + 1]
    world.spawn_batch(PackedPoint(x=steps, y=steps * 3))
    world.spawn_batch(PackedText(text=[f"entity {i}" for i in range(1000)]), stable_ids=ids)
    world.spawn_batch(PackedCells(cells=np.arange(210_000, dtype=np.uint16).reshape(-1, 7)))
    return world


def run(code, *arguments, **options):
    """Return what a new interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        cwd=ROOT,
        check=False,
        text=True,
        **options,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


# Options


def test_the_codecs_are_these():
    assert [str(codec) for codec in CompressionType] == ["zstd", "lz4"]
    assert CompressionType.Zstd == "zstd"
    assert CompressionType.Lz4 == "lz4"


@pytest.mark.parametrize("codec", [CompressionType.Zstd, CompressionType.Lz4, "zstd", "lz4"])
def test_with_compression_writes_what_the_option_writes(world, codec):
    plugin = BinaryPlugin.with_compression(codec)
    assert type(plugin) is BinaryPlugin
    data = world.to_bytes(plugin)
    assert data == world.to_bytes(BinaryPlugin(compression=str(codec)))
    assert data != world.to_bytes()
    assert_worlds_equal(World.from_bytes(data), world)


def test_with_compression_of_a_derived_class_makes_one_of_it():
    class Derived(BinaryPlugin):
        pass

    assert type(Derived.with_compression(CompressionType.Lz4)) is Derived


@pytest.mark.parametrize("codec", ["gzip", "Zstd", "", "zstd ", b"zstd", 1, [], {}, "x" * 10_000])
def test_other_codecs_are_refused(codec):
    with pytest.raises(PersistenceError, match="expected compression 'zstd' or 'lz4', found") as caught:
        BinaryPlugin(compression=codec)
    assert len(str(caught.value)) < 300


LEVELS = {"zstd": (-131072, 22), "lz4": (-65536, 16)}


@pytest.mark.parametrize("codec", LEVELS)
@pytest.mark.parametrize("level", ["below", "above", 10**30, -(10**30), True, 1.0, "3", [3]])
def test_levels_out_of_range_are_refused(codec, level):
    lowest, highest = LEVELS[codec]
    level = {"below": lowest - 1, "above": highest + 1}.get(level, level) if type(level) is str else level
    with pytest.raises(PersistenceError, match=f"level of {codec} from {lowest} to {highest}, found"):
        BinaryPlugin(compression=codec, level=level)


@pytest.mark.parametrize("codec", LEVELS)
def test_the_lowest_and_the_highest_level_write_saves_that_load(reference, codec):
    save = reference.sample(20)
    world = World.from_bytes(save.to_bytes())
    for level in LEVELS[codec]:
        data = world.to_bytes(BinaryPlugin(compression=codec, level=level))
        assert reference.read(data).plain().to_bytes() == world.to_bytes()
        assert_worlds_equal(World.from_bytes(data), world)


def test_a_higher_level_packs_better(world):
    for codec, (low, high) in {"zstd": (-100, 19), "lz4": (0, 12)}.items():
        sizes = [len(world.to_bytes(BinaryPlugin(compression=codec, level=n))) for n in (low, high)]
        assert sizes[0] > sizes[1]


def test_level_without_compression_and_compression_of_version_1_are_refused():
    with pytest.raises(PersistenceError, match="level only with compression"):
        BinaryPlugin(level=3)
    with pytest.raises(PersistenceError, match="no compression with version 1"):
        BinaryPlugin(version=1, compression="zstd")


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, "2", [1]])
def test_a_number_of_threads_below_1_or_none_at_all_is_refused(threads):
    for compression in (None, "zstd"):
        with pytest.raises(PersistenceError, match="threads from 1, found"):
            BinaryPlugin(compression=compression, threads=threads)


def test_threads_are_as_many_as_cores_but_at_most_8_unless_told():
    assert 1 <= usable_cores(None) <= 8
    assert usable_cores(100) == 100


# Filters

ITEMS = [1, 2, 3, 4, 7, 8, 16, 24, 40, 255, 256, 257, 264, 1000]


@settings(deadline=None, max_examples=150)
@given(
    item=st.sampled_from(ITEMS),
    count=st.integers(1, 40),
    shuffle=st.booleans(),
    delta=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_filters_are_those_of_the_format_and_can_be_undone(reference, item, count, shuffle, delta, seed):
    delta = delta and item % 8 == 0
    raw = random.Random(seed).randbytes(item * count)
    filters = Filters(item, shuffle, delta)
    chunk = np.frombuffer(raw, "u1")
    codec = reference.SHUFFLE * shuffle | reference.DELTA * delta
    filtered = filters.apply(chunk).tobytes()
    assert filtered == reference.filtered(raw, item, codec)
    assert chunk.tobytes() == raw
    target = np.empty(len(raw), np.uint8)
    filters.undo(filtered, target)
    assert target.tobytes() == raw == reference.unfiltered(filtered, item, codec)


def test_delta_wraps_in_each_lane_alone(reference):
    items = [(2**64 - 1, 0), (0, 2**64 - 1), (5, 5), (4, 6)]
    raw = b"".join(n.to_bytes(8, "little") for item in items for n in item)
    steps = [(2**64 - 1, 0), (1, 2**64 - 1), (5, 6), (2**64 - 1, 1)]
    expected = b"".join(n.to_bytes(8, "little") for item in steps for n in item)
    assert Filters(16, delta=True).apply(np.frombuffer(raw, "u1")).tobytes() == expected
    assert reference.filtered(raw, 16, reference.DELTA) == expected


def test_shuffle_comes_after_delta():
    raw = np.array([1, 3, 6], "<u8").view("u1")
    both = Filters(8, shuffle=True, delta=True).apply(raw)
    assert both.tobytes() == bytes([1, 2, 3]) + bytes(21)


@pytest.mark.parametrize(
    "item",
    [1, 2, 3, 7, 16, 1000, (1 << 14) - 1, 1 << 14, (1 << 14) + 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 << 20],
)
def test_chunks_are_whole_items_and_not_larger_than_they_must_be(item):
    assert CHUNK == 1 << 20
    for size, most in zip(chunk_sizes(item), (CHUNK, 1 << 14), strict=True):
        assert size % item == 0
        assert size == item if item > most else most - item < size <= most


# Threads


@pytest.mark.parametrize("codec", LEVELS)
@pytest.mark.parametrize("shuffle", [True, False])
def test_any_number_of_threads_and_any_run_gives_the_same_bytes(world, codec, shuffle):
    written = {
        world.to_bytes(BinaryPlugin(compression=codec, shuffle=shuffle, threads=threads))
        for threads in (1, 2, 4, None, 1)
    }
    (data,) = written
    for threads in (1, 2, 4):
        plugin = BinaryPlugin(compression=codec, shuffle=shuffle, threads=threads)
        assert_worlds_equal(World.from_bytes(data, plugin), world)


def test_a_plugin_used_again_and_by_many_threads_gives_the_same_bytes(world):
    plugin = BinaryPlugin(compression="zstd", threads=2)
    expected = world.to_bytes(plugin)
    assert world.to_bytes(plugin) == expected
    found = []
    threads = [threading.Thread(target=lambda: found.append(world.to_bytes(plugin))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 3


def test_another_process_writes_the_same_bytes(world, tmp_path):
    path = tmp_path / "a.pecs"
    world.save(path)
    code = """
import sys, hashlib
from pecs_np import BinaryPlugin, World
world = World.load(sys.argv[1])
for codec in ("zstd", "lz4"):
    print(hashlib.sha256(world.to_bytes(BinaryPlugin(compression=codec))).hexdigest())
"""
    for seed in ("1", "2"):
        printed = run(code, path, env=os.environ | {"PYTHONHASHSEED": seed}).split()
        assert printed == [
            hashlib.sha256(world.to_bytes(BinaryPlugin(compression=codec))).hexdigest()
            for codec in ("zstd", "lz4")
        ]


def test_files_and_streams_hold_the_same_bytes(world, tmp_path):
    for codec in LEVELS:
        plugin = BinaryPlugin(compression=codec)
        data = world.to_bytes(plugin)
        world.save_with(tmp_path / "a.pecs", plugin)
        assert (tmp_path / "a.pecs").read_bytes() == data
        plugin.save(world, stream := io.BytesIO())
        assert stream.getvalue() == data
        for back in (
            World.load(tmp_path / "a.pecs"),
            World.load_binary_stream(io.BytesIO(data)),
            plugin.load(io.BytesIO(data)),
        ):
            assert_worlds_equal(back, world)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_in_order_keeps_the_order_and_runs_only_a_few_ahead(threads):
    taken = []

    def items():
        for i in range(50):
            taken.append(i)
            yield i

    for number, found in enumerate(in_order(lambda i: i * i, items(), threads)):
        assert found == number * number
        assert len(taken) <= number + threads + 2
    assert len(taken) == 50


@pytest.mark.parametrize("threads", [1, 3])
def test_in_order_raises_what_a_thread_raises_and_stops(threads):
    taken = []

    def items():
        for i in range(1000):
            taken.append(i)
            yield i

    def fail_at_seven(i):
        if i == 7:
            raise PersistenceError("seven")
        return i

    found = in_order(fail_at_seven, items(), threads)
    assert [next(found) for _ in range(7)] == list(range(7))
    with pytest.raises(PersistenceError, match="seven"):
        next(found)
    assert len(taken) < 20


def test_threads_end_when_nobody_asks_any_more():
    before = threading.active_count()
    found = in_order(abs, iter(range(1000)), 4)
    next(found)
    found.close()
    assert threading.active_count() == before


# Missing packages

BLOCK = """
import sys
blocked = {"zstd": ["compression.zstd", "backports.zstd"], "lz4": ["lz4", "lz4.frame"]}[sys.argv[1]]
for name in blocked:
    sys.modules[name] = None
import pecs_np
from pecs_np import BinaryPlugin, PluginNotFoundError, World
def refused(function):
    try:
        function()
    except PluginNotFoundError as error:
        assert f"pip install 'pecs_np[{sys.argv[1]}]'" in str(error), str(error)
        assert {"zstd": "backports.zstd", "lz4": "package lz4"}[sys.argv[1]] in str(error), str(error)
    else:
        raise AssertionError("expected an error")
"""
OTHER = {"zstd": "lz4", "lz4": "zstd"}


def test_no_codec_is_imported_before_it_is_used():
    printed = run(
        "import sys, pecs_np; print([n for n in sys.modules if n.split('.')[0] in ('lz4', 'backports')"
        " or n == 'compression.zstd'])"
    )
    assert printed.strip() == "[]"


@pytest.mark.parametrize("codec", LEVELS)
def test_without_its_package_a_codec_neither_writes_nor_loads_and_names_the_extra(world, codec, tmp_path):
    path, fine = tmp_path / "packed.pecs", tmp_path / "fine.pecs"
    world.save_with(path, BinaryPlugin(compression=codec))
    world.save_with(fine, BinaryPlugin(compression=OTHER[codec]))
    code = (
        BLOCK
        + """
path, fine, other = sys.argv[2:]
refused(lambda: BinaryPlugin(compression=sys.argv[1]))
refused(lambda: BinaryPlugin.with_compression(sys.argv[1]))
for threads in (1, 3):
    refused(lambda: BinaryPlugin(threads=threads).decode_file(path))
refused(lambda: World.load(path))
refused(lambda: World.from_bytes(open(path, "rb").read()))
refused(lambda: World.load_binary_stream(open(path, "rb")))
world = World.load(fine)
plugin = BinaryPlugin(compression=other)
assert world.to_bytes(plugin) == open(fine, "rb").read()
print(len(world))
"""
    )
    assert int(run(code, codec, path, fine, OTHER[codec])) == len(world)


def mixed(reference, codec, *, pack_ids):
    """Return a save with columns of all codecs: raw, zstd, lz4, and, if asked, packed ids in one table."""
    number = [{"name": "x", "dtype": "<u4"}]
    text = [{"name": "text", "variable": "str"}]
    types = [(f"Mixed.{name}", 1, number) for name in ("Lz4", "Raw", "Zstd")] + [("Mixed.Text", 1, text)]
    types.sort()
    columns = {
        name: b"".join(i.to_bytes(4, "little") for i in range(9)) for name, _, f in types if f is number
    }
    save = reference.make(
        types,
        [
            {"ids": list(range(1, 10)), "columns": columns},
            {"ids": [70, 90], "columns": {"Mixed.Text": (b"", {"text": [b"one", b"two"]})}},
        ],
    )
    save.pack(save.part(reference.COLUMN, 0, "Mixed.Zstd"), reference.ZSTD | reference.SHUFFLE, 12)
    save.pack(save.part(reference.COLUMN, 0, "Mixed.Lz4"), reference.LZ4 | reference.SHUFFLE, 12)
    chosen = reference.CODECS[codec]
    save.pack(save.part(reference.VALUES, 1, "Mixed.Text", "text"), chosen, 4)
    if pack_ids:
        save.pack(save.part(reference.IDS, 1), chosen | reference.SHUFFLE | reference.DELTA, 16)
    return save


@pytest.mark.parametrize("codec", LEVELS)
@pytest.mark.parametrize("mmap", [False, True])
def test_without_its_package_only_the_columns_of_a_codec_are_unreadable(reference, codec, mmap, tmp_path):
    plain, packed = tmp_path / "plain_ids.pecs", tmp_path / "packed_ids.pecs"
    plain.write_bytes(mixed(reference, codec, pack_ids=False).to_bytes())
    packed.write_bytes(mixed(reference, codec, pack_ids=True).to_bytes())
    code = (
        BLOCK
        + """
other = {"zstd": "Lz4", "lz4": "Zstd"}[sys.argv[1]]
mine = sys.argv[1].title()
for path in sys.argv[2:4]:
    with pecs_np.open(path, mmap=sys.argv[4] == "True") as save:
        assert save.entity_count == 11 and len(save.types) == 4 and save.metadata == {}
        assert f"Mixed.{mine}" in save and "9 rows" in repr(save)
        assert save["Mixed.Raw"]["x"].tolist() == list(range(9))
        assert save[f"Mixed.{other}"]["x"].tolist() == list(range(9))
        refused(lambda: save[f"Mixed.{mine}"])
        refused(lambda: save.column(f"Mixed.{mine}", "x"))
        refused(lambda: save["Mixed.Text"])
        refused(save.verify)
        refused(save.snapshot)
        assert save.entities("Mixed.Raw")["lo"].tolist() == list(range(1, 10))
        if "packed_ids" in path:
            refused(save.entities)
            refused(lambda: save.tables[1].entities())
            refused(lambda: save.snapshot(["Mixed.Raw"]))
        else:
            assert save.entities()["lo"].tolist() == [*range(1, 10), 70, 90]
            world = World.from_snapshot(save.snapshot(["Mixed.Raw", f"Mixed.{other}"]))
            assert world.column(f"Mixed.{other}")["x"].tolist() == list(range(9))
            assert len(world) == 11
"""
    )
    run(code, codec, plain, packed, mmap)
    with pecs_np.open(packed, mmap=mmap) as save:
        assert save["Mixed.Zstd"]["x"].tolist() == save["Mixed.Lz4"]["x"].tolist() == list(range(9))
        assert save["Mixed.Text"]["text"].tolist() == ["one", "two"]
        assert save.entities()["lo"].tolist() == [*range(1, 10), 70, 90]
        save.verify()


def test_a_backup_is_no_help_where_a_package_is_missing(world, tmp_path):
    path = tmp_path / "a.pecs"
    world.save(path)
    world.save_with(path, BinaryPlugin(compression="lz4"), backup=True)
    run(BLOCK + "refused(lambda: World.load(sys.argv[2], backup=True))", "lz4", path)


AT_EXIT = """
import atexit, sys
import numpy as np
import pecs_np
from pecs_np import BinaryPlugin, World

Point = pecs_np.make_component("AtExitPoint", {"x": np.float64})
world = World(seed=1)
world.spawn_batch(Point(x=np.arange(500_000.0)))
plugin = BinaryPlugin(compression=sys.argv[1], threads=4)


def save():
    # The first that needs threads, when there are none any more.
    assert "concurrent.futures.thread" not in sys.modules
    data = world.to_bytes(plugin)
    assert World.from_bytes(data, plugin).to_bytes() == world.to_bytes()
    print(len(data))


atexit.register(save)
"""


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_the_first_compressed_save_may_be_made_when_the_program_ends(codec):
    pytest.importorskip({"zstd": "backports.zstd", "lz4": "lz4"}[codec])
    root = Path(pecs_np.__file__).parents[1]
    command = [sys.executable, "-c", AT_EXIT, codec]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 0

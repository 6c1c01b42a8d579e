"""Saves cut short anywhere, or with any one bit flipped: nothing of them is ever taken for sound."""

from __future__ import annotations

import importlib.util
import io
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import pecs_np
from pecs_np import BinaryPlugin, CompressionType, PecsError, PluginNotFoundError, World


def _load_damage():
    if "pecs_damage" not in sys.modules:
        spec = importlib.util.spec_from_file_location("pecs_damage", Path(__file__).with_name("damage.py"))
        sys.modules["pecs_damage"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["pecs_damage"]


damage = _load_damage()
# How many of the cases each way of reading is tried with; all of them where the environment variable
# PECS_NP_THOROUGH is 1.
SHARES = {
    "bytes": 1,
    "stream": 0.4,
    "file": 0.4,
    "verify": 0.1,
    "touch": 0.12,
    "touch mapped": 0.12,
    "all": 0.04,
}


@pytest.fixture(scope="module", params=damage.SAVES)
def saved(request):
    """The name of a save, and its bytes."""
    try:
        return request.param, damage.save_of(request.param)[1]
    except PluginNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def tried(request):
    """Counts by what was done, printed when the tests of this file are over."""
    counts = {}
    yield counts
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and counts:
        reporter.ensure_newline()
        told = "; ".join(f"{what} {cases:,} refused {refused:,}" for what, (cases, refused) in counts.items())
        reporter.write_line(f"{Path(__file__).name}: {told}")


@pytest.fixture
def target(tmp_path):
    """A file that is damaged and mended in place."""
    with open(tmp_path / "damaged.pecs", "w+b", buffering=0) as file:
        yield file


def put(file, data):
    file.seek(0)
    file.truncate()
    file.write(data)


def flips_of(data, way, name):
    """Return (byte, bit) of the bits to flip."""
    places = [(at, bit) for at in range(len(data)) for bit in range(8)]
    return damage.thinned(places, SHARES[way], f"{way} of {name}")


def damaged_files(file, data, way, name):
    """Yield (what was flipped, or None) for each damaged state of *file*: bits flipped, then all lengths."""
    put(file, data)
    for at, bit in flips_of(data, way, name):
        file.seek(at)
        file.write(bytes([data[at] ^ 1 << bit]))
        yield at
        file.seek(at)
        file.write(data[at : at + 1])
    for length in damage.thinned(range(len(data) - 1, -1, -1), SHARES[way], f"{way} of {name}"):
        file.truncate(length)
        yield None


def damaged_bytes(data, way, name):
    changed = bytearray(data)
    for at, bit in flips_of(data, way, name):
        changed[at] ^= 1 << bit
        yield changed
        changed[at] ^= 1 << bit
    for length in damage.thinned(range(len(data)), SHARES[way], f"{way} of {name}"):
        yield data[:length]


def refused_all(cases, read, what, tried):
    """Check that *read* raises an error of the library for each of *cases*."""
    count = 0
    for number, case in enumerate(cases):
        try:
            read(case)
        except PecsError:
            count += 1
        else:
            pytest.fail(f"case {number} of {what} was taken for sound")
    before = tried.get(what, (0, 0))
    tried[what] = before[0] + count, before[1] + count
    assert count > 0


def test_the_saves_are_what_these_tests_are_about(saved):
    name, data = saved
    assert len(data) < 2500
    assert damage.repaired(data, damage.sum_of(name)) == data
    world = World.from_bytes(data)
    assert world.validate()
    again = world.to_bytes(BinaryPlugin(**damage.SAVES[name][1]))
    # The records of one stand in an order of their own.
    assert (again == data) == (name != "odd")
    assert sorted(again[:-8]) == sorted(data[:-8])
    if data[4] == 2:
        pieces = damage.Pieces.of(data)
        assert pieces.join() == data
        codecs = {entry[damage.CODEC] & 0xFF for entry in pieces.entries}
        if name in set(CompressionType):
            assert codecs == {{"zstd": damage.ZSTD, "lz4": damage.LZ4}[name]}
        else:
            assert codecs == {damage.RAW, damage.RUNS}


def test_bytes_with_any_bit_flipped_or_cut_short_anywhere_are_refused(saved, tried):
    name, data = saved
    refused_all(damaged_bytes(data, "bytes", name), World.from_bytes, "bytes", tried)


def test_a_stream_with_any_bit_flipped_or_cut_short_anywhere_is_refused(saved, tried):
    name, data = saved
    refused_all(
        damaged_bytes(data, "stream", name),
        lambda changed: World.load_binary_stream(io.BytesIO(changed)),
        "streams",
        tried,
    )


def test_a_file_with_any_bit_flipped_or_cut_short_anywhere_is_refused(saved, tried, target):
    name, data = saved
    refused_all(damaged_files(target, data, "file", name), lambda _: World.load(target.name), "files", tried)


@pytest.mark.parametrize("mmap", [False, True])
def test_an_opened_save_with_any_bit_flipped_or_cut_short_anywhere_does_not_verify(
    saved, tried, target, mmap
):
    name, data = saved

    def verify(_):
        with pecs_np.open(target.name, mmap=mmap) as save:
            save.verify()

    refused_all(damaged_files(target, data, "verify", name), verify, "verified saves", tried)


def touched_bytes(data, wanted):
    """Return for each byte of a save whether it is read to give the sections that *wanted* (entry) picks."""
    touched = np.zeros(len(data), bool)
    if data[4] == 1:
        touched[:] = True
        return touched
    pieces = damage.Pieces.of(data)
    touched[: pieces.head_size] = True
    for entry in pieces.entries:
        start, stop = entry[damage.OFFSET], entry[damage.OFFSET] + entry[damage.STORED_SIZE]
        touched[start:stop] = wanted(entry)
    return touched


def held(column):
    """Return what a column holds, for comparison."""
    return [[v.tolist() if isinstance(v, np.ndarray) else v for v in row] for row in column.tolist()]


def check_touched(cases, read, original, touched, what, tried):
    """Check that exactly the damage of touched bytes is found, and that all else reads as it was."""
    refused = count = 0
    for at in cases:
        count += 1
        try:
            found = read()
        except PecsError:
            refused += 1
            assert at is None or touched[at], f"damage of byte {at}, which is not touched, was found"
        else:
            assert at is not None, "a save cut short was taken for sound"
            assert not touched[at], f"damage of byte {at} was not found"
            assert found == original
    before = tried.get(what, (0, 0))
    tried[what] = before[0] + count, before[1] + refused
    assert refused > 0
    assert touched.all() or refused < count


@pytest.mark.parametrize("mmap", [False, True])
def test_a_column_of_an_opened_save_is_refused_exactly_where_its_own_bytes_or_the_head_are_damaged(
    saved, tried, target, mmap
):
    name, data = saved
    with_texts = "DamageClock" if name == "extras" else "DamageLife"
    kinds = damage.COLUMN, damage.OFFSETS, damage.VALUES

    def read():
        with pecs_np.open(target.name, mmap=mmap) as save:
            if with_texts == "DamageClock":
                return [held(value.reshape(1)) for value in save.resources.values()]
            return held(save[with_texts])

    put(target, data)
    original = read()
    with pecs_np.open(target.name) as save:
        index = [type_.name for type_ in save.types].index(with_texts)
    touched = touched_bytes(data, lambda entry: entry[damage.TYPE] == index and entry[damage.KIND] in kinds)
    way = "touch mapped" if mmap else "touch"
    what = "mapped columns" if mmap else "columns"
    check_touched(damaged_files(target, data, way, name), read, original, touched, what, tried)


@pytest.mark.parametrize("mmap", [False, True])
def test_everything_of_an_opened_save_is_refused_wherever_it_is_damaged_but_in_gaps_and_footer(
    saved, tried, target, mmap
):
    name, data = saved

    def read():
        with pecs_np.open(target.name, mmap=mmap) as save:
            assert save.format_version == data[4]
            repr(save)
            columns = {type_: held(save[type_]) for type_ in save}
            resources = {type_: held(value.reshape(1)) for type_, value in save.resources.items()}
            rows = [[held(table[t.name]) for t in table.types] for table in save.tables]
            ids = [save.entities().tolist(), *[table.entities().tolist() for table in save.tables]]
            return columns, resources, rows, ids, World.from_snapshot(save.snapshot()).to_bytes()

    put(target, data)
    original = read()
    touched = touched_bytes(data, lambda entry: True)
    cases = damaged_files(target, data, "all", name)
    check_touched(cases, read, original, touched, "whole opened saves", tried)


def test_what_is_not_read_of_an_opened_save_may_be_damaged(saved, target):
    """The bytes between sections and the footer: only those who check everything miss them."""
    _, data = saved
    untouched = np.flatnonzero(~touched_bytes(data, lambda entry: True)).tolist()
    assert bool(untouched) == (data[4] == 2)
    for at in untouched:
        put(target, damage.flipped(data, at, 3))
        with pecs_np.open(target.name) as save:
            assert len(World.from_snapshot(save.snapshot())) == save.entity_count
            with pytest.raises(pecs_np.CorruptedDataError):
                save.verify()
        with pytest.raises(pecs_np.CorruptedDataError):
            World.load(target.name)


def test_bytes_after_a_save_are_refused_but_in_a_stream_that_goes_on(saved):
    _, data = saved
    for more in (b"\0", b"\0" * 64, data):
        with pytest.raises(PecsError):
            World.from_bytes(data + more)
        reader = io.BytesIO(data + more)
        if data[4] == 2:
            assert World.load_binary_stream(reader).to_bytes() == World.from_bytes(data).to_bytes()
            assert reader.read() == more
        else:
            with pytest.raises(PecsError):
                World.load_binary_stream(reader)


def telling_bits(name, data):
    """Return (byte, bit) of all bits that say how much there is, and of some others."""
    first = {*range(200), len(data) - 1}
    if data[4] == 2:
        for entry in damage.Pieces.of(data).entries:
            first |= {entry[damage.OFFSET] + i for i in range(min(24, entry[damage.STORED_SIZE]))}
    others = [at for at in range(len(data)) if at not in first]
    chosen = sorted(first | set(damage.thinned(others, 0.05, f"telling bits of {name}")))
    # The version cannot be told from that of a later program.
    return [(at, bit) for at in chosen if at < len(data) and not 4 <= at < 8 for bit in range(8)]


def test_damage_of_any_bit_is_told_as_damage_and_a_backup_loaded_instead(saved, target):
    """Not as a save from a later program, or one that is too large: those would not be any better in a backup."""
    name, data = saved
    backup = World()
    backup.spawn_with_stable_id(1234)
    Path(f"{target.name}.bak").write_bytes(backup.to_bytes())
    put(target, data)
    others = []
    for at, bit in telling_bits(name, data):
        target.seek(at)
        target.write(bytes([data[at] ^ 1 << bit]))
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                assert World.load(target.name, backup=True).to_bytes() == backup.to_bytes()
            assert "loaded the backup" in str(told[0].message)
        except PecsError as error:
            others.append(f"bit {bit} of byte {at}: {type(error).__name__}: {error}")
        target.seek(at)
        target.write(data[at : at + 1])
    assert others == []

"""Sections as the directory announces them, and compressed ones: what is read, and what is refused."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pecs_np
from pecs_np import (
    BinaryPlugin,
    CorruptedDataError,
    InvalidFormatError,
    LimitExceededError,
    Limits,
    PecsError,
    World,
)

ROOT = Path(pecs_np.__file__).parents[1]
NAME = "SectionForeign"
ROWS = 100
X = [{"name": "x", "dtype": "<u4"}]
RAW = np.arange(ROWS, dtype="<u4").tobytes()
# Three chunks, the last one short.
CHUNK = 160


def save_of(reference, fields=X, column=RAW, rows=ROWS, **table):
    table = table or {"runs": [(1, rows)]}
    return reference.make([(NAME, 1, fields)], [table | {"columns": {NAME: column}}])


def stored_as(reference, codec, stored, *, raw_size=len(RAW), fields=X, column=RAW):
    """Return a save whose one column is *stored* in that way."""
    save = save_of(reference, fields, column)
    part = save.part(reference.COLUMN, 0, NAME)
    part.codec, part.data, part.raw_size = codec, stored, raw_size
    save.flags |= codec & 3
    return save


@pytest.fixture(params=["zstd", "lz4"])
def codec(request, reference):
    return reference.CODECS[request.param]


def outcomes(data, path):
    """Yield the column that each way to read a save finds, or the error that it raises."""
    path.write_bytes(data)

    def opened(mmap):
        with pecs_np.open(path, mmap=mmap) as save:
            return save[NAME]

    def verified():
        with pecs_np.open(path) as save:
            save.verify()
            return save[NAME]

    ways = [
        lambda: World.from_bytes(data).column(NAME),
        lambda: World.from_snapshot(BinaryPlugin(threads=1).decode(data)).column(NAME),
        lambda: World.from_snapshot(BinaryPlugin(threads=3).decode(data)).column(NAME),
        lambda: World.load(path).column(NAME),
        lambda: World.load_binary_stream(io.BytesIO(data)).column(NAME),
        lambda: opened(mmap=False),
        lambda: opened(mmap=True),
        verified,
    ]
    for way in ways:
        try:
            yield way()
        except PecsError as error:
            yield error


def refuse(save, path, *errors):
    """Check that every way to read *save* raises one of *errors* and names the place."""
    found = list(outcomes(save.to_bytes(), path))
    assert [type(error) for error in found] == [type(found[0])] * len(found)
    assert type(found[0]) in errors, found[0]
    for error in found:
        assert f"section 1 (column of {NAME}, table 0) at byte " in str(error)


def accept(save, path, raw=RAW):
    for found in outcomes(save.to_bytes(), path):
        assert isinstance(found, np.ndarray), found
        assert found.tobytes() == raw


# What a compressed section may look like


@pytest.mark.parametrize("chunk", [4, 12, 160, 396, 400, 404, 4000, 2**32 - 4])
@pytest.mark.parametrize("filters", [0, 0x100])
def test_chunks_of_any_size_are_read(reference, codec, chunk, filters, tmp_path):
    save = save_of(reference)
    save.pack(save.part(reference.COLUMN, 0, NAME), codec | filters, chunk)
    accept(save, tmp_path / "a.pecs")


def zstd_options():
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    parameter = zstd.CompressionParameter
    return [
        {parameter.checksum_flag: 1},
        {parameter.content_size_flag: 0},
        {parameter.window_log: 27},
        {
            parameter.enable_long_distance_matching: 1,
            parameter.window_log: 24,
            parameter.content_size_flag: 0,
        },
        {parameter.compression_level: -5},
    ], lambda data, options: zstd.compress(data, options=options)


def lz4_options():
    from lz4 import frame

    return [
        {"content_checksum": True, "block_checksum": True},
        {"store_size": False},
        {"block_linked": False, "block_size": frame.BLOCKSIZE_MAX4MB},
        {"compression_level": 16},
        {"compression_level": -9},
    ], lambda data, options: frame.compress(data, **options)


@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("options", [zstd_options, lz4_options])
def test_frames_of_other_writers_are_read(reference, options, which, tmp_path):
    every, compress = options()
    codec = reference.ZSTD if options is zstd_options else reference.LZ4
    raw = np.arange(100_000, dtype="<u4").tobytes()
    frames = [compress(raw[start : start + 140_000], every[which]) for start in range(0, len(raw), 140_000)]
    save = save_of(reference, column=raw, rows=100_000)
    part = save.part(reference.COLUMN, 0, NAME)
    part.codec, part.data = codec, reference.packed(frames, 140_000)
    save.flags |= codec
    accept(save, tmp_path / "a.pecs", raw)


def test_one_frame_written_in_pieces_is_one_frame(reference, tmp_path):
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    compressor = zstd.ZstdCompressor()
    pieces = [
        compressor.compress(RAW[i : i + 20], zstd.ZstdCompressor.FLUSH_BLOCK) for i in range(0, 400, 20)
    ]
    one = b"".join([*pieces, compressor.flush()])
    accept(stored_as(reference, reference.ZSTD, reference.packed([one], 400)), tmp_path / "a.pecs")


def test_sections_without_bytes_may_be_compressed_into_no_chunks(reference, codec):
    text = [{"name": "text", "variable": "str"}]
    save = save_of(reference, text, (b"", {"text": [b""] * ROWS}))
    values = save.part(reference.VALUES, 0, NAME, "text")
    for chunk in (1, 1000, 2**32 - 1):
        values.codec, values.data = codec, reference.packed([], chunk)
        save.flags = 8 | codec
        assert World.from_bytes(save.to_bytes()).column(NAME)["text"].tolist() == [""] * ROWS
    values.data = reference.packed([reference.frame(b"", codec)], 1)
    with pytest.raises(PecsError, match="chunks"):
        World.from_bytes(save.to_bytes())


@pytest.mark.parametrize("role", ["ids", "offsets", "values"])
@pytest.mark.parametrize("filters", [0, 0x100, 0x200, 0x300])
def test_ids_offsets_and_values_may_be_compressed_with_any_filter_that_fits(reference, codec, role, filters):
    fields = [{"name": "l", "variable": "list", "dtype": "<f8"}]
    pieces = [struct.pack("<2d", i, -i)[: 8 * (i % 3)] for i in range(ROWS)]
    save = save_of(reference, fields, (b"", {"l": pieces}), ids=[7 * i + 1 for i in range(ROWS)])
    expected = World.from_bytes(save.to_bytes())
    part = {
        "ids": save.parts[0],
        "offsets": save.part(reference.OFFSETS, 0, NAME, "l"),
        "values": save.part(reference.VALUES, 0, NAME, "l"),
    }[role]
    for items in (1, 3, 1000):
        packed = replace(save, parts=[replace(p) for p in save.parts])
        packed.pack(packed.parts[save.parts.index(part)], codec | filters, items * save.item(part))
        assert World.from_bytes(packed.to_bytes()).to_bytes() == expected.to_bytes()


# Compressed sections that break a rule, under sums that are right


def frames(reference, codec, sizes=(160, 160, 80)):
    found, start = [], 0
    for size in sizes:
        found.append(reference.frame(RAW[start : start + size], codec))
        start += size
    return found


def table(size, count, *lengths):
    return struct.pack(f"<{2 + len(lengths)}I", size, count, *lengths)


def test_the_pieces_of_these_tests_make_a_section_that_loads(reference, codec, tmp_path):
    good = frames(reference, codec)
    stored = table(CHUNK, 3, *map(len, good)) + b"".join(good)
    assert stored == reference.packed(good, CHUNK)
    accept(stored_as(reference, codec, stored), tmp_path / "a.pecs")


TABLES = {
    "nothing": lambda good, _: b"",
    "half a table": lambda good, _: table(CHUNK, 3)[:7],
    "no chunks": lambda good, _: table(CHUNK, 0),
    "no chunks of nothing": lambda good, _: table(0, 0),
    "chunks of nothing": lambda good, packed: table(0, 3) + packed(good, CHUNK)[8:],
    "chunks of parts of items": lambda good, packed: table(161, 3) + packed(good, CHUNK)[8:],
    "chunks of other parts of items": lambda good, packed: table(158, 3) + packed(good, CHUNK)[8:],
    "larger chunks": lambda good, packed: table(200, 3) + packed(good, CHUNK)[8:],
    "chunks larger than all": lambda good, packed: table(404, 3) + packed(good, CHUNK)[8:],
    "smaller chunks": lambda good, packed: table(80, 3) + packed(good, CHUNK)[8:],
    "a chunk less": lambda good, packed: packed(good[:2], CHUNK),
    "a chunk more": lambda good, packed: packed([*good, good[2]], CHUNK),
    "an empty chunk more": lambda good, packed: packed([*good, b""], CHUNK),
    "a count less": lambda good, packed: table(CHUNK, 2) + packed(good, CHUNK)[8:],
    "a count more": lambda good, packed: table(CHUNK, 4) + packed(good, CHUNK)[8:],
    "very many chunks": lambda good, packed: table(CHUNK, 2**32 - 1) + packed(good, CHUNK)[8:],
    "very many chunks of one item": lambda good, packed: table(4, 2**32 - 1) + packed(good, CHUNK)[8:],
    "half a list of lengths": lambda good, _: table(CHUNK, 3, len(good[0])),
    "lengths only": lambda good, _: table(CHUNK, 3, *map(len, good)),
    "a length more": lambda good, _: table(CHUNK, 3, len(good[0]), len(good[1]), len(good[2]) + 1) + b"".join(good),
    "a length less": lambda good, _: table(CHUNK, 3, len(good[0]) - 1, len(good[1]), len(good[2])) + b"".join(good),
    "a huge length": lambda good, _: table(CHUNK, 3, 2**32 - 1, len(good[1]), len(good[2])) + b"".join(good),
    "lengths that wrap": lambda good, _: table(CHUNK, 3, 2**32 - 1, sum(map(len, good)) - 2**31 & 2**32 - 1, 2**31 + 1)
    + b"".join(good),
    "a byte after the last chunk": lambda good, packed: packed(good, CHUNK) + b"\0",
    "a byte before the first chunk": lambda good, _: table(CHUNK, 3, *map(len, good)) + b"\0" + b"".join(good),
    "a byte of the last chunk missing": lambda good, packed: packed(good, CHUNK)[:-1],
}  # fmt: skip


@pytest.mark.parametrize("form", TABLES)
@pytest.mark.parametrize("filters", [0, 0x100])
def test_tables_of_chunks_that_do_not_fit_are_refused(reference, codec, form, filters, tmp_path):
    stored = TABLES[form](frames(reference, codec), reference.packed)
    refuse(stored_as(reference, codec | filters, stored), tmp_path / "a.pecs", InvalidFormatError)


CHUNKS = {
    "nothing": lambda f, frame: b"",
    "a frame of nothing": lambda f, frame: frame(b""),
    "an item less": lambda f, frame: frame(bytes(CHUNK - 4)),
    "a byte less": lambda f, frame: frame(bytes(CHUNK - 1)),
    "a byte more": lambda f, frame: frame(bytes(CHUNK + 1)),
    "an item more": lambda f, frame: frame(bytes(CHUNK + 4)),
    "much more": lambda f, frame: frame(bytes(1 << 20)),
    "a byte after the frame": lambda f, frame: f + b"\0",
    "many bytes after the frame": lambda f, frame: f + bytes(10_000),
    "two frames": lambda f, frame: frame(bytes(80)) + frame(bytes(80)),
    "a frame and an empty one": lambda f, frame: f + frame(b""),
    "an empty frame and one": lambda f, frame: frame(b"") + f,
    "a frame twice": lambda f, frame: f + f,
    "a frame to skip": lambda f, frame: SKIPPED,
    "a frame to skip and one": lambda f, frame: SKIPPED + f,
    "a frame and one to skip": lambda f, frame: f + SKIPPED,
    "a byte of the frame missing": lambda f, frame: f[:-1],
    "half a frame": lambda f, frame: f[: len(f) // 2],
    "a magic number": lambda f, frame: f[:4],
    "another magic number": lambda f, frame: bytes([f[0] ^ 1]) + f[1:],
    "raw items": lambda f, frame: RAW[:CHUNK],
    "zeros": lambda f, frame: bytes(50),
    "ones": lambda f, frame: b"\xff" * 50,
}
SKIPPED = struct.pack("<II", 0x184D2A50, 4) + b"skip"


@pytest.mark.parametrize("form", CHUNKS)
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("filters", [0, 0x100])
def test_chunks_that_are_not_one_frame_of_their_size_are_refused(
    reference, codec, form, place, filters, tmp_path
):
    chunks = frames(reference, codec)
    chunks[place] = CHUNKS[form](chunks[place], lambda data: reference.frame(data, codec))
    stored = reference.packed(chunks, CHUNK)
    refuse(stored_as(reference, codec | filters, stored), tmp_path / "a.pecs", CorruptedDataError)


def test_the_short_chunk_must_be_the_last(reference, codec, tmp_path):
    sizes = (80, 160, 160)
    stored = reference.packed(frames(reference, codec, sizes), CHUNK)
    refuse(stored_as(reference, codec, stored), tmp_path / "a.pecs", CorruptedDataError)


def test_frames_of_the_other_codec_are_refused(reference, codec, tmp_path):
    other = {reference.ZSTD: reference.LZ4, reference.LZ4: reference.ZSTD}[codec]
    stored = reference.packed(frames(reference, other), CHUNK)
    refuse(stored_as(reference, codec, stored), tmp_path / "a.pecs", CorruptedDataError)


def test_frames_whose_own_sum_is_wrong_are_refused(reference, tmp_path):
    for codec, (every, compress) in {1: zstd_options(), 2: lz4_options()}.items():
        frame = bytearray(compress(RAW, every[0]))
        accept(stored_as(reference, codec, reference.packed([frame], 400)), tmp_path / "a.pecs")
        frame[-1] ^= 1
        refuse(
            stored_as(reference, codec, reference.packed([frame], 400)),
            tmp_path / "a.pecs",
            CorruptedDataError,
        )


def test_frames_that_need_a_dictionary_are_refused(reference, tmp_path):
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    dictionary = zstd.ZstdDict(RAW * 20, is_raw=True)
    frame = zstd.compress(RAW, zstd_dict=dictionary)
    assert len(frame) < 100
    refuse(
        stored_as(reference, reference.ZSTD, reference.packed([frame], 400)),
        tmp_path / "a.pecs",
        CorruptedDataError,
    )


@pytest.mark.parametrize("seed", range(6))
def test_compressed_bytes_changed_anywhere_under_right_sums_load_or_are_refused(reference, codec, seed):
    rng = np.random.default_rng(seed)
    good = reference.packed(frames(reference, codec), CHUNK)
    for _ in range(60):
        stored = bytearray(good)
        for at in rng.integers(len(stored), size=rng.integers(1, 4)):
            stored[at] = rng.integers(256)
        data = stored_as(reference, codec | 0x100, bytes(stored)).to_bytes()
        try:
            world = World.from_bytes(data)
        except PecsError:
            continue
        assert world.validate()
        assert len(world.column(NAME)) == ROWS


def test_compressed_bytes_changed_under_the_old_sum_are_always_refused(reference, codec):
    save = save_of(reference)
    save.pack(save.part(reference.COLUMN, 0, NAME), codec | 0x100, CHUNK)
    data = save.to_bytes()
    for at in range(data.index(save.parts[1].data), len(data)):
        changed = bytearray(data)
        changed[at] ^= 0x20
        with pytest.raises(PecsError):
            World.from_bytes(changed)


# Codecs and flags


@pytest.mark.parametrize(
    "codec_bits",
    [
        4,
        5,
        0x7F,
        0xFF,
        0x100,
        0x200,
        0x300,
        0x103,
        0x203,
        0x104,
        0x400,
        0x401,
        0x402,
        0x801,
        0x1001,
        0x8001,
        0xFF01,
    ],
)
def test_unknown_codecs_and_bits_of_codecs_are_refused(reference, codec_bits, tmp_path):
    good = reference.packed(frames(reference, reference.ZSTD), CHUNK)
    for stored in (good, RAW):
        save = stored_as(reference, codec_bits, stored)
        save.flags = 8 | (codec_bits & 0xFF if codec_bits & 0xFF in (1, 2) else 0)
        refuse(save, tmp_path / "a.pecs", InvalidFormatError)


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<u4", "<c8", "|S7", "|S9", "<U3", "<U5"])
def test_delta_is_for_items_of_a_multiple_of_8_bytes(reference, codec, dtype, tmp_path):
    fields = [{"name": "x", "dtype": dtype}]
    size = reference.item_size(fields)
    raw = bytes(size * ROWS)
    for filters in (0x200, 0x300):
        good = reference.packed([reference.frame(raw, codec)], len(raw))
        save = stored_as(reference, codec | filters, good, raw_size=len(raw), fields=fields, column=raw)
        if size % 8:
            refuse(save, tmp_path / "a.pecs", InvalidFormatError)
        else:
            accept(save, tmp_path / "a.pecs", raw)


def test_delta_of_text_is_refused(reference, codec):
    save = save_of(reference, [{"name": "text", "variable": "str"}], (b"", {"text": [b"abcdefgh"] * ROWS}))
    values = save.part(reference.VALUES, 0, NAME, "text")
    save.pack(values, codec | 0x100, 40)
    assert World.from_bytes(save.to_bytes()).column(NAME)["text"].tolist() == ["abcdefgh"] * ROWS
    values.codec = codec | 0x200
    with pytest.raises(InvalidFormatError, match="values"):
        World.from_bytes(save.to_bytes())


def test_runs_are_for_ids_alone(reference, tmp_path):
    fields = [{"name": "id", "dtype": "<u8", "shape": [2]}]
    raw = reference.pack_ids(range(1, ROWS + 1))
    runs = reference.pack_runs([(1, ROWS)])
    save = stored_as(reference, reference.RUNS, runs, raw_size=len(raw), fields=fields, column=raw)
    refuse(save, tmp_path / "a.pecs", InvalidFormatError)
    save = save_of(
        reference, [{"name": "l", "variable": "list", "ref": True}], (b"", {"l": [bytes(16)] * ROWS})
    )
    for kind in (reference.OFFSETS, reference.VALUES):
        changed = replace(save, parts=[replace(p) for p in save.parts])
        part = changed.part(kind, 0, NAME, "l")
        part.codec, part.data = reference.RUNS, reference.pack_runs([(0, part.raw_size // 16)])
        with pytest.raises(InvalidFormatError, match="codec"):
            World.from_bytes(changed.to_bytes())


@pytest.mark.parametrize("stored_size", [0, 1, 23, 25, 47])
def test_runs_are_whole_entries(reference, stored_size):
    save = save_of(reference)
    save.parts[0].data = (save.parts[0].data * 2)[:stored_size]
    with pytest.raises(InvalidFormatError, match="stable ids"):
        World.from_bytes(save.to_bytes())


def test_a_type_without_fields_has_nothing_to_compress(reference, codec):
    save = save_of(reference, [], b"")
    part = save.part(reference.COLUMN, 0, NAME)
    part.codec, part.data = codec, reference.packed([], 1)
    save.flags |= codec
    with pytest.raises(InvalidFormatError, match="codec"):
        World.from_bytes(save.to_bytes())


@pytest.mark.parametrize("flags", range(4))
@pytest.mark.parametrize("used", [(), (1,), (2,), (1, 2)])
def test_flags_must_be_those_of_the_codecs(reference, used, flags):
    save = save_of(reference, ids=[3 * i + 1 for i in range(ROWS)])
    for part, codec in zip(save.parts, used, strict=False):
        save.pack(part, codec, 4 * save.item(part))
    assert World.from_bytes(save.to_bytes()).column(NAME).tobytes() == RAW
    if flags == sum(used):
        return
    save.flags = 8 | flags
    with pytest.raises(InvalidFormatError, match=f"flags for codecs {sum(used)}, found {flags} at byte 8"):
        World.from_bytes(save.to_bytes())


def test_sections_that_may_be_skipped_have_flags_but_need_not_decode(reference, codec):
    save = save_of(reference)
    save.parts.append(reference.Part(0x8002, codec | 0x400, 0, 0, 0, 3, 5, b"no frame at all"))
    with pytest.raises(InvalidFormatError, match="flags"):
        World.from_bytes(save.to_bytes())
    save.flags |= codec
    assert World.from_bytes(save.to_bytes()).column(NAME).tobytes() == RAW


@pytest.mark.parametrize("raw_size", [0, 1, 396, 399, 401, 404, 800, 2**32 + 400, 2**64 - 1])
def test_a_raw_size_that_is_not_that_of_the_rows_is_refused(reference, codec, raw_size, tmp_path):
    stored = reference.packed(frames(reference, codec), CHUNK)
    save = stored_as(reference, codec, stored, raw_size=raw_size)
    for found in outcomes(save.to_bytes(), tmp_path / "a.pecs"):
        assert isinstance(found, InvalidFormatError | LimitExceededError), found


@pytest.mark.parametrize("elements", [0, 1, 99, 101, 200, 2**24])
def test_values_of_another_size_than_the_offsets_say_are_refused(reference, codec, elements):
    fields = [{"name": "l", "variable": "list", "dtype": "<u4"}]
    save = save_of(reference, fields, (b"", {"l": [b"abcd"] * ROWS}))
    part = save.part(reference.VALUES, 0, NAME, "l")
    save.pack(part, codec, 160)
    assert World.from_bytes(save.to_bytes()).column(NAME)["l"][99].tobytes() == b"abcd"
    part.rows, part.raw_size = elements, 4 * elements
    with pytest.raises(PecsError, match="values"):
        World.from_bytes(save.to_bytes())
    if elements < 1000:
        part.data = reference.pack(b"abcd" * elements, 4, codec, 160)
        with pytest.raises(PecsError, match="values"):
            World.from_bytes(save.to_bytes())


# Limits


def limited(reference, codec):
    """Return a save with packed sections, its size, and the bytes of its sections unpacked."""
    save = save_of(
        reference,
        column=bytes(4 * 20_000),
        rows=20_000,
        ids=[3 * i + 1 for i in range(20_000)],
    )
    for part in save.parts:
        save.pack(part, codec | 0x100, 40_000 * save.item(part))
    data = save.to_bytes()
    return data, sum(part.raw_size for part in save.parts)


def test_limits_on_what_is_unpacked_are_exact(reference, codec, tmp_path):
    data, unpacked = limited(reference, codec)
    path = tmp_path / "a.pecs"
    path.write_bytes(data)
    assert unpacked == 20 * 20_000 > 2 * len(data)
    ratio = -(-unpacked // len(data))
    fine = [
        Limits(total_size=unpacked),
        Limits(ratio=0, free_size=unpacked),
        Limits(ratio=ratio, free_size=0),
    ]
    refused = [
        Limits(total_size=unpacked - 1),
        Limits(ratio=0, free_size=unpacked - 1),
        Limits(ratio=ratio - 1, free_size=0),
        Limits(ratio=0, free_size=0),
    ]

    def ways(limits):
        plugin = BinaryPlugin(limits=limits)
        yield lambda: plugin.decode(data)
        yield lambda: plugin.decode_file(path)
        yield lambda: pecs_np.open(path, limits=limits).close()
        # Of a stream, nothing but what has come counts as the file.
        if limits.free_size or limits not in fine:
            yield lambda: plugin.decode_stream(io.BytesIO(data))

    for limits in fine:
        for way in ways(limits):
            way()
    for limits in refused:
        for way in ways(limits):
            with pytest.raises(LimitExceededError, match=f"found {unpacked} and 0"):
                way()


def test_what_the_limits_refuse_is_not_even_looked_at(reference, codec):
    data, unpacked = limited(reference, codec)
    save = reference.read(data)
    for part in save.parts:
        part.data = b"no table of chunks"
    with pytest.raises(LimitExceededError):
        BinaryPlugin(limits=Limits(ratio=1, free_size=unpacked - 1)).decode(save.to_bytes())


def test_strict_limits_allow_16_mebibytes_or_a_hundred_times_the_file(reference):
    plugin = BinaryPlugin(limits=Limits.strict())
    fields = [{"name": "x", "dtype": "|u1"}, {"name": "l", "variable": "list", "dtype": "|u1"}]
    for size in (1 << 24, (1 << 24) + 1):
        pieces = [bytes(size - 33)]
        save = reference.make([(NAME, 1, fields)], [{"ids": [5], "columns": {NAME: (b"\1", {"l": pieces})}}])
        save.pack(save.part(reference.VALUES, 0, NAME, "l"), reference.ZSTD, 1 << 20)
        assert sum(part.raw_size for part in save.parts) == size
        data = save.to_bytes()
        assert 100 * len(data) < 1 << 24
        assert len(World.from_bytes(data)) == 1
        if size == 1 << 24:
            assert plugin.decode(data).entity_count == 1
        else:
            with pytest.raises(LimitExceededError):
                plugin.decode(data)


# Bombs


def zstd_zeros(size):
    """Return a zstd frame of zeros made by hand, 4 bytes for each 128 KiB: RFC 8878, RLE blocks."""
    block, count = 1 << 17, -(-size // (1 << 17))
    found = bytearray(bytes.fromhex("28b52ffd") + bytes([0, 7 << 3]))
    for i in range(count):
        here = min(block, size - i * block)
        found += (here << 3 | 1 << 1 | (i == count - 1)).to_bytes(3, "little") + b"\0"
    return bytes(found)


def lz4_zeros(blocks):
    """Return an LZ4 frame of so many times 4 MiB of zeros."""
    from lz4 import frame

    one = frame.compress(
        bytes(4 << 20), block_size=frame.BLOCKSIZE_MAX4MB, block_linked=False, store_size=False
    )
    return one[:7] + one[7:-4] * blocks + one[-4:]


def huge_window():
    """Return a frame of 64 zeros that asks for a window of 128 MiB, and one for 2 GiB."""
    block = (64 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"
    return [bytes.fromhex("28b52ffd") + bytes([0, log << 3]) + block for log in (17, 21)]


def test_the_bombs_of_these_tests_are_frames(reference):
    assert reference.unframed(zstd_zeros(300_001), reference.ZSTD) == bytes(300_001)
    assert reference.unframed(lz4_zeros(2), reference.LZ4) == bytes(8 << 20)
    assert reference.unframed(huge_window()[0], reference.ZSTD) == bytes(64)


LIMITED = """
import io, resource, sys
import pecs_np
from pecs_np import BinaryPlugin, World
import lz4.frame
try:
    from compression import zstd
except ImportError:
    from backports import zstd
data = sys.stdin.buffer.read()
path, way, more = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open(path, "wb") as file:
    file.write(data)
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + more, used + more))
def opened():
    with pecs_np.open(path, threads=1) as save:
        save["SectionForeign"]
try:
    {
        "bytes": lambda: BinaryPlugin(threads=1).decode(data),
        "threads": lambda: BinaryPlugin(threads=2).decode(data),
        "file": lambda: BinaryPlugin(threads=1).decode_file(path),
        "stream": lambda: BinaryPlugin(threads=1).decode_stream(io.BytesIO(data)),
        "open": opened,
    }[way]()
except pecs_np.PecsError as error:
    print(type(error).__name__, end="")
else:
    print("loaded", end="")
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory that the system keeps to")


def in_memory_of(more, data, way, path):
    """Return what comes of reading *data* in another process that gets only so many bytes more."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), way, str(more)],
        input=data,
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-600:]
    return done.stdout.decode()


@pytest.fixture(scope="module")
def bombs(reference):
    """Saves of one column of 400 bytes whose one frame unpacks to 2 GiB, or of LZ4 to 128 MiB."""
    return [
        stored_as(reference, codec, reference.packed([frame], 400)).to_bytes()
        for codec, frame in ((reference.ZSTD, zstd_zeros(2 << 30)), (reference.LZ4, lz4_zeros(32)))
    ]


@linux
@pytest.mark.parametrize("way", ["bytes", "file", "stream", "open"])
def test_a_frame_that_unpacks_to_more_than_announced_stops_there(bombs, way, tmp_path):
    for data in bombs:
        assert len(data) < 1 << 20
        assert in_memory_of(48 << 20, data, way, tmp_path / "a.pecs") == "CorruptedDataError"


@linux
def test_a_frame_that_claims_a_huge_size_or_window_gets_no_memory_for_it(reference, tmp_path):
    fields = [{"name": "x", "dtype": "|u1"}]
    allowed, refused = huge_window()
    content = bytes.fromhex("28b52ffd") + bytes([0xC0, 7 << 3]) + struct.pack("<Q", 1 << 62) + allowed[6:]
    for frame in (refused, content):
        stored = reference.packed([frame, zstd_zeros(36)], 64)
        save = stored_as(reference, reference.ZSTD, stored, raw_size=100, fields=fields, column=bytes(100))
        assert in_memory_of(256 << 20, save.to_bytes(), "bytes", tmp_path / "a.pecs") in (
            "CorruptedDataError",
            "LimitExceededError",
        )


@linux
def test_a_frame_that_asks_for_a_large_window_is_refused(reference, tmp_path):
    fields = [{"name": "x", "dtype": "|u1"}]
    stored = reference.packed([huge_window()[0], zstd_zeros(36)], 64)
    save = stored_as(reference, reference.ZSTD, stored, raw_size=100, fields=fields, column=bytes(100))
    assert in_memory_of(64 << 20, save.to_bytes(), "bytes", tmp_path / "a.pecs") == "CorruptedDataError"


def promised(reference, frame, size, chunk):
    """Return a save with one list of *size* bytes, packed as this frame alone or again and again."""
    fields = [{"name": "l", "variable": "list", "dtype": "|u1"}]
    save = reference.make([(NAME, 1, fields)], [{"ids": [1], "columns": {NAME: (b"", {"l": [b""]})}}])
    save.part(reference.OFFSETS, 0, NAME, "l").data = struct.pack("<2Q", 0, size)
    values = save.part(reference.VALUES, 0, NAME, "l")
    values.codec, values.rows, values.raw_size = reference.ZSTD, size, size
    values.data = reference.packed([frame] * (size // chunk), chunk)
    save.flags |= reference.ZSTD
    return save.to_bytes()


@linux
@pytest.mark.parametrize("way", ["bytes", "threads", "file", "stream", "open"])
def test_what_the_limits_allow_but_memory_does_not_is_refused_in_the_librarys_own_way(
    reference, way, tmp_path
):
    data = promised(reference, zstd_zeros(1 << 20), 900 << 20, 1 << 20)
    assert len(data) < 100_000
    assert in_memory_of(400 << 20, data, way, tmp_path / "a.pecs") == "LimitExceededError"


@linux
def test_what_was_packed_in_small_chunks_needs_no_memory_but_its_own(reference, tmp_path):
    data = promised(reference, zstd_zeros(1 << 20), 192 << 20, 1 << 20)
    assert in_memory_of((192 + 48) << 20, data, "bytes", tmp_path / "a.pecs") == "loaded"


@linux
def test_what_was_packed_in_one_chunk_needs_its_memory_no_more_than_three_times(reference, tmp_path):
    # The array, the frame's content, and while that grows a copy of it.
    data = promised(reference, zstd_zeros(128 << 20), 128 << 20, 128 << 20)
    assert in_memory_of((3 * 128 + 48) << 20, data, "bytes", tmp_path / "a.pecs") == "loaded"


@pytest.mark.parametrize("seed", range(4))
def test_compressed_saves_changed_anywhere_under_right_sums_load_or_are_refused(reference, seed):
    rng = random.Random(seed)
    base = reference.sample(6, seed=3)
    for i, part in enumerate(base.parts):
        if item := base.item(part):
            base.pack(
                part, (reference.ZSTD, reference.LZ4, reference.ZSTD | reference.SHUFFLE)[i % 3], 2 * item
            )
    assert World.from_bytes(base.to_bytes()).validate()
    numbers = [0, 1, 2, 3, 8, 16, 64, 255, 2**16 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1]
    for _ in range(25):
        save = replace(base, parts=[replace(part) for part in base.parts], entries={})
        for _ in range(rng.randint(1, 2)):
            place = rng.randrange(len(save.parts))
            part = save.parts[place]
            change = rng.choice(["entry", "number", "byte", "cut", "swap", "codec", "raw"])
            if change == "entry":
                name = rng.choice(reference.ENTRY_NAMES)
                bits = {"kind": 16, "codec": 16, "table": 32, "type": 32, "field": 32}.get(name, 64)
                save.entries[place] = {name: rng.choice(numbers) % 2**bits}
            elif change == "number" and len(part.data) >= 4:
                at = rng.randrange(len(part.data) // 4) * 4 if rng.random() < 0.5 else 0
                value = struct.pack("<I", rng.choice(numbers) % 2**32)
                part.data = part.data[:at] + value + part.data[at + 4 :]
            elif change == "byte" and part.data:
                at = rng.randrange(len(part.data))
                part.data = part.data[:at] + bytes([rng.randrange(256)]) + part.data[at + 1 :]
            elif change == "cut":
                part.data = part.data[: rng.randrange(len(part.data) + 1)]
            elif change == "swap":
                part.data = rng.choice(save.parts).data
            elif change == "codec":
                part.codec = rng.choice([0, 1, 2, 3, 0x101, 0x102, 0x201, 0x301, 0x302])
            else:
                part.raw_size = rng.choice(numbers)
        save.flags = 8 | sum({p.codec & 0xFF for p in save.parts} & {1, 2})
        for threads in (1, 2):
            try:
                world = World.from_bytes(save.to_bytes(), BinaryPlugin(threads=threads))
            except PecsError:
                continue
            assert world.validate()
            assert World.from_bytes(world.to_bytes()).to_bytes() == world.to_bytes()

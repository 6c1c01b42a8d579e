"""The guide's section "Troubleshooting", block by block."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

import pecs_np
from pecs_np import (
    BinaryPlugin,
    CorruptedDataError,
    InvalidFormatError,
    UnsupportedVersionError,
    World,
    component,
)
from pecs_np.persistence.binary.header import HEADER
from pecs_np.persistence.checksum import crc64
from pecs_np.testing import assert_worlds_equal


@component
class Position:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


def saved_world():
    world = World()
    world.spawn_batch(Position(x=np.arange(1000), y=0))
    world.save("game.pecs")
    return world, Path("game.pecs").read_bytes()


def test_invalid_magic_bytes_error(capsys):
    """Troubleshooting, block 1: 1. "Invalid magic bytes" Error."""

    def verify():
        # Verify file format
        with open("game.pecs", "rb") as file:
            magic = file.read(4)

        if magic != b"PECS":
            print("Not a PECS file", file=sys.stderr)

    _, data = saved_world()
    verify()
    assert not capsys.readouterr().err

    for content in (b"PK\x03\x04", b"", data[1:]):
        Path("game.pecs").write_bytes(content)
        verify()
        assert capsys.readouterr().err == "Not a PECS file\n"
        with pytest.raises(
            InvalidFormatError, match=r"begins with b'PECS', found .* of game\.pecs"
        ) as caught:
            World.load("game.pecs")
        assert caught.value.suggestion == "check that it is a PECS binary file"


def test_unsupported_version_error(capsys):
    """Troubleshooting, block 2: 2. "Unsupported version" Error."""
    FORMAT_VERSION = BinaryPlugin().format_version()

    def check():
        # Check version before loading
        with open("game.pecs", "rb") as file:
            _magic, version, _flags, entity_count, type_count = HEADER.unpack(file.read(HEADER.size))
        if version > FORMAT_VERSION:
            print("Save file from newer version", file=sys.stderr)
        return version, entity_count, type_count

    _, data = saved_world()
    assert check() == (2, 1000, 1)
    with pecs_np.open("game.pecs") as save:
        assert (save.format_version, save.entity_count, len(save.types)) == check()
    assert not capsys.readouterr().err

    Path("game.pecs").write_bytes(data[:4] + b"\x03" + data[5:])
    assert check() == (3, 1000, 1)
    assert capsys.readouterr().err == "Save file from newer version\n"
    for read in (World.load, pecs_np.open):
        with pytest.raises(UnsupportedVersionError) as caught:
            read("game.pecs")
        assert (caught.value.found, caught.value.expected) == (3, FORMAT_VERSION)
        assert caught.value.suggestion == "update pecs_np: the save is newer"


def test_corrupted_data_error(capsys):
    """Troubleshooting, block 3: 3. "Corrupted data" Error."""
    calculate_checksum = crc64

    def verify():
        content = Path("game.pecs").read_bytes()
        data, expected = content[:-8], int.from_bytes(content[-8:], "little")

        # Verify checksum
        calculated = calculate_checksum(data)
        if calculated != expected:
            print(f"Checksum mismatch: {calculated} != {expected}", file=sys.stderr)

    _, data = saved_world()
    verify()
    assert not capsys.readouterr().err

    middle = len(data) // 2
    Path("game.pecs").write_bytes(data[:middle] + bytes([data[middle] ^ 8]) + data[middle + 1 :])
    verify()
    assert capsys.readouterr().err.startswith("Checksum mismatch: ")
    with pytest.raises(CorruptedDataError) as caught:
        World.load("game.pecs")
    assert "backup" in caught.value.suggestion
    # All of an opened save is checked without loading it.
    with pecs_np.open("game.pecs") as save, pytest.raises(CorruptedDataError, match="column"):
        save.verify()


def test_slow_save_and_load_performance(capsys):
    """Troubleshooting, block 4: 4. Slow Save/Load Performance."""
    world, _ = saved_world()

    # Profile save operation
    start = time.perf_counter()
    report = world.save("game.pecs")
    print(f"Save took: {time.perf_counter() - start:.6f} s")

    # Use streaming for large worlds
    with open("game.pecs", "wb") as file:
        streamed = world.save_binary_stream(file)

    assert capsys.readouterr().out.startswith("Save took: ")
    assert streamed.bytes == report.bytes == Path("game.pecs").stat().st_size
    assert_worlds_equal(World.load("game.pecs"), world)

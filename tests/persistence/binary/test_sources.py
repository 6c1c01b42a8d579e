"""Streams: what comes through pipes, sockets and objects of all kinds, whole, cut, late or wrong."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import tracemalloc
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

import pecs_np
from pecs_np import (
    BinaryPlugin,
    CorruptedDataError,
    EntityRef,
    InvalidFormatError,
    PecsError,
    PersistenceError,
    PersistenceIOError,
    World,
    component,
)
from pecs_np.persistence import disk
from pecs_np.testing import assert_worlds_equal

ROOT = Path(pecs_np.__file__).parents[1]
posix = pytest.mark.skipif(os.name != "posix", reason="needs pipes that can wait")

PLUGINS = {
    "raw": BinaryPlugin(),
    "zstd": BinaryPlugin(compression="zstd"),
    "lz4": BinaryPlugin(compression="lz4", threads=2),
    "version 1": BinaryPlugin(version=1),
}
plugins = pytest.mark.parametrize("plugin", PLUGINS.values(), ids=PLUGINS)
COLUMNAR = [name for name in PLUGINS if name != "version 1"]
columnar = pytest.mark.parametrize("plugin", [PLUGINS[name] for name in COLUMNAR], ids=COLUMNAR)


@component
class StreamedPoint:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component
class StreamedNote:
    text: str
    about: EntityRef = 0


@component
class StreamedTag:
    pass


def small_world():
    world = World(seed=4)
    ids = world.spawn_batch(StreamedPoint(x=np.arange(40.0)), StreamedTag())
    world.spawn_batch(StreamedNote(text=["é", "", "far"], about=ids[:3]))
    world.spawn(StreamedPoint(5, 5), StreamedNote("both", ids[39]))
    world.spawn()
    return world


def large_world():
    """More than any pipe or socket takes at once."""
    world = World(seed=5)
    rng = np.random.default_rng(5)
    ids = world.spawn_batch(StreamedPoint(x=rng.random(30_000), y=rng.random(30_000)))
    world.spawn_batch(StreamedNote(text=[f"note {i}" for i in range(9000)], about=ids[::-1][:9000]))
    return world


@pytest.fixture(scope="module", params=PLUGINS)
def saved(request):
    """A small world, and what a plugin makes of it."""
    world = small_world()
    return world, world.to_bytes(PLUGINS[request.param]), PLUGINS[request.param]


class OnlyRead:
    """A reader without anything but ``read``, which gives *most* bytes at a time, of a given kind."""

    def __init__(self, data, most=1 << 62, kind=bytes):
        self.file, self.most, self.kind = io.BytesIO(data), most, kind

    def read(self, size=-1):
        assert size >= 0, "asked for all that there is"
        return self.kind(self.file.read(min(size, self.most)))


class OnlyReadInto:
    """A reader without anything but ``readinto``, which gives *most* bytes at a time."""

    def __init__(self, data, most=1 << 62):
        self.file, self.most = io.BytesIO(data), most

    def readinto(self, view):
        return self.file.readinto(memoryview(view)[: self.most])


class Raw(io.RawIOBase):
    """A raw file that counts what is taken, a random number of bytes at a time."""

    def __init__(self, data):
        self.data, self.taken, self.random = data, 0, random.Random(1)

    def readable(self):
        return True

    def readinto(self, view):
        part = self.data[self.taken : self.taken + self.random.randint(1, max(1, len(view)))][: len(view)]
        view[: len(part)] = part
        self.taken += len(part)
        return len(part)


# What worlds go through: each returns (reader, writer) of the same bytes.


def os_pipe(stack, folder):
    reading, writing = os.pipe()
    return open(reading, "rb"), open(writing, "wb")


def raw_os_pipe(stack, folder):
    reading, writing = os.pipe()
    return io.FileIO(reading, "r"), io.FileIO(writing, "w")


def sockets(stack, folder, **options):
    left, right = socket.socketpair()
    stack.callback(left.close)
    left.settimeout(60)
    right.settimeout(60)
    reader, writer = left.makefile("rb", **options), right.makefile("wb", **options)
    right.close()
    return reader, writer


def raw_sockets(stack, folder):
    return sockets(stack, folder, buffering=0)


def child_process(stack, folder):
    code = "import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer, 777)"
    child = stack.enter_context(
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    )
    return child.stdout, child.stdin


@posix
def fifo(stack, folder):
    os.mkfifo(folder / "fifo")
    with ThreadPoolExecutor(1) as pool:
        # Each side waits for the other.
        writer = pool.submit(open, folder / "fifo", "wb")
        return open(folder / "fifo", "rb", buffering=0), writer.result(60)


SIMULTANEOUS = [os_pipe, raw_os_pipe, sockets, raw_sockets, child_process, fifo]


@pytest.mark.parametrize("transport", SIMULTANEOUS)
@plugins
def test_worlds_go_through_pipes_sockets_and_processes(transport, plugin, tmp_path):
    world = large_world()

    def send(writer):
        with writer:
            plugin.save(world, writer)

    with ExitStack() as stack:
        reader, writer = transport(stack, tmp_path)
        stack.enter_context(reader)
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send, writer)
            back = World.load_binary_stream(reader)
            sending.result(60)
        assert reader.read() == b""
    assert type(back) is World
    assert_worlds_equal(back, world)
    assert back.to_bytes(plugin) == world.to_bytes(plugin)
    assert back.validate()


def opened_file(path, mode):
    return open(path, mode)


def opened_raw(path, mode):
    return open(path, mode, buffering=0)


def gzip_file(path, mode):
    return gzip.open(path, mode)


def bz2_file(path, mode):
    return bz2.open(path, mode)


def lzma_file(path, mode):
    return lzma.open(path, mode)


@pytest.mark.parametrize("opener", [opened_file, opened_raw, gzip_file, bz2_file, lzma_file])
@plugins
def test_worlds_go_through_files_of_every_kind(opener, plugin, tmp_path):
    world = small_world()
    with opener(tmp_path / "a", "wb") as file:
        plugin.save(world, file)
    for load in (World.load_binary_stream, World.load_binary, plugin.load):
        with opener(tmp_path / "a", "rb") as file:
            back = load(file)
            assert not file.closed
        assert_worlds_equal(back, world)


def test_worlds_go_through_archives_and_files_without_a_name():
    world = small_world()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle, bundle.open("a", "w") as file:
        world.save_binary_stream(file)
    with zipfile.ZipFile(archive) as bundle, bundle.open("a") as file:
        assert_worlds_equal(World.load_binary_stream(file), world)
    for spooled in (tempfile.TemporaryFile, tempfile.SpooledTemporaryFile):
        with spooled() as file:
            world.save_binary_stream(file)
            file.seek(0)
            assert_worlds_equal(World.load_binary_stream(file), world)


@posix
@plugins
def test_a_named_pipe_loads_by_its_path_and_cannot_be_opened(plugin, tmp_path):
    world = small_world()
    path = tmp_path / "fifo"
    os.mkfifo(path)
    for load in (World.load, World.load_binary):
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(lambda: path.write_bytes(world.to_bytes(plugin)))
            assert_worlds_equal(load(path), world)
            sending.result(60)
    for mmap in (False, True):
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(lambda: open(path, "wb", buffering=0).close())
            with pytest.raises(PersistenceError, match=r"found a stream at .*load_binary_stream"):
                pecs_np.open(path, mmap=mmap)
            sending.result(60)


def test_a_loader_in_another_process_gets_the_world():
    world = large_world()
    code = """
import io, sys
import pecs_np
world = pecs_np.World.load_binary_stream(sys.stdin.buffer)
assert sys.stdin.buffer.read() == b""
world.save_binary_stream(sys.stdout.buffer)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=world.to_bytes(), capture_output=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-500:]
    assert done.stdout == world.to_bytes()


@pytest.mark.parametrize("most", [1, 2, 3, 7, 23, 64, 1000, 10**6])
@pytest.mark.parametrize("reader", [OnlyRead, OnlyReadInto])
def test_readers_that_give_few_bytes_at_a_time_give_the_whole_world(saved, reader, most):
    world, data, plugin = saved
    assert World.load_binary_stream(reader(data, most)).to_bytes(plugin) == data
    assert_worlds_equal(plugin.load(reader(data, most)), world)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
def test_readers_may_give_any_kind_of_bytes(saved, kind):
    _, data, plugin = saved
    assert World.load_binary_stream(OnlyRead(data, 100, kind)).to_bytes(plugin) == data


@pytest.mark.parametrize("dtype", ["<u2", "<f8", "<c16", "S4", [("a", "<u4"), ("b", "u1", (4,))]])
def test_bytes_in_an_array_of_something_else_are_taken_as_bytes_or_refused(saved, dtype):
    """Never as numbers, and never so many of them as there are items."""
    _, data, plugin = saved
    size = np.dtype(dtype).itemsize

    def wide(part):
        return part if len(part) % size or not part else np.frombuffer(part, dtype)

    for kind in (wide, lambda part: memoryview(wide(part)), lambda part: wide(part)[:]):
        try:
            back = World.load_binary_stream(OnlyRead(data, 16 * size, kind))
        except PecsError:
            continue
        assert back.to_bytes(plugin) == data


def released():
    view = memoryview(b"PECS")
    view.release()
    return view


@pytest.mark.parametrize("make", [lambda: np.zeros(4, "M8[s]"), released, lambda: "PECS", lambda: None])
def test_what_has_no_bytes_is_refused(make):
    for load in (World.from_bytes, BinaryPlugin().decode):
        with pytest.raises(InvalidFormatError, match="expected the bytes of a save"):
            load(make())


@pytest.mark.parametrize("name", [[], {}, 3, np.zeros(2)])
def test_bytes_may_be_called_anything(saved, name):
    _, data, plugin = saved
    assert plugin.decode(data, name).entity_count > 0
    with pytest.raises(PecsError):
        plugin.decode(data[:-1], name)


def test_a_raw_file_that_gives_what_it_likes_is_read_to_the_end_of_the_save_and_no_further():
    world = small_world()
    for name in COLUMNAR:
        data = world.to_bytes(PLUGINS[name])
        file = Raw(data + b"and more")
        assert World.load_binary_stream(file).to_bytes(PLUGINS[name]) == data
        assert file.taken == len(data)
        assert file.readall() == b"and more"


@pytest.mark.parametrize("reader", [OnlyRead, OnlyReadInto, Raw, io.BytesIO])
def test_saves_that_follow_one_another_come_one_by_one(reader):
    first, second, third = small_world(), large_world(), World(seed=1)
    data = [w.to_bytes(PLUGINS[n]) for w, n in zip((first, second, third), COLUMNAR, strict=True)]
    file = reader(b"".join(data) + b"PECS")
    for name, expected in zip(COLUMNAR, data, strict=True):
        assert World.load_binary_stream(file).to_bytes(PLUGINS[name]) == expected
    with pytest.raises(CorruptedDataError, match="expected more bytes, found the end"):
        World.load_binary_stream(file)


@columnar
def test_a_stream_that_stays_open_is_not_waited_for(plugin):
    """As in a conversation: the other side sends the next save only when it has got an answer."""
    world = small_world()
    left, right = socket.socketpair()
    with left, right, left.makefile("rwb") as ours, right.makefile("rwb") as theirs:
        left.settimeout(60)
        right.settimeout(60)
        for _ in range(3):
            plugin.save(world, ours)
            ours.flush()
            back = World.load_binary_stream(theirs)
            back.spawn()
            plugin.save(back, theirs)
            theirs.flush()
            answer = World.load_binary_stream(ours)
            assert len(answer) == len(world) + 1
            world = answer


@pytest.mark.parametrize("trailing", [b"\0", b"PECS", bytes(100_000)])
@columnar
def test_bytes_after_a_save_are_refused_by_load_and_left_alone_by_load_binary_stream(
    plugin, trailing, tmp_path
):
    world = small_world()
    data = world.to_bytes(plugin)
    path = tmp_path / "a.pecs"
    path.write_bytes(data + trailing)
    for load in (plugin.load, World.load_binary, lambda file: World.load_with(file, plugin)):
        with open(path, "rb") as file:
            for reader in (io.BytesIO(data + trailing), OnlyRead(data + trailing), file):
                with pytest.raises(CorruptedDataError, match=f"the end at byte {len(data)}, found more"):
                    load(reader)
    with pytest.raises(CorruptedDataError):
        World.load(path)
    with open(path, "rb") as file:
        assert World.load_binary_stream(file).to_bytes(plugin) == data
        assert file.tell() == len(data)
        assert file.read() == trailing


def test_a_decoded_stream_may_be_left_before_its_end_if_asked_for():
    world = small_world()
    data = world.to_bytes()
    plugin = BinaryPlugin()
    file = io.BytesIO(data + b"more")
    assert plugin.decode_stream(file, to_end=False).entity_count == len(world)
    assert file.read() == b"more"
    with pytest.raises(CorruptedDataError, match="found more"):
        plugin.decode_stream(io.BytesIO(data + b"more"))


def test_version_1_is_read_to_the_end_of_the_stream_where_nothing_may_follow():
    world = small_world()
    plugin = PLUGINS["version 1"]
    data = world.to_bytes(plugin)
    for trailing in (b"\0", data):
        for load in (World.load_binary_stream, plugin.load):
            with pytest.raises(PecsError):
                load(io.BytesIO(data + trailing))
    file = io.BytesIO(data)
    assert_worlds_equal(World.load_binary_stream(file), world)
    assert file.read() == b""


def test_reading_begins_where_the_stream_stands(saved):
    _, data, plugin = saved
    file = io.BytesIO(b"before" + data)
    file.seek(6)
    assert World.load_binary_stream(file).to_bytes(plugin) == data


@pytest.mark.parametrize("reader", [io.BytesIO, OnlyRead])
def test_a_stream_cut_at_any_length_is_an_error_of_the_library(saved, reader):
    _, data, plugin = saved
    for length in range(len(data)):
        with pytest.raises((CorruptedDataError, InvalidFormatError)):
            World.load_binary_stream(reader(data[:length]))
        with pytest.raises((CorruptedDataError, InvalidFormatError)):
            plugin.load(reader(data[:length]))


def test_where_a_stream_was_cut_is_told():
    data = small_world().to_bytes()
    for length in (0, 10, 24, 500, len(data) - 9, len(data) - 1):
        with pytest.raises(
            CorruptedDataError, match=f"found the end at byte {length} of <stream>; .*cut short"
        ):
            World.load_binary_stream(OnlyReadInto(data[:length], 13))


def test_a_stream_with_any_byte_changed_is_an_error_of_the_library(saved):
    _, data, _ = saved
    changed = bytearray(data)
    for at in range(len(data)):
        changed[at] ^= 1 << at % 8
        with pytest.raises(PecsError):
            World.load_binary_stream(io.BytesIO(changed))
        changed[at] ^= 1 << at % 8
    World.load_binary_stream(io.BytesIO(changed))


@columnar
def test_damage_in_a_stream_takes_no_byte_of_what_follows(plugin):
    """A wrong sum of a column is found without reading on."""
    world = small_world()
    data = bytearray(world.to_bytes(plugin))
    data[-1] ^= 1
    file = io.BytesIO(bytes(data) + b"following")
    with pytest.raises(CorruptedDataError, match="footer"):
        World.load_binary_stream(file)
    assert file.read() == b"following"


@pytest.mark.parametrize("module", [gzip, bz2, lzma], ids=lambda module: module.__name__)
def test_compressed_files_cut_or_damaged_anywhere_load_or_are_an_error_of_the_library(module):
    """EOFError, zlib.error, BadGzipFile, LZMAError: the modules have errors of their own."""
    world = small_world()
    packed = module.compress(world.to_bytes())
    refused = 0
    for at in range(len(packed)):
        changed = bytearray(packed)
        changed[at] ^= 1 << at % 8
        for data in (packed[:at], bytes(changed)):
            with module.open(io.BytesIO(data)) as file:
                try:
                    back = BinaryPlugin().load(file)
                except PecsError:
                    refused += 1
                else:
                    # A clock, a name, a sum of the module's own that it reads only at its end.
                    assert back.to_bytes() == world.to_bytes()
    assert refused > len(packed)


# Files of columns so large that more than one thread reads them.


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A file of a column of 16 MB, and where that begins."""
    world = World(seed=6)
    world.spawn_batch(StreamedPoint(x=np.arange(2_000_001), y=np.arange(2_000_001)[::-1]))
    path = tmp_path_factory.mktemp("large") / "large.pecs"
    world.save(path, durable=False)
    start = path.stat().st_size - 8 - 8 * 2_000_001
    assert start % 64 == 0
    return world, path, start


def opened(path, touch, **options):
    with pecs_np.open(path, **options) as save:
        return touch(save)


READING = {
    "load": World.load,
    "open": lambda path: opened(path, lambda save: save["StreamedPoint"]),
    "mmap": lambda path: opened(path, lambda save: save["StreamedPoint"], mmap=True),
    "verify": lambda path: opened(path, lambda save: save.verify()),
}


def test_large_columns_are_read_whole(large):
    world, path, _ = large
    assert_worlds_equal(World.load(path), world)
    for mmap in (False, True):
        with pecs_np.open(path, mmap=mmap) as save:
            assert (save["StreamedPoint"] == world.column(StreamedPoint)).all()
            assert_worlds_equal(World.from_snapshot(save.snapshot()), world)


@pytest.mark.parametrize("reading", READING)
def test_damage_anywhere_in_a_large_column_is_found(large, reading):
    _, path, start = large
    size = 8 * 2_000_001
    for at in (
        0,
        1,
        (1 << 20) - 1,
        1 << 20,
        size // 2 - 1,
        size // 2,
        size // 2 + 1,
        size - (1 << 20),
        size - 1,
    ):
        with open(path, "r+b") as file:
            file.seek(start + at)
            (old,) = file.read(1)
            file.seek(start + at)
            file.write(bytes([old ^ 4]))
        try:
            with pytest.raises(
                CorruptedDataError, match=r"checksum .* in section 1 \(column of \w+, table 0\)"
            ):
                READING[reading](path)
        finally:
            with open(path, "r+b") as file:
                file.seek(start + at)
                file.write(bytes([old]))
    READING[reading](path)


@pytest.mark.parametrize("at", [0, 1 << 20, 7_999_000, 8_000_004, 15_000_000])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EIO, "Input/output error"), PersistenceIOError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (0, PersistenceIOError),
    ],
    ids=["failing", "stopped", "at an end"],
)
def test_whatever_happens_while_a_large_column_is_read_ends_the_reading(
    large, monkeypatch, at, error, expected
):
    _, path, start = large
    read_at = disk.system.read_at

    def failing(descriptor, view, offset):
        if offset <= start + at < offset + len(view):
            if not error:
                return 0
            raise error
        return read_at(descriptor, view, offset)

    threads = threading.active_count()
    for reading in ("load", "open"):
        with monkeypatch.context() as patched:
            patched.setattr(disk.system, "read_at", failing)
            with pytest.raises(expected):
                READING[reading](path)
        assert threading.active_count() == threads
        READING[reading](path)


class OddReader:
    """A reader that gives *data* up to a place, there does once as *odd* says, and then is at its end."""

    def __init__(self, data, place, odd):
        self.file, self.left, self.odd = io.BytesIO(data), place, odd

    def read(self, size=-1):
        if not self.left:
            odd, self.odd = self.odd, lambda size: b""
            return odd(size)
        part = self.file.read(min(size, self.left))
        self.left -= len(part)
        return part


class OddReaderInto(OddReader):
    read = None

    def readinto(self, view):
        part = OddReader.read(self, len(view))
        if not isinstance(part, bytes) or len(part) > len(view):
            return part if not isinstance(part, bytes) else len(part)
        view[: len(part)] = part
        return len(part)


def places(data):
    """Before the first byte, in header, head, columns and footer, and after the last byte."""
    return [0, 3, 24, 100, len(data) // 2, len(data) - 20, len(data) - 3, len(data)]


ERRORS = [
    OSError(5, "Input/output error"),
    EOFError("Compressed file ended before the end-of-stream marker was reached"),
    zlib.error("Error -3 while decompressing data"),
    KeyError("missing"),
    ValueError("I/O operation on closed file"),
    IndexError(),
    StopIteration(),
    AssertionError(),
    RecursionError("maximum recursion depth exceeded"),
    struct.error("unpack requires a buffer of 4 bytes"),
    TimeoutError("timed out"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    NotImplementedError(),
]


def raising(error):
    def odd(size):
        raise error

    return odd


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("reader", [OddReader, OddReaderInto])
def test_whatever_a_reader_raises_is_an_error_of_reading(saved, reader, error):
    _, data, plugin = saved
    for place in places(data):
        with pytest.raises(PersistenceIOError, match="reading from <stream> failed") as caught:
            plugin.load(reader(data, place, raising(error)))
        assert caught.value.__cause__ is error
        assert caught.value.errno == getattr(error, "errno", None)


@pytest.mark.parametrize("reader", [OddReader, OddReaderInto])
def test_an_error_of_the_library_that_a_reader_raises_is_one_still(saved, reader):
    _, data, plugin = saved
    for error in (PersistenceError("the queue is empty"), CorruptedDataError("the message is damaged")):
        for place in places(data):
            with pytest.raises(PersistenceError, match=str(error)):
                plugin.load(reader(data, place, raising(error)))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_stopping_the_program_is_no_error_of_reading(saved, stop):
    _, data, _ = saved
    for place in places(data)[:-1]:
        with pytest.raises(stop):
            World.load_binary_stream(OddReader(data, place, raising(stop)))


# What a ``read`` may give that is no bytes, or too many of them.
GIVEN = {
    "nothing yet": (lambda size: None, PersistenceIOError),
    "text": (lambda size: "PECS"[:size], InvalidFormatError),
    "no text": (lambda size: "", InvalidFormatError),
    "too much": (lambda size: bytes(size + 1), PersistenceIOError),
    "far too much": (lambda size: bytes(size + 10**6), PersistenceIOError),
    "a number": (lambda size: 1, PecsError),
    "a list": (lambda size: [1], PecsError),
    "a dict": (lambda size: {1: 2}, PecsError),
    "a set": (lambda size: {1}, PecsError),
    "a float": (lambda size: 1.0, PecsError),
    "objects": (lambda size: np.array([None], object), PecsError),
    "an object": (lambda size: object(), PecsError),
}


@pytest.mark.parametrize("given", GIVEN)
def test_what_is_not_the_bytes_asked_for_is_refused(given):
    odd, error = GIVEN[given]
    for plugin in PLUGINS.values():
        data = small_world().to_bytes(plugin)
        for place in places(data):
            with pytest.raises(error) as caught:
                plugin.load(OddReader(data, place, odd))
            assert isinstance(caught.value, PecsError)


# What a ``readinto`` may say that it gave.
COUNTS = {
    "nothing yet": lambda size: None,
    "one too many": lambda size: size + 1,
    "far too many": lambda size: 1 << 70,
    "less than nothing": lambda size: -1,
    "far less than nothing": lambda size: -size,
    "a truth": lambda size: True,
    "a float": lambda size: 1.0,
    "text": lambda size: "1",
    "a list": lambda size: [1],
    "an array": lambda size: np.zeros(2),
    "an object": lambda size: object(),
}


@pytest.mark.parametrize("count", COUNTS)
def test_a_reader_that_counts_wrongly_is_refused(count):
    for plugin in PLUGINS.values():
        data = small_world().to_bytes(plugin)
        for place in places(data):
            with pytest.raises(PersistenceIOError, match=r"stream> failed: (expected up to|nothing is)"):
                plugin.load(OddReaderInto(data, place, COUNTS[count]))


@pytest.mark.parametrize("reader", [None, 5, "a.pecs", b"PECS", Path("a.pecs"), object(), [b"PECS"], World()])
def test_what_cannot_be_read_from_is_refused_with_advice(reader):
    for load in (World.load_binary_stream, BinaryPlugin().load, BinaryPlugin().decode_stream):
        with pytest.raises(PersistenceIOError, match=r"an object with read or readinto.*makefile"):
            load(reader)


@pytest.mark.parametrize("text", ["PECS and more", "", "\ud800"])
def test_text_is_refused_with_advice(text):
    for load in (World.load_binary_stream, BinaryPlugin().load):
        with pytest.raises(InvalidFormatError, match="'rb'"):
            load(io.StringIO(text))


def test_a_file_opened_for_text_is_an_error_of_the_library(saved, tmp_path):
    _, data, _ = saved
    (tmp_path / "a").write_bytes(data)
    for encoding in ("utf-8", "latin-1", "ascii"):
        with open(tmp_path / "a", encoding=encoding) as file, pytest.raises(PecsError):
            World.load_binary_stream(file)


def test_files_that_are_closed_or_only_for_writing_are_errors_of_the_library(tmp_path):
    world = small_world()
    closed = io.BytesIO(world.to_bytes())
    closed.close()
    with open(tmp_path / "a", "wb") as writing, open(tmp_path / "a", "wb", buffering=0) as raw:
        for file in (closed, writing, raw):
            with pytest.raises(PersistenceIOError):
                World.load_binary_stream(file)


def test_messages_name_the_file_that_is_read(tmp_path):
    (tmp_path / "cut.pecs").write_bytes(small_world().to_bytes()[:-5])
    with open(tmp_path / "cut.pecs", "rb") as file, pytest.raises(CorruptedDataError, match=r"cut\.pecs"):
        World.load_binary_stream(file)
    reading, writing = os.pipe()
    os.close(writing)
    with open(reading, "rb") as file, pytest.raises(CorruptedDataError, match=f"at byte 0 of {reading}"):
        World.load_binary_stream(file)


class NamelessReader(OnlyRead):
    @property
    def name(self):
        raise RuntimeError("no name yet")


def test_a_reader_whose_name_cannot_be_told_is_read_all_the_same():
    world = small_world()
    assert_worlds_equal(World.load_binary_stream(NamelessReader(world.to_bytes())), world)


@posix
def test_a_pipe_that_does_not_wait_is_refused_with_advice():
    data = small_world().to_bytes()
    for sent in (b"", data[:10], data[:700]):
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        with open(reading, "rb", buffering=0) as reader, open(writing, "wb", buffering=0) as writer:
            writer.write(sent)
            with pytest.raises(PersistenceIOError, match="nothing is there yet; use a blocking file"):
                World.load_binary_stream(reader)


def test_a_socket_whose_time_is_up_is_an_error_of_reading():
    data = small_world().to_bytes()
    for buffering in (-1, 0):
        left, right = socket.socketpair()
        with left, right:
            left.settimeout(0.01)
            right.sendall(data[:-1])
            with left.makefile("rb", buffering=buffering) as reader, pytest.raises(PersistenceIOError):
                World.load_binary_stream(reader)


def test_a_connection_that_ends_early_is_a_save_cut_short():
    data = small_world().to_bytes()
    for length in (0, 100, len(data) - 1):
        left, right = socket.socketpair()
        with left, left.makefile("rb") as reader:
            right.sendall(data[:length])
            right.close()
            with pytest.raises(CorruptedDataError, match=f"found the end at byte {length}"):
                World.load_binary_stream(reader)


def test_the_reader_stays_open_whether_the_world_loads_or_not(tmp_path):
    data = small_world().to_bytes()
    for content in (data, data[:-1], b"junk" * 10):
        file = io.BytesIO(content)
        try:
            World.load_binary_stream(file)
        except PecsError:
            assert content != data
        assert not file.closed


def test_a_loaded_world_is_its_own_and_goes_on(saved):
    world, data, plugin = saved
    back = World.load_binary_stream(io.BytesIO(data))
    for point in back.query(StreamedPoint):
        point.x += 1
    back.spawn(StreamedPoint(1, 2), StreamedTag())
    back.despawn(int(back.entities()[0]))
    assert back.validate()
    assert back.to_bytes(plugin) != data
    assert World.load_binary_stream(io.BytesIO(data)).to_bytes(plugin) == data == world.to_bytes(plugin)


def test_subclasses_load_themselves():
    class StreamedGame(World):
        pass

    assert type(StreamedGame.load_binary_stream(io.BytesIO(World().to_bytes()))) is StreamedGame


SAVER = """
import io, sys, tracemalloc
from typing import Annotated
import numpy as np
import pecs_np
form = sys.argv[1]
count = 1_000_000
plugin = pecs_np.BinaryPlugin(compression=form if form in ("zstd", "lz4") else None)
world = pecs_np.World(seed=1)
if form == "references":
    Link = pecs_np.make_component("Link", {"to": pecs_np.EntityRef})
    ids = world.spawn_batch(Link(0), count=count)
    for link in world.query(Link):
        link.to = ids[::-1]
else:
    two = {"v": Annotated[np.float32, 2]}
    Place, Speed = (pecs_np.make_component(name, two) for name in ("Place", "Speed"))
    values = np.random.default_rng(1).random((count, 2))
    world.spawn_batch(Place(v=values), Speed(v=values[::-1]))
    del values
tracemalloc.start()
plugin.save(world, io.FileIO(1, "w", closefd=False))
print(tracemalloc.get_traced_memory()[1], file=sys.stderr)
"""
LOADER = """
import io, sys, tracemalloc
import pecs_np
pecs_np.World.from_bytes(pecs_np.World().to_bytes())
tracemalloc.start()
world = pecs_np.World.load_binary_stream(io.FileIO(0, closefd=False))
peak = tracemalloc.get_traced_memory()[1]
tracemalloc.stop()
columns = [part for name in world.snapshot().types for part in world.columns(name.name)]
assert len(world) == 1_000_000 and sum(map(len, columns)) % len(world) == 0
print(peak, sum(column.nbytes for column in columns), file=sys.stderr)
"""


def peaks_through_a_pipe(form):
    """Return the peak of saving, the peak of loading, and the bytes of the loaded columns."""
    command = [sys.executable, "-c"]
    options = {"stderr": subprocess.PIPE, "cwd": ROOT}
    saver = subprocess.Popen([*command, SAVER, form], stdout=subprocess.PIPE, **options)
    with saver, subprocess.Popen([*command, LOADER], stdin=saver.stdout, **options) as loader:
        saver.stdout.close()
        found = [process.stderr.read().decode() for process in (saver, loader)]
    assert (saver.returncode, loader.returncode) == (0, 0), found
    return *map(int, found[0].split()), *map(int, found[1].split())


@pytest.mark.parametrize("form", ["raw", "zstd", "lz4"])
def test_a_million_entities_go_through_a_pipe_with_hardly_any_memory_beyond_the_worlds(form):
    saving, loading, columns = peaks_through_a_pipe(form)
    assert columns == 16_000_000
    assert saving < 16 << 20
    assert loading < columns + (16 << 20)


def test_references_need_a_table_of_24_bytes_an_entity_when_they_are_saved_to_a_stream():
    saving, _, columns = peaks_through_a_pipe("references")
    assert columns == 8_000_000
    assert saving < (16 << 20) + 24 * 1_000_000


def a_few_large_texts(define):
    """Thousands of small values, and then large ones."""
    texts = ["a"] * 70_000 + ["x" * 20_000] * 3000
    return {"S": define("StreamedText", {"s": str})(s=texts)}


def a_few_large_foreign_texts(define):
    texts = ["é"] * 70_000 + ["é" * 10_000] * 2000
    return {"S": define("StreamedText", {"s": str})(s=texts)}


def a_few_large_lists(define):
    large = np.arange(5000, dtype=np.int32)
    return {"L": define("StreamedList", {"l": list[np.int32]})(l=[large[:1]] * 70_000 + [large] * 3000)}


def random_ids(define):
    ids = np.zeros(3_000_000, [("lo", "<u8"), ("hi", "<u8")])
    ids["lo"] = np.random.default_rng(1).permutation(9_000_000)[: len(ids)] + 1
    return {"stable_ids": ids}


def ids_in_runs_of_nine(define):
    ids = np.zeros(3_000_000, [("lo", "<u8"), ("hi", "<u8")])
    ids["lo"] = np.arange(len(ids)) + np.arange(len(ids)) // 9 + 1
    return {"stable_ids": ids}


def large_rows(define):
    values = np.random.default_rng(1).random((6, 1 << 19))
    return {"R": define("StreamedRow", {"a": Annotated[np.float64, 1 << 19]})(a=values)}


class Nowhere:
    def write(self, data):
        return len(data)


@pytest.mark.parametrize("options", [{}, {"version": 1}, {"compression": "zstd", "threads": 4}])
@pytest.mark.parametrize(
    "make",
    [
        a_few_large_texts,
        a_few_large_foreign_texts,
        a_few_large_lists,
        random_ids,
        ids_in_runs_of_nine,
        large_rows,
    ],
)
def test_a_stream_takes_little_memory_whatever_the_sizes_of_values_and_ids(define, make, options):
    if "compression" in options:
        pytest.importorskip("backports.zstd")
    made = make(define)
    world = World()
    ids = made.pop("stable_ids", None)
    world.spawn_batch(*made.values(), count=len(ids) if ids is not None else None, stable_ids=ids)
    plugin = BinaryPlugin(**options)
    plugin.save(World(), Nowhere())
    tracemalloc.start()
    try:
        plugin.save(world, Nowhere())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


@pytest.mark.parametrize("options", [{}, {"version": 1}, {"compression": "lz4", "threads": 1}])
def test_a_stream_has_the_bytes_of_a_file(define, options):
    if "compression" in options:
        pytest.importorskip("lz4")
    note = define("StreamedDiary", {"text": str, "raw": bytes, "at": list[np.int16]})
    world = World(seed=1)
    count = 9000
    texts = ["é" * (i % 7) + "x" * (1 << 16 if i % 997 == 0 else i % 11) for i in range(count)]
    world.spawn_batch(
        note(text=texts, raw=[t.encode()[:5] for t in texts], at=[[i % 99] * (i % 5) for i in range(count)])
    )
    plugin = BinaryPlugin(**options)
    stream = io.BytesIO()
    plugin.save(world, stream)
    assert stream.getvalue() == world.to_bytes(plugin)
    assert_worlds_equal(World.from_bytes(stream.getvalue()), World.from_bytes(world.to_bytes()))

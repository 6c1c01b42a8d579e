"""What every save format inherits: worlds to writers and back from readers."""

from __future__ import annotations

import contextlib
import enum
import errno
import gzip
import io
import os
import random
import socket
import struct
import zlib
from typing import Annotated

import numpy as np
import pytest

import pecs_np
from pecs_np import (
    BinaryPlugin,
    ComponentValueError,
    EntityRef,
    InvalidFormatError,
    PecsError,
    PersistenceError,
    PersistenceIOError,
    PersistenceManager,
    PersistencePlugin,
    World,
    component,
)
from pecs_np.testing import assert_worlds_equal

posix = pytest.mark.skipif(os.name != "posix", reason="needs pipes that can refuse")


class PluggedState(enum.IntEnum):
    OFF = 0
    ON = 5


@component
class PluggedNumber:
    value: int


@component
class PluggedLink:
    to: EntityRef = 0


@component
class PluggedZoo:
    """What can hold a value that no reader would take."""

    text: str = ""
    flag: bool = False
    state: PluggedState = PluggedState.OFF
    code: Annotated[str, 2] = ""
    crew: list[EntityRef] = ()


@component(transient=True)
class PluggedCache:
    value: int


class Reversed(PersistencePlugin):
    """The binary format, back to front."""

    def encode(self, snapshot):
        assert not snapshot.has_transient
        return [b"".join(map(bytes, BinaryPlugin().encode(snapshot)))[::-1]]

    def decode(self, data, name):
        return BinaryPlugin().decode(bytes(data)[::-1], name)

    def format_name(self):
        return "reversed"

    def format_version(self):
        return 7


@pytest.fixture
def world():
    world = World(seed=1)
    world.spawn_batch(PluggedNumber(value=[1, 2, 3]), PluggedCache(5))
    return world


class Sipping(io.RawIOBase):
    """A writer that takes a few bytes at a time, and says so."""

    def __init__(self, most):
        self.data, self.most = bytearray(), most

    def writable(self):
        return True

    def write(self, data):
        taken = bytes(data)[: self.most]
        self.data += taken
        return len(taken)


class Counting:
    """A writer that takes *most* bytes at a time, and says by *says* how many."""

    def __init__(self, most, says):
        self.data, self.most, self.says = bytearray(), most, says

    def write(self, data):
        taken = bytes(data)[: self.most]
        self.data += taken
        return self.says(len(taken))


class Silent:
    """A writer that takes all and returns nothing."""

    def __init__(self):
        self.data = bytearray()

    def write(self, data):
        self.data += data


class Broken:
    def write(self, data):
        raise OSError(28, "No space left on device")

    def read(self, size=-1):
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("most", [1, 7, 64, 10**6])
def test_writers_that_take_few_bytes_at_a_time_get_all_of_them(world, most):
    writer = Sipping(most)
    BinaryPlugin().save(world, writer)
    assert bytes(writer.data) == world.to_bytes()


def test_writers_that_do_not_count_are_believed_to_have_taken_all(world):
    writer = Silent()
    BinaryPlugin().save(world, writer)
    assert bytes(writer.data) == world.to_bytes()


def test_what_is_saved_to_a_writer_loads_from_a_reader(world):
    file = io.BytesIO()
    Reversed().save(world, file)
    back = Reversed().load(io.BytesIO(file.getvalue()))
    assert type(back) is pecs_np.World
    assert back.to_bytes() == world.to_bytes()


def test_formats_never_see_transient_types(world, tmp_path):
    # `Reversed.encode` would trip over them.
    world.save_with(tmp_path / "a.reversed", Reversed())
    back = World.load_with(tmp_path / "a.reversed", Reversed())
    assert back.query(PluggedCache).count() == 0
    assert back.query(PluggedNumber).count() == 3


def test_a_format_reads_its_own_version_alone_unless_it_says_otherwise():
    assert Reversed().can_load_version(7)
    assert not Reversed().can_load_version(6)
    assert BinaryPlugin().can_load_version(2)


def test_a_format_without_its_two_functions_cannot_be_made():
    with pytest.raises(TypeError):
        PersistencePlugin()


def test_a_failing_writer_is_an_error_of_the_library(world):
    with pytest.raises(PersistenceIOError, match="No space left"):
        BinaryPlugin().save(world, Broken())


def test_a_writer_that_takes_nothing_is_an_error_and_no_endless_loop(world):
    with pytest.raises(PersistenceIOError, match="takes no more"):
        BinaryPlugin().save(world, Sipping(0))


def test_closed_files_and_files_for_text_are_errors_of_the_library(world):
    closed = io.BytesIO()
    closed.close()
    for file in (closed, io.StringIO()):
        with pytest.raises(PersistenceIOError):
            BinaryPlugin().save(world, file)
    with pytest.raises(PersistenceIOError):
        BinaryPlugin().load(closed)


def test_a_failing_reader_is_an_error_of_the_library():
    with pytest.raises(PersistenceIOError, match="Input/output"):
        BinaryPlugin().load(Broken())


def test_text_from_a_reader_is_refused_with_advice():
    with pytest.raises(InvalidFormatError, match="'rb'"):
        BinaryPlugin().load(io.StringIO("PECS"))


def test_loading_from_an_open_file_gives_the_same_world(world, tmp_path):
    world.save(tmp_path / "a.pecs")
    with open(tmp_path / "a.pecs", "rb") as file:
        assert BinaryPlugin().load(file).to_bytes() == world.to_bytes()
    with open(tmp_path / "a.pecs", "rb", buffering=0) as file:
        assert BinaryPlugin().load(file).to_bytes() == world.to_bytes()


PLUGINS = {
    "raw": BinaryPlugin(),
    "zstd": BinaryPlugin(compression="zstd", level=1),
    "zstd unshuffled": BinaryPlugin(compression="zstd", shuffle=False, threads=1),
    "lz4": BinaryPlugin(compression="lz4", threads=3),
    "version 1": BinaryPlugin(version=1),
    "version 1 we": BinaryPlugin(version=1, checksum="we"),
    "reversed": Reversed(),
}
plugins = pytest.mark.parametrize("plugin", PLUGINS.values(), ids=PLUGINS)


def mixed_world(count=3000):
    """Columns as they lie in memory, and such as are made while they are written; small and large ones."""
    world = World(seed=2)
    rng = np.random.default_rng(2)
    ids = world.spawn_batch(PluggedNumber(value=rng.integers(1 << 40, size=8 * count)))
    links = world.spawn_batch(PluggedLink(to=ids[:count]), PluggedNumber(value=np.arange(count)))
    texts = [f"é{i}" * (i % 5) for i in range(count)]
    world.spawn_batch(PluggedZoo(text=texts, flag=True, state=5, code="ab", crew=[[int(i)] for i in links]))
    world.spawn()
    return world


@plugins
def test_what_is_written_to_a_stream_is_what_to_bytes_gives(plugin):
    for world in (World(), World(seed=1), mixed_world(1), mixed_world()):
        expected = world.to_bytes(plugin)
        for writer in (io.BytesIO(), Silent(), Sipping(1000), Sipping(1 << 40)):
            plugin.save(world, writer)
            written = writer.getvalue() if isinstance(writer, io.BytesIO) else bytes(writer.data)
            assert written == expected
        assert_worlds_equal(World.from_bytes(expected, plugin), world)
    writer = io.BytesIO()
    world.save_with(writer, plugin)
    assert writer.getvalue() == expected


def test_the_worlds_own_verb_writes_what_to_bytes_gives():
    world = mixed_world()
    world.resources.insert(PluggedZoo("clock", True))
    world.metadata = {"a": 1}
    world.rngs.create("dice")
    for save in (world.save_binary_stream, world.save_binary, lambda w: world.save_with(w, BinaryPlugin())):
        writer = io.BytesIO()
        save(writer)
        assert writer.getvalue() == world.to_bytes()


@pytest.mark.parametrize("plugin", [PLUGINS[name] for name in ("raw", "zstd", "lz4", "version 1")])
def test_more_than_is_kept_in_memory_is_made_again_for_the_stream(plugin):
    """References and texts of tens of megabytes: made once for their size and sum, and once to be written."""
    world = World(seed=1)
    count = 400_000
    rng = np.random.default_rng(1)
    ids = world.spawn_batch(PluggedLink(), count=count)
    for link in world.query(PluggedLink):
        link.to = ids[rng.permutation(count)]
    world.spawn_batch(PluggedZoo(text=[rng.bytes(200).hex()] * 30_000))
    writer = io.BytesIO()
    plugin.save(world, writer)
    assert len(writer.getvalue()) > 12 << 20 or plugin.packing
    assert writer.getvalue() == world.to_bytes(plugin)
    assert_worlds_equal(plugin.load(io.BytesIO(writer.getvalue())), world)


@pytest.mark.parametrize("most", [1, 2, 3, 5, 63, 64, 65, 4096])
@plugins
def test_short_writes_of_any_size_lose_nothing(plugin, most):
    world = mixed_world(5)
    for writer in (Sipping(most), Counting(most, int)):
        plugin.save(world, writer)
        assert bytes(writer.data) == world.to_bytes(plugin)


@plugins
def test_short_writes_of_changing_sizes_lose_nothing(plugin):
    world = mixed_world()
    chance = random.Random(3)

    class Moody(Sipping):
        def write(self, data):
            self.most = chance.choice([1, 10, 1000, 100_000])
            return super().write(data)

    writer = Moody(1)
    plugin.save(world, writer)
    assert bytes(writer.data) == world.to_bytes(plugin)


@pytest.mark.parametrize("says", [np.int64, np.uint8, np.intp, float, str, lambda n: [n], lambda n: True])
def test_a_writer_that_counts_in_its_own_way_gets_all_bytes_once_or_is_refused(says):
    """A short write that is taken for a whole one is a save that lacks bytes, and nobody is told."""
    world = mixed_world(5)
    writer = Counting(7, says)
    try:
        BinaryPlugin().save(world, writer)
    except PersistenceIOError:
        return
    assert bytes(writer.data) == world.to_bytes()


@pytest.mark.parametrize("says", [lambda n: n + 1, lambda n: -1, lambda n: 1 << 70, lambda n: -n])
@plugins
def test_a_writer_that_says_it_took_more_or_less_than_it_can_is_refused(plugin, says):
    with pytest.raises(PersistenceIOError, match=r"expected up to \d+ bytes, found"):
        plugin.save(mixed_world(5), Counting(1 << 40, says))


@pytest.mark.parametrize("says", [lambda n: 0, lambda n: False])
@plugins
def test_a_writer_that_takes_nothing_is_refused_and_not_asked_for_ever(plugin, says):
    with pytest.raises(PersistenceIOError, match="takes no more"):
        plugin.save(mixed_world(5), Counting(0, says))


class Keeping:
    """A writer that keeps what it is given, without looking at it."""

    def __init__(self):
        self.parts = []

    def write(self, data):
        self.parts.append(data)


@plugins
def test_what_a_writer_was_given_stays_as_it_was(plugin):
    world = mixed_world()
    writer = Keeping()
    plugin.save(world, writer)
    assert b"".join(writer.parts) == world.to_bytes(plugin)


def test_a_writer_cannot_change_the_world():
    world = mixed_world()
    before = world.to_bytes()

    class Meddling:
        def write(self, data):
            view = memoryview(data)
            if not view.readonly:
                view[:] = bytes(len(view))

    for plugin in PLUGINS.values():
        plugin.save(world, Meddling())
        assert world.to_bytes() == before


class Late:
    """A writer that does as *odd* says once it has taken so many bytes."""

    def __init__(self, most, odd):
        self.data, self.most, self.odd = bytearray(), most, odd

    def write(self, data):
        if len(self.data) >= self.most:
            return self.odd()
        part = bytes(data)[: self.most - len(self.data)]
        self.data += part
        return len(part)


ERRORS = [
    OSError(28, "No space left on device"),
    BrokenPipeError(32, "Broken pipe"),
    BlockingIOError(11, "write could not complete without blocking", 3),
    TimeoutError("timed out"),
    ValueError("I/O operation on closed file"),
    TypeError("a str is required"),
    KeyError("missing"),
    EOFError(),
    zlib.error("Error -2"),
    struct.error("too short"),
    StopIteration(),
    AssertionError(),
    RecursionError(),
    NotImplementedError(),
    PersistenceError("of a writer that knows the library"),
]


def raising(error):
    def odd():
        raise error

    return odd


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@plugins
def test_whatever_a_writer_raises_is_an_error_of_writing(plugin, error):
    world = mixed_world(5)
    data = world.to_bytes(plugin)
    for most in (0, 1, 24, 500, len(data) - 1):
        writer = Late(most, raising(error))
        with pytest.raises(PersistenceIOError, match=r"writing to <.*Late object.* failed") as caught:
            plugin.save(world, writer)
        assert caught.value.__cause__ is error
        assert caught.value.errno == getattr(error, "errno", None)
        assert bytes(writer.data) == data[:most]
    assert world.to_bytes(plugin) == data


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
@plugins
def test_stopping_the_program_is_no_error_of_writing(plugin, stop):
    world = mixed_world(5)
    for most in (0, 30):
        with pytest.raises(stop):
            plugin.save(world, Late(most, raising(stop)))


@pytest.mark.parametrize("writer", [None, 5, "a.pecs", b"", object(), [], World()])
def test_what_cannot_be_written_to_is_an_error_of_the_library(world, writer):
    for save in (world.save_binary_stream, lambda w: BinaryPlugin().save(world, w)):
        with pytest.raises(PersistenceIOError, match=r"writing to .* failed"):
            save(writer)


@pytest.mark.parametrize("other", [None, 5, b"PECS", World, object()])
def test_only_worlds_are_saved(other):
    writer = io.BytesIO()
    with pytest.raises(PersistenceError, match="expected a World"):
        BinaryPlugin().save(other, writer)
    assert writer.getvalue() == b""


@posix
def test_a_pipe_whose_reader_has_gone_is_an_error_of_writing():
    for buffering in (0, -1):
        reading, writing = os.pipe()
        os.close(reading)
        with contextlib.suppress(BrokenPipeError), open(writing, "wb", buffering=buffering) as writer:
            with pytest.raises(PersistenceIOError) as caught:
                BinaryPlugin().save(mixed_world(), writer)
            assert caught.value.errno == errno.EPIPE


def test_a_socket_whose_other_side_has_gone_is_an_error_of_writing():
    left, right = socket.socketpair()
    right.close()
    with left, left.makefile("wb", buffering=0) as writer, pytest.raises(PersistenceIOError):
        BinaryPlugin().save(mixed_world(), writer)


@posix
def test_a_full_pipe_that_does_not_wait_is_refused_with_advice():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    refused = pytest.raises(PersistenceIOError, match="takes no more; use a blocking file")
    with open(reading, "rb"), open(writing, "wb", buffering=0) as writer, refused:
        BinaryPlugin().save(mixed_world(30_000), writer)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
def test_a_full_disk_is_an_error_of_writing_that_says_so():
    refused = pytest.raises(PersistenceIOError, match="No space left")
    with open("/dev/full", "wb", buffering=0) as writer, refused as caught:
        World().save_binary_stream(writer)
    assert caught.value.errno == errno.ENOSPC


def test_a_file_only_for_reading_is_an_error_of_writing(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    for buffering in (0, -1):
        with open(tmp_path / "a", "rb", buffering=buffering) as file, pytest.raises(PersistenceIOError):
            World().save_binary_stream(file)
    with gzip.open(tmp_path / "a", "rb") as file, pytest.raises(PersistenceIOError):
        World().save_binary_stream(file)
    assert (tmp_path / "a").read_bytes() == b"old"


# What no reader would take, in the last of several tables.
BAD = {
    "text without UTF-8": lambda zoo: zoo.__setitem__("text", "\ud800"),
    "text that is none": lambda zoo: zoo.__setitem__("text", 5),
    "a bool of 2": lambda zoo: zoo["flag"].view(np.uint8).__setitem__(..., 2),
    "no member of the enum": lambda zoo: zoo.__setitem__("state", 4),
    "no code point": lambda zoo: zoo["code"].view("<u4").__setitem__(..., 0xD800),
    "a list of something else": lambda zoo: zoo.__setitem__("crew", [None]),
}


@pytest.mark.parametrize("bad", BAD)
@plugins
def test_what_cannot_be_saved_raises_before_the_first_byte_is_written(plugin, bad):
    world = mixed_world(5)
    world.spawn(PluggedZoo(), PluggedNumber(1), PluggedLink())
    for zoo, _, _ in world.query(PluggedZoo, PluggedNumber, PluggedLink):
        BAD[bad](np.asarray(zoo))
    for writer in (io.BytesIO(), Silent()):
        with pytest.raises(ComponentValueError, match="PluggedZoo"):
            plugin.save(world, writer)
        assert not (writer.getvalue() if isinstance(writer, io.BytesIO) else writer.data)


UNSAVABLE = {
    "metadata of a set": lambda world: world.metadata.update(a={1}),
    "metadata of NaN": lambda world: world.metadata.update(a=[float("nan")]),
    "metadata that is a list": lambda world: setattr(world, "metadata", [1]),
    "a world version of 0": lambda world: setattr(world, "version", 0),
    "a world version of text": lambda world: setattr(world, "version", "1"),
}


@pytest.mark.parametrize("bad", UNSAVABLE)
@plugins
def test_a_world_that_cannot_be_saved_raises_before_the_first_byte_is_written(plugin, bad):
    world = mixed_world(5)
    UNSAVABLE[bad](world)
    writer = Silent()
    with pytest.raises(PersistenceError):
        plugin.save(world, writer)
    assert not writer.data


@pytest.mark.parametrize("extra", ["resources", "metadata", "random generators", "world version"])
def test_what_version_1_cannot_hold_raises_before_the_first_byte_is_written(extra):
    world = mixed_world(5)
    if extra == "resources":
        world.resources.insert(PluggedNumber(1))
    elif extra == "metadata":
        world.metadata["a"] = 1
    elif extra == "random generators":
        world.rngs.create("dice")
    else:
        world.version = 2
    writer = Silent()
    with pytest.raises(PersistenceError, match=f"{extra}.*save version 2"):
        BinaryPlugin(version=1).save(world, writer)
    assert not writer.data


@pytest.mark.parametrize("kind", ["made while it is written", "written from where it lies"])
def test_a_world_that_changes_while_it_is_written_gives_an_error_or_a_sound_save(kind):
    """A save that no reader takes, and of which nobody is told, is worse than an error."""
    world = World(seed=1)
    if kind == "made while it is written":
        type_, member, value = PluggedLink, "to", 1
        world.spawn_batch(PluggedLink(), count=1 << 20)
    else:
        type_, member, value = PluggedNumber, "value", 7
        world.spawn_batch(PluggedNumber(value=np.zeros(1 << 20, np.int64)))

    class Living(Silent):
        def write(self, data):
            if not self.data:
                for values in world.query(type_):
                    setattr(values, member, value)
            super().write(data)

    writer = Living()
    try:
        BinaryPlugin().save(world, writer)
    except PersistenceError:
        return
    assert World.from_bytes(writer.data).validate()


class Giving:
    """A reader whose ``read`` gives what it was told."""

    def __init__(self, given):
        self.given = given

    def read(self, size=-1):
        return self.given


@pytest.mark.parametrize("given", [None, 5, [80, 69], {"PECS": 1}, object(), 1.5])
def test_formats_that_read_whole_streams_refuse_what_is_no_bytes(given):
    for load in (Reversed().load, lambda reader: World.load_with(reader, Reversed())):
        with pytest.raises(PecsError):
            load(Giving(given))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
def test_formats_that_read_whole_streams_take_any_kind_of_bytes(world, kind):
    data = world.to_bytes(Reversed())
    assert Reversed().load(Giving(kind(data))).to_bytes() == world.to_bytes()


@pytest.mark.parametrize("reader", [None, 5, "a.pecs", object()])
def test_formats_that_read_whole_streams_refuse_what_has_no_read(reader):
    with pytest.raises(PersistenceIOError, match="reading from <stream> failed"):
        Reversed().load(reader)


def test_formats_that_read_whole_streams_wrap_what_the_reader_raises():
    for error in (EOFError("cut"), zlib.error("bad"), KeyError("k"), OSError(5, "Input/output error")):

        class Failing:
            name = "tape 7"

            def read(self, size=-1, error=error):
                raise error

        with pytest.raises(PersistenceIOError, match="reading from tape 7 failed") as caught:
            Reversed().load(Failing())
        assert caught.value.__cause__ is error


def test_formats_of_users_go_through_files_and_bytes_too(world, tmp_path):
    world.save_with(tmp_path / "a", Reversed())
    assert (tmp_path / "a").read_bytes() == world.to_bytes()[::-1] == world.to_bytes(Reversed())
    assert World.load_with(tmp_path / "a", Reversed()).to_bytes() == world.to_bytes()
    assert World.from_bytes(world.to_bytes(Reversed()), Reversed()).to_bytes() == world.to_bytes()
    with open(tmp_path / "a", "rb") as file:
        assert World.load_with(file, Reversed()).to_bytes() == world.to_bytes()
    with pytest.raises(PecsError):
        World.load(tmp_path / "a")


@pytest.mark.parametrize("plugin", ["binary", BinaryPlugin, 2, object()])
def test_what_is_no_plugin_is_refused_with_advice(world, tmp_path, plugin):
    calls = [
        lambda: world.save_with(tmp_path / "a", plugin),
        lambda: world.save_with(io.BytesIO(), plugin),
        lambda: world.to_bytes(plugin),
        lambda: World.load_with(tmp_path / "a", plugin),
        lambda: World.load_with(io.BytesIO(), plugin),
        lambda: World.from_bytes(world.to_bytes(), plugin),
    ]
    for call in calls:
        with pytest.raises(
            pecs_np.PluginNotFoundError, match=r"expected a PersistencePlugin.*BinaryPlugin\(\)"
        ):
            call()
    assert os.listdir(tmp_path) == []


class Place(Reversed):
    def load_snapshot(self, path, *, progress=None):
        return super().load_snapshot(path, progress=progress)


class Quick(Reversed):
    has_bytes = True

    def load_snapshot(self, path, *, progress=None):
        return super().load_snapshot(path, progress=progress)


class OnDemand(Reversed):
    def load_snapshot(self, path, *, progress=None):
        return super().load_snapshot(path, progress=progress)

    @property
    def has_bytes(self):
        return self.format_version() == 7


@pytest.mark.parametrize(
    ("cls", "expected"),
    [(Reversed, True), (Place, False), (Quick, True), (OnDemand, True), (BinaryPlugin, True)],
)
def test_what_overrides_loading_is_a_place_unless_it_says_otherwise(cls, expected):
    assert cls().has_bytes is expected
    assert type("Derived", (cls,), {})().has_bytes is expected


def test_an_instance_may_say_whether_it_has_bytes(tmp_path, world):
    plugin = Quick()
    plugin.has_bytes = False
    world.save_with(tmp_path / "a", plugin, backup=True)
    world.save_with(tmp_path / "a", plugin, backup=True)
    assert sorted(os.listdir(tmp_path)) == ["a", "a.bak"]
    manager = PersistenceManager()
    manager.register_plugin("quick", plugin)
    manager.set_default_plugin("quick")
    assert_worlds_equal(manager.load(tmp_path / "a"), World.load_with(tmp_path / "a", plugin))

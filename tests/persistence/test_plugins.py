"""What every save format inherits: worlds to writers and back from readers."""

from __future__ import annotations

import io

import pytest

import pecs_np
from pecs_np import BinaryPlugin, InvalidFormatError, PersistenceIOError, PersistencePlugin, World, component


@component
class PluggedNumber:
    value: int


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

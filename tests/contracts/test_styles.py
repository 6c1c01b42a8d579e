"""The three ways to write a plugin, each as short as a user would have it, keep the whole contract."""

import threading
import zlib

import orjson
import pytest

from pecs_np import InvalidFormatError, PersistenceIOError, PersistencePlugin, World
from pecs_np.persistence import pack, unpack
from pecs_np.testing import PluginContract


class SnapshotsToBytes(PersistencePlugin):
    """`encode` and `decode`: lines of JSON, the buffers in hexadecimal, a sum at the end."""

    suffixes = (".lines",)

    def encode(self, snapshot):
        document, buffers = pack(snapshot)
        data = b"\n".join([orjson.dumps(document), *[b.hex().encode() for b in buffers], b""])
        return [b"lines 1\n", data, b"%08x\n" % zlib.crc32(data)]

    def decode(self, data, name):
        data = bytes(data)
        if not self.recognises(data) or data[-9:] != b"%08x\n" % zlib.crc32(data[8:-9]):
            raise InvalidFormatError(f"expected lines with a sum at the end, found others in {name}")
        document, *buffers = data[8:-10].split(b"\n")
        return unpack(orjson.loads(document), [bytes.fromhex(b.decode()) for b in buffers], name)

    def recognises(self, start):
        return start.startswith(b"lines 1\n")

    def format_name(self):
        return "lines"

    def format_version(self):
        return 1


class WorldsToStreams(PersistencePlugin):
    """`save` and `load`: packed by zlib."""

    def save(self, world, writer):
        writer.write(zlib.compress(world.to_bytes()))

    def load(self, reader):
        try:
            stream = zlib.decompressobj()
            data = stream.decompress(reader.read())
        except (zlib.error, TypeError) as error:
            raise InvalidFormatError(f"expected zlib, found {error}") from error
        if not stream.eof or stream.unused_data:
            raise InvalidFormatError("expected one zlib stream to its end, found another end")
        return World.from_bytes(data)

    def format_name(self):
        return "zlib"

    def format_version(self):
        return 1


class SnapshotsToPlaces(PersistencePlugin):
    """`save_snapshot` and `load_snapshot`: a dictionary in place of a database."""

    places = {}
    lock = threading.Lock()

    def save_snapshot(self, snapshot, path, **options):
        document, buffers = pack(snapshot)
        saved = orjson.dumps(document), [bytes(b) for b in buffers]
        if options.get("progress"):
            options["progress"](0, None)
        with self.lock:
            self.places[path] = saved
        return len(saved[0]) + sum(map(len, saved[1]))

    def load_snapshot(self, path, **options):
        try:
            document, buffers = self.places[path]
        except KeyError:
            raise PersistenceIOError(f"expected a save, found none under {path!r}") from None
        return unpack(orjson.loads(document), buffers, f"place {path!r}")

    def format_name(self):
        return "places"

    def format_version(self):
        return 1


class TestSnapshotsToBytes(PluginContract):
    def make_plugin(self, tmp_path):
        return SnapshotsToBytes()


class TestWorldsToStreams(PluginContract):
    detects_damage = "some bits at the end of a zlib stream mean nothing"

    def make_plugin(self, tmp_path):
        return WorldsToStreams()


class TestSnapshotsToPlaces(PluginContract):
    def make_plugin(self, tmp_path):
        return SnapshotsToPlaces()


def test_what_the_contract_is_for_must_be_said(tmp_path):
    with pytest.raises(NotImplementedError, match="make_plugin"):
        PluginContract().make_plugin(tmp_path)

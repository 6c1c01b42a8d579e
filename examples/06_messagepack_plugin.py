"""A format of your own: worlds as MessagePack, which programs in any language can read.

A save is two MessagePack objects, one after the other. The first is an array of four: the name of the
format, its version, a map that describes the world, and an array of binaries, which are whole columns. The
second is the CRC-32 of the bytes of the first. The map has three members, as `pecs_np.persistence.packed`
makes them: "world" (version, metadata, generators), "types" (names, versions, and fields with their dtypes)
and "tables" (rows, and which types). For each table the binaries hold the stable ids, 16 bytes each, then of
each type its rows of fixed size, little-endian and packed, and the offsets and values of each text or list.

The script saves a world by name and by suffix through a manager, and reads the file again as a program
that knows nothing of pecs_np would, with a MessagePack library and the description alone.

A package makes a format known to every program by an entry point, in its pyproject.toml::

    [project.entry-points."pecs_np.plugins"]
    messagepack = "my_package:MessagePackPlugin"
"""

import struct
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pecs_np import (
    CorruptedDataError,
    InvalidFormatError,
    LimitExceededError,
    Limits,
    PersistenceManager,
    PersistencePlugin,
    Snapshot,
    UnsupportedVersionError,
    World,
    component,
)
from pecs_np.persistence import pack, unpack
from pecs_np.testing import assert_worlds_equal

try:
    import msgspec
except ImportError:
    sys.exit("this example needs msgspec: pip install msgspec")

NAME, VERSION = "pecs_np.messagepack", 1
# An array of four, whose first is NAME, a text of 19 bytes.
START = b"\x94\xb3" + NAME.encode()


class MessagePackPlugin(PersistencePlugin):
    """Worlds as MessagePack; see the module."""

    suffixes = (".msgpack",)

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits

    def encode(self, snapshot: Snapshot) -> Iterable[Any]:
        """Return the save in pieces; the columns among them are not copied."""
        document, columns = pack(snapshot)
        for i, column in enumerate(columns):
            if column.nbytes >= 1 << 32:
                raise LimitExceededError(
                    f"expected less than 4 GiB, which a MessagePack binary holds, found {column.nbytes} bytes in column {i}",
                    suggestion="save to the binary format",
                )
        head = START + msgspec.msgpack.encode(VERSION) + msgspec.msgpack.encode(document)
        return self._pieces(head, columns)

    def _pieces(self, head: bytes, columns: list[memoryview]) -> Iterator[Any]:
        crc = 0
        pieces = [head, struct.pack(">BI", 0xDD, len(columns))]
        for column in columns:
            pieces += [struct.pack(">BI", 0xC6, column.nbytes), column]
        for piece in pieces:
            crc = zlib.crc32(piece, crc)
            yield piece
        yield struct.pack(">BI", 0xCE, crc)

    def decode(self, data: Any, name: str) -> Snapshot:
        """Return the snapshot that *data* holds."""
        data = memoryview(data)
        if not self.recognises(bytes(data[: len(START)])):
            raise InvalidFormatError(
                f"expected {START!r}, found {bytes(data[: len(START)])!r} at the start of {name}"
            )
        body, end = data[:-5], data[-5:]
        if end != struct.pack(">BI", 0xCE, zlib.crc32(body)):
            raise CorruptedDataError(
                f"expected the CRC-32 of the bytes before at the end of {name}, found another"
            )
        try:
            _, version, document, columns = msgspec.msgpack.decode(
                body, type=tuple[str, int, msgspec.Raw, msgspec.Raw]
            )
            if version != VERSION:
                raise UnsupportedVersionError(version, VERSION, what=f"the format of {name}")
            described = msgspec.msgpack.decode(document)
            buffers = msgspec.msgpack.decode(columns, type=list[memoryview])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidFormatError(f"expected MessagePack: {error} in {name}") from error
        return unpack(described, buffers, name, self.limits)

    def recognises(self, start: bytes) -> bool:
        """Tell whether a file begins as saves do."""
        return start.startswith(START)

    def format_name(self) -> str:
        return "messagepack"

    def format_version(self) -> int:
        return VERSION


@component
class Position:
    """Metres."""

    x: np.float32
    y: np.float32


@component
class Label:
    text: str


def read_anywhere(path: Path) -> np.ndarray:
    """Return the positions of a save, read as in any other language: without pecs_np."""
    body = path.read_bytes()[:-5]
    _, _, description, columns = msgspec.msgpack.decode(body)
    names = [type_["name"] for type_ in description["types"]]
    fields = description["types"][names.index("Position")]["fields"]
    dtype = np.dtype([(field["name"], field["dtype"]) for field in fields])
    parts = []
    place = 0
    for table in description["tables"]:
        place += table["role"] == "state"  # the stable ids
        for type_ in table["types"]:
            if names[type_] == "Position":
                parts.append(np.frombuffer(columns[place], dtype))
            place += 1 + 2 * sum("variable" in field for field in description["types"][type_]["fields"])
    return np.concatenate(parts)


def main() -> None:
    rng = np.random.default_rng(1)
    world = World(seed=1, metadata={"where": "harbour"})
    ids = world.spawn_batch(Position(x=rng.normal(size=100_000), y=rng.normal(size=100_000)))
    world.insert(ids[:2], Label(text=["bow", "stern"]))
    world.rngs.create("wind")

    manager = PersistenceManager()
    manager.register_plugin("messagepack", MessagePackPlugin())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "harbour.msgpack")
        print(manager.save(world, path))  # the suffix names the format
        assert_worlds_equal(world, manager.load(path))  # the content does
        manager.save_with(world, Path(folder, "copy"), "messagepack")
        assert Path(folder, "copy").read_bytes() == path.read_bytes()
        seen = read_anywhere(path)
        assert sorted(seen.tolist()) == sorted(world.column(Position).tolist())
    print(f"{len(seen):,} positions are equal, read with and without pecs_np")


if __name__ == "__main__":
    main()

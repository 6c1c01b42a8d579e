"""A second reader and writer of version 1 of the binary format, entity records, made from its description alone.

It shares no code with the package, trusts nothing it writes, and is slow: plain Python, with CRC-64/ISO
from crc64iso and CRC-64/WE bit by bit as it is defined.

What a component holds is described by a dict of field names to kinds: a dtype such as ``"<f4"``,
``"<U3"``, ``"|S4"`` or ``"<M8[s]"``; ``"ref"``; a dict for a struct; a pair (kind, count) for a subarray;
and of variable length ``"str"``, ``"bytes"`` or a list ``[kind]``.
"""

from __future__ import annotations

import hashlib
import re
import struct
import unicodedata
from dataclasses import dataclass, replace
from itertools import groupby

from crc64iso.crc64iso import crc64_pair

HEADER = struct.Struct("<4sIIQI")
CODES = {"b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q"}
CODES |= {"f2": "e", "f4": "f", "f8": "d"}

Component = tuple[str, bytes]
Entity = tuple[int, list[Component]]


class Broken(Exception):
    """The bytes break a rule of the format."""


def crc_iso(data: bytes) -> int:
    high, low = crc64_pair(bytes(data))
    return high << 32 | low


def crc_we(data: bytes) -> int:
    ones = (1 << 64) - 1
    crc = ones
    for byte in data:
        crc ^= byte << 56
        for _ in range(8):
            crc = (crc << 1 & ones) ^ (0x42F0E1EBA9EA3693 if crc >> 63 else 0)
    return crc ^ ones


SUMS = {"iso": crc_iso, "we": crc_we}


def signed(content: bytes, checksum: str = "iso") -> bytes:
    """Return *content* with the footer that belongs to it."""
    return content + struct.pack("<Q", SUMS[checksum](content))


def type_id(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8"), digest_size=16).digest()


# The data of components


def size(kind) -> int:
    """Return the bytes of one element."""
    if isinstance(kind, dict):
        return sum(size(member) for member in kind.values())
    if isinstance(kind, tuple):
        return size(kind[0]) * kind[1]
    if kind == "ref":
        return 16
    letter, digits = re.match(r"[<|]([biufcSUMm])(\d+)", kind).groups()
    return int(digits) * (4 if letter == "U" else 1)


def is_variable(kind) -> bool:
    return isinstance(kind, list) or kind in ("str", "bytes")


def pack(kind, value) -> bytes:
    """Return one value as its bytes; those of a struct come as a tuple, those of a subarray as a list."""
    if isinstance(kind, list):
        return b"".join(pack(kind[0], v) for v in value)
    if isinstance(kind, dict):
        return b"".join(pack(member, v) for member, v in zip(kind.values(), value, strict=True))
    if isinstance(kind, tuple):
        assert len(value) == kind[1]
        return b"".join(pack(kind[0], v) for v in value)
    if kind == "str":
        return value.encode("utf-8")
    if kind == "bytes":
        return value
    if kind == "ref":
        return value.to_bytes(16, "little")
    if kind[1] in "SU":
        raw = value.encode("utf-32-le") if kind[1] == "U" else value
        assert len(raw) <= size(kind)
        return raw.ljust(size(kind), b"\0")
    if kind[1] in "Mm":
        return struct.pack("<q", value)
    if kind[1] == "c":
        return struct.pack("<2f" if kind == "<c8" else "<2d", value.real, value.imag)
    return struct.pack("<" + CODES[kind[1:]], value)


def data_of(kinds: dict, values) -> bytes:
    """Return the data of a component: first what has a fixed size, then the rest, each with its length."""
    fixed = variable = b""
    for kind, value in zip(kinds.values(), values, strict=True):
        raw = pack(kind, value)
        if is_variable(kind):
            variable += struct.pack("<I", len(raw)) + raw
        else:
            fixed += raw
    return fixed + variable


def fields_of(kinds: dict, data: bytes) -> dict[str, bytes]:
    """Return the bytes of each field of a component; *data* has to be used up."""
    found, at = {}, 0
    for name, kind in kinds.items():
        if not is_variable(kind):
            found[name] = data[at : at + size(kind)]
            at += size(kind)
    for name, kind in kinds.items():
        if is_variable(kind):
            (length,) = struct.unpack_from("<I", data, at)
            found[name] = data[at + 4 : at + 4 + length]
            at += 4 + length
            assert length % (1 if isinstance(kind, str) else size(kind[0])) == 0
    assert at == len(data)
    return found


# Whole files


def registry_entry(name: str, version: int) -> bytes:
    raw = name.encode("utf-8")
    return type_id(name) + struct.pack("<I", len(raw)) + raw + struct.pack("<I", version)


def record(stable_id: int, components: list[Component]) -> bytes:
    parts = [stable_id.to_bytes(16, "little") + struct.pack("<I", len(components))]
    parts += [type_id(name) + struct.pack("<I", len(data)) + data for name, data in components]
    return b"".join(parts)


@dataclass
class Records:
    """What a file says: its registry, its records in their order, and which sum ends it."""

    types: list[tuple[str, int]]
    entities: list[Entity]
    checksum: str = "iso"

    def content(self) -> bytes:
        """Return the file without its footer."""
        head = HEADER.pack(b"PECS", 1, 0, len(self.entities), len(self.types))
        head += b"".join(registry_entry(*type_) for type_ in self.types)
        return head + b"".join(record(*entity) for entity in self.entities)

    def to_bytes(self) -> bytes:
        return signed(self.content(), self.checksum)

    def canonical(self) -> Records:
        """Return the same as a writer arranges it: the rows of each archetype in the order they have here."""
        versions = dict(self.types)
        used = {name for _, components in self.entities for name, _ in components}
        order = sorted(used, key=lambda name: name.encode("utf-8"))
        place = {name: i for i, name in enumerate(order)}
        arranged = [
            (stable_id, sorted(components, key=lambda component: place[component[0]]))
            for stable_id, components in self.entities
        ]
        arranged.sort(key=lambda entity: [place[name] for name, _ in entity[1]])
        return replace(self, types=[(name, versions[name]) for name in order], entities=arranged)

    def column(self, name: str) -> list[bytes]:
        """Return the data of every component of a type, in the order of the file."""
        return [data for _, components in self.entities for n, data in components if n == name]


def make(types: dict[str, int], entities: list[Entity], checksum: str = "iso") -> Records:
    """Return a file with these types, sorted, and these records as they stand."""
    ordered = sorted(types.items(), key=lambda item: item[0].encode("utf-8"))
    return Records(ordered, entities, checksum)


def parse(data: bytes) -> Records:
    """Return what *data* says, in any order that a reader has to accept.

    Raises
    ------
    Broken
        Where a rule is broken.
    """
    data = bytes(data)
    _expect(len(data) >= HEADER.size + 8, "long enough")
    magic, version, flags, entity_count, type_count = HEADER.unpack_from(data)
    _expect((magic, version, flags) == (b"PECS", 1, 0), "magic, version and flags")
    content = data[:-8]
    footer = int.from_bytes(data[-8:], "little")
    checksum = next((name for name, sum_of in SUMS.items() if sum_of(content) == footer), "")
    _expect(checksum != "", "footer")
    at, types = HEADER.size, []
    for _ in range(type_count):
        raw, at = _take(content, at, 20)
        key, length = raw[:16], int.from_bytes(raw[16:], "little")
        _expect(1 <= length <= 1024, "length of a name")
        raw, at = _take(content, at, length)
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Broken("UTF-8 name") from None
        _expect(not any(unicodedata.category(c) == "Cc" for c in name), "no control characters")
        _expect(key == type_id(name), "type id")
        raw, at = _take(content, at, 4)
        types.append((name, int.from_bytes(raw, "little")))
    names = [name.encode("utf-8") for name, _ in types]
    _expect(names == sorted(set(names)), "names sorted and unique")
    by_key = {type_id(name): name for name, _ in types}
    entities: list[Entity] = []
    for _ in range(entity_count):
        raw, at = _take(content, at, 20)
        stable_id, count = int.from_bytes(raw[:16], "little"), int.from_bytes(raw[16:], "little")
        _expect(stable_id != 0, "stable id other than 0")
        components = []
        for _ in range(count):
            raw, at = _take(content, at, 20)
            _expect(raw[:16] in by_key, "known type id")
            value, at = _take(content, at, int.from_bytes(raw[16:], "little"))
            components.append((by_key[raw[:16]], value))
        _expect(len({name for name, _ in components}) == count, "each type once")
        entities.append((stable_id, components))
    _expect(at == len(content), "nothing before the footer")
    _expect(len({stable_id for stable_id, _ in entities}) == len(entities), "distinct stable ids")
    return Records(types, entities, checksum)


def read(data: bytes) -> Records:
    """Return what *data* says, after checking also what a writer must keep to."""
    found = parse(data)
    used = {name for _, components in found.entities for name, _ in components}
    assert used == {name for name, _ in found.types}, "the registry holds the types that occur"
    place = {name: i for i, (name, _) in enumerate(found.types)}
    archetypes = [[place[name] for name, _ in components] for _, components in found.entities]
    assert all(types == sorted(types) for types in archetypes), "components in registry order"
    blocks = [types for types, _ in groupby(archetypes)]
    assert len(blocks) == len(set(map(tuple, blocks))), "records of one archetype are consecutive"
    return found


def _take(content: bytes, at: int, length: int) -> tuple[bytes, int]:
    _expect(at + length <= len(content), "within the file")
    return content[at : at + length], at + length


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise Broken(what)

"""A second reader and writer of the binary format, version 2, made from its description alone.

It shares no code with the package, trusts nothing it writes, and is slow: it checks every rule with an
assertion, byte by byte, and takes the checksum from crc64iso. Only the frames of a compressed section
come from the codecs' own packages.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise

from crc64iso.crc64iso import crc64_pair

NONE = 0xFFFFFFFF
IDS, COLUMN, OFFSETS, VALUES, DESPAWNED, REMOVED = 1, 2, 3, 4, 5, 6
RAW, ZSTD, LZ4, RUNS = 0, 1, 2, 3
SHUFFLE, DELTA = 0x100, 0x200
CODECS = {"zstd": ZSTD, "lz4": LZ4}
HEADER = struct.Struct("<4sIIQI")
EXTENSION = struct.Struct("<4sIIIQII16s16s")
ENTRY = struct.Struct("<HHIIIQQQQQQ")
DTYPE = re.compile(
    r"\|b1|\|[iu]1|<[iu][248]|<f[248]|<c(8|16)|\|S[1-9]\d*|<U[1-9]\d*|<[mM]8\[\d*(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\]"
)


def crc(data: bytes) -> int:
    high, low = crc64_pair(bytes(data))
    return high << 32 | low


def padding(size: int) -> int:
    return -size % 64


def type_id(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8"), digest_size=16).digest()


def item_size(fields: list[dict]) -> int:
    """Return the bytes of the fixed-size part of a row."""
    return sum(element_size(f) for f in fields if "variable" not in f)


def element_size(f: dict) -> int:
    """Return the bytes of one element of a field: of one value, or one entry of a list."""
    if f.get("variable") in ("str", "bytes"):
        return 1
    if f.get("ref"):
        size = 16
    elif "fields" in f:
        size = item_size(f["fields"])
    else:
        kind, digits = re.match(r"[<|]([biufcSUMm])(\d+)", f["dtype"]).groups()
        size = int(digits) * (4 if kind == "U" else 1)
    for n in f.get("shape", []):
        size *= n
    return size


def runs_of(ids: list[int]) -> list[tuple[int, int]]:
    """Return the fewest (first, count) that mean *ids*."""
    runs = []
    for _, group in groupby(enumerate(ids), key=lambda pair: pair[1] - pair[0]):
        members = [value for _, value in group]
        runs.append((members[0], len(members)))
    return runs


def pack_ids(ids: list[int]) -> bytes:
    return b"".join(i.to_bytes(16, "little") for i in ids)


def unpack_ids(data: bytes) -> list[int]:
    return [int.from_bytes(data[i : i + 16], "little") for i in range(0, len(data), 16)]


def pack_runs(runs: list[tuple[int, int]]) -> bytes:
    return b"".join(first.to_bytes(16, "little") + count.to_bytes(8, "little") for first, count in runs)


def _zstd():
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    return zstd


def frame(data: bytes, codec: int, level: int | None = None) -> bytes:
    """Return *data* as one frame of the codec in the low byte of *codec*."""
    if codec & 0xFF == ZSTD:
        return _zstd().compress(data, level)
    import lz4.frame

    return lz4.frame.compress(data, compression_level=level or 0)


def unframed(stored: bytes, codec: int) -> bytes:
    """Return what the one frame *stored* holds."""
    if codec & 0xFF == ZSTD:
        decompressor = _zstd().ZstdDecompressor()
    else:
        assert codec & 0xFF == LZ4
        import lz4.frame

        decompressor = lz4.frame.LZ4FrameDecompressor()
    data = decompressor.decompress(stored)
    assert decompressor.eof, "a whole frame"
    assert not decompressor.unused_data, "and nothing after it"
    return data


def _transposed(data: bytes, rows: int, columns: int) -> bytes:
    """Return a matrix of bytes, row after row, column after column."""
    if columns < rows:
        return b"".join(data[i::columns] for i in range(columns))
    found = bytearray(len(data))
    for i in range(rows):
        found[i::rows] = data[i * columns : (i + 1) * columns]
    return bytes(found)


def filtered(chunk: bytes, item: int, codec: int) -> bytes:
    """Return a chunk of whole items as it is before compression: delta first, then shuffle."""
    if codec & DELTA:
        assert item % 8 == 0
        lanes = item // 8
        words = struct.unpack(f"<{len(chunk) // 8}Q", chunk)
        steps = [*words[:lanes], *((b - a) % (1 << 64) for a, b in zip(words, words[lanes:], strict=False))]
        chunk = struct.pack(f"<{len(steps)}Q", *steps)
    return _transposed(chunk, len(chunk) // item, item) if codec & SHUFFLE else chunk


def unfiltered(chunk: bytes, item: int, codec: int) -> bytes:
    """Return the items that `filtered` made *chunk* of."""
    if codec & SHUFFLE:
        chunk = _transposed(chunk, item, len(chunk) // item)
    if codec & DELTA:
        lanes = item // 8
        words = list(struct.unpack(f"<{len(chunk) // 8}Q", chunk))
        for i in range(lanes, len(words)):
            words[i] = (words[i] + words[i - lanes]) % (1 << 64)
        chunk = struct.pack(f"<{len(words)}Q", *words)
    return chunk


def packed(chunks: Iterable[bytes], size: int) -> bytes:
    """Return a compressed section of these stored *chunks*, of *size* raw bytes each."""
    chunks = list(chunks)
    return struct.pack(f"<{2 + len(chunks)}I", size, len(chunks), *map(len, chunks)) + b"".join(chunks)


def pack(raw: bytes, item: int, codec: int, chunk: int, level: int | None = None) -> bytes:
    """Return *raw* as a compressed section in chunks of so many raw bytes."""
    assert chunk > 0
    assert chunk % item == 0
    pieces = (raw[start : start + chunk] for start in range(0, len(raw), chunk))
    return packed([frame(filtered(piece, item, codec), codec, level) for piece in pieces], chunk)


def chunks_of(stored: bytes) -> tuple[int, list[bytes]]:
    """Return the raw size of the chunks of a compressed section, and the stored chunks."""
    size, count = struct.unpack_from("<II", stored)
    lengths = struct.unpack_from(f"<{count}I", stored, 8)
    assert len(stored) == 8 + 4 * count + sum(lengths)
    chunks, at = [], 8 + 4 * count
    for length in lengths:
        chunks.append(stored[at : at + length])
        at += length
    return size, chunks


def unpack(stored: bytes, raw_size: int, item: int, codec: int) -> bytes:
    """Return what a compressed section of items of so many bytes holds, after checking all of its rules."""
    assert codec & ~(0xFF | SHUFFLE | DELTA) == 0
    assert item > 0
    assert not (codec & DELTA and item % 8)
    size, chunks = chunks_of(stored)
    assert size > 0
    assert size % item == 0
    assert len(chunks) == -(-raw_size // size)
    pieces = []
    for number, chunk in enumerate(chunks):
        piece = unfiltered(unframed(chunk, codec), item, codec)
        assert len(piece) == min(size, raw_size - number * size)
        pieces.append(piece)
    raw = b"".join(pieces)
    assert len(raw) == raw_size
    return raw


@dataclass
class Part:
    """A section, without what follows from its place; ``data`` is what is stored."""

    kind: int
    codec: int
    table: int
    type: int
    field: int
    rows: int
    raw_size: int
    data: bytes


@dataclass
class Save:
    """What a save says, apart from sizes, offsets and sums, which `to_bytes` works out."""

    types: list[tuple[str, int]]
    schema_text: bytes
    parts: list[Part]
    entity_count: int
    version: int = 2
    flags: int = 8
    incompat: int = 0
    ro_compat: int = 0
    compat: int = 0
    base_id: bytes = bytes(16)
    registry: bytes | None = None
    entries: dict[int, dict[str, int]] = field(default_factory=dict)

    @property
    def schema(self) -> dict:
        return json.loads(self.schema_text)

    @schema.setter
    def schema(self, document: object) -> None:
        self.schema_text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    def to_bytes(self) -> bytes:
        """Return the file; ``entries`` overrides members of the directory, by section."""
        registry = self.registry
        if registry is None:
            registry = b"".join(
                type_id(n) + struct.pack("<I", len(n.encode())) + n.encode() + struct.pack("<I", v)
                for n, v in self.types
            )
        head = HEADER.pack(b"PECS", self.version, self.flags, self.entity_count, len(self.types)) + registry
        head += bytes(padding(len(head)))
        end = len(head) + 64 + 64 * len(self.parts) + len(self.schema_text) + 8
        end += padding(end)
        directory, body, at = b"", b"", end
        for i, part in enumerate(self.parts):
            gap = padding(at)
            body += bytes(gap) + part.data
            start, at = at + gap, at + gap + len(part.data)
            members = [part.kind, part.codec, part.table, part.type, part.field, part.rows]
            members += [start, len(part.data), part.raw_size, crc(part.data), 0]
            for name, value in self.entries.get(i, {}).items():
                members[ENTRY_NAMES.index(name)] = value
            directory += ENTRY.pack(*members)
        save_id = hashlib.blake2b(registry + directory + self.schema_text, digest_size=16).digest()
        counts = self.incompat, self.ro_compat, self.compat, at + 8, len(self.parts), len(self.schema_text)
        head += EXTENSION.pack(b"PCOL", *counts, save_id, self.base_id) + directory + self.schema_text
        head += struct.pack("<Q", crc(head))
        head += bytes(padding(len(head)))
        return head + body + struct.pack("<Q", crc(head + body))

    def part(self, kind: int, table: int, name: str | None = None, field_name: str | None = None) -> Part:
        """Return the one section of that kind, table, type name and field name."""
        type_ = NONE if name is None else [n for n, _ in self.types].index(name)
        place = NONE
        if field_name is not None:
            place = [f["name"] for f in self.schema["types"][type_]["fields"]].index(field_name)
        (found,) = [
            p for p in self.parts if (p.kind, p.table, p.type, p.field) == (kind, table, type_, place)
        ]
        return found

    def item(self, part: Part) -> int:
        """Return the bytes of an item of a section, as its codec sees them."""
        if part.kind == COLUMN:
            return item_size(self.schema["types"][part.type]["fields"])
        if part.kind == VALUES:
            return element_size(self.schema["types"][part.type]["fields"][part.field])
        return {IDS: 16, OFFSETS: 8, DESPAWNED: 16, REMOVED: 16}[part.kind]

    def raw(self, part: Part) -> bytes:
        """Return the bytes of a section without its codec."""
        if part.codec == RAW:
            return part.data
        if part.codec == RUNS:
            return pack_ids(expand(part.data))
        return unpack(part.data, part.raw_size, self.item(part), part.codec)

    def pack(self, part: Part, codec: int, chunk: int, level: int | None = None) -> None:
        """Compress a section, in chunks of so many raw bytes, and set the header's flag."""
        part.data = pack(self.raw(part), self.item(part), codec, chunk, level)
        part.codec = codec
        self.flags |= codec & 0xFF

    def plain(self) -> Save:
        """Return the same save without compression."""
        parts = [
            part if part.codec in (RAW, RUNS) else replace(part, codec=RAW, data=self.raw(part))
            for part in self.parts
        ]
        return replace(self, parts=parts, flags=self.flags & ~(ZSTD | LZ4))

    def ids(self, table: int) -> list[int]:
        return unpack_ids(self.raw(self.part(IDS, table)))

    def loose_ids(self) -> dict[str | None, list[int]]:
        """Return the ids of a delta that belong to no table: by the type that they lost, None for despawned ones."""
        return {
            None if p.type == NONE else self.types[p.type][0]: unpack_ids(self.raw(p))
            for p in self.parts
            if p.kind in (DESPAWNED, REMOVED)
        }

    def fixed(self, table: int, name: str) -> dict[str, list[bytes]]:
        """Return the bytes of each fixed-size field of a type, a row each."""
        fields = next(t for t in self.schema["types"] if t["name"] == name)["fields"]
        data, size, at, found = self.raw(self.part(COLUMN, table, name)), item_size(fields), 0, {}
        for f in fields:
            if "variable" not in f:
                width = element_size(f)
                found[f["name"]] = [data[i + at : i + at + width] for i in range(0, len(data), size)]
                at += width
        return found

    def pieces(self, table: int, name: str, field_name: str) -> list[bytes]:
        """Return the bytes of each row of a variable-length field."""
        fields = next(t for t in self.schema["types"] if t["name"] == name)["fields"]
        width = element_size(next(f for f in fields if f["name"] == field_name))
        stops = self.raw(self.part(OFFSETS, table, name, field_name))
        offsets = [n for (n,) in struct.iter_unpack("<Q", stops)]
        data = self.raw(self.part(VALUES, table, name, field_name))
        return [data[a * width : b * width] for a, b in pairwise(offsets)]


ENTRY_NAMES = ["kind", "codec", "table", "type", "field", "rows"]
ENTRY_NAMES += ["offset", "stored_size", "raw_size", "crc", "reserved"]


def expand(data: bytes) -> list[int]:
    runs = [
        (int.from_bytes(data[i : i + 16], "little"), int.from_bytes(data[i + 16 : i + 24], "little"))
        for i in range(0, len(data), 24)
    ]
    assert all(count >= 1 and first + count <= 1 << 128 for first, count in runs)
    return [first + i for first, count in runs for i in range(count)]


def read(data: bytes, *, delta: bool = False) -> Save:
    """Return what *data* says, after checking every rule that a writer of whole saves, or of deltas, must keep."""
    magic, version, flags, entity_count, type_count = HEADER.unpack_from(data)
    assert (magic, version, flags & ~(ZSTD | LZ4)) == (b"PECS", 2, 8 + 4 * delta)
    at, types = HEADER.size, []
    for _ in range(type_count):
        size = int.from_bytes(data[at + 16 : at + 20], "little")
        name = data[at + 20 : at + 20 + size].decode("utf-8")
        assert 1 <= size <= 1024
        assert data[at : at + 16] == type_id(name)
        types.append((name, int.from_bytes(data[at + 20 + size : at + 24 + size], "little")))
        at += 24 + size
    names = [name.encode() for name, _ in types]
    assert names == sorted(set(names)), "the registry is sorted by name, bytewise"
    registry, gap = data[HEADER.size : at], padding(at)
    assert data[at : at + gap] == bytes(gap)
    at += gap
    magic, incompat, ro_compat, compat, file_size, count, schema_size, save_id, base_id = (
        EXTENSION.unpack_from(data, at)
    )
    assert (magic, incompat, ro_compat, compat) == (b"PCOL", 0, 0, 0)
    assert delta or base_id == bytes(16)
    assert file_size == len(data)
    at += 64
    directory = data[at : at + 64 * count]
    at += 64 * count
    schema = data[at : at + schema_size]
    at += schema_size
    assert save_id == hashlib.blake2b(registry + directory + schema, digest_size=16).digest()
    assert int.from_bytes(data[at : at + 8], "little") == crc(data[:at])
    at += 8
    assert data[at : at + padding(at)] == bytes(padding(at))
    at += padding(at)
    parts = []
    for entry in ENTRY.iter_unpack(directory):
        kind, codec, table, type_, place, rows, offset, stored_size, raw_size, sum_, reserved = entry
        assert offset == at + padding(at)
        assert offset % 64 == 0
        assert reserved == 0
        assert data[at:offset] == bytes(padding(at))
        at = offset + stored_size
        stored = data[offset:at]
        assert sum_ == crc(stored)
        parts.append(Part(kind, codec, table, type_, place, rows, raw_size, stored))
    assert len(data) == at + 8
    assert int.from_bytes(data[at:], "little") == crc(data[:at])
    save = Save(types, schema, parts, entity_count, flags=flags, base_id=base_id)
    used = {part.codec & 0xFF for part in parts} & {ZSTD, LZ4}
    assert flags == 8 + 4 * delta + sum(used), "a flag for each codec that some section uses"
    _check_content(save, delta=delta)
    return save


def _check_content(save: Save, *, delta: bool) -> None:
    """Check that the sections are those that the schema promises, in their order and sizes."""
    document = save.schema
    assert [(t["name"], t["version"]) for t in document["types"]] == save.types
    roles = ["created", "modified", "resource"] if delta else ["state", "resource"]
    assert all(t["role"] in roles for t in document["tables"])
    counted = [t["rows"] for t in document["tables"] if t["role"] != "resource"]
    assert sum(counted) == save.entity_count
    orders = [t["types"] for t in document["tables"]]
    if delta:
        places = [(roles.index(t["role"]), t["types"]) for t in document["tables"]]
        assert places == sorted(places), "those created, then those modified, then resources"
        assert all(t["types"] for t in document["tables"] if t["role"] == "modified")
        if document["world"] == {}:
            assert all(t["role"] != "resource" for t in document["tables"])
        assert isinstance(document.get("timestamp", 1.0), float)
    else:
        assert orders == sorted(orders)
    assert document["world"].keys() == (
        {"version", "metadata", "rng"} if document["world"] or not delta else set()
    )
    assert all(types == sorted(set(types)) for types in orders)
    used = {i for types in orders for i in types}
    used |= {part.type for part in save.parts if part.kind == REMOVED}
    assert used == set(range(len(save.types))), "the registry holds the types that occur"
    parts = iter(save.parts)
    for number, table in enumerate(document["tables"]):
        assert table["rows"] > 0
        if table["role"] == "resource":
            assert table["rows"] == 1
        else:
            _check_ids(save, next(parts), (IDS, number, NONE, NONE), table["rows"])
        for index in table["types"]:
            fields = document["types"][index]["fields"]
            size = table["rows"] * item_size(fields)
            _check_part(save, next(parts), (COLUMN, number, index, NONE, table["rows"], size))
            for place, f in enumerate(fields):
                if "dtype" in f:
                    assert DTYPE.fullmatch(f["dtype"])
                if "variable" not in f:
                    continue
                offsets = next(parts)
                size = 8 * table["rows"] + 8
                raw = _check_part(save, offsets, (OFFSETS, number, index, place, table["rows"], size))
                stops = [n for (n,) in struct.iter_unpack("<Q", raw)]
                assert stops[0] == 0
                assert stops == sorted(stops)
                values = next(parts)
                size = stops[-1] * element_size(f)
                # How many rows a section of values has is left open: its elements are its own affair.
                _check_part(save, replace(values, rows=0), (VALUES, number, index, place, 0, size))
    last = DESPAWNED, -1
    for part in parts:
        assert delta, "nothing follows the tables of a whole save"
        assert part.kind in (DESPAWNED, REMOVED)
        place = part.kind, part.type
        assert place > last, "despawned ids, then those that lost a component, by type"
        last = place
        assert part.rows > 0
        type_ = part.type if part.kind == REMOVED else NONE
        _check_ids(save, part, (part.kind, NONE, type_, NONE), part.rows)


def _check_part(save: Save, part: Part, expected: tuple[int, ...]) -> bytes:
    """Check what the directory says of a section, and return its bytes."""
    assert (part.kind, part.table, part.type, part.field, part.rows, part.raw_size) == expected
    assert part.codec != RUNS, "runs are for stable ids"
    raw = save.raw(part)
    assert len(raw) == part.raw_size
    return raw


def _check_ids(save: Save, part: Part, key: tuple[int, ...], rows: int) -> None:
    assert (part.kind, part.table, part.type, part.field) == key
    assert (part.rows, part.raw_size) == (rows, 16 * rows)
    ids = expand(part.data) if part.codec == RUNS else unpack_ids(save.raw(part))
    assert len(ids) == rows
    fewest = runs_of(ids)
    if len(fewest) <= max(1, rows // 8):
        assert (part.codec, part.data) == (RUNS, pack_runs(fewest))
    else:
        assert part.codec != RUNS
        assert save.raw(part) == pack_ids(ids)


def make(types: list[tuple[str, int, list[dict]]], tables: list[dict], world: dict | None = None) -> Save:
    """Return a save of *tables*: each ``{"ids": […]}`` or ``{"resource": True}``, with ``"columns"``.

    Columns go by type name: the bytes of the fixed part, or a pair of them and a dict by field name of
    the bytes of each row. Ids are stored raw, unless ``"runs"`` gives them.
    """
    parts, announced = [], []
    names = [name for name, _, _ in types]
    for number, table in enumerate(tables):
        resource = table.get("resource", False)
        ids = table.get("ids", [])
        rows = 1 if resource else len(ids) or sum(count for _, count in table["runs"])
        columns = {names.index(name): value for name, value in table.get("columns", {}).items()}
        announced.append(
            {"rows": rows, "types": sorted(columns), "role": "resource" if resource else "state"}
        )
        if not resource:
            stored = pack_runs(table["runs"]) if "runs" in table else pack_ids(ids)
            codec = RUNS if "runs" in table else RAW
            parts.append(Part(IDS, codec, number, NONE, NONE, rows, 16 * rows, stored))
        for index in sorted(columns):
            fixed, variable = columns[index] if isinstance(columns[index], tuple) else (columns[index], {})
            parts.append(Part(COLUMN, RAW, number, index, NONE, rows, len(fixed), fixed))
            for place, f in enumerate(types[index][2]):
                if f["name"] in variable:
                    parts += _variable_parts(variable[f["name"]], f, number, index, place)
    count = sum(t["rows"] for t in announced if t["role"] == "state")
    save = Save([(name, version) for name, version, _ in types], b"", parts, count)
    save.schema = {
        "writer": "reference",
        "world": world or {"version": 1, "metadata": {}, "rng": {}},
        "types": [{"name": n, "version": v, "fields": f} for n, v, f in types],
        "tables": announced,
    }
    return save


def _variable_parts(pieces: list[bytes], f: dict, table: int, type_: int, place: int) -> list[Part]:
    width = element_size(f)
    stops = [0]
    for piece in pieces:
        stops.append(stops[-1] + len(piece) // width)
    offsets, values = struct.pack(f"<{len(stops)}Q", *stops), b"".join(pieces)
    return [
        Part(OFFSETS, RAW, table, type_, place, len(pieces), len(offsets), offsets),
        Part(VALUES, RAW, table, type_, place, stops[-1], len(values), values),
    ]


def resigned(original: bytes, changed: bytes) -> bytes:
    """Return *changed* with the sums that a reader checks made right again, at the places of *original*."""
    data = bytearray(changed)
    at = HEADER.size
    for _ in range(int.from_bytes(original[20:24], "little")):
        at += 24 + int.from_bytes(original[at + 16 : at + 20], "little")
    at += padding(at)
    _, _, _, _, _, count, schema_size, _, _ = EXTENSION.unpack_from(original, at)
    directory = at + 64
    for i in range(count):
        entry = directory + 64 * i
        offset, stored = struct.unpack_from("<QQ", original, entry + 24)
        struct.pack_into("<Q", data, entry + 48, crc(data[offset : offset + stored]))
    crc_at = directory + 64 * count + schema_size
    struct.pack_into("<Q", data, crc_at, crc(data[:crc_at]))
    struct.pack_into("<Q", data, len(original) - 8, crc(data[: len(original) - 8]))
    return bytes(data)


_INNER = [
    {"name": "a", "dtype": "|u1"},
    {"name": "to", "ref": True},
    {"name": "b", "dtype": "<f4", "shape": [2]},
]
_CALM = {"dtype": "|u1", "enum": {"CALM": 1, "MAD": 7}}
# Every kind of field that the format knows, fixed-size, as lists, in structs and in shapes.
SAMPLE_TYPES: list[tuple[str, int, list[dict]]] = [
    (
        "Sample.Fixed",
        3,
        [
            *(
                {"name": dtype, "dtype": dtype}
                for dtype in ["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16", "|S5", "<U3"]
            ),
            *({"name": unit, "dtype": f"<M8[{unit}]"} for unit in ("Y", "25s", "ns")),
            {"name": "span", "dtype": "<m8[D]"},
            {"name": "state"} | _CALM,
            {"name": "cells", "dtype": "<u2", "shape": [3, 2]},
            {"name": "signed", "dtype": "<i2", "enum": {"LOW": -300, "HIGH": 300}, "shape": [2]},
            {
                "name": "deep",
                "shape": [2],
                "fields": [{"name": "in", "fields": [{"name": "ok", "dtype": "|b1"}, {"name": "w", "dtype": "<U1"}]}],
            },
        ],
    ),
    (
        "Sample.Linked",
        1,
        [
            {"name": "to", "ref": True},
            {"name": "crew", "variable": "list", "ref": True},
            {"name": "three", "ref": True, "shape": [3]},
            {"name": "inner", "fields": _INNER, "shape": [2]},
            {"name": "pairs", "variable": "list", "ref": True, "shape": [2]},
            {"name": "inners", "variable": "list", "fields": _INNER},
        ],
    ),
    ("Sample.Number", 2, [{"name": "x", "dtype": "<f8"}, {"name": "y", "dtype": "<f8"}]),
    ("Sample.Tag", 1, []),
    (
        "Sample.Text",
        1,
        [
            {"name": "title", "variable": "str"},
            {"name": "blob", "variable": "bytes"},
            {"name": "number", "dtype": "<u4"},
            {"name": "path", "variable": "list", "dtype": "<f4"},
            {"name": "flags", "variable": "list", "dtype": "|b1"},
            {"name": "names", "variable": "list", "dtype": "<U2"},
            {"name": "states", "variable": "list", "shape": [2]} | _CALM,
        ],
    ),
]  # fmt: skip
_SAMPLE_TABLES = [
    ((), "runs"),
    (("Sample.Fixed",), "random"),
    (("Sample.Fixed", "Sample.Linked", "Sample.Tag"), "runs"),
    (("Sample.Fixed", "Sample.Linked", "Sample.Text"), "resource"),
    (("Sample.Fixed", "Sample.Text"), "falling"),
    (("Sample.Linked", "Sample.Text"), "random"),
    (("Sample.Number",), "random"),
    (("Sample.Number", "Sample.Tag"), "pairs"),
    (("Sample.Tag",), "random"),
]


def sample(rows: int = 60, seed: int = 1) -> Save:
    """Return a save of every kind of field, in tables of about so many rows; their ids are mostly no runs."""
    rng = random.Random(seed)
    fields_of = {name: fields for name, _, fields in SAMPLE_TYPES}
    tables: list[dict] = []
    for number, (_, form) in enumerate(_SAMPLE_TABLES):
        count = rows + number
        first = 1 + (number << 70)
        if form == "resource":
            tables.append({"resource": True})
        elif form == "runs":
            tables.append({"runs": [(first, count - 4), (first + 2 * count, 4)]})
        else:
            ids = [rng.getrandbits(120) << 8 | number for _ in range(count)]
            if form == "falling":
                ids = list(range(first + count, first, -1))
            elif form == "pairs":
                ids = [first + 3 * (i // 2) + i % 2 for i in range(count)]
            tables.append({"ids": ids})
    targets = [
        0,
        *(i for table in tables for i in table.get("ids") or expand(pack_runs(table.get("runs", [])))),
    ]
    for table, (names, _) in zip(tables, _SAMPLE_TABLES, strict=True):
        count = 1 if "resource" in table else len(table.get("ids", [])) or sum(n for _, n in table["runs"])
        table["columns"] = {}
        for name in names:
            fixed = [f for f in fields_of[name] if "variable" not in f]
            rows_ = b"".join(_random(f, rng, targets) for _ in range(count) for f in fixed)
            pieces = {
                f["name"]: [_random_piece(f, rng, targets) for _ in range(count)]
                for f in fields_of[name]
                if "variable" in f
            }
            table["columns"][name] = (rows_, pieces)
    return make(SAMPLE_TYPES, tables, {"version": 4, "metadata": {"a": [1, "é"]}, "rng": {}})


def _random_piece(f: dict, rng: random.Random, targets: list[int]) -> bytes:
    count = rng.randrange(5)
    if f["variable"] == "str":
        return "".join(rng.choices("aab\0é字🦀", k=count)).encode()
    if f["variable"] == "bytes":
        return bytes(rng.choices(b"\0\x80\xff", k=count))
    return b"".join(_random(f, rng, targets) for _ in range(count))


def _random(f: dict, rng: random.Random, targets: list[int]) -> bytes:
    """Return an element of a field, of few different bytes, so that columns can be compressed."""
    count = math.prod(f.get("shape", []))
    if "fields" in f:
        return b"".join(_random(member, rng, targets) for _ in range(count) for member in f["fields"])
    width = element_size(f) // count
    if f.get("ref"):
        return pack_ids(rng.choices(targets, k=count))
    if "enum" in f:
        values = [v.to_bytes(width, "little", signed=v < 0) for v in f["enum"].values()]
        return b"".join(rng.choices(values, k=count))
    if "b1" in f["dtype"]:
        return bytes(rng.choices(b"\0\1", k=count))
    if "U" in f["dtype"]:
        return "".join(rng.choices("aab\0é🦀\ud7ff\ue000\U0010ffff", k=count * width // 4)).encode(
            "utf-32-le"
        )
    return bytes(rng.choices(b"\0\0\0\1\x7f\xff", k=count * width))

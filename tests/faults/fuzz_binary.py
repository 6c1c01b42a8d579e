"""Readers of the binary format against bytes that nobody wrote; run by hand, not by pytest.

With atheris (``pip install atheris``), guided by coverage; the folder is the corpus, and gets sound saves
where it is empty::

    python tests/faults/fuzz_binary.py corpus -max_total_time=600

Without it, for so many seconds of a processor::

    python tests/faults/fuzz_binary.py --random 600 --seed 1 [--known] [--out faults]

Sums are made right before a save is decoded, else nearly every case would end at the first of them.
Memory and the time of each case are bounded; a process that dies leaves the case in ``last.pecs``.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import importlib.util
import json
import random
import re
import struct
import sys
import time
from pathlib import Path

import numpy as np


def _load_damage():
    if "pecs_damage" not in sys.modules:
        spec = importlib.util.spec_from_file_location("pecs_damage", Path(__file__).with_name("damage.py"))
        sys.modules["pecs_damage"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["pecs_damage"]


atheris = None
_instrumented = contextlib.nullcontext()
if __name__ == "__main__" and "--random" not in sys.argv:
    import atheris

    _instrumented = atheris.instrument_imports(include=["pecs_np"], enable_loader_override=False)
with _instrumented:
    damage = _load_damage()

LARGEST = 1 << 14
JUNK = [None, True, False, 0, 1, -1, 2, 3, 2**31, 2**32, 2**53 + 1, 2**63, 2**64 - 1, 1.5, 1e300, "", "x"]
JUNK += ["\0", "1", "list", "str", "bytes", "state", "resource", "created", "modified", [], [1], [0, 1], {}]
JUNK += [{"a": 1}, [[]], 10**40, "é" * 600, "PCG64", "MT19937", "Philox", "SFC64"]
DTYPES = ["|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<f4", "<f8", "<u8", "<i8", "<f2", "<c8", "<c16"]
DTYPES += [
    "|S1",
    "|S2",
    "|S4",
    "|S8",
    "|S16",
    "<U1",
    "<U2",
    "<U4",
    "<M8[ms]",
    "<m8[7us]",
    "<M8[Y]",
    "|O",
    "<U0",
]


def edited(choose, data):
    """Return *data* with some bytes or integers changed, copied, cut out or put in."""
    data = bytearray(data)
    for _ in range(choose.choice((1, 1, 2, 3, 8))):
        if not data:
            return bytes(data)
        at = choose.randrange(len(data))
        what = choose.randrange(7)
        if what == 0:
            data[at] ^= 1 << choose.randrange(8)
        elif what == 1:
            data[at] = choose.choice((0, 1, 0x7F, 0x80, 0xFF, choose.randrange(256)))
        elif what == 2:
            size = choose.choice((2, 4, 8))
            found = int.from_bytes(data[at : at + size], "little")
            value = choose.choice((*damage.NUMBERS, found - 1, found + 1, found * 2, choose.getrandbits(64)))
            data[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "little")[: len(data) - at]
        elif what == 3:
            size = choose.randrange(1, 33)
            start = choose.randrange(len(data))
            data[at : at + size] = data[start : start + size][: len(data) - at]
        elif what == 4 and choose.random() < 0.3:
            del data[at : at + choose.choice((1, 4, 8, 16, 64))]
        elif what == 5 and choose.random() < 0.3:
            data[at:at] = bytes(choose.choice((1, 4, 8, 16, 64)))
        elif what == 6:
            size = choose.randrange(1, 17)
            data[at : at + size] = bytes(min(size, len(data) - at))
    return bytes(data)


# --- sections ---------------------------------------------------------------------------------------


def _codecs():
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    from lz4 import frame

    return {damage.ZSTD: (zstd.compress, zstd.decompress), damage.LZ4: (frame.compress, frame.decompress)}


def raw_content(entry, section):
    """Return what a section unpacks to, or None."""
    codec = entry[damage.CODEC]
    if codec & 0xFF not in (damage.ZSTD, damage.LZ4):
        return section
    decompress = _codecs()[codec & 0xFF][1]
    item = item_size(entry)
    _, count = struct.unpack_from("<II", section)
    at, content = 8 + 4 * count, b""
    for (length,) in struct.iter_unpack("<I", section[8:at]):
        part = np.frombuffer(decompress(section[at : at + length]), "u1")
        if codec & 0x100 and item > 1:
            part = np.ascontiguousarray(part.reshape(item, -1).T).reshape(-1)
        if codec & 0x200:
            part = np.cumsum(part.view("<u8").reshape(-1, item // 8), axis=0, dtype="<u8").view("u1")
        content += part.tobytes()
        at += length
    return content


def packed(choose, entry, content):
    """Return (codec, section) for *content*: raw, or compressed in chunks of some size."""
    codec = choose.choice((damage.RAW, damage.ZSTD, damage.LZ4))
    item = item_size(entry)
    if codec == damage.RAW or not item or not 0 < len(content) <= LARGEST:
        return damage.RAW, content
    shuffle, delta = choose.random() < 0.5, choose.random() < 0.3 and item % 8 == 0
    size = choose.choice((item, 3 * item, 1000 * item, -(-len(content) // item) * item))
    frames = []
    for start in range(0, len(content), size):
        part = np.frombuffer(content[start : start + size], "u1")
        whole = len(part) % item == 0
        if delta and whole:
            lanes = part.view("<u8").reshape(-1, item // 8)
            part = np.diff(lanes, axis=0, prepend=np.zeros((1, item // 8), "<u8")).view("u1").reshape(-1)
        if shuffle and whole:
            part = np.ascontiguousarray(part.reshape(-1, item).T).reshape(-1)
        frames.append(_codecs()[codec][0](part.tobytes()))
    table = struct.pack(f"<II{len(frames)}I", size, len(frames), *map(len, frames))
    return codec | 0x100 * shuffle | 0x200 * delta, table + b"".join(frames)


def item_size(entry):
    kind, rows = entry[damage.KIND], entry[damage.ROWS]
    if kind in (damage.IDS, damage.OFFSETS):
        return 16 if kind == damage.IDS else 8
    return max(1, entry[damage.RAW_SIZE] // max(rows, 1)) if rows < 1 << 32 else 1


# --- changes of a save of version 2 in pieces ---------------------------------------------------------


def change_schema(choose, pieces, document):
    container, key, _ = choose.choice(list(damage.places(document)))
    what = choose.randrange(5)
    if what == 0:
        container[key] = json.loads(json.dumps(choose.choice(JUNK)))
    elif what == 1:
        del container[key]
    elif what == 2:
        _, _, path = choose.choice(list(damage.places(document)))
        other = document
        for step in path:
            other = other[step]
        container[key] = json.loads(json.dumps(other))
    elif what == 3 and isinstance(container, list):
        container.append(json.loads(json.dumps(container[key])))
    elif isinstance(container[key], int):
        container[key] += choose.choice((-1, 1, 2, 16))


def change_field(choose, pieces, document):
    """Describe a field otherwise, often of the same size."""
    fields = [t["fields"] for t in document["types"] if isinstance(t, dict) and t.get("fields")]
    if not fields:
        return
    field = choose.choice(choose.choice(fields))
    if not isinstance(field, dict):
        return
    if field.get("fields") and choose.random() < 0.5:
        field = choose.choice(field["fields"])
    what = choose.randrange(5)
    if what == 0:
        field["variable"] = choose.choice(("str", "bytes", "list"))
        if field["variable"] != "list":
            for key in ("dtype", "ref", "fields", "shape", "enum"):
                field.pop(key, None)
        elif not {"dtype", "ref", "fields"} & set(field):
            field["dtype"] = choose.choice(DTYPES)
    elif what == 1:
        for key in ("ref", "fields", "enum"):
            field.pop(key, None)
        field["dtype"] = choose.choice(DTYPES)
    elif what == 2:
        for key in ("dtype", "fields", "enum", "shape"):
            field.pop(key, None)
        field["ref"] = True
    elif what == 3:
        field["shape"] = choose.choice(([1], [2], [1, 2], [3], [2**31], [2**62, 4], [1] * 40))
    else:
        field["enum"] = choose.choice(({"A": 0}, {"A": 1, "B": 7}, {"A": 255}, {"A": -1}, {"A": 2**64}))


def change_content(choose, pieces, document):
    """Change what a section holds; its sizes follow, mostly."""
    place = choose.randrange(len(pieces.entries))
    entry = pieces.entries[place]
    if choose.random() < 0.3:
        pieces.sections[place] = edited(choose, pieces.sections[place])
        return
    content = raw_content(entry, pieces.sections[place])
    if choose.random() < 0.8:
        content = edited(choose, content)
    if choose.random() < 0.9:
        rows, item = entry[damage.ROWS], item_size(entry)
        if choose.random() < 0.7 and entry[damage.CODEC] != damage.RUNS and rows < 1 << 12:
            # Of the size that is expected.
            size = min(entry[damage.RAW_SIZE], LARGEST)
            content = (content + bytes(size))[:size]
        elif entry[damage.KIND] == damage.VALUES:
            entry[damage.ROWS], entry[damage.RAW_SIZE] = len(content) // item, len(content)
    if entry[damage.CODEC] == damage.RUNS:
        pieces.sections[place] = content
    else:
        entry[damage.CODEC], pieces.sections[place] = packed(choose, entry, content)


def change_rows(choose, pieces, document):
    """Give a table another number of rows, everywhere it is said."""
    tables = [t for t in document["tables"] if isinstance(t, dict) and type(t.get("rows")) is int]
    if not tables:
        return
    number = document["tables"].index(choose.choice(tables))
    before = document["tables"][number]["rows"]
    large = choose.random() < 0.3
    rows = choose.choice((2**16, 2**20, 2**31, 2**32, 2**40, 2**60)) if large else choose.randrange(1, 40)
    if before < 1:
        return
    document["tables"][number]["rows"] = rows
    if document["tables"][number].get("role") == "state":
        pieces.header[3] = (pieces.header[3] + rows - before) % 2**64
    for place, entry in enumerate(pieces.entries):
        kind = entry[damage.KIND]
        if entry[damage.TABLE] != number or kind == damage.VALUES or before > 1 << 12:
            continue
        more = 1 if kind == damage.OFFSETS else 0
        item = entry[damage.RAW_SIZE] // (before + more)
        entry[damage.ROWS], entry[damage.RAW_SIZE] = rows, item * (rows + more) % 2**64
        content = raw_content(entry, pieces.sections[place])
        if entry[damage.CODEC] == damage.RUNS or (kind == damage.IDS and large):
            entry[damage.CODEC] = damage.RUNS
            first = choose.choice((1, 2**64 - 5, 2**128 - rows, choose.getrandbits(127)))
            pieces.sections[place] = first.to_bytes(16, "little") + struct.pack("<Q", rows)
        elif large:
            continue
        else:
            wanted = min(item * (rows + more), LARGEST)
            content = (content * (1 + wanted // max(len(content), 1)))[:wanted]
            if kind == damage.OFFSETS:
                ends = np.sort(np.frombuffer(content, "<u8"))
                content = ends.tobytes()
            entry[damage.CODEC], pieces.sections[place] = packed(choose, entry, content)


def change_entry(choose, pieces, document):
    entry = choose.choice(pieces.entries)
    place = choose.choice((0, 1, 2, 3, 4, 5, 8, 10))
    bits = 8 * damage.ENTRY_FIELDS[place][1]
    entry[place] = choose.choice((0, 1, 2, 3, 0x8000, 0x101, 0x302, entry[place] + 1, 2**64 - 1)) % 2**bits


def change_order(choose, pieces, document):
    """Drop, repeat, exchange or add sections."""
    a, b = (choose.randrange(len(pieces.entries)) for _ in range(2))
    what = choose.randrange(4)
    if what == 0:
        del pieces.entries[a], pieces.sections[a]
    elif what == 1:
        pieces.entries.insert(b, list(pieces.entries[a]))
        pieces.sections.insert(b, pieces.sections[a])
    elif what == 2:
        for things in (pieces.entries, pieces.sections):
            things[a], things[b] = things[b], things[a]
    else:
        kind = choose.choice((0x8000, 0xFFFF, 5, 6, 7))
        numbers = [choose.choice((0, 1, 2**31, 2**32 - 1)) for _ in range(3)]
        raw_size = choose.choice((0, 1, 2**40, 2**64 - 1))
        pieces.entries.insert(a, [kind, choose.choice((0, 1, 3, 9)), *numbers, 5, 0, 0, raw_size, 0, 0])
        pieces.sections.insert(a, bytes(choose.randrange(70)))


def change_types(choose, pieces, document):
    """Rename types, or give them other versions, in the registry and in the schema."""
    types = [t for t in document["types"] if isinstance(t, dict) and isinstance(t.get("name"), str)]
    if not types:
        return
    type_ = choose.choice(types)
    if choose.random() < 0.5:
        type_["version"] = choose.choice((0, 1, 2, 2**32 - 1))
    else:
        type_["name"] = choose.choice((type_["name"] + "x", "A", "zz", "é" * 512, "\x7f", "DamageSpot"))
    registry = b""
    for entry in types:
        name, version = entry["name"].encode("utf-8", "replace"), entry.get("version")
        key = hashlib.blake2b(name, digest_size=16).digest()
        version = version % 2**32 if type(version) is int else 0
        registry += key + struct.pack("<I", len(name)) + name + struct.pack("<I", version)
    pieces.registry = registry
    pieces.header[4] = len(types)


def change_header(choose, pieces, document):
    what = choose.randrange(4)
    if what == 0:
        pieces.header[2] = choose.randrange(32)
    elif what == 1:
        pieces.header[3] = choose.choice((0, pieces.header[3] + 1, 2**64 - 1))
    elif what == 2:
        pieces.header[4] = choose.choice((0, pieces.header[4] + 1, 2**16, 2**32 - 1))
    else:
        pieces.extension[choose.randrange(1, 4)] = choose.choice((0, 1, 2**31))


CHANGES = [change_schema] * 3 + [change_content] * 5 + [change_field] * 3 + [change_rows] * 2
CHANGES += [change_entry, change_order, change_types, change_header]


def changed_pieces(choose, data):
    """Return a save of version 2 with some of its pieces changed, and all else as it has to be for them."""
    pieces = damage.Pieces.of(data)
    document = json.loads(pieces.schema)
    for _ in range(choose.choice((1, 1, 2, 3))):
        if pieces.entries:
            choose.choice(CHANGES)(choose, pieces, document)
    pieces.schema = json.dumps(document, separators=(",", ":")).encode("utf-8", "replace")
    if choose.random() < 0.9:
        used = {entry[damage.CODEC] & 0xFF for entry in pieces.entries}
        pieces.header[2] = pieces.header[2] & ~3 | (1 if 1 in used else 0) | (2 if 2 in used else 0)
    return pieces.join()


# --- changes of a save of version 1 -------------------------------------------------------------------


def changed_records(choose, data):
    """Return a save of version 1 with whole records moved, or data of another length."""
    starts, at = [], damage.registry_numbers(data)[1]
    for _ in range(min(int.from_bytes(data[12:20], "little"), len(data) // 20)):
        start = at
        count = int.from_bytes(data[at + 16 : at + 20], "little")
        at += 20
        for _ in range(min(count, len(data) // 20)):
            at += 20 + int.from_bytes(data[at + 16 : at + 20], "little")
        starts.append((start, at))
    records = [bytes(data[a:b]) for a, b in starts]
    head = bytearray(data[: starts[0][0]])
    for _ in range(choose.choice((1, 2, 5))):
        what, i = choose.randrange(5), choose.randrange(len(records))
        if what == 0:
            choose.shuffle(records)
        elif what == 1:
            records[i] = records[i][:16] + bytes(4)
        elif what == 2:
            many = choose.choice((1, 2, 20, 40))
            records += [struct.pack("<QQ", choose.getrandbits(64), 1) + records[i][16:] for _ in range(many)]
        elif what == 3 and len(records[i]) > 40:
            # The first component gets another size, its data too.
            size = int.from_bytes(records[i][36:40], "little")
            content = edited(choose, records[i][40 : 40 + size])
            rest = records[i][40 + size :]
            records[i] = records[i][:36] + struct.pack("<I", len(content)) + content + rest
        elif len(records[i]) > 40:
            # The same component once more.
            size = int.from_bytes(records[i][36:40], "little")
            count = int.from_bytes(records[i][16:20], "little") + 1
            records[i] = (
                records[i][:16] + struct.pack("<I", count) + records[i][20 : 40 + size] + records[i][20:]
            )
    struct.pack_into("<Q", head, 12, len(records))
    return bytes(head) + b"".join(records) + bytes(8)


def mutated(choose, data):
    """Return another save, its sums right."""
    try:
        if choose.random() < 0.6:
            data = (changed_records if data[4] == 1 else changed_pieces)(choose, data)
            if choose.random() < 0.8:
                return damage.repaired(data)
    except Exception:  # noqa: BLE001 - what is too broken to be taken apart is edited as it is
        pass
    return damage.repaired(edited(choose, data))


# --- running ----------------------------------------------------------------------------------------


def seeds():
    """Return sound saves, small ones."""
    return [damage.save_of(name)[1] for name in damage.SAVES]


class Target:
    """Judges inputs, and keeps one of each kind of fault."""

    def __init__(self, out, foreign=True):
        self.judge = damage.Judge(None, foreign)
        self.out = Path(out)
        self.out.mkdir(exist_ok=True)
        self.last = open(self.out / "last.pecs", "wb", buffering=0)  # noqa: SIM115 - as long as the process
        self.kinds = collections.Counter()
        self.turn = 0

    def __call__(self, data, seconds=damage.MOST_SECONDS):
        """Judge *data*; return whether it loads."""
        self.last.seek(0)
        self.last.write(data)
        self.last.truncate()
        damage.bound_time(seconds)
        self.turn += 1
        ways = damage.ROTATION[self.turn % 5]
        loaded = self.judge.counts["other worlds"]
        self.judge.judge(damage.Case("input", data, True), ways, (("default", "strict")[self.turn % 2],))
        for kind, found in self.judge.faults.items():
            for text in found:
                lines = [line for line in text.splitlines() if line.strip()]
                where = [line.strip() for line in lines if line.strip().startswith("File ")][-1:]
                key = re.sub(r"0x[0-9a-f]+|\d+|/tmp/\S+", "N", f"{kind} {where} {lines[-1][:90]}")
                self.kinds[key] += 1
                if self.kinds[key] == 1:
                    name = hashlib.blake2b(key.encode(), digest_size=4).hexdigest()
                    Path(self.out, f"{kind}-{name}.pecs").write_bytes(data)
                    Path(self.out, f"{kind}-{name}.txt").write_text(text)
                    damage.tell(f"FAULT {key}")
            found.clear()
        return self.judge.counts["other worlds"] > loaded


def run_randomly(seconds, seed, target):
    """Judge random changes of sound saves, and of what loaded before, for so many seconds of work."""
    choose = random.Random(seed)
    pool = seeds()
    fixed = len(pool)
    start = time.process_time()
    while time.process_time() < start + seconds:
        data = mutated(choose, choose.choice(pool if choose.random() < 0.5 else pool[:fixed]))
        if len(data) <= LARGEST and target(data):
            if len(pool) < fixed + 500:
                pool.append(data)
            else:
                pool[choose.randrange(fixed, len(pool))] = data
        if target.turn % 20_000 == 0:
            damage.tell(f"{time.process_time() - start:.0f} s {dict(target.judge.counts)}")
    damage.tell(f"{dict(target.judge.counts)} {json.dumps(target.kinds, indent=1)}")


def run_atheris(arguments, target):
    """Let atheris choose the inputs."""
    folders = [a for a in arguments if not a.startswith("-")]
    for folder in folders[:1]:
        Path(folder).mkdir(exist_ok=True)
        for i, data in enumerate([] if any(Path(folder).iterdir()) else seeds()):
            Path(folder, f"seed{i}").write_bytes(data)

    def mutate(data, most, seed):
        choose = random.Random(seed)
        if len(data) > 32 and choose.random() < 0.5:
            return mutated(choose, data)[:most]
        return damage.repaired(atheris.Mutate(data, most))

    def one(data):
        target(damage.repaired(data))
        if target.turn % 20_000 == 0:
            damage.tell(dict(target.judge.counts))

    atheris.Setup([sys.argv[0], *arguments], one, custom_mutator=mutate)
    atheris.Fuzz()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--random", type=float, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--known", action="store_true", help="of components that the process defines")
    parser.add_argument("--out", default="fuzz_faults")
    options, rest = parser.parse_known_args()
    saves = seeds()
    if not options.known:
        for cls in damage.COMPONENTS:
            damage.unregister(cls._type.name)
    assert all(len(damage.World.from_bytes(data)) for data in saves)
    target = Target(options.out, not options.known)
    damage.bound_memory(damage.MOST_MEMORY)
    if options.random:
        run_randomly(options.random, options.seed, target)
    else:
        run_atheris(rest, target)


if __name__ == "__main__":
    main()

"""Small worlds to damage, where the numbers of their saves stand, and sums made right again.

Run as a program it reads hostile saves in a process of its own, whose memory is bounded and in which
every case has a time limit; see `judge_all` and `read_one`. Nothing here reads a save by way of the package.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import hashlib
import io
import itertools
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np

import pecs_np
from pecs_np import (
    BinaryPlugin,
    ComponentDefinitionError,
    EntityRef,
    Limits,
    PecsError,
    UnsupportedVersionError,
    World,
    component,
    registered,
    unregister,
)
from pecs_np.persistence.checksum import crc64, crc64_we
from pecs_np.testing import assert_worlds_equal

try:
    import resource
except ImportError:  # not on Windows
    resource = None

THOROUGH = os.environ.get("PECS_NP_THOROUGH") == "1"
HEADER = struct.Struct("<4sIIQI")
EXTENSION = struct.Struct("<4sIIIQII16s16s")
ENTRY = struct.Struct("<HHIIIQQQQQQ")
HEADER_FIELDS = [("magic", 4), ("version", 4), ("flags", 4), ("entity_count", 8), ("type_count", 4)]
EXTENSION_FIELDS = [("magic", 4), ("incompat", 4), ("ro_compat", 4), ("compat", 4), ("file_size", 8)]
EXTENSION_FIELDS += [("section_count", 4), ("schema_size", 4), ("save_id", 8), ("save_id", 8)]
EXTENSION_FIELDS += [("base_id", 8), ("base_id", 8)]
ENTRY_FIELDS = [("kind", 2), ("codec", 2), ("table", 4), ("type", 4), ("field", 4), ("rows", 8)]
ENTRY_FIELDS += [("offset", 8), ("stored_size", 8), ("raw_size", 8), ("crc", 8), ("reserved", 8)]
KIND, CODEC, TABLE, TYPE, FIELD, ROWS, OFFSET, STORED_SIZE, RAW_SIZE, CRC = range(10)
IDS, COLUMN, OFFSETS, VALUES = 1, 2, 3, 4
RAW, ZSTD, LZ4, RUNS = range(4)
NONE = 0xFFFFFFFF
# What a hostile file sets its numbers to, as far as they have the bits; n is what stood there.
NUMBERS = [0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**53 + 1, 2**63, 2**64 - 1]
# Memory that reading a hostile save may ask for, and its time on a processor.
MOST_MEMORY = 1536 << 20
MOST_SECONDS = 20
# Worlds of more entities, which a few bytes can stand for, are not looked through.
MANY = 1 << 20


class DamageMood(enum.IntEnum):
    CALM = 1
    MAD = 7


class DamageItem:
    kind: np.uint8
    owner: EntityRef


@component
class DamageSpot:
    x: np.float32
    n: Annotated[np.int16, 2]


@component
class DamageLife:
    to: EntityRef
    ok: bool
    mood: DamageMood
    code: Annotated[str, 2]
    text: str
    items: list[DamageItem]


@component
class DamageTag:
    pass


@component
class DamageClock:
    tick: np.int64
    owner: EntityRef
    note: str


COMPONENTS = [DamageSpot, DamageLife, DamageTag, DamageClock]
# Of version 1, which does not say it: bytes of the fixed-size part, how many lengths follow.
RECORDS = {"DamageSpot": (8, 0), "DamageLife": (26, 2), "DamageTag": (0, 0)}


def mixed_world(spots=3):
    """Return a world of four archetypes whose entities refer to one another."""
    world = World()
    ids = world.spawn_batch(
        DamageSpot(x=np.arange(spots), n=[4, -5]), count=spots, stable_ids=list(range(100, 100 + spots))
    )
    a, b = world.spawn_batch(count=2, stable_ids=[5, 2**90])
    lives = [DamageLife(a, True, 7, "é", "a\0é", [(1, b), (2, ids[0])]), DamageLife(0, False, 1, "", "", [])]
    world.spawn_with_stable_id(9, lives[0])
    world.spawn_with_stable_id(3, lives[1])
    world.spawn_with_stable_id(2**64, DamageTag())
    return world


def packed_world():
    """Return a world whose columns become smaller when they are compressed."""
    world = World()
    count = 24
    ids = world.spawn_batch(
        DamageSpot(x=1, n=[2, 3]), count=count, stable_ids=[2**70 + 3 * i * i + 1 for i in range(count)]
    )
    life = DamageLife(ids[0], True, 7, "é", "text éé", [(1, ids[2]), (0, 0)])
    world.spawn_batch(life, count=count, stable_ids=[7 * i + 2 for i in range(count)])
    return world


def extra_world():
    """Return a world of resources, generators and metadata, and hardly any entities."""
    world = World(seed=1, version=3, metadata={"level": 7, "names": ["é", 2.5]})
    one = world.spawn(DamageTag())
    world.spawn_batch(DamageSpot(x=[1, 2], n=[3, 4]))
    world.resources.insert(DamageClock(12, one, "noon"))
    world.rngs["dice"] = np.random.Generator(np.random.PCG64(1))
    return world


def odd_world():
    """Return a world of many small archetypes, for records of version 1 in any order."""
    world = mixed_world(12)
    for i in range(4):
        world.spawn_with_stable_id(300 + i, DamageLife(0, False, 1, "", "a" * (i // 2), []))
        world.spawn_batch(DamageTag(), count=2, stable_ids=[400 + 2 * i, 401 + 2 * i])
        world.spawn_with_stable_id(500 + i)
    return world


def shuffled(data):
    """Return a save of version 1 with its records in another order."""
    starts = [n.at for n in numbers_of(data) if n.name.endswith(" id") and n.name.startswith("entity")][::2]
    records = [data[a:b] for a, b in itertools.pairwise([*starts, len(data) - 8])]
    random.Random(1).shuffle(records)
    return repaired(data[: starts[0]] + b"".join(records) + bytes(8))


# What each save is of, and how it is written.
SAVES = {
    "raw": (mixed_world, {}),
    "extras": (extra_world, {}),
    "zstd": (packed_world, {"compression": "zstd"}),
    "lz4": (packed_world, {"compression": "lz4"}),
    "iso": (lambda: mixed_world(18), {"version": 1}),
    "we": (mixed_world, {"version": 1, "checksum": "we"}),
    "odd": (odd_world, {"version": 1}),
}


def save_of(name):
    """Return (world, its save) of one of `SAVES`."""
    make, options = SAVES[name]
    world = make()
    data = world.to_bytes(BinaryPlugin(**options))
    return world, shuffled(data) if name == "odd" else data


def thinned(cases, share, seed):
    """Return about that share of *cases*, chosen by *seed*; all of them in a thorough run."""
    if THOROUGH or share >= 1:
        return list(cases)
    choose = random.Random(seed)
    return [case for case in cases if choose.random() < share]


def aligned(offset):
    return -(-offset // 64) * 64


# --- where things stand -----------------------------------------------------------------------------


class Number(NamedTuple):
    """An integer of a save: what it is, its first byte, how many it has, and whether it is content."""

    name: str
    at: int
    size: int
    is_data: bool = False


def registry_numbers(data):
    """Return the integers of the registry, its end, and the names in it; as far as it can be followed."""
    numbers, names, at = [], [], HEADER.size
    for i in range(min(int.from_bytes(data[20:24], "little"), len(data) // 24)):
        length = int.from_bytes(data[at + 16 : at + 20], "little")
        numbers += [Number(f"type {i} id", at, 8), Number(f"type {i} id", at + 8, 8)]
        numbers.append(Number(f"type {i} name_len", at + 16, 4))
        # A type that the process does not know has any version; version 2 says it twice.
        numbers.append(Number(f"type {i} version", at + 20 + length, 4, data[4] == 1))
        names.append(bytes(data[at + 20 : at + 20 + length]).decode("utf-8", "replace"))
        at += 24 + length
        if at > len(data):
            break
    return numbers, at, names


def consecutive(fields, at, prefix=""):
    """Return the numbers that *fields*, (name, bytes), are from byte *at* on."""
    numbers = []
    for name, size in fields:
        numbers.append(Number(prefix + name, at, size))
        at += size
    return numbers


def numbers_of(data):
    """Return every integer of a sound save that does not stand in its schema."""
    numbers = consecutive(HEADER_FIELDS, 0)
    types, at, names = registry_numbers(data)
    numbers += types
    if data[4] == 1:
        return numbers + record_numbers(data, at, names)
    pieces = Pieces.of(data)
    at = aligned(at)
    numbers += consecutive(EXTENSION_FIELDS, at)
    at += EXTENSION.size
    for i, entry in enumerate(pieces.entries):
        found = consecutive(ENTRY_FIELDS, at + ENTRY.size * i, f"entry {i} ")
        # Filters that do not go with what is stored make other content of it.
        numbers += [n._replace(is_data=n.name.endswith("codec")) for n in found]
        start, stop = entry[OFFSET], entry[OFFSET] + entry[STORED_SIZE]
        numbers += section_numbers(i, entry, data, start, stop)
    return numbers


def section_numbers(i, entry, data, start, stop):
    """Return the integers within a section: ids, runs, offsets, tables of chunks and the frames' own."""
    if entry[CODEC] == RUNS:
        lanes = [(f"section {i} run", at, 8, True) for at in range(start, stop, 8)]
    elif entry[CODEC] & 0xFF in (ZSTD, LZ4):
        count = int.from_bytes(data[start + 4 : start + 8], "little")
        frames = start + 8 + 4 * count
        lanes = [(f"section {i} chunks", at, 4, False) for at in range(start, frames, 4)]
        # The frames' own integers have any width and stand anywhere. What they say may change.
        lanes += [(f"section {i} frame", at, 1, True) for at in range(frames, stop)]
        lanes += [(f"section {i} frame", at, 4, True) for at in range(frames, stop - 3)]
    elif entry[KIND] in (IDS, OFFSETS):
        lanes = [(f"section {i} item", at, 8, True) for at in range(start, stop, 8)]
    else:
        lanes = [(f"section {i} value", at, 4, True) for at in range(start, stop - 3, 4)]
    return [Number(*lane) for lane in lanes]


def record_numbers(data, at, names):
    """Return the integers of the records of version 1."""
    numbers = []
    by_id = {hashlib.blake2b(n.encode(), digest_size=16).digest(): n for n in names}
    for i in range(int.from_bytes(data[12:20], "little")):
        numbers += [Number(f"entity {i} id", at, 8, True), Number(f"entity {i} id", at + 8, 8, True)]
        numbers.append(Number(f"entity {i} component_count", at + 16, 4))
        count = int.from_bytes(data[at + 16 : at + 20], "little")
        at += 20
        for _ in range(count):
            numbers += [Number(f"entity {i} type", at, 8), Number(f"entity {i} type", at + 8, 8)]
            numbers.append(Number(f"entity {i} data_len", at + 16, 4))
            fixed, lengths = RECORDS[by_id[bytes(data[at : at + 16])]]
            end = at + 20 + int.from_bytes(data[at + 16 : at + 20], "little")
            numbers += [Number(f"entity {i} value", p, 4, True) for p in range(at + 20, at + 17 + fixed, 4)]
            at += 20 + fixed
            for _ in range(lengths):
                # Bytes are all that is known of a type which the process does not know.
                numbers.append(Number(f"entity {i} length", at, 4, True))
                at += 4 + int.from_bytes(data[at : at + 4], "little")
            assert at == end
    assert at == len(data) - 8
    return numbers


def is_content(data):
    """Return for each byte of a save whether another value may stand there and be as good."""
    content = np.zeros(len(data), bool)
    if data[4] == 1:
        _, at, _ = registry_numbers(data)
        content[at:-8] = True
        # The heads of records say where all else stands.
        structure = ("component_count", "type", "data_len")
        for number in numbers_of(data):
            if not number.is_data and number.name.split()[-1] in structure:
                content[number.at : number.at + number.size] = False
            elif number.is_data:
                content[number.at : number.at + number.size] = True
        return content
    pieces = Pieces.of(data)
    content[pieces.schema_at : pieces.schema_at + len(pieces.schema)] = True
    for entry in pieces.entries:
        content[entry[OFFSET] : entry[OFFSET] + entry[STORED_SIZE]] = True
    for number in numbers_of(data):
        if number.name.endswith("codec"):
            content[number.at : number.at + number.size] = True
    return content


# --- sums made right again --------------------------------------------------------------------------


def repaired(data, original_sum=crc64):
    """Return *data* with right sums, at the places where the save itself says that they stand.

    What cannot be followed stays as it is: a reader refuses it before it looks at a sum.
    """
    data = bytearray(data)
    if len(data) < HEADER.size + 8:
        return bytes(data)
    if int.from_bytes(data[4:8], "little") != 1:
        _, end, _ = registry_numbers(data)
        at = aligned(end)
        if at + EXTENSION.size <= len(data):
            _, _, _, _, _, count, schema_size, _, _ = EXTENSION.unpack_from(data, at)
            directory = at + EXTENSION.size
            for start in range(directory, min(directory + ENTRY.size * count, len(data) - 63), ENTRY.size):
                entry = ENTRY.unpack_from(data, start)
                first, stop = entry[OFFSET], entry[OFFSET] + entry[STORED_SIZE]
                if stop <= len(data):
                    struct.pack_into("<Q", data, start + 48, crc64(bytes(data[first:stop])))
            crc_at = directory + ENTRY.size * count + schema_size
            if crc_at + 8 <= len(data):
                struct.pack_into("<Q", data, crc_at, crc64(bytes(data[:crc_at])))
        original_sum = crc64
    struct.pack_into("<Q", data, len(data) - 8, original_sum(bytes(data[:-8])))
    return bytes(data)


def sum_of(name):
    """Return the function that sums the save *name*."""
    return crc64_we if SAVES[name][1].get("checksum") == "we" else crc64


@dataclass
class Pieces:
    """A save of version 2 in pieces, put together again with right offsets, sizes and sums.

    ``entries`` are the entries of the directory; their offsets, stored sizes and sums are worked out.
    """

    header: list
    registry: bytes
    extension: list
    entries: list
    schema: bytes
    sections: list
    schema_at: int = 0

    @classmethod
    def of(cls, data):
        data = bytes(data)
        header = list(HEADER.unpack_from(data))
        _, end, _ = registry_numbers(data)
        at = aligned(end)
        extension = list(EXTENSION.unpack_from(data, at))
        count, schema_size = extension[5:7]
        at += EXTENSION.size
        entries = [list(ENTRY.unpack_from(data, at + ENTRY.size * i)) for i in range(count)]
        at += ENTRY.size * count
        sections = [data[e[OFFSET] : e[OFFSET] + e[STORED_SIZE]] for e in entries]
        return cls(
            header, data[HEADER.size : end], extension, entries, data[at : at + schema_size], sections, at
        )

    @property
    def head_size(self):
        return aligned(self.schema_at + len(self.schema) + 8)

    def join(self):
        head = HEADER.pack(*self.header) + self.registry
        head += bytes(aligned(len(head)) - len(head))
        end = aligned(len(head) + EXTENSION.size + ENTRY.size * len(self.entries) + len(self.schema) + 8)
        directory, body, at = b"", b"", end
        for entry, data in zip(self.entries, self.sections, strict=True):
            start = aligned(at)
            body += bytes(start - at) + data
            at = start + len(data)
            directory += ENTRY.pack(
                *entry[:OFFSET], start, len(data), entry[RAW_SIZE], crc64(data), entry[10]
            )
        counts = at + 8, len(self.entries), len(self.schema)
        head += EXTENSION.pack(*self.extension[:4], *counts, *self.extension[7:])
        head += directory + self.schema
        head += struct.pack("<Q", crc64(head))
        head += bytes(end - len(head))
        return head + body + struct.pack("<Q", crc64(head + body))


# --- cases ------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A changed save, and whether a world that it loads as may be another one."""

    label: str
    data: bytes
    may_differ: bool


def flipped(data, at, bit):
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)


def flips(name, share, seed=""):
    """Yield the save with single bits flipped, under right sums."""
    _, data = save_of(name)
    content = is_content(data)
    places = [(at, bit) for at in range(len(data)) for bit in range(8)]
    for at, bit in thinned(places, share, f"flips of {name} {seed}"):
        yield Case(
            f"bit {bit} of byte {at}", repaired(flipped(data, at, bit), sum_of(name)), bool(content[at])
        )


def changed_numbers(name, share, seed=""):
    """Yield the save with single integers set to what breaks readers, under right sums."""
    _, data = save_of(name)
    cases = []
    for number in numbers_of(data):
        bits = 8 * number.size
        found = int.from_bytes(data[number.at : number.at + number.size], "little")
        values = {n for n in (*NUMBERS, found - 1, found + 1) if 0 <= n < 1 << bits} - {found}
        cases += [(number, value) for value in sorted(values)]
    for number, value in thinned(cases, share, f"numbers of {name} {seed}"):
        changed = bytearray(data)
        changed[number.at : number.at + number.size] = value.to_bytes(number.size, "little")
        yield Case(
            f"{number.name} at byte {number.at} = {value}", repaired(changed, sum_of(name)), number.is_data
        )


def places(value, path=()):
    """Yield (container, key, path) of every member of a JSON document."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key, (*path, key)
        if isinstance(value[key], dict | list):
            yield from places(value[key], (*path, key))


def schema_numbers(name, share, seed=""):
    """Yield the save with single numbers of its schema set to what breaks readers, under right sums."""
    _, data = save_of(name)
    if data[4] == 1:
        return
    pieces = Pieces.of(data)
    document = json.loads(pieces.schema)
    cases = []
    for container, key, path in list(places(document)):
        found = container[key]
        is_text = isinstance(found, str) and found.isdigit()
        if type(found) is not int and not is_text:
            continue
        n = int(found)
        values = {*NUMBERS, n - 1, n + 1, -1, 2**64, 2**128 - 1, 2**128, 10**400} - {n}
        new = [str(v) if is_text else v for v in sorted(values)]
        new += [n, "1"] if is_text else [1.5, 1e300, True, None, str(n), [n]]
        cases += [(container, key, path, value) for value in new]
    for container, key, path, value in thinned(cases, share, f"schema of {name} {seed}"):
        before, container[key] = container[key], value
        pieces.schema = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
        container[key] = before
        may_differ = path[0] == "world" or "enum" in path
        yield Case(f"schema {path} = {value!r:.40}", pieces.join(), may_differ)


# Of each, the share of cases that a run which is not thorough tries.
MAKERS = {flips: 0.06, changed_numbers: 0.2, schema_numbers: 0.5}


WAYS = ("bytes", "stream", "file", "verify", "open", "mmap")


# --- the judge --------------------------------------------------------------------------------------


class Judge:
    """Reads hostile saves in every way there is and notes what should not be.

    Attributes
    ----------
    counts : Counter
        Cases, by what became of them.
    faults : dict of str to list
        ``escaped``: another exception than the library's own, or memory ran out. ``unequal``: a world
        that is neither the original nor sound. ``disagreeing``: one way of reading takes what another
        refuses.
    """

    def __init__(self, original=None, foreign=False):
        self.original = original
        self.foreign = foreign
        self.counts = collections.Counter()
        self.faults = {"escaped": [], "unequal": [], "disagreeing": []}
        self.limits = {"default": Limits(), "strict": Limits.strict()}
        # In memory where that is possible: it is written for every case.
        memory = Path("/dev/shm")
        handle, self.path = tempfile.mkstemp(".pecs", dir=memory if memory.is_dir() else None)
        os.close(handle)

    def close(self):
        os.unlink(self.path)

    def judge(self, case, ways=WAYS, limits=("default", "strict")):
        """Read *case*, by default in every way."""
        self.counts["cases"] += 1
        if not {"file", "verify", "open", "mmap"}.isdisjoint(ways):
            Path(self.path).write_bytes(case.data)
        for kind in limits:
            outcomes = {way: self._read(case, way, kind) for way in ways}
            first = outcomes[ways[0]]
            for way, found in outcomes.items():
                if isinstance(found, PecsError) != isinstance(first, PecsError) and not self._excused(
                    way, first, found
                ):
                    self._note(
                        "disagreeing", case, f"{kind}: {ways[0]} gives {first!r:.150}, {way} {found!r:.150}"
                    )
            self.counts[f"{kind}: {'refused' if isinstance(first, PecsError) else 'loaded'}"] += 1
            for found in outcomes.values():
                if isinstance(found, World) and is_older(found):
                    self.counts["older than the program"] += 1
                elif isinstance(found, World) and len(found) <= MANY:
                    self._check(case, found)
                    break

    def _excused(self, way, first, found):
        """Tell whether *way* does not look at what keeps the save from being loaded."""
        if way == "verify" and not self.foreign and found is None:
            # This program's own definitions.
            return isinstance(first, ComponentDefinitionError | UnsupportedVersionError)
        if way in ("open", "mmap") and isinstance(found, World) and is_older(found):
            # An opened save shows what migrations have yet to bring up to date.
            return isinstance(first, UnsupportedVersionError)
        # The gaps between sections, which only those miss who check everything.
        return way in ("open", "mmap") and "expected zero bytes" in str(first)

    def _read(self, case, way, kind):
        try:
            return self._ways(case.data, way, self.limits[kind])
        except PecsError as error:
            str(error)
            if str(error).startswith("expected memory"):
                self._note("escaped", case, f"{kind}, {way}: {error}")
            return error
        except Exception:  # noqa: BLE001 - whatever comes is what is looked for
            self._note("escaped", case, f"{kind}, {way}: {traceback.format_exc(-3)}")
            return PecsError("escaped")

    def _ways(self, data, way, limits):
        """Return a world, or None where nothing but soundness was asked for."""
        plugin = BinaryPlugin(limits=limits)
        if way == "bytes":
            return World.from_bytes(data, plugin)
        if way == "stream":
            return World.load_with(io.BytesIO(data), plugin)
        if way == "file":
            return World.load_with(self.path, plugin)
        with pecs_np.open(self.path, mmap=way == "mmap", limits=limits) as save:
            if way == "verify":
                return save.verify()
            return World.from_snapshot(save.snapshot())

    def _check(self, case, world):
        try:
            if self.original is not None:
                try:
                    assert_worlds_equal(world, self.original)
                except AssertionError:
                    if not case.may_differ:
                        raise
                else:
                    self.counts["equal"] += 1
                    return
            assert world.validate(), str(world.validate())
            saved = world.to_bytes()
            again = World.from_bytes(saved)
            assert_worlds_equal(again, world)
            assert again.to_bytes() == saved
            world.spawn()
            assert world.validate(), f"after a spawn: {world.validate()}"
            self.counts["other worlds"] += 1
        except MemoryError:
            self.counts["too large to look through"] += 1
        except Exception:  # noqa: BLE001 - as above
            self._note("unequal", case, traceback.format_exc(-3))

    def _note(self, kind, case, what):
        self.counts[kind] += 1
        if len(self.faults[kind]) < 20:
            self.faults[kind].append(f"{case.label}: {what}")


def is_older(world):
    """Tell whether a world has a component in an older version than this program."""
    found = ((t.version, registered(t.name)) for t in world.snapshot().types)
    return any(cls is not None and version < cls._type.version for version, cls in found)


def tell(text):
    """Write a line that is out before anything else happens."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def bound_memory(most):
    """Let the process have no more than *most* bytes beyond what it has."""
    if resource is None or not Path("/proc/self/statm").exists():
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + most
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def bound_time(seconds):
    """Let the process die unless this is called again within so many seconds of work."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


# What a run that is not thorough reads each case with, in turns.
ROTATION = [
    ("bytes", "verify"),
    ("bytes", "stream"),
    ("bytes", "open"),
    ("file", "verify"),
    ("bytes", "mmap"),
]


def judge_all(name, types):
    """Judge all cases of the save *name*; print each before it is read, and the result at the end.

    *types* is "known", or "foreign" for a process that knows none of the components.
    """
    world, data = save_of(name)
    if types == "foreign":
        for cls in COMPONENTS:
            unregister(cls._type.name)
        world = World.from_bytes(data)
    judge = Judge(world, types == "foreign")
    bound_memory(MOST_MEMORY)
    number = 0
    for maker, share in MAKERS.items():
        for case in maker(name, share, types):
            number += 1
            tell(case.label)
            bound_time(MOST_SECONDS)
            if THOROUGH:
                judge.judge(case)
            else:
                judge.judge(case, ROTATION[number % 5], (("default", "strict")[number % 2],))
    judge.close()
    tell(json.dumps({"counts": judge.counts, "faults": judge.faults}))


def read_one(way, kind, memory, seconds):
    """Read the save that comes by standard input in one way; print what became of it and what it took.

    Ways are those of `WAYS`, and "columns" for all columns of an opened save.
    """
    judge = Judge()
    data = sys.stdin.buffer.read()
    Path(judge.path).write_bytes(data)
    bound_memory(int(memory))
    bound_time(float(seconds))
    before = peak_memory()
    try:
        if way == "columns":
            with pecs_np.open(judge.path, limits=judge.limits[kind]) as save:
                for name in save:
                    save[name]
        else:
            judge._ways(data, way, judge.limits[kind])
        outcome = "loaded"
    except PecsError as error:
        outcome = f"refused: {type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 - as above
        outcome = f"escaped: {type(error).__name__}: {error}"
    judge.close()
    tell(json.dumps([outcome, peak_memory() - before]))


def peak_memory():
    """Return the most bytes that the process has held so far, or 0 where the system does not tell."""
    # Not what getrusage says, which begins with the most that the parent held.
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else ()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def child(*arguments, data=b""):
    """Run this file in a process of its own and return (exit code, lines of its output, its complaints)."""
    environment = os.environ | {"PYTHONPATH": str(Path(pecs_np.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)],
        input=data,
        capture_output=True,
        env=environment,
        check=False,
    )
    return done.returncode, done.stdout.decode().splitlines(), done.stderr.decode()


def bounded(data, way="bytes", limits="default", memory=MOST_MEMORY, seconds=MOST_SECONDS):
    """Return what becomes of *data* in a process of so much memory and time, and the bytes it took."""
    code, lines, errors = child("one", way, limits, memory, seconds, data=data)
    return json.loads(lines[-1]) if code == 0 else [f"died: {code} {errors[-300:]}", 0]


if __name__ == "__main__":
    {"all": judge_all, "one": read_one}[sys.argv[1]](*sys.argv[2:])

"""Whatever the bytes are: a world, or an error of the library, and no more memory than the limits allow."""

from __future__ import annotations

import contextlib
import copy
import enum
import importlib.util
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pecs_np
from pecs_np import EntityRef, PecsError, PluginNotFoundError, World, component

ROOT = Path(pecs_np.__file__).parents[1]


def _load_damage():
    if "pecs_damage" not in sys.modules:
        path = Path(__file__).parents[1] / "faults" / "damage.py"
        spec = importlib.util.spec_from_file_location("pecs_damage", path)
        sys.modules["pecs_damage"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["pecs_damage"]


damage = _load_damage()


class HostileState(enum.IntEnum):
    CALM = 1
    MAD = 7


class HostileItem:
    kind: np.uint8
    owner: EntityRef


@component
class HostilePlain:
    x: np.float32
    n: Annotated[np.int16, 2]


@component
class HostileRich:
    to: EntityRef
    flag: bool
    state: HostileState
    code: Annotated[str, 2]
    when: Annotated[np.datetime64, "ms"]
    text: str
    crew: list[EntityRef]
    items: list[HostileItem]
    flags: list[bool]


def plain_world():
    world = World(seed=1)
    world.spawn_batch(HostilePlain(x=[1, 2, 3], n=[4, 5]))
    world.spawn()
    return world


def rich_world():
    world = World(metadata={"a": [1, "é"]})
    a, b = world.spawn_batch(count=2, stable_ids=[5, 2**90])
    rich = HostileRich(a, True, 7, "é", "2001-01-01", "a\0é", [a, b, 0], [(1, b)], [True, False])
    world.spawn_with_stable_id(9, rich)
    world.spawn_with_stable_id(3, HostileRich(0, False, 1, "", "NaT", "", [], [], []), HostilePlain(1, 2))
    return world


def resource_world():
    world = World(version=3)
    target = world.spawn_with_stable_id(77)
    world.resources.insert(HostileRich(target, True, 1, "ab", "2001-01-01", "t", [target], [], []))
    world.rngs["dice"] = np.random.Generator(np.random.PCG64(1))
    return world


WORLDS = {"plain": plain_world, "rich": rich_world, "resources": resource_world}


@pytest.fixture(scope="module", params=WORLDS)
def saved(request):
    return WORLDS[request.param]().to_bytes()


def survives(data, most=64 << 20):
    """Load *data*, which may be refused in the library's own way; what loads is sound and saves again."""
    tracemalloc.start()
    try:
        world = World.from_bytes(data)
    except PecsError:
        return None
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < most + 4 * len(data)
    assert world.validate()
    again = world.to_bytes()
    assert World.from_bytes(again).to_bytes() == again
    return world


def test_a_save_cut_short_anywhere_is_refused(saved):
    for length in range(len(saved)):
        with pytest.raises(PecsError):
            World.from_bytes(saved[:length])


def test_a_save_with_any_bit_flipped_is_refused(saved):
    changed = bytearray(saved)
    for at in range(len(saved)):
        for bit in range(8):
            changed[at] ^= 1 << bit
            with pytest.raises(PecsError):
                World.from_bytes(changed)
            changed[at] ^= 1 << bit
    assert World.from_bytes(changed).to_bytes() == saved


def test_a_save_with_a_byte_more_or_a_byte_less_is_refused(saved):
    for at in range(0, len(saved) + 1, 5):
        for changed in (saved[:at] + b"\0" + saved[at:], saved[:at] + saved[at + 1 :]):
            if changed != saved:
                with pytest.raises(PecsError):
                    World.from_bytes(changed)


def test_a_damaged_file_is_refused_as_its_bytes_are(saved, tmp_path):
    path = tmp_path / "a.pecs"
    for at in range(0, len(saved), 17):
        changed = bytearray(saved)
        changed[at] ^= 0x10
        path.write_bytes(changed)
        with pytest.raises(PecsError) as from_file:
            World.load(path)
        with pytest.raises(PecsError) as from_bytes:
            World.from_bytes(changed)
        assert type(from_file.value) is type(from_bytes.value)
        path.write_bytes(saved[:at])
        with pytest.raises(PecsError):
            World.load(path)


@settings(deadline=None, max_examples=200)
@given(
    data=st.binary(max_size=300),
    start=st.sampled_from([b"", b"PECS", struct.pack("<4sIIQI", b"PECS", 2, 8, 0, 0)]),
)
def test_bytes_from_anywhere_are_no_save(data, start):
    with pytest.raises(PecsError):
        World.from_bytes(start + data)


NUMBERS = [
    0,
    1,
    2,
    3,
    7,
    63,
    64,
    255,
    256,
    2**15,
    2**16 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**60,
    2**63,
    2**64 - 1,
]
many = settings(deadline=None, max_examples=250, suppress_health_check=list(HealthCheck))


@many
@given(
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4
    )
)
def test_changed_bytes_under_right_sums_load_or_are_refused(reference, saved, changes):
    changed = bytearray(saved)
    for where, value in changes:
        changed[int(where * len(saved))] = value
    survives(reference.resigned(saved, bytes(changed)))


@many
@given(at=st.integers(0, 600), size=st.sampled_from([2, 4, 8]), value=st.sampled_from(NUMBERS))
def test_changed_numbers_of_the_head_under_right_sums_load_or_are_refused(reference, saved, at, size, value):
    at = at // 2 * 2 % (len(saved) - 8)
    changed = bytearray(saved)
    changed[at : at + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
    survives(reference.resigned(saved, bytes(changed)))


@many
@given(data=st.data())
def test_changed_entries_of_the_directory_under_right_sums_load_or_are_refused(reference, saved, data):
    save = reference.read(saved)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(save.parts) - 1))
        name = data.draw(st.sampled_from(reference.ENTRY_NAMES))
        bits = {"kind": 16, "codec": 16, "table": 32, "type": 32, "field": 32}.get(name, 64)
        value = data.draw(st.sampled_from(NUMBERS) | st.integers(0, 2**64 - 1)) % 2**bits
        save.entries.setdefault(place, {})[name] = value
    survives(save.to_bytes())


@many
@given(data=st.data())
def test_changed_sections_under_right_sums_and_sizes_load_or_are_refused(reference, saved, data):
    save = reference.read(saved)
    part = data.draw(st.sampled_from(save.parts))
    change = data.draw(st.sampled_from(["number", "bytes", "cut", "copy", "drop", "swap"]))
    if change == "number" and len(part.data) >= 8:
        at = 8 * data.draw(st.integers(0, len(part.data) // 8 - 1))
        value = struct.pack("<Q", data.draw(st.sampled_from(NUMBERS)))
        part.data = part.data[:at] + value + part.data[at + 8 :]
    elif change == "bytes":
        part.data = data.draw(st.binary(max_size=64))
        part.raw_size = data.draw(st.sampled_from([part.raw_size, len(part.data)]))
    elif change == "cut":
        part.data = part.data[: data.draw(st.integers(0, len(part.data)))]
        part.raw_size = data.draw(st.sampled_from([part.raw_size, len(part.data)]))
    elif change == "copy":
        save.parts.insert(data.draw(st.integers(0, len(save.parts))), part)
    elif change == "drop":
        save.parts.remove(part)
    else:
        part.kind, part.data = data.draw(st.sampled_from([1, 2, 3, 4, 0x8000])), part.data[::-1]
    survives(save.to_bytes())


VALUES = [None, True, False, 0, 1, -1, 2**31, 2**64, 10**400, 1.5, 1e308, "", "x", "\0", "<f8", "|O", "é" * 2000, [], [1], [0, 0], {}, {"a": 1}, [[]]]  # fmt: skip
json_values = st.sampled_from(VALUES).map(copy.deepcopy) | st.recursive(
    st.sampled_from(VALUES).map(copy.deepcopy), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner), max_leaves=4
)  # fmt: skip


def places(value):
    """Yield (container, key) of every member of a JSON document."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


@many
@given(data=st.data())
def test_a_changed_schema_under_right_sums_loads_or_is_refused(reference, saved, data):
    save = reference.read(saved)
    document = save.schema
    for _ in range(data.draw(st.integers(1, 2))):
        # Of a document's hundreds of places most are words of generators.
        found = [place for place in places(document) if not isinstance(place[0], list) or place[1] < 3]
        container, key = data.draw(st.sampled_from(found))
        if data.draw(st.booleans()):
            container[key] = data.draw(json_values)
        elif isinstance(container, dict):
            container[
                data.draw(st.sampled_from(["name", "dtype", "ref", "fields", "shape", "enum", "variable"]))
            ] = data.draw(json_values)
        else:
            container.append(container[key])
    with contextlib.suppress(UnicodeEncodeError):
        save.schema = document
    survives(save.to_bytes())


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    entity_count=st.sampled_from(NUMBERS), flags=st.integers(0, 31), type_count=st.sampled_from(NUMBERS[:13])
)
def test_changed_headers_under_right_sums_load_or_are_refused(
    reference, saved, entity_count, flags, type_count
):
    changed = struct.pack("<4sIIQI", b"PECS", 2, flags, entity_count, type_count) + saved[24:]
    survives(reference.resigned(saved, changed))


@pytest.mark.parametrize("rows", [2**26, 2**31, 2**33, 2**59, 2**60, 2**64 - 1])
def test_promised_rows_are_not_allocated(reference, rows):
    save = reference.make(
        [("HostileForeign", 1, [{"name": "x", "dtype": "<f8"}])],
        [{"ids": [1], "columns": {"HostileForeign": bytes(8)}}],
    )
    save.schema_text = save.schema_text.replace(b'"rows":1', b'"rows":%d' % rows)
    save.entity_count = rows
    save.parts[0].data, save.parts[0].codec = reference.pack_runs([(1, rows)]), 3
    for part, size in zip(save.parts, (16, 8), strict=True):
        part.rows, part.raw_size = rows, rows * size % 2**64
    assert survives(save.to_bytes(), most=1 << 20) is None


@pytest.mark.parametrize(("member", "value"), [("section_count", 2**31), ("section_count", 2**20), ("schema_size", 2**31), ("schema_size", 2**25), ("file_size", 2**63)])  # fmt: skip
def test_promised_sizes_of_the_head_are_not_allocated(reference, saved, member, value):
    at = saved.index(b"PCOL") + {"file_size": 16, "section_count": 24, "schema_size": 28}[member]
    changed = bytearray(saved)
    changed[at : at + (8 if member == "file_size" else 4)] = value.to_bytes(
        8 if member == "file_size" else 4, "little"
    )
    assert survives(reference.resigned(saved, bytes(changed)), most=1 << 20) is None


@pytest.mark.parametrize(
    "text", [b"[" * 10**5, b'{"a":' * 10**5, b"[" * 10**5 + b"]" * 10**5, b'{"world":{"metadata":{"a":' + b"[" * 900 + b"]" * 900 + b"}}}"]
)  # fmt: skip
def test_deep_documents_are_refused(reference, text):
    save = reference.read(World().to_bytes())
    save.schema_text = text
    assert survives(save.to_bytes()) is None


@pytest.mark.parametrize("kind", ["|u1", "<f8", "|S9", "<U9"])
@pytest.mark.parametrize("shape", [[2**31], [2**62, 4], [2**20, 2**20, 2**24], [10**30]])
@pytest.mark.parametrize("variable", [{}, {"variable": "list"}])
def test_huge_shapes_are_refused(reference, kind, shape, variable):
    save = reference.make([("HostileForeign", 1, [])], [{"ids": [1], "columns": {"HostileForeign": b""}}])
    fields = [{"name": "x", "dtype": kind, "shape": shape} | variable]
    save.schema = save.schema | {"types": [{"name": "HostileForeign", "version": 1, "fields": fields}]}
    assert survives(save.to_bytes(), most=1 << 20) is None


def test_a_generator_state_never_reaches_beyond_its_memory(reference):
    # Of what NumPy takes as it is, the position in the words of MT19937 must not pass their end.
    world = World()
    world.rngs["mt"] = np.random.Generator(np.random.MT19937(1))
    save = reference.read(world.to_bytes())
    code = "import sys, pecs_np\ntry:\n pecs_np.World.from_bytes(sys.stdin.buffer.read()).rngs['mt'].random(9)\nexcept pecs_np.PecsError:\n print('refused')"
    for position in (624, 625, 700, 2**30, 2**31 - 1, 2**31, 2**64):
        document = save.schema
        document["world"]["rng"]["mt"]["state"]["pos"] = str(position)
        save.schema = document
        done = subprocess.run(
            [sys.executable, "-c", code], input=save.to_bytes(), capture_output=True, cwd=ROOT, check=False
        )
        assert done.returncode == 0
        assert done.stdout.split() == ([] if position == 624 else [b"refused"]), position


def test_any_number_of_fields_is_read_in_a_time_that_grows_with_it(reference):
    def comparisons(count):
        fields = [{"name": Counted(f"f{i}"), "dtype": "|u1"} for i in range(count)]
        Counted.compared = 0
        with contextlib.suppress(PecsError):
            pecs_np.ecs.portable.fields_from_schema(fields, "here", max_itemsize=1 << 20)
        return Counted.compared

    class Counted(str):
        __slots__ = ()
        compared = 0

        def __eq__(self, other):
            Counted.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    assert comparisons(800) < 3 * comparisons(400) + 1000


@pytest.fixture(scope="module", params=damage.SAVES)
def stored(request):
    """The name of a save, of either version and of every codec, and its bytes."""
    try:
        return request.param, damage.save_of(request.param)[1]
    except PluginNotFoundError as error:
        pytest.skip(str(error))


some = settings(deadline=None, max_examples=70, suppress_health_check=list(HealthCheck))


@some
@given(data=st.data())
def test_any_numbers_of_any_save_under_right_sums_load_or_are_refused(stored, data):
    name, saved = stored
    changed = bytearray(saved)
    for number in data.draw(st.lists(st.sampled_from(damage.numbers_of(saved)), min_size=1, max_size=3)):
        most = 2 ** (8 * number.size) - 1
        found = int.from_bytes(changed[number.at : number.at + number.size], "little")
        near = st.integers(max(0, found - 2), min(most, found + 2))
        value = data.draw(
            near | st.sampled_from([n for n in damage.NUMBERS if n <= most]) | st.integers(0, most)
        )
        changed[number.at : number.at + number.size] = value.to_bytes(number.size, "little")
    survives(damage.repaired(changed, damage.sum_of(name)))


@some
@given(
    edits=st.lists(
        st.tuples(st.sampled_from(["set", "cut", "add", "copy"]), st.floats(0, 1), st.floats(0, 1), st.binary(max_size=20)),
        min_size=1,
        max_size=4,
    )
)  # fmt: skip
def test_any_bytes_of_any_save_under_right_sums_load_or_are_refused(stored, edits):
    name, saved = stored
    changed = bytearray(saved)
    for what, where, other, new in edits:
        # Not header and registry, of which little is left to be seen after.
        at = 24 + int(where * max(len(changed) - 32, 0))
        if what == "set":
            changed[at : at + len(new)] = new[: max(len(changed) - at, 0)]
        elif what == "cut":
            del changed[at : at + len(new)]
        elif what == "add":
            changed[at:at] = new
        else:
            start = int(other * len(changed))
            changed[at : at + 20] = changed[start : start + 20]
    survives(damage.repaired(changed, damage.sum_of(name)))


@some
@given(data=st.data())
def test_any_sections_of_any_save_under_right_sums_and_offsets_load_or_are_refused(stored, data):
    name, saved = stored
    if saved[4] == 1:
        # It has none: whole records change their places, and parts of them their sizes.
        cuts = sorted(data.draw(st.lists(st.integers(24, len(saved) - 8), min_size=2, max_size=4)))
        parts = [saved[a:b] for a, b in zip([0, *cuts], [*cuts, len(saved)], strict=True)]
        order = data.draw(st.permutations(parts[1:-1]))
        survives(damage.repaired(b"".join([parts[0], *order, parts[-1]]), damage.sum_of(name)))
        return
    pieces = damage.Pieces.of(saved)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(pieces.entries) - 1))
        entry, section = pieces.entries[place], pieces.sections[place]
        change = data.draw(st.sampled_from(["codec", "bytes", "cut", "of another", "raw", "rows"]))
        if change == "codec":
            entry[damage.CODEC] = data.draw(
                st.sampled_from([0, 1, 2, 3, 0x100, 0x101, 0x102, 0x201, 0x301, 0x302])
            )
        elif change == "bytes":
            pieces.sections[place] = data.draw(st.binary(max_size=len(section) + 8))
        elif change == "cut":
            pieces.sections[place] = section[: data.draw(st.integers(0, len(section)))]
        elif change == "of another":
            other = data.draw(st.integers(0, len(pieces.entries) - 1))
            pieces.sections[place] = pieces.sections[other]
            if data.draw(st.booleans()):
                entry[damage.CODEC] = pieces.entries[other][damage.CODEC]
        elif change == "raw" and entry[damage.RAW_SIZE] < 2**12:
            size = entry[damage.RAW_SIZE]
            entry[damage.CODEC] = damage.RAW
            pieces.sections[place] = (data.draw(st.binary(max_size=size)) + section + bytes(size))[:size]
        else:
            entry[damage.ROWS] = data.draw(st.sampled_from(NUMBERS))
            entry[damage.RAW_SIZE] = data.draw(st.sampled_from([entry[damage.RAW_SIZE], *NUMBERS]))
    used = {entry[damage.CODEC] & 0xFF for entry in pieces.entries}
    pieces.header[2] = 8 | (1 in used) | 2 * (2 in used)
    survives(pieces.join())

"""Any world of any components comes back bit for bit, and its save keeps every rule of the format."""

from __future__ import annotations

import enum
from itertools import pairwise
from typing import Annotated

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pecs_np import EntityRef, World, component_type, make_component, unregister
from pecs_np.persistence.json import documents
from pecs_np.persistence.json.plugin import JsonPlugin
from pecs_np.testing import assert_worlds_equal

SCALARS = [bool, int, float, complex, np.float16, np.complex64]
SCALARS += [getattr(np, f"{sign}int{size}") for sign in ("", "u") for size in (8, 16, 32, 64)]
UNITS = ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"]
NAMES = ["a", "b", "c", "été", "名前", "x1", "dtype", "shape", "T"]
TYPE_NAMES = ["Prop.A", "Prop.B", "Prop.é", "Prop.\U0001f980", "Prop B"]

shapes = st.one_of(st.integers(1, 3), st.lists(st.integers(1, 2), min_size=1, max_size=3).map(tuple))


@st.composite
def enums(draw):
    values = draw(
        st.lists(st.integers(-(2**31), 2**31) | st.integers(0, 300), min_size=1, max_size=4, unique=True)
    )
    return enum.IntEnum("Drawn", {f"M{i}": value for i, value in enumerate(values)})


@st.composite
def structs(draw, members):
    annotations = draw(st.dictionaries(st.sampled_from(NAMES), members, min_size=1, max_size=3))
    return type("Struct", (), {"__annotations__": annotations})


times = st.builds(lambda kind, unit: Annotated[kind, unit], st.sampled_from([np.datetime64, np.timedelta64]), st.sampled_from(UNITS))  # fmt: skip
texts = st.builds(lambda kind, n: Annotated[kind, n], st.sampled_from([str, bytes]), st.integers(1, 5))
plain = st.one_of(st.sampled_from([*SCALARS, EntityRef]), enums())
shaped = st.builds(lambda kind, shape: Annotated[kind, shape], plain, shapes)
fixed = st.recursive(
    st.one_of(plain, shaped, times, texts),
    lambda inner: st.one_of(
        structs(inner), st.builds(lambda kind, shape: Annotated[kind, shape], structs(inner), shapes)
    ),
    max_leaves=5,
)
annotations = st.one_of(fixed, st.sampled_from([str, bytes]), fixed.map(lambda element: list[element]))
schemas = st.dictionaries(st.sampled_from(NAMES), annotations, max_size=4)


def fill(values, field, rng, entities):
    """Write random values of *field* to the array *values*, of its element's base dtype."""
    if field.fields:
        for member in field.fields:
            fill(values[member.name], member, rng, entities)
    elif field.ref:
        values[...] = rng.choice(entities, values.shape)
    elif field.enum:
        values[...] = rng.choice(np.array([value for _, value in field.enum], values.dtype), values.shape)
    elif values.dtype.kind == "b":
        values[...] = rng.integers(2, size=values.shape)
    elif values.dtype.kind == "U":
        points = np.array([0, 65, 0xE9, 0xD7FF, 0xE000, 0x10FFFF], "<u4")
        codes = rng.choice(points, (*values.shape, values.dtype.itemsize // 4))
        values[...] = codes.view(values.dtype).reshape(values.shape)
    else:
        values[...] = np.frombuffer(rng.bytes(values.size * values.dtype.itemsize), values.dtype).reshape(
            values.shape
        )


def random_column(cls, count, rng, entities):
    type_ = component_type(cls)
    column = np.zeros(count, type_.layout.memory)
    for field in type_.fields:
        if not field.variable:
            fill(column[field.name], field, rng, entities)
            continue
        for row in range(count):
            length = int(rng.integers(4))
            if field.variable == "bytes":
                column[field.name][row] = rng.bytes(length)
            elif field.variable == "str":
                column[field.name][row] = "".join(rng.choice(list("a\0é字🦀"), length))
            else:
                values = np.zeros((length, *field.shape), field.element().base)
                fill(values, field, rng, entities)
                column[field.name][row] = values
    return cls.from_array(column)


def as_saved(values, field, world):
    """Return the bytes of an array of elements, with stable ids in place of references."""
    if field.fields:
        flat = values.reshape(-1)
        # Slices, because a text taken out of an array has lost the NULs at its end.
        rows = [flat[i : i + 1] for i in range(len(flat))]
        return b"".join(as_saved(row[m.name], m, world) for row in rows for m in field.fields)
    return world.get_stable_id(values.reshape(-1)).tobytes() if field.ref else values.tobytes()


def contents(world, classes):
    """Return what every entity and resource holds: {stable id: {type name: {field: bytes or text}}}."""

    def of(row, cls):
        found = {}
        for field in component_type(cls).fields:
            value = row[field.name][0] if field.variable else row[field.name]
            found[field.name] = value if field.variable in ("str", "bytes") else as_saved(value, field, world)
        return found

    held = {
        None: {
            c._type.name: of(np.asarray(r).reshape(1), c)
            for c in classes
            if (r := world.resources.get(c)) is not None
        }
    }
    for entity in world.entities():
        components = {
            c._type.name: of(np.asarray(world.get(int(entity), c)).reshape(1), c)
            for c in classes
            if world.has(int(entity), c)
        }
        held[world.get_stable_id(int(entity))] = components
    return held


def build(data, classes):
    """Return a world with a history: entities in random tables, some despawned, some changed."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    world = World(seed=data.draw(st.none() | st.integers(0, 9)))
    world.spawn_batch(count=int(rng.integers(1, 4)))
    for _ in range(data.draw(st.integers(0, 4))):
        chosen = data.draw(st.lists(st.sampled_from(classes), unique=True)) if classes else []
        count = data.draw(st.integers(1, 20))
        ids = np.append(world.entities(), [0, 2**40]).astype(np.uint64)
        new = world.spawn_batch(*[random_column(c, count, rng, ids) for c in chosen], count=count)
        dead = rng.choice(new, int(rng.integers(0, count)), replace=False)
        world.despawn(dead)
        left = np.setdiff1d(new, dead)
        if chosen and data.draw(st.booleans()):
            world.remove(left[::2], chosen[0])
            world.insert(left[-1:], random_column(chosen[-1], 1, rng, ids))
    for cls in classes:
        if data.draw(st.booleans()):
            world.resources.insert(
                random_column(cls, 1, rng, np.append(world.entities(), [0]).astype(np.uint64))
            )
    return world


@settings(deadline=None, max_examples=120, suppress_health_check=list(HealthCheck))
@given(data=st.data(), drawn=st.lists(schemas, max_size=4))
def test_any_world_comes_back_bit_for_bit(reference, data, drawn):
    classes = [
        make_component(name, s, version=i + 1)
        for i, (name, s) in enumerate(zip(TYPE_NAMES, drawn, strict=False))
    ]
    try:
        world = build(data, classes)
        saved = world.to_bytes()
        save = reference.read(saved)
        assert save.to_bytes() == saved
        back = World.from_bytes(saved)
        assert back.validate()
        assert back.to_bytes() == saved
        before = contents(world, classes)
        assert contents(back, classes) == before
        compare_with_reference(save, before)
    finally:
        for name in TYPE_NAMES:
            unregister(name)
    # Now of types that the process does not know.
    assert World.from_bytes(saved).to_bytes() == saved


@settings(max_examples=120)
@given(data=st.data(), drawn=st.lists(schemas, max_size=4), part=st.sampled_from([50, 1 << 20]))
def test_any_world_comes_back_from_json_bit_for_bit(data, drawn, part):
    classes = [
        make_component(name, s, version=i + 1)
        for i, (name, s) in enumerate(zip(TYPE_NAMES, drawn, strict=False))
    ]
    plugins = [JsonPlugin(), JsonPlugin.pretty(), JsonPlugin(schema=False)]
    usual, documents._PART = documents._PART, part
    try:
        world = build(data, classes)
        before = contents(world, classes)
        texts = [world.to_bytes(plugin) for plugin in plugins]
        for plugin, text in zip(plugins, texts, strict=True):
            back = World.from_bytes(text, plugin)
            assert back.validate()
            assert_worlds_equal(back, world)
            assert back.to_bytes(plugin) == text
            assert contents(back, classes) == before
        saved = World.from_bytes(texts[0], plugins[0]).to_bytes()
        assert World.from_bytes(saved).to_bytes(plugins[0]) == texts[0]
        for name in TYPE_NAMES:
            unregister(name)
        # Now of types that the process does not know.
        for plugin, text in zip(plugins[:2], texts, strict=False):
            assert World.from_bytes(text, plugin).to_bytes(plugin) == text
    finally:
        documents._PART = usual
        for name in TYPE_NAMES:
            unregister(name)


def compare_with_reference(save, held):
    """Check that the independent reader finds the same in the file."""
    document = save.schema
    for number, table in enumerate(document["tables"]):
        ids = save.ids(number) if table["role"] == "state" else [None]
        for type_ in (document["types"][i] for i in table["types"]):
            fixed = save.fixed(number, type_["name"])
            for field in type_["fields"]:
                name = field["name"]
                rows = save.pieces(number, type_["name"], name) if "variable" in field else fixed[name]
                expected = [held[i][type_["name"]][name] for i in ids]
                assert rows == [e.encode() if isinstance(e, str) else e for e in expected]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@settings(deadline=None)
@given(metadata=st.dictionaries(st.text(), json_values, max_size=4), version=st.integers(1, 2**32 - 1))
def test_any_metadata_comes_back_with_its_types(reference, metadata, version):
    saved = World(metadata=metadata, version=version).to_bytes()
    back = World.from_bytes(saved)
    assert back.metadata == metadata
    assert repr(sorted(flat(back.metadata))) == repr(sorted(flat(metadata)))
    assert back.version == version
    assert reference.read(saved).schema["world"]["metadata"] == metadata
    for plugin in (JsonPlugin(), JsonPlugin.pretty()):
        text = World(metadata=metadata, version=version).to_bytes(plugin)
        assert World.from_bytes(text, plugin).to_bytes() == saved


def flat(value, path=""):
    """Return (path, text) of every leaf."""
    if isinstance(value, dict):
        return [leaf for key, member in value.items() for leaf in flat(member, f"{path}/{key!r}")]
    if isinstance(value, list):
        return [leaf for i, member in enumerate(value) for leaf in flat(member, f"{path}/{i}")]
    return [(path, repr(value))]


@settings(deadline=None)
@given(
    ids=st.lists(
        st.one_of(st.integers(1, 40), st.integers(2**64 - 5, 2**64 + 5), st.integers(1, 2**128 - 1)),
        unique=True,
        max_size=80,
    ),
    cut=st.integers(0, 80),
)
def test_any_stable_ids_come_back_in_order(reference, ids, cut):
    world = World()
    world.spawn_batch(count=len(ids[:cut]), stable_ids=ids[:cut])
    for stable_id in ids[cut:]:
        world.spawn_with_stable_id(stable_id)
    saved = world.to_bytes()
    assert (reference.read(saved).ids(0) if ids else []) == ids
    back = World.from_bytes(saved)
    assert [int(hi) << 64 | int(lo) for lo, hi in back.stable_ids().tolist()] == ids
    assert all(a < b for a, b in pairwise(back.entities().tolist()))
    plugin = JsonPlugin()
    assert World.from_bytes(world.to_bytes(plugin), plugin).to_bytes() == saved

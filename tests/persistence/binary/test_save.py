"""Opened saves: what they tell, what they read of the file and when, and what damage they see."""

from __future__ import annotations

import enum
import gc
import itertools
import json
import os
import re
import struct
import subprocess
import sys
import threading
import tracemalloc
import warnings
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pytest

import pecs_np
from pecs_np import (
    BinaryPlugin,
    ComponentDefinitionError,
    CorruptedDataError,
    DanglingReferenceError,
    EntityRef,
    InvalidFormatError,
    Limits,
    PecsError,
    PersistenceError,
    PersistenceIOError,
    Save,
    UnknownFieldError,
    UnsupportedVersionError,
    World,
    component,
    component_type,
    unregister,
)
from pecs_np.persistence import disk
from pecs_np.testing import assert_worlds_equal

ROOT = Path(pecs_np.__file__).parents[1]


class OpenedMood(enum.IntEnum):
    CALM = 1
    MAD = 7


class OpenedPart:
    weight: np.float32
    owner: EntityRef


@component
class OpenedPlace:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component(version=3)
class OpenedPerson:
    name: str
    mood: OpenedMood = OpenedMood.CALM
    code: Annotated[str, 2] = ""
    friend: EntityRef = 0
    crew: list[EntityRef] = ()
    levels: list[np.int16] = ()
    parts: list[OpenedPart] = ()
    photo: bytes = b""
    alive: bool = True


@component
class OpenedMark:
    """A component without fields."""


@component
class OpenedClock:
    tick: int = 0
    owner: EntityRef = 0
    label: str = ""


FORMS = {
    "raw": BinaryPlugin(),
    "zstd": BinaryPlugin(compression="zstd"),
    "lz4": BinaryPlugin(compression="lz4"),
    "version 1": BinaryPlugin(version=1),
}
mapped = pytest.mark.parametrize("mmap", [False, True], ids=["file", "mmap"])


def make_world(*, plain=False):
    """A world of six tables; *plain* without what version 1 cannot hold."""
    world = World(seed=8)
    if not plain:
        world.version = 4
        world.metadata = {"name": "Île", "levels": [1, 2.5, None, {"deep": []}]}
        world.rngs.create("dice")
    ids = world.spawn_batch(OpenedPlace(x=np.arange(60.0), y=[7]))
    marked = world.spawn_batch(OpenedPlace(x=[-1, -2, -3]), OpenedMark())
    world.spawn_batch(
        OpenedPerson(
            name=["Ada", "", "Čapek", "x" * 300],
            mood=[1, 7, 7, 1],
            code=["a", "éé", "", "zz"],
            friend=[ids[3], 0, marked[1], ids[0]],
            crew=[[], [int(ids[1])], [int(marked[0]), 0, int(ids[2])], []],
            levels=[[1], [], [2, 3, 4], [-5]],
            parts=[[], [(1.5, int(ids[5]))], [], [(2.5, 0), (3.5, int(marked[2]))]],
            photo=[b"", b"\0\xff", b"abc", b""],
            alive=[True, False, True, False],
        ),
        OpenedPlace(x=[100, 200, 300, 400]),
    )
    world.spawn(OpenedPerson("Eve", crew=[ids[9]]))
    world.spawn(OpenedMark())
    world.spawn_batch(count=5)
    # Ids that are no runs.
    world.despawn(ids[1::3])
    if not plain:
        world.resources.insert(OpenedClock(41, ids[0], "now"))
        world.resources.insert(OpenedPlace(0.5, 0.25))
    return world


class Case(NamedTuple):
    world: World
    path: Path
    form: str


@pytest.fixture(params=FORMS)
def case(request, tmp_path):
    world = make_world(plain=request.param == "version 1")
    path = tmp_path / "game.pecs"
    world.save_with(path, FORMS[request.param])
    return Case(world, path, request.param)


def as_ints(stable_ids):
    return [int(hi) << 64 | int(lo) for lo, hi in stable_ids.reshape(-1).tolist()]


def stable(world, entities):
    """Return the stable ids of *entities*, 0 for none."""
    return as_ints(world.get_stable_id(np.asarray(entities, np.uint64).reshape(-1)))


def by_id(world, type_):
    """Return {stable id: value of a component} of a live world."""
    column = world.column(type_)
    parts = [t for t in world.snapshot().tables if component_type(type_).name in t.columns]
    ids = [i for table in parts for i in as_ints(table.stable_ids.array())]
    assert len(ids) == len(column)
    return dict(zip(ids, column, strict=True))


# What an opened save tells.


@mapped
def test_what_a_save_holds_is_told(case, mmap):
    with pecs_np.open(case.path, mmap=mmap) as save:
        assert type(save) is Save
        assert save.name == str(case.path)
        assert save.format_version == (1 if case.form == "version 1" else 2)
        assert save.entity_count == len(case.world)
        assert save.world_version == case.world.version
        assert save.metadata == case.world.metadata
        names = ["OpenedMark", "OpenedPerson", "OpenedPlace"]
        resources = [] if case.form == "version 1" else ["OpenedClock"]
        assert [t.name for t in save.types] == resources + names
        assert [t.version for t in save.types] == [1] * len(resources) + [1, 3, 1]
        own = [component_type(c) for c in (OpenedClock, OpenedMark, OpenedPerson, OpenedPlace)]
        for described, here in zip(save.types, own[-len(save.types) :], strict=True):
            assert here.agrees_with(described)
        assert list(save) == names
        for cls in (OpenedMark, OpenedPerson, OpenedPlace):
            assert cls in save
            assert cls.__name__ in save
        assert OpenedClock not in save
        assert "OpenedClock" not in save
        assert "Nobody" not in save
        assert save._ipython_key_completions_() == names


def test_metadata_is_a_copy(case):
    with pecs_np.open(case.path) as save:
        save.metadata["name"] = "changed"
        save.metadata.setdefault("levels", []).append(1)
        assert save.metadata == case.world.metadata


@mapped
def test_the_tables_are_those_of_the_world(case, mmap):
    expected = {tuple(t.name for t in table.types): table for table in case.world.snapshot().tables}
    with pecs_np.open(case.path, mmap=mmap) as save:
        assert len(save.tables) == len(expected) == 6
        for table in save.tables:
            names = tuple(t.name for t in table.types)
            live = expected.pop(names)
            assert table.rows == len(table) == live.rows
            assert sorted(as_ints(table.entities())) == sorted(as_ints(live.stable_ids.array()))
            assert repr(table) == f"<{live.rows} rows of ({', '.join(names)})>"
            for name in names:
                assert name in table
                assert table[name].shape == (table.rows,)
            assert "Nobody" not in table
            assert (OpenedPlace in table) == ("OpenedPlace" in names)
            with pytest.raises(UnknownFieldError, match="expected a type of the save"):
                table["Nobody"]
        assert not expected


@mapped
def test_the_rows_of_a_table_belong_together(case, mmap):
    places, people = by_id(case.world, OpenedPlace), by_id(case.world, OpenedPerson)
    seen = 0
    with pecs_np.open(case.path, mmap=mmap) as save:
        for table in save.tables:
            ids = as_ints(table.entities())
            if OpenedPlace in table:
                assert table[OpenedPlace].tolist() == [places[i].item() for i in ids]
                seen += len(ids)
            if OpenedPerson in table:
                assert table["OpenedPerson"]["name"].tolist() == [people[i]["name"] for i in ids]
                seen += len(ids)
    assert seen == len(places) + len(people)


@mapped
def test_columns_are_given_by_name_and_by_class_in_the_order_of_their_entities(case, mmap):
    for cls in (OpenedPlace, OpenedPerson, OpenedMark):
        live = by_id(case.world, cls)
        with pecs_np.open(case.path, mmap=mmap) as save:
            ids = as_ints(save.entities(cls))
            assert ids == as_ints(save.entities(cls.__name__))
            assert set(ids) == set(live)
            assert len(ids) == len(live) == len(save[cls]) == len(save[cls.__name__])
            assert save[cls].dtype == save[cls.__name__].dtype
            assert save[cls].dtype.names == component_type(cls).layout.memory.names
            if cls is OpenedPlace:
                assert save[cls].dtype == component_type(cls).layout.memory
                assert save[cls].tolist() == [live[i].item() for i in ids]
                assert save.column("OpenedPlace").tolist() == save[cls].tolist()
                assert save.column(cls, "x").tolist() == [live[i]["x"] for i in ids]


@mapped
def test_all_entities_are_given_those_without_components_too(case, mmap):
    with pecs_np.open(case.path, mmap=mmap) as save:
        ids = save.entities()
        assert ids.dtype == np.dtype([("lo", "<u8"), ("hi", "<u8")])
        assert ids.shape == (len(case.world),)
        assert sorted(as_ints(ids)) == sorted(as_ints(case.world.stable_ids()))
        assert as_ints(ids) == [i for table in save.tables for i in as_ints(table.entities())]


@mapped
def test_references_are_stable_ids_and_values_are_those_of_the_world(case, mmap):
    world, live = case.world, by_id(case.world, OpenedPerson)
    with pecs_np.open(case.path, mmap=mmap) as save:
        people = save["OpenedPerson"]
        for i, row in zip(as_ints(save.entities("OpenedPerson")), people, strict=True):
            expected = live[i]
            assert as_ints(row["friend"]) == stable(world, expected["friend"])
            assert as_ints(row["crew"]) == stable(world, expected["crew"])
            assert as_ints(row["parts"]["owner"]) == stable(world, expected["parts"]["owner"])
            assert row["parts"]["weight"].tolist() == expected["parts"]["weight"].tolist()
            assert row["levels"].dtype == np.int16
            assert row["levels"].tolist() == expected["levels"].tolist()
            for name in ("name", "photo", "mood", "code", "alive"):
                assert row[name] == expected[name]
            assert type(row["name"]) is str
            assert type(row["photo"]) is bytes
        for name in people.dtype.names:
            field = save.column("OpenedPerson", name)
            assert len(field) == len(people)
            assert field.dtype == people.dtype[name].base
            assert [np.asarray(v).tolist() for v in field] == [np.asarray(v).tolist() for v in people[name]]


@mapped
@pytest.mark.parametrize("form", ["raw", "zstd", "lz4"])
def test_resources_are_single_values_with_references_as_stable_ids(tmp_path, form, mmap):
    world = make_world()
    world.save_with(tmp_path / "a", FORMS[form])
    owner = world.resources.get(OpenedClock).owner
    with pecs_np.open(tmp_path / "a", mmap=mmap) as save:
        assert list(save.resources) == ["OpenedClock", "OpenedPlace"]
        clock = save.resources["OpenedClock"]
        assert clock.shape == ()
        assert clock["tick"] == 41
        assert clock["label"].item() == "now"
        assert as_ints(clock["owner"]) == [world.get_stable_id(owner)]
        assert save.resources["OpenedPlace"].tolist() == (0.5, 0.25)
        # A type of both kinds: entities' rows are those of entities.
        assert len(save["OpenedPlace"]) == len(world.column(OpenedPlace))
        for call in (
            lambda: save[OpenedClock],
            lambda: save.entities("OpenedClock"),
            lambda: save.column("OpenedClock"),
        ):
            with pytest.raises(UnknownFieldError, match=r"found the resource 'OpenedClock' .*\.resources"):
                call()


def test_the_text_of_a_save_says_what_is_in_it(case):
    with pecs_np.open(case.path) as save:
        first = f"<Save {case.path}: {len(case.world)} entities, version {save.format_version}>"
        if case.form == "version 1":
            assert repr(save) == f"{first}\n  OpenedMark v1, OpenedPerson v3, OpenedPlace v1, not read yet"
            save.types
        lines = repr(save).splitlines()
        assert lines[0] == first
        assert len(lines) == 1 + len(save.types)
        counts = {"OpenedPlace": 47, "OpenedPerson": 5, "OpenedMark": 4}
        for type_, line in zip(save.types, lines[1:], strict=True):
            assert line.startswith(f"  {type_!r}: ")
            what = f"{counts[type_.name]} rows, " if type_.name in counts else "a resource, "
            assert what in line
            assert re.search(r" [\d,]+ bytes$", line)


def test_the_text_of_a_raw_save_tells_the_bytes_of_each_type(tmp_path, reference):
    world = make_world()
    world.save(tmp_path / "a")
    sizes = dict.fromkeys(["OpenedClock", "OpenedMark", "OpenedPerson", "OpenedPlace"], 0)
    names = list(sizes)
    for part in reference.read(world.to_bytes()).parts:
        if part.type != reference.NONE:
            sizes[names[part.type]] += len(part.data)
    with pecs_np.open(tmp_path / "a") as save:
        shown = [int(n.replace(",", "")) for n in re.findall(r"([\d,]+) bytes", repr(save))]
    assert shown == list(sizes.values())


# Worlds from opened saves.


@mapped
def test_a_snapshot_is_what_load_gives(case, mmap):
    with pecs_np.open(case.path, mmap=mmap) as save:
        back = World.from_snapshot(save.snapshot())
    loaded = World.load(case.path)
    assert_worlds_equal(back, loaded)
    assert_worlds_equal(back, case.world)
    assert back.to_bytes() == loaded.to_bytes()
    assert back.validate()
    back.spawn_batch(count=3)
    assert back.to_bytes() != loaded.to_bytes()
    loaded.spawn_batch(count=3)
    # Version 1 does not know what stable ids come next.
    assert (back.to_bytes() == loaded.to_bytes()) == (case.form != "version 1")


SUBSETS = [
    [],
    ["OpenedPlace"],
    ["OpenedMark"],
    ["OpenedPerson"],
    ["OpenedPlace", "OpenedPerson"],
    ["OpenedMark", "OpenedPerson", "OpenedPlace"],
]


@mapped
@pytest.mark.parametrize("names", SUBSETS, ids=", ".join)
def test_a_snapshot_of_some_types_has_all_entities_and_those_types_only(case, mmap, names):
    expected = case.world.snapshot().filtered(lambda table: table.keep(names))
    for kind in (list, tuple, iter, lambda n: [getattr(sys.modules[__name__], name) for name in n]):
        with pecs_np.open(case.path, mmap=mmap) as save:
            snapshot = save.snapshot(types=kind(names))
        assert snapshot.entity_count == len(case.world)
        assert {t.name for table in snapshot.tables for t in table.types} == set(names)
        back = World.from_snapshot(snapshot)
        assert back.validate()
        wanted = World.from_snapshot(expected.copy())
        for name in case.world.resources:
            if name._type.name not in names:
                wanted.resources.remove(name._type.name)
        if case.form == "version 1":
            wanted = World.from_bytes(wanted.to_bytes(BinaryPlugin(version=1)), BinaryPlugin(version=1))
        assert_worlds_equal(back, wanted)


def test_one_type_may_be_asked_for_as_it_is(case):
    with pecs_np.open(case.path) as save:
        for one in ("OpenedPlace", OpenedPlace, ["OpenedPlace"], (OpenedPlace,)):
            snapshot = save.snapshot(types=one)
            assert [t.name for t in snapshot.types] == ["OpenedPlace"]
            assert len(snapshot.tables) == 2
        for unknown in ("Nobody", ["OpenedPlace", "Nobody"]):
            with pytest.raises(UnknownFieldError, match="found 'Nobody'"):
                save.snapshot(types=unknown)


@mapped
def test_worlds_made_from_one_opened_save_share_nothing(case, mmap):
    with pecs_np.open(case.path, mmap=mmap) as save:
        first, second = World.from_snapshot(save.snapshot()), World.from_snapshot(save.snapshot())
        before = second.to_bytes()
        for place in first.query(OpenedPlace):
            place.x += 1
        for person in first.query(OpenedPerson):
            person.alive = ~np.asarray(person.alive)
            for levels in person.levels:
                levels += 1
            for crew in person.crew:
                crew[...] = 0
        first.metadata["more"] = 1
        first.spawn(OpenedPlace())
        assert first.validate()
        first.despawn(first.entities()[::2])
        assert second.to_bytes() == before == World.from_snapshot(save.snapshot()).to_bytes()


def test_a_world_made_from_a_mapped_save_no_longer_needs_the_file(case):
    with pecs_np.open(case.path, mmap=True) as save:
        back = World.from_snapshot(save.snapshot())
    before = back.to_bytes()
    with open(case.path, "r+b") as file:
        file.write(bytes(case.path.stat().st_size))
    assert back.to_bytes() == before
    assert_worlds_equal(back, case.world)


# Verifying.


@mapped
def test_a_sound_save_verifies(case, mmap):
    with pecs_np.open(case.path, mmap=mmap) as save:
        assert save.verify() is None
        assert save.verify() is None


@mapped
@pytest.mark.parametrize("form", ["raw", "zstd"])
def test_verifying_holds_a_column_in_memory_and_no_more(tmp_path, form, mmap):
    world = World(seed=1)
    values = np.random.default_rng(1).integers(1 << 60, size=500_000)
    world.spawn_batch(OpenedClock(tick=values[:1000]), OpenedPlace(), OpenedMark())
    world.spawn_batch(OpenedPlace(x=values % 1000, y=np.arange(500_000)))
    world.spawn_batch(OpenedPlace(x=values % 999, y=np.arange(500_000)), OpenedMark())
    world.save_with(tmp_path / "a", FORMS[form])
    with pecs_np.open(tmp_path / "a", mmap=mmap) as save:
        tracemalloc.start()
        try:
            save.verify()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 4_000_000 + (4 << 20)


BROKEN = {
    "a reference to nobody": ({"to": 77}, DanglingReferenceError),
    "a bool of 2": ({"flag": 2}, CorruptedDataError),
    "no member of the enum": ({"mood": 9}, CorruptedDataError),
    "text that is no UTF-8": ({"text": b"\xff"}, CorruptedDataError),
    "an id that stands twice": ({"ids": [1, 2, 1]}, CorruptedDataError),
    "an id of 0": ({"ids": [1, 0, 3]}, CorruptedDataError),
    "offsets that decrease": ({"stops": (0, 2, 1, 2)}, CorruptedDataError),
    "offsets that miss the values": ({"stops": (0, 1, 1, 1)}, PecsError),
    "a registry of another version": ({"registry": [("OpenedForeign", 2)]}, InvalidFormatError),
    "a registry of another name": ({"registry": [("OpenedStranger", 1)]}, InvalidFormatError),
    "a registry of two": ({"registry": [("OpenedForeign", 1), ("OpenedZebra", 1)]}, InvalidFormatError),
    "an empty registry": ({"registry": []}, InvalidFormatError),
}


def foreign_save(reference, *, to=1, flag=1, mood=1, text=b"ab", ids=(1, 2, 3), stops=None, registry=None):
    """A save of one table, made by the independent writer."""
    fields = [
        {"name": "to", "ref": True},
        {"name": "flag", "dtype": "|b1"},
        {"name": "mood", "dtype": "|u1", "enum": {"CALM": 1, "MAD": 7}},
        {"name": "text", "variable": "str"},
    ]
    rows = [to.to_bytes(16, "little") + bytes([flag, mood])] + [bytes(16) + b"\1\1"] * 2
    column = b"".join(rows), {"text": [text, b"", b""]}
    save = reference.make(
        [("OpenedForeign", 1, fields)], [{"ids": list(ids), "columns": {"OpenedForeign": column}}]
    )
    if stops is not None:
        save.part(3, 0, "OpenedForeign", "text").data = struct.pack("<4Q", *stops)
    if registry is not None:
        save.types = registry
    return save


@mapped
@pytest.mark.parametrize("broken", BROKEN)
def test_verify_refuses_what_load_refuses_for_the_same_reason(reference, tmp_path, broken, mmap):
    path = tmp_path / "a.pecs"
    path.write_bytes(foreign_save(reference).to_bytes())
    World.load(path)
    with pecs_np.open(path, mmap=mmap) as save:
        save.verify()
    changes, error = BROKEN[broken]
    path.write_bytes(foreign_save(reference, **changes).to_bytes())
    with pytest.raises(error) as from_load:
        World.load(path)
    for touch in (Save.verify, lambda save: World.from_snapshot(save.snapshot())):
        with pytest.raises(error) as caught, pecs_np.open(path, mmap=mmap) as save:
            touch(save)
        assert type(caught.value) is type(from_load.value)
        assert str(path) in str(caught.value)


def test_a_column_without_its_references_checked_is_readable_all_the_same(reference, tmp_path):
    """Where the target of a reference is, only the other columns tell."""
    path = tmp_path / "a.pecs"
    path.write_bytes(foreign_save(reference, to=77).to_bytes())
    with pecs_np.open(path) as save:
        assert as_ints(save["OpenedForeign"]["to"]) == [77, 0, 0]
        with pytest.raises(DanglingReferenceError):
            save.verify()
    for changes in ({"flag": 2}, {"mood": 9}, {"text": b"\xff"}):
        path.write_bytes(foreign_save(reference, **changes).to_bytes())
        with pecs_np.open(path) as save, pytest.raises(CorruptedDataError):
            save["OpenedForeign"]


# What is read of the file, and what damage is seen.


class Section(NamedTuple):
    """A section of a save: what it is, and where its stored bytes are."""

    kind: int
    table: int
    type: int
    start: int
    stop: int


def sections_of(data, reference):
    """Return where the head ends, the sections, and the tables as the schema announces them."""
    at = data.index(b"PCOL")
    _, _, _, _, _, count, schema_size, _, _ = reference.EXTENSION.unpack_from(data, at)
    entries = [reference.ENTRY.unpack_from(data, at + 64 + 64 * i) for i in range(count)]
    start = at + 64 + 64 * count
    end = start + schema_size + 8
    sections = [
        Section(kind, table, type_, offset, offset + stored)
        for kind, _, table, type_, _, _, offset, stored, _, _, _ in entries
    ]
    tables = json.loads(data[start : start + schema_size])["tables"]
    return end + reference.padding(end), sections, tables


def damaged_world(form):
    """A small world of several tables: references, texts, a list, resources; columns that pack well."""
    world = World(seed=3, metadata={"a": 1})
    if form != "raw":
        ids = world.spawn_batch(OpenedPlace(x=np.zeros(40)))
        world.spawn_batch(OpenedClock(tick=np.zeros(40, np.int64), owner=ids, label=["all alike"] * 40))
        world.spawn_batch(OpenedMark(), OpenedPlace(x=np.zeros(30)))
    else:
        ids = world.spawn_batch(OpenedPlace(x=[1, 2]))
        world.despawn(ids[0])
        world.spawn(OpenedClock(7, ids[1], "é"))
        world.spawn(OpenedMark(), OpenedPlace(4, 5), OpenedClock(8, 0, ""))
    world.resources.insert(OpenedClock(9, ids[1], "now"))
    return world


def touches(save, tables):
    """Return what can be asked of an opened save: what it is called, the call, which sections that reads.

    *tables* are those that the schema announces.
    """
    names = [t.name for t in save.types]
    resources = {number for number, table in enumerate(tables) if table["role"] == "resource"}
    found = []

    def add(name, call, wanted=lambda section: False):
        found.append((name, call, wanted))

    def rows(type_, table=None):
        """The column of a type, in one table of entities or in all."""
        return lambda s: s.type == type_ and s.table not in resources and (table is None or s.table == table)

    def ids(type_=None, table=None):
        return lambda s: (
            s.kind == 1
            and (type_ is None or type_ in tables[s.table]["types"])
            and (table is None or s.table == table)
        )

    for name in ("name", "format_version", "entity_count", "metadata", "world_version", "types", "tables"):
        add(name, getattr(Save, name).fget)
    add("repr", repr)
    add("iter", list)
    add("in", lambda save: [name in save for name in (*names, "Nobody")])
    add("resources", lambda save: save.resources, lambda s: s.table in resources)
    add("entities()", Save.entities, ids())
    add("snapshot()", Save.snapshot, lambda s: True)
    add("snapshot([])", lambda save: save.snapshot(types=[]), ids())
    for name in save:
        place = names.index(name)
        add(f"save[{name}]", lambda save, n=name: save[n], rows(place))
        for field in save[name].dtype.names or ():
            add(f"column({name}, {field})", lambda save, n=name, f=field: save.column(n, f), rows(place))
        add(f"entities({name})", lambda save, n=name: save.entities(n), ids(place))
        add(
            f"snapshot({name})",
            lambda save, n=name: save.snapshot(types=[n]),
            lambda s, place=place: s.kind == 1 or s.type == place,
        )
    for number, (table, place) in enumerate(
        zip(save.tables, sorted(set(range(len(tables))) - resources), strict=True)
    ):
        add(
            f"tables[{number}].entities()", lambda save, i=number: save.tables[i].entities(), ids(table=place)
        )
        for type_ in table.types:
            add(
                f"tables[{number}][{type_.name}]",
                lambda save, i=number, n=type_.name: save.tables[i][n],
                rows(names.index(type_.name), place),
            )
    return found


class Damaged:
    """A file of which single bits are turned over in place, and back."""

    def __init__(self, path, data):
        path.write_bytes(data)
        self.data = data
        self.file = os.open(path, os.O_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.file)

    def bits(self, start, stop):
        """Yield (byte, bit) with that bit turned over."""
        for at in range(start, stop):
            for bit in range(8):
                os.pwrite(self.file, bytes([self.data[at] ^ 1 << bit]), at)
                yield at, bit
            os.pwrite(self.file, self.data[at : at + 1], at)


def seen(call, save):
    """Return the number of the section that *call* finds damaged, or None."""
    try:
        call(save)
    except (CorruptedDataError, InvalidFormatError) as error:
        return int(re.search(r" in section (\d+) \(", str(error))[1])


needs_pwrite = pytest.mark.skipif(not hasattr(os, "pwrite"), reason="needs writing into an open file")
COLUMNAR = ["raw", "zstd", "lz4"]


@needs_pwrite
@pytest.mark.parametrize(("form", "mmap"), [("raw", False), ("raw", True), ("zstd", False), ("lz4", False)])
def test_a_damaged_bit_is_seen_by_exactly_what_touches_it(reference, tmp_path, form, mmap):
    path = tmp_path / "a.pecs"
    data = damaged_world(form).to_bytes(FORMS[form])
    head, sections, tables = sections_of(data, reference)
    with Damaged(path, data) as damaged, pecs_np.open(path, mmap=mmap) as save:
        assert len(sections) > 10
        calls = [(name, call, [wanted(s) for s in sections]) for name, call, wanted in touches(save, tables)]
        assert len(calls) > 25
        for _, call, _ in calls:
            call(save)
        for number, section in enumerate(sections):
            for place in damaged.bits(section.start, section.stop):
                # All bits of the plain file, of the others one bit of each byte.
                here = calls if (form, mmap) == ("raw", False) or place[1] == place[0] % 8 else ()
                for name, call, wanted in here:
                    assert seen(call, save) == (number if wanted[number] else None), (name, place, section)
        # What stands between the sections, and the footer, belongs to none of them.
        ends = [head, *(s.stop for s in sections)]
        starts = [*(s.start for s in sections), len(data)]
        for start, stop in zip(ends, starts, strict=True):
            for place in damaged.bits(start, stop):
                for name, call, _ in calls if place[1] == place[0] % 8 else ():
                    call(save)


@needs_pwrite
@pytest.mark.parametrize(("form", "mmap"), [("raw", False), ("raw", True), ("zstd", False), ("lz4", False)])
def test_every_damaged_bit_is_seen_when_the_save_is_opened_or_verified(reference, tmp_path, form, mmap):
    path = tmp_path / "a.pecs"
    data = damaged_world(form).to_bytes(FORMS[form])
    head, _, _ = sections_of(data, reference)
    with Damaged(path, data) as damaged:
        for place in damaged.bits(0, head):
            with pytest.raises(PecsError):
                pecs_np.open(path, mmap=mmap)
        for place in damaged.bits(head, len(data)):
            with pecs_np.open(path, mmap=mmap) as save:
                with pytest.raises(CorruptedDataError):
                    save.verify()
                assert save.entity_count > 0, place
        with pecs_np.open(path, mmap=mmap) as save:
            save.verify()


@needs_pwrite
@mapped
def test_every_damaged_bit_of_version_1_is_seen_by_the_first_that_reads_it(tmp_path, mmap):
    """There is no sum of the head alone: what the header says of entities and types is not checked before."""
    path = tmp_path / "a.pecs"
    world = World(seed=3)
    ids = world.spawn_batch(OpenedPlace(x=[1, 2]))
    world.spawn(OpenedClock(7, ids[1], "é"))
    touched = [
        Save.types.__get__,
        Save.tables.__get__,
        Save.metadata.__get__,
        Save.resources.__get__,
        Save.entities,
        Save.snapshot,
        Save.verify,
        iter,
        lambda save: "OpenedPlace" in save,
        lambda save: save["OpenedPlace"],
        lambda save: save.column("OpenedClock", "label"),
    ]
    with Damaged(path, world.to_bytes(FORMS["version 1"])) as damaged:
        for touch in touched:
            with pecs_np.open(path, mmap=mmap) as save:
                touch(save)
        for place, touch in zip(damaged.bits(0, len(damaged.data)), itertools.cycle(touched), strict=False):
            with pytest.raises(PecsError):  # noqa: PT012 - wherever it is seen
                with pecs_np.open(path, mmap=mmap) as save:
                    touch(save)
                raise AssertionError(place)


def test_a_save_cut_short_or_added_to_cannot_be_opened(tmp_path):
    path = tmp_path / "a.pecs"
    for form, plugin in FORMS.items():
        data = make_world(plain=form == "version 1").to_bytes(plugin)
        for changed in (*(data[:i] for i in range(0, len(data), 97)), data[:-1], data + b"\0"):
            path.write_bytes(changed)
            for mmap in (False, True):
                with pytest.raises(PecsError, match=r"a\.pecs"), pecs_np.open(path, mmap=mmap) as save:
                    save.types


@pytest.fixture
def reads(monkeypatch):
    """The (offset, size) of every read from a file."""
    seen = []
    read_at = disk.system.read_at

    def counting(descriptor, view, offset):
        seen.append((offset, len(view)))
        return read_at(descriptor, view, offset)

    monkeypatch.setattr(disk.system, "read_at", counting)
    return seen


@pytest.mark.parametrize("form", FORMS)
def test_opening_reads_the_head_and_touching_reads_what_is_touched(tmp_path, reads, reference, form):
    path = tmp_path / "a.pecs"
    world = World(seed=1)
    rng = np.random.default_rng(1)
    ids = world.spawn_batch(OpenedPlace(x=rng.random(200_000)), OpenedMark())
    world.spawn_batch(OpenedClock(tick=rng.integers(1 << 60, size=100_000), owner=ids[:100_000]))
    data = world.to_bytes(FORMS[form])
    path.write_bytes(data)
    with pecs_np.open(path) as save:
        assert reads
        assert sum(size for _, size in reads) <= 4096
        if form == "version 1":
            assert sum(size for _, size in reads) <= 2048
            repr(save), save.entity_count, save.format_version, save.name
            assert sum(size for _, size in reads) <= 2048
            reads.clear()
            assert len(save["OpenedPlace"]) == 200_000
            assert sum(size for _, size in reads) == len(data)
            reads.clear()
            assert len(save["OpenedPlace"]) == 200_000
            return
        reads.clear()
        repr(save), save.types, save.tables, save.metadata, list(save), save.world_version, "Nobody" in save
        assert not reads
        _, sections, _ = sections_of(data, reference)
        names = [t.name for t in save.types]
        for name in ("OpenedPlace", "OpenedClock"):
            column = [s for s in sections if s.type == names.index(name)]
            assert len(save[name]) == len(world.column(name))
            assert sum(size for _, size in reads) == sum(s.stop - s.start for s in column)
            assert all(any(s.start <= at and at + size <= s.stop for s in column) for at, size in reads)
            reads.clear()
        save.entities()
        assert sum(size for _, size in reads) == sum(s.stop - s.start for s in sections if s.kind == 1)


def test_a_large_head_is_read_whole_and_no_column_with_it(tmp_path, reads, reference):
    path = tmp_path / "a.pecs"
    world = World(metadata={"text": "x" * 100_000})
    world.spawn_batch(OpenedPlace(x=np.arange(1_000_000)))
    world.save(path)
    head, _, _ = sections_of(path.read_bytes(), reference)
    with pecs_np.open(path) as save:
        assert save.metadata == world.metadata
        assert head <= sum(size for _, size in reads) <= 2 * head
        assert len({at for at, _ in reads}) == len(reads) < 8


# What is given is the caller's own.


def test_what_was_read_is_the_callers_to_change(case):
    with pecs_np.open(case.path) as save:
        for name, read in {
            "OpenedPlace": lambda: save["OpenedPlace"],
            "OpenedPerson": lambda: save["OpenedPerson"],
            "a table": lambda: (
                save.tables[1]["OpenedPlace"]
                if OpenedPlace in save.tables[1]
                else save.tables[2]["OpenedPlace"]
            ),
            "a field": lambda: save.column("OpenedPlace", "x"),
            "a text": lambda: save.column("OpenedPerson", "name"),
            "entities": save.entities,
            "entities of a type": lambda: save.entities("OpenedPlace"),
            "entities of a table": lambda: save.tables[0].entities(),
        }.items():
            first = read()
            assert first.flags.writeable, name
            before = read().tolist()
            first[...] = first[::-1].copy()
            first[:1] = first[-1:]
            assert name == "OpenedPerson" or read().tolist() == before, name
        people = save["OpenedPerson"]
        people["friend"]["lo"] = 5
        people["mood"] = 3
        people["name"] = "nobody"
        again = save["OpenedPerson"]
        assert "nobody" not in again["name"].tolist()
        assert 3 not in again["mood"].tolist()
        assert 5 not in again["friend"]["lo"].tolist()
        for resource in save.resources.values():
            resource[resource.dtype.names[0]] = 99
        assert all(r[r.dtype.names[0]] != 99 for r in save.resources.values())
        save.verify()


def test_the_lists_that_were_read_are_the_callers_to_change(case):
    with pecs_np.open(case.path) as save:
        expected = [
            [list(v.tolist()) for v in save["OpenedPerson"][name]] for name in ("crew", "levels", "parts")
        ]
        people = save["OpenedPerson"]
        for row in people:
            for name in ("crew", "levels", "parts"):
                row[name].view(np.uint8)[...] = 0xEE
        again = save["OpenedPerson"]
        assert expected == [[list(v.tolist()) for v in again[name]] for name in ("crew", "levels", "parts")]
        save.verify()
        assert_worlds_equal(World.from_snapshot(save.snapshot()), case.world)


def test_a_column_of_a_mapped_save_is_a_view_of_the_file_that_nobody_can_write_to(tmp_path):
    path = tmp_path / "a.pecs"
    world = World(seed=1)
    world.spawn_batch(OpenedPlace(x=np.arange(1000.0)))
    world.save(path)
    data = path.read_bytes()
    with pecs_np.open(path, mmap=True) as save:
        column, field = save["OpenedPlace"], save.column(OpenedPlace, "x")
        for array in (column, field, save.tables[0]["OpenedPlace"]):
            assert not array.flags.writeable
            assert not array.flags.owndata
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
            with pytest.raises(ValueError, match="WRITEABLE"):
                array.flags.writeable = True
        assert np.shares_memory(column, save["OpenedPlace"])
        assert np.shares_memory(field, column)
    with pecs_np.open(path) as save:
        again = save["OpenedPlace"]
        assert not np.shares_memory(again, save["OpenedPlace"])
        again["x"] = 5
    assert column["x"].tolist() == list(range(1000))
    assert path.read_bytes() == data


@needs_pwrite
def test_whether_a_mapped_column_is_sound_is_asked_at_each_touch(tmp_path):
    path = tmp_path / "a.pecs"
    world = World(seed=1)
    world.spawn_batch(OpenedPlace(x=np.arange(1000.0)))
    world.save(path)
    data = path.read_bytes()
    with pecs_np.open(path, mmap=True) as save, Damaged(path, data) as damaged:
        save["OpenedPlace"]
        for _ in damaged.bits(len(data) - 100, len(data) - 99):
            with pytest.raises(CorruptedDataError, match="checksum"):
                save["OpenedPlace"]
        save["OpenedPlace"]


# Closing.


def opened_and_used(case, mmap):
    save = pecs_np.open(case.path, mmap=mmap)
    kept = [save["OpenedPlace"], save["OpenedPerson"], save.entities(), save.tables[0].entities()]
    return save, save.tables, kept


@mapped
def test_what_was_read_stays_when_the_save_is_closed(case, mmap):
    save, _, kept = opened_and_used(case, mmap)
    before = [array.tolist() for array in kept]
    save.close()
    assert repr(before) == repr([array.tolist() for array in kept])
    del save
    assert repr(before) == repr([array.tolist() for array in kept])


CLOSED = {
    "save[name]": lambda save, tables: save["OpenedPlace"],
    "column": lambda save, tables: save.column("OpenedPlace", "x"),
    "entities": lambda save, tables: save.entities(),
    "types": lambda save, tables: save.types,
    "tables": lambda save, tables: save.tables,
    "resources": lambda save, tables: save.resources,
    "metadata": lambda save, tables: save.metadata,
    "world_version": lambda save, tables: save.world_version,
    "iter": lambda save, tables: list(save),
    "in": lambda save, tables: "OpenedPlace" in save,
    "snapshot": lambda save, tables: save.snapshot(),
    "verify": lambda save, tables: save.verify(),
    "table.entities": lambda save, tables: tables[0].entities(),
    "table[name]": lambda save, tables: tables[0]["OpenedPlace"],
}


@mapped
def test_a_closed_save_is_not_read(case, mmap):
    save, tables, _ = opened_and_used(case, mmap)
    untouched = pecs_np.open(case.path, mmap=mmap)
    for closed in (save, untouched):
        closed.close()
        closed.close()
        for use in CLOSED.values():
            with pytest.raises(
                PersistenceError, match=r"expected an open save, found .* closed; open it again"
            ):
                use(closed, [t for t in tables if "OpenedPlace" in t])


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="tells what is mapped")
def test_a_mapped_file_is_let_go_with_the_last_column_of_it(define, tmp_path):
    path = tmp_path / "large"
    world = World()
    world.spawn_batch(define("OpenedLarge", {"x": np.float64})(x=np.arange(10_000.0)))
    world.save(path)

    def is_mapped():
        return str(path) in Path("/proc/self/maps").read_text()

    save = pecs_np.open(path, mmap=True)
    column = save["OpenedLarge"]
    assert is_mapped()
    save.close()
    assert column["x"][-1] == 9999
    assert is_mapped()
    del column
    assert not is_mapped()
    with pytest.raises(PersistenceError, match="closed; open it again"):
        save["OpenedLarge"]
    with pytest.raises(PersistenceError, match="closed; open it again"):
        save._source.read(0, 10)


def test_threads_that_touch_a_save_of_version_1_at_once_read_it_once(define, tmp_path, monkeypatch):
    path = tmp_path / "a"
    world = World(seed=1)
    world.spawn_batch(define("OpenedShared", {"x": np.float64})(x=np.arange(50_000.0)))
    world.save_with(path, BinaryPlugin(version=1))
    read, read_at = [], disk.system.read_at

    def counted(descriptor, view, offset):
        count = read_at(descriptor, view, offset)
        read.append(count)
        return count

    monkeypatch.setattr(disk.system, "read_at", counted)
    together = threading.Barrier(8)
    sums = []

    def touch(save):
        together.wait()
        sums.append(save["OpenedShared"]["x"].sum())

    with pecs_np.open(path) as save:
        threads = [threading.Thread(target=touch, args=(save,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sums == [np.arange(50_000.0).sum()] * 8
    assert sum(read) < 2 * path.stat().st_size


@mapped
def test_a_save_that_was_never_touched_can_be_closed_and_shown(case, mmap):
    save = pecs_np.open(case.path, mmap=mmap)
    save.close()
    assert save.name == str(case.path)
    assert save.entity_count == len(case.world)
    assert repr(save).startswith("<Save ")


@mapped
def test_a_with_block_closes_whatever_happens_in_it(case, mmap):
    with pytest.raises(KeyError), pecs_np.open(case.path, mmap=mmap) as save:
        raise KeyError
    with pytest.raises(PersistenceError, match="closed"):
        save.verify()


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="needs a list of open files")
@mapped
def test_no_file_stays_open(case, mmap, tmp_path):
    (tmp_path / "bad").write_bytes(case.path.read_bytes()[:-1])
    (tmp_path / "junk").write_bytes(b"junk")
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        with pecs_np.open(case.path, mmap=mmap) as save:
            save.verify()
        for name in ("bad", "junk"):
            with pytest.raises(PecsError), pecs_np.open(tmp_path / name, mmap=mmap) as save:
                save.verify()
    del save
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="needs a list of open files")
@mapped
def test_the_file_of_a_save_that_was_forgotten_does_not_stay_open(tmp_path, mmap):
    make_world().save(tmp_path / "a")
    before = len(os.listdir("/dev/fd"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(5):
            save = pecs_np.open(tmp_path / "a", mmap=mmap)
            save["OpenedPlace"]
        del save
        gc.collect()
    assert len(os.listdir("/dev/fd")) == before


# Components that this program does not define, or defines otherwise.

FOREIGN = {"x": np.float32, "to": EntityRef, "text": str}


@pytest.fixture
def foreign(define, tmp_path):
    """Paths of saves, by form, of a component that is defined no longer, and the stable id of its target."""
    cls = define("OpenedGone", FOREIGN, version=2)
    world = World(seed=1)
    target = world.spawn()
    world.spawn_batch(cls(x=[1, 2], to=target, text=["a", "é"]))
    paths = {}
    for form, plugin in FORMS.items():
        paths[form] = tmp_path / form
        world.save_with(paths[form], plugin)
    unregister("OpenedGone")
    return paths, world.get_stable_id(target)


@mapped
@pytest.mark.parametrize("form", COLUMNAR)
def test_no_class_is_needed(foreign, form, mmap):
    paths, target = foreign
    with pecs_np.open(paths[form], mmap=mmap) as save:
        (type_,) = save.types
        assert (type_.name, type_.version, type_.names) == ("OpenedGone", 2, ("x", "to", "text"))
        assert save["OpenedGone"]["x"].tolist() == [1, 2]
        assert as_ints(save["OpenedGone"]["to"]) == [target] * 2
        assert save.column("OpenedGone", "text").tolist() == ["a", "é"]
        save.verify()
        back = World.from_snapshot(save.snapshot())
    assert_worlds_equal(back, World.load(paths[form]))
    assert back.column("OpenedGone")["text"].tolist() == ["a", "é"]
    assert pecs_np.registered("OpenedGone") is None


@mapped
def test_without_its_class_a_component_of_version_1_is_bytes(foreign, mmap):
    paths, target = foreign
    with pecs_np.open(paths["version 1"], mmap=mmap) as save:
        column = save["OpenedGone"]
        assert column.dtype.names == ("opaque bytes",)
        expected = [
            struct.pack("<f", x) + target.to_bytes(16, "little") + len(text).to_bytes(4, "little") + text
            for x, text in ((1, b"a"), (2, "é".encode()))
        ]
        assert [bytes(value) for value in column["opaque bytes"]] == expected
        save.verify()
        assert_worlds_equal(World.from_snapshot(save.snapshot()), World.load(paths["version 1"]))


OTHERS = {
    "a later version": (FOREIGN, 3, UnsupportedVersionError),
    "an earlier version": (FOREIGN, 1, UnsupportedVersionError),
    "another field": ({"x": np.float32, "to": EntityRef, "note": str}, 2, ComponentDefinitionError),
    "another type of a field": ({"x": np.float64, "to": EntityRef, "text": str}, 2, ComponentDefinitionError),
    "another order": ({"text": str, "to": EntityRef, "x": np.float32}, 2, ComponentDefinitionError),
    "fewer fields": ({"x": np.float32}, 2, ComponentDefinitionError),
    "no fields": ({}, 2, ComponentDefinitionError),
}


@mapped
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("form", COLUMNAR)
def test_a_class_defined_otherwise_does_not_hinder_reading_columns_but_loading(
    foreign, define, form, other, mmap
):
    paths, target = foreign
    fields, version, error = OTHERS[other]
    cls = define("OpenedGone", fields, version=version)
    with pecs_np.open(paths[form], mmap=mmap) as save:
        assert save.types[0].version == 2
        for key in ("OpenedGone", cls):
            assert key in save
            assert save[key]["x"].tolist() == [1, 2]
            assert as_ints(save.column(key, "to")) == [target] * 2
            assert save[key]["text"].tolist() == ["a", "é"]
        assert len(save.tables) == 2
        save.verify()
        caught = None
        if other == "a later version":
            # What migrations start from.
            (found,) = [t for t in save.snapshot().types if t.name == "OpenedGone"]
            assert found.version == 2
        else:
            with pytest.raises(error, match="OpenedGone") as caught:
                save.snapshot()
    with pytest.raises(error, match="OpenedGone") as from_load:
        World.load(paths[form])
    assert caught is None or str(caught.value) == str(from_load.value)


@mapped
def test_version_1_is_bytes_where_the_class_has_another_version(foreign, define, mmap):
    paths, _ = foreign
    define("OpenedGone", FOREIGN, version=3)
    with pecs_np.open(paths["version 1"], mmap=mmap) as save:
        assert save.entity_count == 3
        save.verify()
        assert save["OpenedGone"].dtype.names == ("opaque bytes",)
        (found,) = [t for t in save.snapshot().types if t.name == "OpenedGone"]
        assert (found.version, [f.name for f in found.fields]) == (2, ["opaque bytes"])
    with pytest.raises(UnsupportedVersionError, match="version 3 of component 'OpenedGone'"):
        World.load(paths["version 1"])


def test_a_class_may_be_defined_after_the_save_was_opened(foreign, define):
    paths, _ = foreign
    with pecs_np.open(paths["raw"]) as save:
        assert save["OpenedGone"]["x"].tolist() == [1, 2]
        cls = define("OpenedGone", FOREIGN, version=2)
        assert save[cls]["x"].tolist() == [1, 2]
        back = World.from_snapshot(save.snapshot())
    assert [type(one) for one in back.query(cls)] == [cls]


def test_an_enum_that_gained_a_member_reads_and_loads(define, tmp_path):
    few = enum.IntEnum("Few", {"A": 1})
    more = enum.IntEnum("More", {"A": 1, "B": 2})
    world = World()
    world.spawn(define("OpenedGone", {"state": few})(1))
    world.save(tmp_path / "a")
    unregister("OpenedGone")
    cls = define("OpenedGone", {"state": more})
    with pecs_np.open(tmp_path / "a") as save:
        assert save[cls]["state"].tolist() == [1]
        assert World.from_snapshot(save.snapshot()).column(cls)["state"].tolist() == [1]


def test_another_program_without_any_class_reads_the_same(case):
    code = """
import sys
import pecs_np
with pecs_np.open(sys.argv[1]) as save:
    save.verify()
    print(save.entity_count, *save, len(save.tables), len(save["OpenedPlace"]), len(save.entities("OpenedPerson")))
    if save.format_version == 2:
        print(*sorted(save.column("OpenedPerson", "photo")), sep="|")
        print(sum(save.column("OpenedPlace", "x")))
    assert len(pecs_np.World.from_snapshot(save.snapshot())) == save.entity_count
"""
    done = subprocess.run(
        [sys.executable, "-c", code, case.path], capture_output=True, cwd=ROOT, check=False, text=True
    )
    assert done.returncode == 0, done.stderr[-500:]
    lines = done.stdout.splitlines()
    assert lines[0] == f"{len(case.world)} OpenedMark OpenedPerson OpenedPlace 6 47 5"
    if case.form != "version 1":
        photos = sorted(case.world.column(OpenedPerson)["photo"])
        assert lines[1] == "|".join(map(str, photos))
        assert float(lines[2]) == case.world.column(OpenedPlace)["x"].sum()


# Worlds at the edges.


@mapped
@pytest.mark.parametrize("form", FORMS)
def test_an_empty_world_opens(tmp_path, form, mmap):
    World().save_with(tmp_path / "a", FORMS[form])
    with pecs_np.open(tmp_path / "a", mmap=mmap) as save:
        assert (save.entity_count, save.types, save.tables, list(save)) == (0, (), (), [])
        assert save.resources == {}
        assert save.metadata == {}
        assert save.world_version == 1
        assert save.entities().shape == (0,)
        assert save.entities().dtype == np.dtype([("lo", "<u8"), ("hi", "<u8")])
        save.verify()
        assert len(World.from_snapshot(save.snapshot())) == 0
        assert len(World.from_snapshot(save.snapshot(types=[]))) == 0
        assert "0 entities" in repr(save)
        with pytest.raises(UnknownFieldError, match=r"expected a type of the save \(\), found 'OpenedPlace'"):
            save["OpenedPlace"]


@mapped
@pytest.mark.parametrize("form", COLUMNAR)
def test_a_world_of_resources_alone_opens(tmp_path, form, mmap):
    world = World(version=9)
    world.resources.insert(OpenedClock(3, 0, "é"))
    world.resources.insert(OpenedMark())
    world.save_with(tmp_path / "a", FORMS[form])
    with pecs_np.open(tmp_path / "a", mmap=mmap) as save:
        assert (save.entity_count, save.tables, list(save)) == (0, (), [])
        assert [t.name for t in save.types] == ["OpenedClock", "OpenedMark"]
        assert save.resources["OpenedClock"]["label"].item() == "é"
        assert save.resources["OpenedMark"].shape == ()
        assert save.entities().shape == (0,)
        assert "a resource" in repr(save)
        save.verify()
        assert World.from_snapshot(save.snapshot()).to_bytes() == world.to_bytes()
        some = World.from_snapshot(save.snapshot(types=["OpenedMark"]))
        assert OpenedMark in some.resources
        assert OpenedClock not in some.resources
        assert len(World.from_snapshot(save.snapshot(types=[])).resources) == 0


@mapped
@pytest.mark.parametrize("form", FORMS)
def test_entities_without_components_and_components_without_fields_open(tmp_path, form, mmap):
    world = World(seed=1)
    world.spawn_batch(count=5)
    world.spawn_batch(OpenedMark(), count=7)
    world.save_with(tmp_path / "a", FORMS[form])
    with pecs_np.open(tmp_path / "a", mmap=mmap) as save:
        assert sorted((table.rows, [t.name for t in table.types]) for table in save.tables) == [
            (5, []),
            (7, ["OpenedMark"]),
        ]
        assert save["OpenedMark"].shape == (7,)
        assert save[OpenedMark].dtype.itemsize == 0
        assert len(save.entities("OpenedMark")) == 7
        assert len(save.entities()) == 12
        assert "7 rows" in repr(save)
        with pytest.raises(UnknownFieldError, match=r"expected a field of OpenedMark \(\), found 'x'"):
            save.column(OpenedMark, "x")
        save.verify()
        assert_worlds_equal(World.from_snapshot(save.snapshot()), world)


@pytest.mark.parametrize(
    ("form", "mmap"), [("raw", False), ("raw", True), ("lz4", False), ("version 1", False)]
)
def test_a_save_of_a_thousand_tables_opens(tmp_path, define, form, mmap):
    types = [define(f"OpenedMany{i}", {"n": np.int32}) for i in range(10)]
    world = World(seed=1)
    masks = {}
    for mask in range(1000):
        entity = world.spawn(*[cls(mask) for i, cls in enumerate(types) if mask >> i & 1])
        masks[world.get_stable_id(entity)] = mask
    plugin = BinaryPlugin(compression="lz4", threads=1) if form == "lz4" else FORMS[form]
    world.save_with(tmp_path / "a", plugin)
    with pecs_np.open(tmp_path / "a", mmap=mmap) as save:
        assert len(save.tables) == save.entity_count == 1000
        assert sorted(as_ints(save.entities())) == sorted(masks)
        for i, cls in enumerate(types):
            column = save.column(cls, "n").tolist()
            assert sorted(column) == [mask for mask in range(1000) if mask >> i & 1]
            assert column == [masks[stable_id] for stable_id in as_ints(save.entities(cls))]
        for table in save.tables[::37]:
            (mask,) = [masks[stable_id] for stable_id in as_ints(table.entities())]
            assert [t.name for t in table.types] == [f"OpenedMany{i}" for i in range(10) if mask >> i & 1]
            assert all(table[t.name]["n"].tolist() == [mask] for t in table.types)
        save.verify()
        assert_worlds_equal(World.from_snapshot(save.snapshot()), world)


def test_a_whole_save_with_the_flag_of_a_delta_is_neither(reference, tmp_path):
    save = foreign_save(reference)
    save.flags |= 4
    (tmp_path / "a").write_bytes(save.to_bytes())
    with pytest.raises(InvalidFormatError, match="expected a role of a delta"):
        pecs_np.open(tmp_path / "a")
    with pytest.raises(InvalidFormatError, match=r"found a delta, which applies to the save 0{32}"):
        World.load(tmp_path / "a")


def test_an_opened_delta_says_what_it_is_and_shows_what_changed(tmp_path, define):
    place = define("OpenedDelta", {"x": np.float32, "to": EntityRef})
    world = World(seed=1)
    ids = world.spawn_batch(place(x=[1, 2, 3], to=0))
    base = world.save(tmp_path / "base")
    world.column(place)["x"][1] = 7
    world.column(place)["to"][1] = ids[0]
    new = world.spawn(place(x=9, to=0))
    world.despawn(ids[2])
    report = world.save_delta(tmp_path / "delta", since=tmp_path / "base")
    with pecs_np.open(tmp_path / "base") as save:
        assert (save.is_delta, save.base_id, save.save_id) == (False, None, base.save_id)
        with pytest.raises(PersistenceError, match="expected a delta, found a whole save"):
            save.changes()
    for mmap in (False, True):
        with pecs_np.open(tmp_path / "delta", mmap=mmap) as delta:
            assert (delta.is_delta, delta.base_id, delta.save_id) == (True, base.save_id, report.save_id)
            assert f"2 changed or new entities, a delta to {base.save_id:032x}" in repr(delta)
            assert [(table.role, table.rows) for table in delta.tables] == [("created", 1), ("modified", 1)]
            assert delta["OpenedDelta"]["x"].tolist() == [9, 7]
            assert as_ints(delta.column("OpenedDelta", "to")) == [0, world.get_stable_id(ids[0])]
            assert as_ints(delta.entities()) == [world.get_stable_id(i) for i in (new, ids[1])]
            assert len(delta.changes().despawned) == 1
            delta.verify()
            with pytest.raises(PersistenceError, match=f"found a delta to {base.save_id:032x}"):
                delta.snapshot()
    data = bytearray((tmp_path / "delta").read_bytes())
    data[-9] ^= 1  # of the despawned ids
    (tmp_path / "delta").write_bytes(data)
    with pecs_np.open(tmp_path / "delta") as delta, pytest.raises(CorruptedDataError, match="despawned ids"):
        delta.verify()


def test_sections_of_later_versions_are_passed_over(reference, tmp_path):
    save = foreign_save(reference)
    for place in (0, 2, len(save.parts) + 2):
        save.parts.insert(place, reference.Part(0x8001, 0x777, 99, 88, 77, 66, 55, b"of a later version"))
    (tmp_path / "a").write_bytes(save.to_bytes())
    for mmap in (False, True):
        with pecs_np.open(tmp_path / "a", mmap=mmap) as opened:
            assert opened["OpenedForeign"]["text"].tolist() == ["ab", "", ""]
            assert as_ints(opened.entities()) == [1, 2, 3]
            opened.verify()
            assert opened.snapshot().entity_count == 3
    data = bytearray(save.to_bytes())
    data[data.index(b"of a later")] ^= 1
    (tmp_path / "a").write_bytes(data)
    with pecs_np.open(tmp_path / "a") as opened:
        assert as_ints(opened.entities()) == [1, 2, 3]
        with pytest.raises(CorruptedDataError, match="section 0"):
            opened.verify()


# What cannot be opened or asked for.


@mapped
def test_what_is_no_file_of_a_save_cannot_be_opened(tmp_path, mmap):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "junk").write_bytes(b"PK\3\4 something else")
    (tmp_path / "short").write_bytes(b"PECS")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "empty" / "below", "a\0b", None, 5, b"\xff\0"):
        with pytest.raises(PersistenceIOError):
            pecs_np.open(path, mmap=mmap)
    for name in ("empty", "junk", "short"):
        with pytest.raises((InvalidFormatError, CorruptedDataError), match=name):
            pecs_np.open(tmp_path / name, mmap=mmap)
    assert os.listdir(tmp_path)


@mapped
@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_paths_may_be_of_any_kind(case, kind, mmap):
    with pecs_np.open(kind(case.path), mmap=mmap) as save:
        assert save.name == str(case.path)
        save.verify()


def test_limits_are_limits(tmp_path):
    make_world().save(tmp_path / "a")
    for limits in (5, "strict", {"types": 3}, Limits, {}, 0, False):
        with pytest.raises(PersistenceError, match="expected Limits"):
            pecs_np.open(tmp_path / "a", limits=limits)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True])
def test_threads_are_a_number_from_1(tmp_path, threads):
    make_world().save(tmp_path / "a")
    with pytest.raises(PersistenceError, match="number of threads"):
        pecs_np.open(tmp_path / "a", threads=threads)


@pytest.mark.parametrize("threads", [None, 1, 2, 5])
def test_any_number_of_threads_reads_the_same(case, threads):
    with pecs_np.open(case.path, threads=threads) as save:
        save.verify()
        assert_worlds_equal(World.from_snapshot(save.snapshot()), case.world)


class Elsewhere:
    """A class that is no component."""


WRONG = [5, None, 1.5, Elsewhere, object(), [], ["OpenedPlace"], b"OpenedPlace", np.zeros(2), slice(None)]


@pytest.fixture
def opened(tmp_path):
    make_world().save(tmp_path / "game.pecs")
    with pecs_np.open(tmp_path / "game.pecs") as save:
        yield save


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: type(value).__name__)
def test_what_is_no_component_is_refused(opened, wrong):
    for call in (
        lambda: opened[wrong],
        lambda: wrong in opened,
        lambda: opened.column(wrong),
        lambda: opened.tables[0][wrong],
        lambda: wrong in opened.tables[0],
        lambda: opened.snapshot(types=[wrong]),
        lambda: opened.entities(0 if wrong is None else wrong),
    ):
        with pytest.raises(PecsError):
            call()


@pytest.mark.parametrize("wrong", [5, 1.5, object(), Elsewhere, True])
def test_types_of_a_snapshot_are_components(opened, wrong):
    with pytest.raises(PecsError):
        opened.snapshot(types=wrong)


@pytest.mark.parametrize("wrong", ["z", "", 5, ["x"], ("x", "y"), b"x", 0, np.zeros(2), object()])
def test_what_is_no_field_is_refused(opened, wrong):
    with pytest.raises(UnknownFieldError, match=r"a field of OpenedPlace \(x, y\)"):
        opened.column("OpenedPlace", wrong)


def test_what_is_no_type_of_the_save_is_refused_with_those_that_are(case, define):
    never = define("OpenedNever", {"x": int})
    with pecs_np.open(case.path) as save:
        names = ", ".join(t.name for t in save.types)
        for call in (
            lambda: save[never],
            lambda: save["OpenedNever"],
            lambda: save.column("OpenedNever", "x"),
            lambda: save.entities(never),
        ):
            with pytest.raises(UnknownFieldError, match=rf"\({names}\), found 'OpenedNever' in .*game\.pecs"):
                call()
        assert never not in save


ON_LITTLE_MEMORY = """
import os, resource, sys
import pecs_np
path, what = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
try:
    save = pecs_np.open(path, mmap=what == "mmap")
    print(save.entity_count)
    {"entities": save.entities, "table": save.tables[0].entities, "snapshot": save.snapshot, "verify": save.verify,
     "mmap": int}[what]()
except pecs_np.PecsError as error:
    print(type(error).__name__)
"""


def on_little_memory(path, what):
    done = subprocess.run(
        [sys.executable, "-c", ON_LITTLE_MEMORY, path, what],
        capture_output=True,
        cwd=ROOT,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-300:]
    return done.stdout.split()


linux = pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory that the system keeps to")


@linux
@pytest.mark.parametrize("what", ["entities", "table", "snapshot", "verify"])
def test_a_small_file_that_promises_a_thousand_million_ids_ends_in_an_error_of_the_library(
    reference, tmp_path, what
):
    path = tmp_path / "a.pecs"
    path.write_bytes(reference.make([], [{"runs": [(1, 10**9)]}]).to_bytes())
    found = on_little_memory(path, what)
    assert found[0] == "1000000000"
    assert found[1:] == (["LimitExceededError"] if what in ("entities", "table") else [])


@linux
def test_a_file_too_large_to_map_is_an_error_of_the_library(tmp_path):
    path = tmp_path / "a.pecs"
    with open(path, "wb") as file:
        file.truncate(64 << 30)
    assert on_little_memory(path, "mmap") in (["PersistenceIOError"], ["LimitExceededError"])

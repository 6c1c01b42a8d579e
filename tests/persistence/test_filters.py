"""Transient types stay out of saves, and whatever a filter does not keep."""

from __future__ import annotations

import io

import numpy as np
import pytest

from pecs_np import (
    BinaryPlugin,
    BlacklistFilter,
    ComponentDefinitionError,
    ComponentValueError,
    CompositeFilter,
    EntityRef,
    JsonPlugin,
    NoTransientFilter,
    PecsError,
    PersistenceError,
    PersistenceFilter,
    WhitelistFilter,
    World,
    component,
)
from pecs_np.persistence.filters import filtered, without_transient
from pecs_np.testing import assert_worlds_equal


@component
class KeptHealth:
    points: np.int32


@component
class KeptOwner:
    entity: EntityRef


@component(transient=True)
class PassingSprite:
    number: np.int32


@component(transient=True)
class PassingTarget:
    entity: EntityRef


@pytest.fixture
def world():
    world = World(seed=1)
    world.spawn_batch(KeptHealth(points=[1, 2]), PassingSprite(number=[10, 20]))
    world.spawn_batch(KeptHealth(points=[3, 4]))
    world.spawn_batch(PassingSprite(number=[30]))
    return world


def test_transient_columns_are_not_in_the_bytes(world, reference):
    save = reference.read(world.to_bytes())
    assert [name for name, _ in save.types] == ["KeptHealth"]


def test_all_entities_are_saved_even_those_with_nothing_else(world):
    back = World.from_bytes(world.to_bytes())
    assert len(back) == 5
    assert sorted(back.stable_ids().tolist()) == sorted(world.stable_ids().tolist())


def test_tables_that_differ_in_transient_types_alone_become_one(world, reference):
    save = reference.read(world.to_bytes())
    assert [(t["rows"], t["types"]) for t in save.schema["tables"]] == [(1, []), (4, [0])]
    by_id = dict(zip(save.ids(1), save.fixed(1, "KeptHealth")["points"], strict=True))
    for entity in world.entities():
        if world.has(entity, KeptHealth):
            points = np.int32(world.get(entity, KeptHealth).points).tobytes()
            assert by_id[world.get_stable_id(entity)] == points


def test_saving_leaves_the_world_its_transient_components(world):
    world.to_bytes()
    assert world.query(PassingSprite).count() == 3
    assert sorted(np.concatenate([c["number"] for c in world.columns(PassingSprite)])) == [10, 20, 30]


def test_changes_after_a_save_are_in_the_next_one(world, reference):
    first = world.to_bytes()
    for chunk in world.query(KeptHealth):
        chunk.points += 100
    second = world.to_bytes()
    assert first != second
    points = reference.read(second).fixed(1, "KeptHealth")["points"]
    assert sorted(int.from_bytes(p, "little") for p in points) == [101, 102, 103, 104]


def test_references_between_joined_tables_still_find_their_targets():
    world = World(seed=2)
    a = world.spawn(KeptHealth(1), PassingSprite(1))
    b = world.spawn(KeptOwner(a), PassingTarget(a))
    world.spawn(KeptOwner(b))
    back = World.from_bytes(world.to_bytes())
    owners = {
        back.get_stable_id(int(e)): back.get_stable_id(back.get(int(e), KeptOwner).entity)
        for e in back.entities()
        if back.has(int(e), KeptOwner)
    }
    assert owners[world.get_stable_id(b)] == world.get_stable_id(a)
    assert len(owners) == 2


def test_transient_resources_are_left_out():
    world = World()
    world.resources.insert(KeptHealth(9))
    world.resources.insert(PassingSprite(8))
    back = World.from_bytes(world.to_bytes())
    assert back.resources.get(KeptHealth).points == 9
    assert PassingSprite not in back.resources


def test_a_world_with_transient_resources_alone_saves_none(reference):
    world = World()
    world.resources.insert(PassingSprite(8))
    save = reference.read(world.to_bytes())
    assert save.types == []
    assert save.schema["tables"] == []


def test_a_snapshot_without_transient_types_is_passed_on_as_it_is():
    world = World()
    world.spawn(KeptHealth(1))
    snapshot = world.snapshot()
    assert without_transient(snapshot) is snapshot


def test_variable_length_values_of_joined_tables_are_kept(define):
    Label = define("KeptLabel", {"text": str, "numbers": list[np.int16]})
    world = World(seed=1)
    world.spawn_batch(Label(text=["a", "bé"], numbers=[[1], []]))
    world.spawn_batch(Label(text=["c"], numbers=[[2, 3]]), PassingSprite(1))
    back = World.from_bytes(world.to_bytes())
    texts = {row["text"]: row["numbers"].tolist() for row in back.column(Label)}
    assert texts == {"a": [1], "bé": [], "c": [2, 3]}


@component
class PassingCache:
    value: np.float32
    valid: bool = True

    def is_persistent(self):
        return self.valid


@component
class PassingOdd:
    n: int

    def is_persistent(self):
        return self.n


def test_values_that_are_not_persistent_stay_out_and_their_entities_stay():
    world = World(seed=1)
    ids = world.spawn_batch(
        KeptHealth(points=[1, 2, 3, 4]), PassingCache([1, 2, 3, 4], [True, False, True, False])
    )
    lone = world.spawn(PassingCache(9, False))
    back = World.from_bytes(world.to_bytes())
    assert len(back) == 5
    here = back.get_entity_id(world.get_stable_id(ids))
    assert back.get(here, KeptHealth).points.tolist() == [1, 2, 3, 4]
    assert back.has(here, PassingCache).tolist() == [True, False, True, False]
    assert back.get(here[[0, 2]], PassingCache).value.tolist() == [1, 3]
    assert not back.has(back.get_entity_id(world.get_stable_id(lone)), PassingCache)
    assert back.validate()
    assert world.has(ids, PassingCache).all()


def test_a_change_of_validity_shows_in_the_next_save():
    world = World(seed=1)
    ids = world.spawn_batch(PassingCache([1, 2], True))
    assert World.from_bytes(world.to_bytes()).query(PassingCache).count() == 2
    world.get(ids[0], PassingCache).valid = False
    assert World.from_bytes(world.to_bytes()).query(PassingCache).count() == 1


@pytest.mark.parametrize("valid", [True, False])
def test_a_resource_that_is_not_persistent_stays_out(valid):
    world = World(seed=1)
    world.resources.insert(PassingCache(1, valid))
    world.resources.insert(KeptHealth(5))
    back = World.from_bytes(world.to_bytes())
    assert (PassingCache in back.resources) is valid
    assert back.resources.get(KeptHealth).points == 5


def test_what_is_no_mask_is_refused():
    world = World(seed=1)
    world.spawn_batch(PassingOdd([1, 2]))
    with pytest.raises(ComponentValueError, match=r"mask of 2 bools from PassingOdd\.is_persistent"):
        world.to_bytes()


# Filters of the user's choice


@component
class SiftedAge:
    years: np.int32


@component
class SiftedName:
    text: str


@component
class SiftedLink:
    to: EntityRef


class Adults(PersistenceFilter):
    def entity_mask(self, table):
        age = table.get(SiftedAge)
        return True if age is None else age.years >= 18


class ShortNames(PersistenceFilter):
    def component_mask(self, table, type_):
        if type_.name != "SiftedName":
            return True
        return np.array([len(text) < 3 for text in table.columns["SiftedName"]["text"]])


@pytest.fixture
def people():
    world = World(seed=9)
    world.spawn_batch(SiftedAge(years=[5, 18, 40]), SiftedName(text=["a", "bb", "ccc"]))
    world.spawn_batch(SiftedAge(years=[17, 80]))
    world.spawn_batch(SiftedName(text=["dddd"]))
    world.resources.insert(SiftedAge(years=1))
    return world


def kept(world, chosen):
    """Return for each kept entity what it has, as one sorted list, by every way to save and load."""
    by_bytes = World.from_bytes(world.to_bytes(filter=chosen))
    stream = io.BytesIO()
    world.save_binary_stream(stream, filter=chosen)
    assert stream.getvalue() == by_bytes.to_bytes()
    loaded = World.from_bytes(world.to_bytes(), filter=chosen)
    assert_worlds_equal(loaded, by_bytes)
    assert loaded.validate()
    found = []
    for table in by_bytes.snapshot().tables:
        columns = [
            [None] * table.rows if column is None else column
            for column in (
                table.columns["SiftedAge"]["years"].tolist() if "SiftedAge" in table.columns else None,
                table.columns["SiftedName"]["text"].tolist() if "SiftedName" in table.columns else None,
            )
        ]
        found += zip(*columns, strict=True)
    return sorted(found, key=repr)


EVERYONE = [(17, None), (18, "bb"), (40, "ccc"), (5, "a"), (80, None), (None, "dddd")]


def test_a_whitelist_keeps_the_entities_but_only_the_given_types(people):
    for chosen in (WhitelistFilter(SiftedAge), WhitelistFilter("SiftedAge"), WhitelistFilter([SiftedAge])):
        assert kept(people, chosen) == sorted([(years, None) for years, _ in EVERYONE], key=repr)
        assert chosen.allowed_types == {"SiftedAge"}
        assert repr(chosen) == "WhitelistFilter(SiftedAge)"
    back = World.from_bytes(people.to_bytes(filter=WhitelistFilter(SiftedName)))
    assert (len(back), len(back.resources)) == (6, 0)


def test_a_blacklist_keeps_all_but_the_given_types(people):
    chosen = BlacklistFilter({"SiftedName"})
    assert kept(people, chosen) == sorted([(years, None) for years, _ in EVERYONE], key=repr)
    assert repr(chosen) == "BlacklistFilter(SiftedName)"
    assert kept(people, BlacklistFilter()) == EVERYONE
    assert kept(people, WhitelistFilter()) == [(None, None)] * 6


def test_entities_are_chosen_by_mask_or_one_by_one(people):
    class OneByOne(PersistenceFilter):
        def keeps_entity(self, entity):
            assert entity.entity
            assert people.get_entity_id(entity.stable_id)
            age = entity.get(SiftedAge)
            assert entity.has("SiftedAge") == (age is not None)
            assert not entity.has(SiftedAge, SiftedLink)
            return age is None or age.years >= 18

    adults = [(18, "bb"), (40, "ccc"), (80, None), (None, "dddd")]
    assert kept(people, Adults()) == adults
    assert kept(people, OneByOne()) == adults


def test_values_are_chosen_by_mask(people):
    expected = [(17, None), (18, "bb"), (40, None), (5, "a"), (80, None), (None, None)]
    assert kept(people, ShortNames()) == expected


def test_a_function_of_tables_is_a_filter(people):
    def adults(table):
        return table.get(SiftedAge).years >= 18 if "SiftedAge" in table.columns else False

    assert kept(people, adults) == [(18, "bb"), (40, "ccc"), (80, None)]
    assert kept(people, lambda table: None) == []
    assert kept(people, lambda table: table.keep(SiftedName)) == kept(people, WhitelistFilter(SiftedName))
    assert kept(people, lambda table: [table.take([0])]) == [(17, None), (5, "a"), (None, "dddd")]


def test_filters_combine(people):
    both = Adults() & ShortNames()
    assert kept(people, both) == [(18, "bb"), (40, None), (80, None), (None, None)]
    assert kept(people, CompositeFilter([Adults(), ShortNames()])) == kept(people, both)
    either = CompositeFilter.any(Adults() & WhitelistFilter(SiftedName), WhitelistFilter(SiftedAge))
    # Names of adults only, ages of all.
    expected = [(17, None), (18, "bb"), (40, "ccc"), (5, None), (80, None), (None, "dddd")]
    assert kept(people, either) == expected
    assert kept(people, Adults() | ShortNames()) == EVERYONE
    assert repr(Adults() & WhitelistFilter("A")).startswith("CompositeFilter.all(")
    assert kept(people, CompositeFilter.all()) == EVERYONE


def test_several_partial_masks_split_a_table_as_often_as_needed():
    class Even(PersistenceFilter):
        def component_mask(self, table, type_):
            numbers = np.arange(table.rows)
            return numbers % 2 == 0 if type_.name == "SiftedAge" else numbers % 3 == 0

    world = World()
    world.spawn_batch(SiftedAge(years=np.arange(12)), SiftedName(text=list("abcdefghijkl")))
    back = World.from_bytes(world.to_bytes(filter=Even()))
    assert len(back) == 12
    assert sorted(np.concatenate([c["years"] for c in back.columns(SiftedAge)])) == [0, 2, 4, 6, 8, 10]
    assert sorted(np.concatenate([c["text"] for c in back.columns(SiftedName)])) == list("adgj")
    assert back.get(back.get_entity_id(world.stable_ids()[6]), SiftedName).text == "g"


def test_references_to_entities_that_are_not_kept_become_null():
    world = World()
    young, old = world.spawn(SiftedAge(3)), world.spawn(SiftedAge(30))
    world.spawn(SiftedLink(young))
    world.spawn(SiftedLink(old))
    data = {world.to_bytes(filter=Adults()), World.from_bytes(world.to_bytes(), filter=Adults()).to_bytes()}
    for bytes_ in data:
        back = World.from_bytes(bytes_)
        targets = back.column(SiftedLink)["to"]
        assert len(back) == 3
        assert [back.is_alive(int(target)) for target in targets] == [False, True]
        assert targets[0] == 0


def test_every_save_verb_and_load_verb_takes_a_filter(people, tmp_path):
    chosen = WhitelistFilter(SiftedAge)
    path = tmp_path / "a.pecs"
    saves = [
        lambda: people.save(path, filter=chosen),
        lambda: people.save_filtered(path, chosen),
        lambda: people.save_binary(path, filter=chosen),
        lambda: people.save_json(path, filter=chosen),
        lambda: people.save_with(path, JsonPlugin.pretty(), filter=chosen),
    ]
    for save in saves:
        assert save().entities == 6
        assert {t.name for t in World.load(path).snapshot().types} == {"SiftedAge"}
    people.save_filtered(tmp_path / "b.json", chosen)
    assert (tmp_path / "b.json").read_bytes().startswith(b"{")
    people.save(path)
    loads = [
        lambda: World.load(path, filter=chosen),
        lambda: World.load_binary(path, filter=chosen),
        lambda: World.load_with(path, BinaryPlugin(), filter=chosen),
        lambda: World.load_binary_stream(io.BytesIO(people.to_bytes()), filter=chosen),
        lambda: World.load_with_migrations(path, [], filter=chosen),
    ]
    for load in loads:
        assert {t.name for t in load().snapshot().types} == {"SiftedAge"}


@pytest.mark.parametrize("chosen", [5, "SiftedAge", SiftedAge(1), [SiftedAge]])
def test_what_is_no_filter_is_an_error_of_the_library(people, chosen):
    with pytest.raises(PecsError, match="expected a"):
        people.to_bytes(filter=chosen)


@pytest.mark.parametrize("answer", [5, [True], np.ones(1, bool), np.ones((3, 2), bool), "yes", [SiftedAge]])
def test_what_is_no_mask_is_an_error_of_the_library(people, answer):
    class Wrong(PersistenceFilter):
        def entity_mask(self, table):
            return answer

    class WrongValues(PersistenceFilter):
        def component_mask(self, table, type_):
            return answer

    for chosen in (Wrong(), WrongValues(), Wrong() | WrongValues(), lambda table: answer):
        with pytest.raises(PecsError, match="expected a"):
            people.to_bytes(filter=chosen)


def test_a_filter_of_nothing_is_the_world_itself(people):
    assert (
        filtered(people.snapshot(), None) is people.snapshot() or len(filtered(people.snapshot(), None)) == 6
    )
    assert people.to_bytes(filter=PersistenceFilter()) == people.to_bytes()
    assert people.to_bytes(filter=NoTransientFilter()) == people.to_bytes()
    for bad in (5, Adults):
        with pytest.raises(PecsError, match="expected filters"):
            CompositeFilter([bad])
    with pytest.raises(PecsError, match="'all' or 'any'"):
        CompositeFilter([Adults()], "some")


class SiftedAnswer(PersistenceFilter):
    def __init__(self, answer):
        self.answer = answer

    def keeps_entity(self, entity):
        return self.answer


@pytest.mark.parametrize("answer", [None, 1, 0, "yes", [], np.array([True, False])])
def test_an_answer_for_one_entity_is_a_bool(people, answer):
    with pytest.raises(ComponentValueError, match="expected True or False from keeps_entity of SiftedAnswer"):
        people.to_bytes(filter=SiftedAnswer(answer))


def test_numpys_bool_is_one_too(people):
    assert World.from_bytes(people.to_bytes(filter=SiftedAnswer(np.True_))).entity_count == len(people)
    assert World.from_bytes(people.to_bytes(filter=SiftedAnswer(np.False_))).entity_count == 0


def test_lists_of_several_lengths_are_no_mask(people):
    class Ragged(PersistenceFilter):
        def entity_mask(self, table):
            return [[True, False], [True]]

    with pytest.raises(ComponentValueError, match="from entity_mask of Ragged"):
        people.to_bytes(filter=Ragged())
    with pytest.raises(PecsError, match="from the filter"):
        people.to_bytes(filter=lambda table: [[True, False], [True]])
    with pytest.raises(PecsError, match="expected a mask or row numbers"):
        people.snapshot().tables[0].take([[0, 1], [2]])
    with pytest.raises(PecsError, match="expected a component, found None"):
        people.snapshot().tables[0].keep(None)


@pytest.mark.parametrize("wrong", [None, 5, np.array(["a"]), object()])
def test_what_is_no_type_is_refused_by_lists_of_types(wrong):
    for make in (WhitelistFilter, BlacklistFilter):
        with pytest.raises(ComponentDefinitionError, match="expected a component"):
            make(wrong)
    with pytest.raises(PersistenceError, match="expected filters"):
        CompositeFilter(wrong)


def test_a_value_stands_for_its_type(people):
    assert WhitelistFilter(SiftedName("a")).allowed_types == {"SiftedName"}


@pytest.mark.parametrize("mode", [None, "some", np.array(["all", "any"]), ["all"]])
def test_what_is_no_mode_of_a_composite_is_refused(mode):
    with pytest.raises(PersistenceError, match="expected mode 'all' or 'any'"):
        CompositeFilter([], mode)

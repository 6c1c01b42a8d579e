"""WorldDraft: what migrations may do to the content of a save."""

from __future__ import annotations

import numpy as np
import pytest

from pecs_np import EntityRef, Migration, MigrationError, PecsError, World, make_component
from pecs_np.persistence.drafts import WorldDraft


def made(name, fields, **options):
    return make_component(name, fields, register=False, **options)


Place = made("drafts.Place", {"x": np.float32, "y": np.float32})
Story = made(
    "drafts.Story", {"title": str, "hero": EntityRef, "path": list[np.int16], "cast": list[EntityRef]}
)
Purse = made("drafts.Purse", {"gold": np.uint32})


@pytest.fixture
def world():
    world = World(seed=2, version=4, metadata={"level": [1]})
    ids = world.spawn_batch(Place(x=[1, 2, 3], y=[4, 5, 6]), Purse(gold=[7, 8, 9]))
    world.spawn(Story(title="one", hero=ids[1], path=[1, 2], cast=ids[:2]), Place(0, 0))
    world.resources.insert(Purse(gold=100))
    world.rngs.create("dice")
    return world


@pytest.fixture
def draft(world):
    return WorldDraft(World.from_bytes(world.to_bytes()).snapshot(copy=True))


def result(draft):
    world = World.from_snapshot(draft.snapshot())
    assert world.validate()
    # What a draft gives can be saved and loaded.
    back = World.from_bytes(world.to_bytes())
    assert back.to_bytes() == world.to_bytes()
    return world


def test_it_tells_what_there_is(draft):
    assert (draft.version, draft.metadata, draft.entity_count) == (4, {"level": [1]}, 4)
    assert sorted(draft.types) == ["drafts.Place", "drafts.Purse", "drafts.Story"]
    assert draft.types["drafts.Purse"].version == 1
    assert Place in draft
    assert "drafts.Purse" in draft
    assert "Other" not in draft
    assert list(draft.rngs) == ["dice"]
    assert repr(draft) == "<WorldDraft of 4 entities, version 4: drafts.Place, drafts.Purse, drafts.Story>"


def test_columns_are_changed_in_place_and_only_in_the_draft(world):
    snapshot = world.snapshot()
    draft = WorldDraft(snapshot)
    for column in draft.columns(Place):
        column["x"] += 10
    draft.metadata["level"].append(2)
    assert sorted(result(draft).snapshot().column("drafts.Place")["x"]) == [10, 11, 12, 13]
    assert sorted(world.snapshot().column("drafts.Place")["x"]) == [0, 1, 2, 3]
    assert world.metadata == {"level": [1]}
    assert draft.columns("Other") == []


def test_columns_of_resources_are_among_them(draft):
    assert [column["gold"].tolist() for column in draft.columns("drafts.Purse")] == [[7, 8, 9], [100]]


def test_a_component_takes_another_name_for_entities_and_resources(draft):
    draft.rename("drafts.Purse", "A.Wallet")
    world = result(draft)
    assert world.column("A.Wallet")["gold"].tolist() == [7, 8, 9]
    assert world.resources.get("A.Wallet").gold == 100
    assert [type_.name for type_ in world.snapshot().types] == ["A.Wallet", "drafts.Place", "drafts.Story"]


def test_a_name_that_an_entity_has_already_is_refused(draft):
    with pytest.raises(MigrationError, match=r"both 'drafts.Purse' and 'drafts.Place', found 3; merge them"):
        draft.rename("drafts.Purse", "drafts.Place")


@pytest.mark.parametrize("name", ["", "\n", "\ud800", "x" * 1025, None, 5])
def test_a_name_that_is_none_is_refused(draft, name):
    before = draft.types
    with pytest.raises(MigrationError, match=r"new name of drafts\.Purse"):
        draft.rename("drafts.Purse", name)
    with pytest.raises(MigrationError, match="new name of field gold"):
        draft.rename_field("drafts.Purse", "gold", name)
    assert draft.types == before


def test_what_is_not_there_is_renamed_and_dropped_in_silence(draft):
    before = draft.snapshot()
    draft.rename("Other", "Else")
    draft.rename_field("Other", "a", "b")
    draft.drop("Other")
    assert draft.snapshot().types == before.types


@pytest.mark.parametrize("field", ["title", "hero", "path", "cast"])
def test_a_field_of_any_kind_takes_another_name(draft, field):
    draft.rename_field(Story, field, "new")
    world = result(draft)
    (row,) = world.column("drafts.Story")
    values = {("new" if name == field else name) for name in ("title", "hero", "path", "cast")}
    assert set(row.dtype.names) == values
    story = {field if name == "new" else name: row[name] for name in row.dtype.names}
    ids = world.column("drafts.Place")
    assert (story["title"], story["path"].tolist()) == ("one", [1, 2])
    cast = [world.get(int(e), "drafts.Place").x for e in (story["hero"], *story["cast"])]
    assert cast == [2, 1, 2]
    assert len(ids) == 4


def test_a_field_that_is_not_there_or_there_already_is_refused(draft):
    for old, new in (("z", "w"), ("x", "y"), ("x", "x")):
        with pytest.raises(MigrationError, match=f"expected a field '{old}' and none '{new}', found x, y"):
            draft.rename_field("drafts.Place", old, new)


def test_components_are_dropped_from_entities_and_resources(draft):
    draft.drop(Purse, "drafts.Story")
    world = result(draft)
    assert [type_.name for type_ in world.snapshot().types] == ["drafts.Place"]
    assert len(world) == 4
    assert len(world.resources) == 0
    assert draft.entity_count == 4


def test_one_component_becomes_another(draft):
    Wallet = made("drafts.Wallet", {"coins": np.uint64})
    draft.change(Purse, lambda purse: Wallet(coins=purse.gold * np.uint64(100)))
    world = result(draft)
    assert world.column("drafts.Wallet")["coins"].tolist() == [700, 800, 900]
    assert world.resources.get("drafts.Wallet").coins == 10000
    assert "drafts.Purse" not in draft


def test_one_component_is_split_and_two_are_merged(draft):
    X, Y = made("drafts.X", {"v": np.float32}), made("drafts.Y", {"v": np.float32})
    draft.change("drafts.Place", lambda place: [X(v=place.x), Y(v=place.y)])
    draft.change(("drafts.X", "drafts.Y"), lambda x, y: Place(x=y.v, y=x.v))
    world = result(draft)
    assert world.column("drafts.Place").tolist() == [(4, 1), (5, 2), (6, 3), (0, 0)]
    assert not {"drafts.X", "drafts.Y"} & set(draft.types)


def test_sources_may_be_kept_and_one_value_is_for_all(draft):
    Mark = made("drafts.Mark", {"n": np.int8})
    draft.change(("drafts.Place", "drafts.Purse"), lambda place, purse: Mark(n=1), keep=True)
    world = result(draft)
    assert world.column("drafts.Mark")["n"].tolist() == [1, 1, 1]
    assert len(world.column("drafts.Place")) == 4


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda purse: None, "expected a column of a component, or several, found None of drafts.Purse"),
        (lambda purse: np.zeros(3), "expected a column of a component"),
        (lambda purse: [purse, 5], "expected a column of a component"),
        (lambda purse: Place(x=[1, 2], y=0), "expected entities without 'drafts.Place', found 3 with it"),
        (
            lambda purse: made("drafts.Few", {"n": np.int8})(n=[1, 2]),
            r"expected 3 rows of drafts.Few, found shape",
        ),
    ],
)
def test_what_is_no_such_column_is_refused_and_nothing_is_changed(draft, answer, message):
    with pytest.raises(MigrationError, match=message):
        draft.change("drafts.Purse", answer)
    assert sorted(draft.types) == ["drafts.Place", "drafts.Purse", "drafts.Story"]
    assert len(result(draft)) == 4


def test_two_types_of_one_name_are_refused(draft):
    other = made("drafts.Purse", {"gold": np.float64})
    draft.change(("drafts.Place", "drafts.Purse"), lambda place, purse: other(gold=1))
    with pytest.raises(MigrationError, match=r"expected one <component drafts.Purse .* in the file"):
        draft.snapshot("the file")


@pytest.mark.parametrize("wrong", [None, 5, [], np.array(["x", "y"]), object()])
def test_names_and_functions_of_drafts_are_checked(wrong, define):
    type_ = define("DraftedPlain", {"x": np.int8})
    world = World()
    world.spawn(type_(1))
    draft = WorldDraft(world.snapshot(copy=True))
    for call in (
        lambda: draft.rename(wrong, "DraftedOther"),
        lambda: draft.rename("DraftedPlain", wrong),
        lambda: draft.rename_field("DraftedPlain", wrong, "y"),
        lambda: draft.rename_field("DraftedPlain", "x", wrong),
        lambda: draft.rename_field(wrong, "x", "y"),
        lambda: draft.change("DraftedPlain", wrong),
        lambda: draft.change("DraftedPlain", lambda column: [], keep=wrong),
    ):
        with pytest.raises(PecsError):
            call()
    assert list(draft.types) == ["DraftedPlain"]
    draft.rename(type_, "DraftedOther")
    assert list(draft.types) == ["DraftedOther"]


@pytest.mark.parametrize("attribute", ["metadata", "rngs"])
@pytest.mark.parametrize("wrong", [None, 5, [1], np.array([1, 2]), {"dice": 5}, {"dice": {}}])
def test_a_migration_that_leaves_no_metadata_or_no_generators_fails(tmp_path, attribute, wrong):
    class Spoils(Migration):
        source_version, target_version = 1, 2

        def migrate(self, world):
            setattr(world, attribute, wrong)

    World().save(tmp_path / "a")
    if attribute == "metadata" and isinstance(wrong, dict):
        assert World.load_with_migrations(tmp_path / "a", [Spoils()]).metadata == wrong
        return
    with pytest.raises(PecsError, match="expected"):
        World.load_with_migrations(tmp_path / "a", [Spoils()])

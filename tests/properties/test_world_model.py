"""Random calls on a world and on a plain dict must leave both in agreement, and every invariant whole."""

from __future__ import annotations

import copy

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pecs_np import EntityRef, World, component


@component(name="model.Number")
class Number:
    n: int = 0


@component(name="model.Text")
class Text:
    text: str = ""


@component(name="model.Link")
class Link:
    to: EntityRef = 0
    all: list[EntityRef] = ()


@component(name="model.Hidden", transient=True)
class Hidden:
    n: np.int16 = 0


VALUES = st.fixed_dictionaries(
    {}, optional={"Number": st.integers(-9, 9), "Text": st.sampled_from(["", "a", "bc"])}
)
HIDDEN = st.fixed_dictionaries({}, optional={"Hidden": st.integers(-9, 9)})
TYPES = {"Number": Number, "Text": Text, "Link": Link, "Hidden": Hidden}
FIELDS = {"Number": "n", "Text": "text", "Hidden": "n"}


def as_int(record):
    low, high = record
    return high << 64 | low


def one(values):
    return [TYPES[name](value) for name, value in values.items()]


class WorldModel(RuleBasedStateMachine):
    """The model: by stable id, the values by type name; of a link, (stable id or 0, list of them)."""

    def __init__(self):
        super().__init__()
        self.model: dict[int, dict] = {}
        self.saved: list[tuple] = []
        self.dead: set[int] = set()

    # Always seeded, so that what hypothesis draws from the stable ids is the same in every run.
    @initialize(seed=st.integers(0, 3))
    def start(self, seed):
        self.world = World(seed=seed)

    def ids(self, sids):
        return self.world.get_entity_id(list(sids))

    def some(self, data, most=6):
        """Return stable ids of live entities, in any order."""
        return data.draw(st.lists(st.sampled_from(list(self.model)), unique=True, max_size=most))

    def born(self, ids, values):
        sids = [as_int(s) for s in self.world.get_stable_id(ids).tolist()]
        assert len(set(sids)) == len(sids)
        assert not set(sids) & set(self.model)
        self.model |= {sid: dict(v) for sid, v in zip(sids, values, strict=True)}

    # Adding and removing entities

    @rule(values=VALUES, hidden=HIDDEN)
    def spawn(self, values, hidden):
        entity = self.world.spawn(*one(values | hidden))
        self.born([entity], [values | hidden])

    @rule(values=VALUES, count=st.integers(0, 12))
    def spawn_batch(self, values, count):
        columns = [TYPES[name]([value] * count) for name, value in values.items()]
        self.born(self.world.spawn_batch(*columns, count=count), [values] * count)

    @rule(numbers=st.lists(st.integers(-9, 9), min_size=1, max_size=5))
    def spawn_column(self, numbers):
        ids = self.world.spawn_batch(Number(numbers), Text("same"))
        self.born(ids, [{"Number": n, "Text": "same"} for n in numbers])

    @rule(data=st.data(), values=VALUES, batch=st.booleans())
    def spawn_with_stable_ids(self, data, values, batch):
        pool = sorted(self.dead - set(self.model)) + [s for s in range(1, 20) if s not in self.model]
        sids = data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=4, unique=True)) if pool else []
        if batch:
            self.world.spawn_batch(*one(values), stable_ids=sids)
        else:
            for sid in sids:
                self.world.spawn_with_stable_id(sid, *one(values))
        self.model |= {sid: dict(values) for sid in sids}

    @precondition(lambda self: self.model)
    @rule(data=st.data(), by_commands=st.booleans())
    def despawn(self, data, by_commands):
        sids = self.some(data)
        self.unlink(sids)
        if by_commands:
            for entity in self.ids(sids):
                self.world.commands().despawn(entity)
            self.world.apply_commands()
        else:
            self.world.despawn(self.ids(sids))
        for sid in sids:
            del self.model[sid]
        self.dead |= set(sids)

    def unlink(self, sids):
        """Clear every link to entities that are about to go."""
        gone = self.ids(sids)
        for link in self.world.query(Link):
            link.to[np.isin(link.to, gone)] = 0
            for targets in link.all:
                targets[np.isin(targets, gone)] = 0
        for values in self.model.values():
            if "Link" in values:
                to, targets = values["Link"]
                values["Link"] = 0 if to in sids else to, [0 if t in sids else t for t in targets]

    @rule()
    def clear(self):
        self.world.clear()
        self.dead |= set(self.model)
        self.model.clear()

    # Changing them

    @precondition(lambda self: self.model)
    @rule(data=st.data(), values=VALUES, hidden=HIDDEN, columns=st.booleans())
    def insert(self, data, values, hidden, columns):
        sids = self.some(data)
        given = one(values | hidden)
        if columns:
            given = [TYPES[name]([value] * len(sids)) for name, value in (values | hidden).items()]
        self.world.insert(self.ids(sids), *given)
        for sid in sids:
            self.model[sid] |= values | hidden

    @precondition(lambda self: self.model)
    @rule(data=st.data(), names=st.sets(st.sampled_from(list(TYPES))))
    def remove(self, data, names):
        sids = self.some(data)
        self.world.remove(self.ids(sids), *(TYPES[name] for name in names))
        for sid in sids:
            for name in names:
                self.model[sid].pop(name, None)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def link(self, data):
        sids = self.some(data)
        targets = [(*self.some(data, 1), 0)[0] for _ in sids]
        lists = [self.some(data, 3) for _ in sids]
        values = Link(self.ids(targets), [self.ids(targets) for targets in lists])
        self.world.insert(self.ids(sids), values) if sids else None
        for sid, to, several in zip(sids, targets, lists, strict=True):
            self.model[sid]["Link"] = to, several

    @rule(step=st.integers(1, 3))
    def write(self, step):
        for number in self.world.query(Number).without(Text):
            number.n += step
        for values in self.model.values():
            if "Number" in values and "Text" not in values:
                values["Number"] += step

    @rule(data=st.data(), values=VALUES)
    def commands(self, data, values):
        commands = self.world.commands()
        new = [commands.spawn(*one(values)) for _ in range(data.draw(st.integers(0, 3)))]
        sids = self.some(data) if self.model else []
        for sid in sids:
            entity = self.world.get_entity_id(sid)
            commands.insert(entity, Number(50), Hidden(3))
            commands.remove(entity, Text)
        for entity in new:
            commands.insert(entity, Hidden(4))
        self.world.apply_commands()
        self.born([entity.id for entity in new], [values | {"Hidden": 4} for _ in new])
        for sid in sids:
            self.model[sid] |= {"Number": 50, "Hidden": 3}
            self.model[sid].pop("Text", None)

    # Snapshots

    @rule(lasting=st.booleans())
    def save(self, lasting):
        snapshot = self.world.snapshot(copy=True)
        if lasting:
            snapshot = snapshot.copy()
        self.saved.append((snapshot, copy.deepcopy(self.model)))
        del self.saved[:-3]

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), fresh=st.booleans())
    def restore(self, data, fresh):
        snapshot, model = data.draw(st.sampled_from(self.saved))
        # A world takes over what a snapshot owns, so that one to be used again is copied.
        if fresh:
            self.world = World.from_snapshot(snapshot.copy())
        else:
            self.world.clear()
            self.world.restore(snapshot.copy())
        self.dead |= set(self.model)
        self.model = copy.deepcopy(model)

    @rule()
    def move_to_another_world_and_leave_the_old_one(self):
        old, self.world = self.world, World.from_snapshot(self.world.snapshot())
        old.despawn(old.entities()[::2])
        old.spawn_batch(Number(-1), count=3)

    @precondition(lambda self: self.saved)
    @rule(data=st.data())
    def overwrite(self, data):
        snapshot, model = data.draw(st.sampled_from(self.saved))
        self.world.restore(snapshot, mode="overwrite")
        for sid, values in model.items():
            hidden = self.model.get(sid, {}).get("Hidden")
            self.model[sid] = copy.deepcopy(values)
            if hidden is not None:
                self.model[sid].setdefault("Hidden", hidden)

    @precondition(lambda self: len(self.model) < 60)
    @rule(data=st.data(), of_itself=st.booleans())
    def merge(self, data, of_itself):
        if of_itself or not self.saved:
            snapshot, model = self.world.snapshot(), copy.deepcopy(self.model)
        else:
            snapshot, model = data.draw(st.sampled_from(self.saved))
        old = [as_int(s) for table in snapshot.tables for s in table.stable_ids.array().tolist()]
        ids = self.world.merge(snapshot)
        new = [as_int(s) for s in self.world.get_stable_id(ids).tolist()]
        renamed = dict(zip(old, new, strict=True)) | {0: 0}
        assert all(n == o for o, n in zip(old, new, strict=True) if o not in self.model)
        values = [copy.deepcopy(model[sid]) for sid in old]
        for v in values:
            if "Link" in v:
                v["Link"] = renamed[v["Link"][0]], [renamed[t] for t in v["Link"][1]]
        self.born(ids, values)

    # Agreement

    @invariant()
    def every_invariant_holds(self):
        result = self.world.validate()
        assert result, str(result)

    @invariant()
    def the_world_is_as_the_model_says(self):
        assert len(self.world) == len(self.model)
        assert {as_int(s) for s in self.world.stable_ids().tolist()} == set(self.model)
        for name, cls in TYPES.items():
            having = [sid for sid, values in self.model.items() if name in values]
            assert self.world.query(cls).count() == len(having)
            found = self.world.get(self.ids(having), cls)
            expected = [self.model[sid][name] for sid in having]
            if name == "Link":
                assert self.world.get_entity_id([to for to, _ in expected]).tolist() == found.to.tolist()
                assert [self.ids(t).tolist() for _, t in expected] == [t.tolist() for t in found.all]
            else:
                assert found[FIELDS[name]].tolist() == expected


WorldModel.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
test_a_world_agrees_with_a_dict_of_dicts = WorldModel.TestCase

"""A world, its log and a plain dict: after any ticks, crashes, reloads and compactions all three agree on every moment."""

from __future__ import annotations

import copy
import io
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pecs_np import ChangeTracker, DeltaLog, EntityRef, LogStream, PersistenceError, World, component


@component(name="logged.Number")
class Number:
    n: int = 0


@component(name="logged.Text")
class Text:
    text: str = ""


@component(name="logged.Link")
class Link:
    to: EntityRef = 0


@component(name="logged.Clock")
class Clock:
    tick: int = 0


VALUES = st.fixed_dictionaries(
    {}, optional={"Number": st.integers(-9, 9), "Text": st.sampled_from(["", "a", "bc"])}
)
TYPES = {"Number": Number, "Text": Text}
FIELDS = {"Number": "n", "Text": "text"}
EMPTY = {"entities": {}, "note": None, "clock": None}


def told(world):
    """Return what a world holds, as the model says it."""
    entities = {}
    for ids, record in zip(world.entities().tolist(), world.stable_ids().tolist(), strict=True):
        values = {}
        for name, cls in TYPES.items():
            if (found := world.get(ids, cls)) is not None:
                values[name] = getattr(found, FIELDS[name])
        if (link := world.get(ids, Link)) is not None:
            values["Link"] = int(world.get_stable_id(link.to)) if link.to else 0
        entities[record[1] << 64 | record[0]] = values
    clock = world.resources.get(Clock)
    return {
        "entities": entities,
        "note": world.metadata.get("note"),
        "clock": None if clock is None else int(clock.tick),
    }


class LogModel(RuleBasedStateMachine):
    """The model of each moment: entities by stable id, a note, a clock.

    Attributes
    ----------
    history : dict of int to dict
        The model after each record that the log still tells of.
    """

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "a.log")
        self.time = 0.0
        self.compactions = 0
        self.log = self.reader = None
        self.saves = []

    def teardown(self):
        for log in (self.log, self.reader):
            if log is not None:
                log.close()
        self.folder.cleanup()

    @initialize(seed=st.integers(0, 3), values=VALUES, count=st.integers(0, 5), empty=st.booleans())
    def start(self, seed, values, count, empty):
        self.world = World(seed=seed)
        if not empty:
            self.world.spawn_batch(*self.made(values), count=count)
        self.model = told(self.world)
        self.history = {0: copy.deepcopy(self.model)}
        self.log = DeltaLog.open(self.path, "process", world=None if empty else self.world)
        self.reader = DeltaLog.open(self.path, readonly=True)
        self.replica = self.reader.world()
        self.track()

    def track(self):
        self.tracker = ChangeTracker(self.world, clock=lambda: self.time)

    def made(self, values):
        return [TYPES[name](value) for name, value in values.items()]

    def some(self, data, most=4):
        known = list(self.model["entities"])
        return data.draw(st.lists(st.sampled_from(known), unique=True, max_size=most)) if known else []

    # What happens in the world

    @rule(values=VALUES, count=st.integers(1, 4))
    def spawn(self, values, count):
        ids = self.world.spawn_batch(*self.made(values), count=count)
        for low, high in self.world.get_stable_id(ids).tolist():
            self.model["entities"][high << 64 | low] = dict(values)

    @rule(data=st.data())
    def despawn(self, data):
        sids = self.some(data)
        self.world.despawn(self.world.get_entity_id(sids))
        for sid in sids:
            del self.model["entities"][sid]
        # Who refers to one that is gone refers to nobody.
        for link in self.world.query(Link):
            link.to[~self.world.is_alive(link.to)] = 0
        for values in self.model["entities"].values():
            if values.get("Link") in sids:
                values["Link"] = 0

    @rule(data=st.data(), values=VALUES)
    def insert(self, data, values):
        sids = self.some(data)
        self.world.insert(self.world.get_entity_id(sids), *self.made(values))
        for sid in sids:
            self.model["entities"][sid] |= values

    @rule(data=st.data())
    def link(self, data):
        for sid in self.some(data):
            to = (*self.some(data, 1), 0)[0]
            self.world.insert(self.world.get_entity_id(sid), Link(self.world.get_entity_id(to) if to else 0))
            self.model["entities"][sid]["Link"] = to

    @rule(data=st.data(), name=st.sampled_from(list(TYPES)))
    def remove(self, data, name):
        sids = [sid for sid in self.some(data) if name in self.model["entities"][sid]]
        self.world.remove(self.world.get_entity_id(sids), TYPES[name])
        for sid in sids:
            del self.model["entities"][sid][name]

    @rule(step=st.integers(0, 3))
    def write(self, step):
        for number in self.world.query(Number):
            number.n += step
        for values in self.model["entities"].values():
            if "Number" in values:
                values["Number"] += step

    @rule(value=st.integers(0, 2))
    def note(self, value):
        self.world.metadata["note"] = self.model["note"] = value
        self.world.resources.insert(Clock(value))
        self.model["clock"] = value

    # What happens to the log

    @rule(later=st.sampled_from([0.0, 1.0, 1.0, -0.5]))
    def tick(self, later):
        self.time += later
        number = self.log.append(self.tracker.take())
        assert number == max(self.history) + 1
        self.history[number] = copy.deepcopy(self.model)

    @rule(junk=st.sampled_from([b"", b"P", b"PREC" + bytes(60), bytes(100)]), cold=st.booleans())
    def crash(self, junk, cold):
        """What was not logged is gone; so is, at times, the folder's memory of who had the log open."""
        end = self.log._file.end.offset
        self.log.close()
        with open(self.path, "r+b") as file:
            # Where half a record stood it was cut off before the next was begun.
            file.truncate(end)
            file.seek(end)
            file.write(junk)
        if cold:
            Path(f"{self.path}.lock").unlink()
        self.log = DeltaLog.open(self.path, "process")
        assert self.log.sequence == max(self.history)
        self.world = self.log.world()
        self.model = copy.deepcopy(self.history[self.log.sequence])
        self.track()

    @rule(data=st.data(), how=st.sampled_from(["last", "world", "number"]))
    def compact(self, data, how):
        last = max(self.history)
        until = data.draw(st.sampled_from(sorted(self.history))) if how == "number" else last
        if how == "world":
            # As it was when the last record was appended.
            self.log.append(self.tracker.take())
            until = last + 1
            self.history[until] = copy.deepcopy(self.model)
            self.log.compact(self.world)
        else:
            self.log.compact(until=None if how == "last" else until)
        self.compactions += 1
        assert self.log.start == until
        self.history = {number: model for number, model in self.history.items() if number >= until}

    # Saves and deltas beside it

    @rule(fresh=st.booleans())
    def save(self, fresh):
        if fresh or not self.saves:
            self.saves = [Path(self.folder.name, "base.pecs")]
            self.world.save(self.saves[0], durable=False)
        else:
            path = Path(self.folder.name, f"{len(self.saves)}.pecs")
            self.world.save_delta(path, since=self.saves, durable=False)
            self.saves.append(path)
        assert told(World.load(self.saves[0], deltas=self.saves[1:])) == self.model

    # What it tells

    @rule(data=st.data())
    def past(self, data):
        number = data.draw(st.sampled_from(sorted(self.history)))
        assert told(DeltaLog.restore(self.path, number)) == self.history[number]
        since = data.draw(st.sampled_from([n for n in self.history if n <= number]))
        world = self.log.world(since)
        for changes in self.log.replay(since, number):
            world.apply(changes, conflict="theirs")
        assert told(world) == self.history[number]

    @precondition(lambda self: max(self.history) > min(self.history))
    @rule()
    def by_time(self):
        number = max(self.history)
        assert told(self.log.world(float(self.log.current_timestamp()))) == self.history[number]
        assert told(DeltaLog.restore(self.path, self.time + 1e6)) == self.history[number]

    @rule()
    def follow(self):
        try:
            for changes in self.reader.follow(timeout=0):
                self.replica.apply(changes, conflict="theirs")
                assert told(self.replica) == self.history.get(changes.sequence, told(self.replica))
            assert told(self.replica) == self.history[max(self.history)]
        except PersistenceError as error:
            # Between two looks it was compacted twice, and what was between those is gone.
            if self.compactions < 2 or "DeltaLog.restore gives the world" not in str(error):
                raise
        self.compactions = 0
        self.reader.close()
        self.reader = DeltaLog.open(self.path, readonly=True)
        self.replica = self.reader.world()
        assert told(self.replica) == self.history[max(self.history)]

    @rule(data=st.data())
    def send(self, data):
        pipe = io.BytesIO()
        sent = self.log.send(pipe)
        number = self.log.append(self.tracker.take())
        self.history[number] = copy.deepcopy(self.model)
        assert self.log.send(pipe, since=sent) == number
        pipe.seek(0)
        stream = LogStream(pipe)
        world = stream.world()
        assert told(world) == self.history[min(self.history)]
        for changes in stream:
            world.apply(changes, conflict="theirs")
            assert told(world) == self.history[changes.sequence]
        assert stream.sequence == number

    @invariant()
    def the_world_is_as_the_model_says(self):
        if self.log is not None:
            assert told(self.world) == self.model


LogModel.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=25,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
test_a_log_agrees_with_a_dict_of_every_moment = LogModel.TestCase

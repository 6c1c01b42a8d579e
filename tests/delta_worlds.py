"""Worlds in which everything changes that a delta can tell of, and how to compare what deltas say."""

from __future__ import annotations

import enum
from typing import Annotated

import numpy as np

from pecs_np import ChangeTracker, EntityRef, World, component


class DeltaMood(enum.IntEnum):
    CALM = 0
    WILD = 300


@component
class DeltaSpot:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component
class DeltaHome:
    spot: DeltaSpot
    owner: EntityRef = None
    label: Annotated[str, 3] = ""
    mood: DeltaMood = DeltaMood.CALM
    awake: bool = False


@component(version=4)
class DeltaStory:
    title: str = ""
    seal: bytes = b""
    crew: list[EntityRef] = []
    path: list[np.int16] = []
    number: np.uint8 = 0


@component
class DeltaMark:
    pass


@component
class DeltaClock:
    tick: int = 0
    leader: EntityRef = None


TYPES = (DeltaSpot, DeltaHome, DeltaStory, DeltaMark)


def value(rng, type_, ids):
    target = int(rng.choice(ids)) if len(ids) and rng.integers(3) else None
    if type_ is DeltaSpot:
        return DeltaSpot(rng.integers(4), rng.choice([0.0, -0.0, np.nan]))
    if type_ is DeltaHome:
        mood = [DeltaMood.CALM, DeltaMood.WILD][rng.integers(2)]
        label = ["", "é", "x🦀y"][rng.integers(3)]
        return DeltaHome(DeltaSpot(rng.integers(4), 1), target, label, mood, bool(rng.integers(2)))
    if type_ is DeltaStory:
        crew = [int(i) for i in rng.choice(ids, rng.integers(3))] if len(ids) else []
        n = int(rng.integers(3))
        return DeltaStory("né" * n, bytes(range(n)), crew, list(range(n)), n)
    return DeltaMark()


def happen(world, rng, times=6):
    """Let *times* things happen to the world."""
    for _ in range(times):
        ids = world.entities()
        some = [t for t in TYPES if rng.integers(2)]
        kind = rng.integers(9)
        if kind < 2 or not len(ids):
            world.spawn_batch(*[value(rng, t, ids) for t in some], count=int(rng.integers(1, 8)))
            continue
        chosen = rng.choice(ids, min(len(ids), 3), replace=False)
        if kind == 2:
            world.despawn(chosen[:2])
        elif kind == 3:
            world.insert(chosen, *[value(rng, t, ids) for t in some])
        elif kind == 4:
            world.remove(chosen, *some)
        elif kind == 5:
            for spot in world.query(DeltaSpot):
                spot.x[rng.integers(len(spot))] += 1
        elif kind == 6:
            world.resources.insert(DeltaClock(int(rng.integers(9)), int(rng.choice(ids))))
        elif kind == 7:
            world.metadata = {"note": int(rng.integers(3))}
        else:
            world.rngs.create("dice", int(rng.integers(3))).random()


def changing(seed, steps=4):
    """Yield change sets, each with the world as it was before, as a copy, and as it is."""
    rng = np.random.default_rng(seed)
    world = World(seed=1)
    happen(world, rng, 12)
    now = iter(range(1, 1000))
    tracker = ChangeTracker(world, clock=lambda: next(now) + 0.25)
    for _ in range(steps):
        before = World.from_snapshot(world.snapshot(copy=True))
        happen(world, rng)
        yield tracker.take(), before, world


def everything():
    """Return changes of every kind, and the worlds before and after."""
    world = World(seed=1)
    rng = np.random.default_rng(5)
    ids = world.spawn_batch(DeltaSpot(x=np.arange(40)))
    world.insert(ids[::2], DeltaMark())
    for i in ids[:12]:
        world.insert(i, value(rng, DeltaStory, ids), value(rng, DeltaHome, ids))
    tracker = ChangeTracker(world, clock=lambda: 1234.5)
    before = World.from_snapshot(world.snapshot(copy=True))
    for spot in world.query(DeltaSpot):
        spot.x //= 2
    for i in ids[3:9]:
        world.insert(i, value(rng, DeltaStory, ids), value(rng, DeltaHome, ids))
    world.remove(ids[2:5], DeltaMark)
    world.remove(ids[1:3], DeltaHome, DeltaSpot)
    world.despawn(ids[[11, 20, 21, 22]])
    for n in range(5):
        world.spawn(
            value(rng, DeltaHome, ids), *[value(rng, t, ids) for t in (DeltaStory, DeltaMark)[: n % 3]]
        )
    world.spawn_batch(count=3)
    world.resources.insert(DeltaClock(5, int(ids[0])))
    world.metadata = {"now": [1, "é"]}
    world.rngs.create("dice", 3)
    return tracker.changes(), before, world


def told(changes):
    """Return what a change set says, but for what undoes it, as what can be compared."""

    def table(t):
        return (
            [(type_.name, type_.version) for type_ in t.types],
            t.stable_ids.tobytes(),
            [(t.columns[n].dtype, repr(t.columns[n].tolist())) for n in t.names],
        )

    state = changes.world
    world = state and (
        state.version,
        dict(state.metadata),
        repr({k: repr(v) for k, v in state.rngs.items()}),
        state.id_source,
        state.resources and table(state.resources),
    )
    return (
        [table(t) for t in changes.created],
        [table(t) for t in changes.modified],
        {name: ids.tobytes() for name, ids in changes.removed.items()},
        changes.despawned.tobytes(),
        world,
        changes.timestamp,
        [t.name for t in changes.lost],
    )

"""A simulation saved halfway, and continued twice from there: as it was, and with a vaccine.

An epidemic in a town, drawn from named generators. At tick 500 the world is saved. One branch goes on as if
nothing had happened and ends bit for bit where the run that was never interrupted ends, also where the
checkpoint is JSON; the other branch changes a resource and shows what difference that makes.
"""

import enum
import tempfile
from pathlib import Path

import numpy as np

from pecs_np import EntityRef, World, component
from pecs_np.testing import assert_worlds_equal

PEOPLE, SQUARE = 2000, 4
CHECKPOINT, END = 500, 800


class State(enum.IntEnum):
    HEALTHY = 0
    ILL = 1
    IMMUNE = 2


@component
class Place:
    """Where one is, in metres; the town is a square whose edges meet."""

    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component
class Person:
    """How one is, since which tick, and from whom one has it."""

    state: State = State.HEALTHY
    since: np.int32 = 0
    infected_by: EntityRef = None


@component
class Town:
    """What holds for all: a resource."""

    tick: int = 0
    size: np.float32 = 300.0
    vaccinated_per_tick: np.float64 = 0.0
    ill_at_worst: int = 0


def make_world() -> World:
    """Return a town with a few who are ill; with the seed, it is the same one each time."""
    world = World(seed=11, metadata={"model": "town"})
    world.resources.insert(Town())
    for name in ("walk", "illness", "clinic", "arrivals"):
        world.rngs.create(name)
    xy = world.rngs["walk"].uniform(0, 300, (2, PEOPLE))
    ids = world.spawn_batch(Place(x=xy[0], y=xy[1]), Person())
    world.insert(ids[:5], Person(state=State.ILL))
    return world


def step(world: World) -> None:
    """Let one tick pass."""
    town = world.resources.get(Town)
    town.tick += 1
    walk, illness, clinic = (world.rngs[name] for name in ("walk", "illness", "clinic"))
    for ids, place, person in world.query(Place, Person).entities():
        place.matrix += walk.normal(0, 1.5, (len(ids), 2))
        place.matrix %= town.size

        ill = np.flatnonzero(person.state == State.ILL)
        healthy = np.flatnonzero(person.state == State.HEALTHY)
        # Who is on the same square of some metres as one who is ill may catch it.
        across = int(town.size / SQUARE)
        square = ((place.matrix // SQUARE).astype(int) % across) @ (1, across)
        carrier = np.full(across * across, -1)
        carrier[square[ill]] = ill
        met = carrier[square[healthy]]
        caught = (met >= 0) & (illness.random(len(healthy)) < 0.2)
        person.infected_by[healthy[caught]] = ids[met[caught]]
        person.state[healthy[caught]] = State.ILL
        person.since[healthy[caught]] = town.tick
        over = ill[illness.random(len(ill)) < 0.01]
        lost = (person.state == State.IMMUNE) & (illness.random(len(ids)) < 0.002)
        person.state[over] = State.IMMUNE
        person.state[lost] = State.HEALTHY
        vaccinated = (person.state == State.HEALTHY) & (clinic.random(len(ids)) < town.vaccinated_per_tick)
        person.state[vaccinated] = State.IMMUNE
        town.ill_at_worst = max(town.ill_at_worst, int((person.state == State.ILL).sum()))

    # People leave and come, so that entities and their stable ids take part in it too.
    arrivals = world.rngs["arrivals"]
    world.despawn(arrivals.choice(world.entities(), 3, replace=False))
    world.spawn_batch(Place(x=arrivals.uniform(0, town.size, 3), y=0), Person(since=town.tick))


def run(world: World, until: int) -> World:
    """Step *world* to the tick *until*, and return it."""
    while world.resources.get(Town).tick < until:
        step(world)
    return world


def report(name: str, world: World) -> int:
    """Print how a run ended, and return how many are ill."""
    states = world.column(Person)["state"]
    counts = ", ".join(f"{np.sum(states == state)} {state.name.lower()}" for state in State)
    print(f"{name}: tick {world.resources.get(Town).tick}, {counts}")
    return int(np.sum(states == State.ILL))


def main() -> None:
    """Run once without a break, and branch off from a checkpoint."""
    uninterrupted = run(make_world(), END)

    with tempfile.TemporaryDirectory() as folder:
        checkpoint, text = Path(folder, "tick500.pecs"), Path(folder, "tick500.json")
        world = run(make_world(), CHECKPOINT)
        world.save(checkpoint)
        world.save(text)
        report("checkpoint", world)

        control = run(World.load(checkpoint), END)
        from_text = run(World.load(text), END)
        vaccine = World.load(checkpoint)
        vaccine.metadata["scenario"] = "vaccine"
        vaccine.resources.get(Town).vaccinated_per_tick = 0.02
        run(vaccine, END)

    ill = report("control", control)
    assert report("vaccine", vaccine) < ill
    for branch in (control, from_text):
        assert_worlds_equal(branch, uninterrupted)
        assert branch.to_bytes() == uninterrupted.to_bytes()
    print("the control branch and the uninterrupted run are the same, bit for bit; so is the one from JSON")


if __name__ == "__main__":
    main()

"""A simulation that logs every tick, is killed, and goes on from its log as if nothing had happened.

A game of life whose cells are entities: they are born, grow old and die, drawn from a named generator. Each
tick what changed goes into a log beside a snapshot, and through a pipe to a second process that follows. In
the middle of it the simulation is killed, and started again from snapshot and log; at the end its world, the
one of an uninterrupted run, and that of the follower are the same, bit for bit. Every past tick can be asked for.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from pecs_np import ChangeTracker, DeltaLog, LogStream, World, component
from pecs_np.testing import assert_worlds_equal

END, KILLED_AT, COMPACTED_AT = 120, 70, 40


@component
class Cell:
    """Where a cell is, in micrometres, and how old it is, in ticks."""

    x: np.float64 = 0.0
    y: np.float64 = 0.0
    age: np.int32 = 0


@component
class Clock:
    """The tick, a resource."""

    tick: int = 0


def make_world() -> World:
    """Return a few cells; with the seed, they are the same each time."""
    world = World(seed=7)
    world.resources.insert(Clock())
    drawn = world.rngs.create("cells").normal(0, 10, (2, 500))
    world.spawn_batch(Cell(x=drawn[0], y=drawn[1]))
    return world


def step(world: World) -> None:
    """Let one tick pass."""
    world.resources.get(Clock).tick += 1
    cells = world.rngs["cells"]
    # Rows are in no order that a restored world would have too; stable ids are.
    ids = world.get_entity_id(np.sort(world.stable_ids(), order=("hi", "lo")))
    moved = cells.normal(0, 1, (2, len(ids)))
    chance = cells.random(len(ids))
    cell = world.get(ids, Cell)
    world.insert(ids, Cell(x=cell.x + moved[0], y=cell.y + moved[1], age=cell.age + 1))
    parents = np.flatnonzero(chance < 0.05)
    world.spawn_batch(Cell(x=cell.x[parents], y=cell.y[parents]))
    world.despawn(ids[(chance > 0.9) & (cell.age > 10)])


def simulate(path: str) -> None:
    """Run to the end from where the log at *path* stopped, and send what happens to the standard output."""
    world = DeltaLog.restore(path) if os.path.exists(path) else make_world()
    new = None if os.path.exists(path) else world
    tracker = ChangeTracker(world)
    with DeltaLog.open(path, durability="process", world=new) as log:
        sent = log.send(sys.stdout.buffer)
        while (tick := world.resources.get(Clock).tick) < END:
            if tick == KILLED_AT and new is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            step(world)
            log.append(tracker.take())
            sent = log.send(sys.stdout.buffer, since=sent)
            sys.stdout.buffer.flush()
            if tick == COMPACTED_AT:
                log.compact()


def start(path: str) -> subprocess.Popen:
    """Start the simulation in a process of its own; its output is a pipe."""
    return subprocess.Popen([sys.executable, __file__, path], stdout=subprocess.PIPE)  # noqa: S603 - this very file


def follow(simulation: subprocess.Popen) -> World:
    """Return the world of another process, kept up to date through the pipe until that process ends."""
    stream = LogStream(simulation.stdout)
    world = stream.world()
    for changes in stream:
        world.apply(changes)
    simulation.stdout.close()
    simulation.wait()
    print(f"followed to record {stream.sequence}, {len(world)} cells")
    return world


def main() -> None:
    """Run once without a break, and once with one."""
    uninterrupted = make_world()
    states = {}
    for tick in range(1, END + 1):
        step(uninterrupted)
        if tick in (50, KILLED_AT):
            states[tick] = World.from_snapshot(uninterrupted.snapshot(copy=True))

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "cells.log"))
        killed = start(path)
        assert_worlds_equal(follow(killed), states[KILLED_AT])
        assert killed.returncode != 0
        print(f"killed at tick {DeltaLog.restore(path).resources.get(Clock).tick}")

        again = start(path)
        followed = follow(again)
        assert again.returncode == 0

        restored = DeltaLog.restore(path)
        for world in (restored, followed):
            assert_worlds_equal(world, uninterrupted)
        assert_worlds_equal(DeltaLog.restore(path, until=50), states[50])
    print("the killed run, its follower and the uninterrupted run are the same, bit for bit; so is tick 50")


if __name__ == "__main__":
    simulate(sys.argv[1]) if len(sys.argv) > 1 else main()

"""A story for a log to tell: a world, what happens to it, and what it is after each step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pecs_np import ChangeSet, ChangeTracker, EntityRef, World, component
from pecs_np.ecs.applying import apply


@component
class LoggedSpot:
    x: np.float32 = 0.0


@component
class LoggedNote:
    text: str = ""
    about: EntityRef = None


@dataclass(frozen=True)
class Story:
    """A world, and changes to it, one after the other.

    Attributes
    ----------
    start : Snapshot
    changes : list of ChangeSet
    states : list of bytes
        The world at the start and after each of them.
    """

    start: object
    changes: list[ChangeSet]
    states: list[bytes]

    def world(self):
        return World.from_snapshot(self.start.copy())


def make_story(steps=5):
    """Tell of entities that come, change, lose components and go; the last but one step is none."""
    world = World(seed=1)
    ids = world.spawn_batch(LoggedSpot(x=[1, 2, 3]))
    start = world.snapshot(copy=True)
    now = iter(range(1000, 2000))
    tracker = ChangeTracker(world, clock=lambda: float(next(now)))
    changes = []
    for step in range(steps):
        if step == steps - 2:
            pass
        elif step % 4 == 0:
            world.get(ids[0], LoggedSpot).x += 1
        elif step % 4 == 1:
            world.spawn(LoggedNote(text="é" * step, about=ids[0]))
        elif step % 4 == 2:
            world.remove(ids[1], LoggedSpot)
            world.metadata["step"] = step
        else:
            world.insert(ids[1], LoggedSpot(x=step))
            world.despawn(world.spawn(LoggedSpot()))
            world.spawn(LoggedSpot(x=9))
        changes.append(tracker.take())
    states = [World.from_snapshot(start.copy()).to_bytes()]
    replica = World.from_snapshot(start.copy())
    for change in changes:
        apply(replica, change)
        states.append(replica.to_bytes())
    return Story(start, changes, states)

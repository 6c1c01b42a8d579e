"""Saves of what has changed, every so many seconds: the others of a large world are not touched.

Systems mark what they change; arrays of entities are marked as one. What is marked is saved in one batch, all
or nothing, and stays marked where that fails. After a crash, the world is as it was at the last save.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pecs_np import PersistenceManager, SqliteEntityPlugin, StableId, World, component
from pecs_np.testing import assert_worlds_equal

ENTITIES = 20_000


@component
class Ship:
    """Where a ship is, in metres, and what it carries, in tons."""

    x: np.float32
    y: np.float32
    cargo: np.float32 = 0.0


class AutoSaveSystem:
    """Saves the entities that were marked, at most once in an interval.

    Parameters
    ----------
    save_interval : float
        In seconds.
    now : float
        The time, in seconds of any clock that does not run backwards, such as `time.monotonic`.
    """

    def __init__(self, save_interval: float, now: float) -> None:
        self.save_interval = save_interval
        self.last_save = now
        self.saved = 0
        self._dirty: list[np.ndarray] = []
        self._gone: list[StableId] = []

    def mark_dirty(self, entities: Any) -> None:
        """Note that an entity, or each of an array of them, is to be saved; once or often."""
        self._dirty.append(np.atleast_1d(np.asarray(entities, np.uint64)).copy())

    def despawn(self, world: World, entity: int) -> None:
        """Remove an entity from the world, and note that it is to be deleted from the store."""
        self._gone.append(world.get_stable_id(entity))
        world.despawn(entity)

    def update(self, world: World, manager: PersistenceManager, now: float) -> int:
        """Save what is marked if it is time for it, and return how many entities that were."""
        if now - self.last_save < self.save_interval:
            return 0
        dirty = np.unique(np.concatenate([np.empty(0, np.uint64), *self._dirty]))
        dirty = dirty[world.is_alive(dirty)]
        # An error leaves the marks as they are: the next turn tries again.
        manager.save_entities(world, dirty)
        self._dirty.clear()
        gone = [stable_id for stable_id in self._gone if manager.entity_exists(stable_id)]
        manager.delete_entities(gone)
        self._gone.clear()
        self.last_save = now
        self.saved += len(dirty)
        return len(dirty)


def step(world: World, auto_save: AutoSaveSystem, rng: np.random.Generator) -> None:
    """Let some ships move, one sink, and one arrive."""
    for ids, ship in world.query(Ship).entities():
        moving = np.flatnonzero(rng.random(len(ids)) < 0.002)
        ship.x[moving] += rng.normal(size=len(moving))
        ship.cargo[moving] += 1
        auto_save.mark_dirty(ids[moving])
    auto_save.despawn(world, rng.choice(world.entities()))
    auto_save.mark_dirty(world.spawn(Ship(0, 0)))


def main() -> None:
    rng = np.random.default_rng(3)
    world = World()
    world.spawn_batch(Ship(x=rng.normal(size=ENTITIES), y=rng.normal(size=ENTITIES)))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fleet.db")
        with SqliteEntityPlugin(path) as store:
            manager = PersistenceManager()
            manager.register_entity_plugin("fleet", store)
            manager.save_entities(world, world.entities())

            auto_save = AutoSaveSystem(save_interval=30.0, now=0.0)
            for second in range(100):  # of the game, not of a clock
                step(world, auto_save, rng)
                if saved := auto_save.update(world, manager, now=float(second)):
                    print(f"second {second}: {saved:,} of {len(world):,} ships saved")
                    kept = World.from_snapshot(world.snapshot(copy=True))

        # The game has crashed nine seconds after a save; another one starts.
        with SqliteEntityPlugin(path) as store:
            again = World()
            store.load_entities(again, store.list_entities())
            assert len(store) == ENTITIES
    assert_worlds_equal(kept, again)
    print("the world is the same as at the last save")


if __name__ == "__main__":
    main()

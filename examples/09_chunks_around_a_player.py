"""A world larger than memory: only the chunks around a player are in it, the others in a database.

A chunk is an entity whose stable id is made from its coordinates; it refers to the entities that stand on it.
Those that come into view are loaded in two batches, the chunks and then who stands on them. Those that go out
of view are saved and taken out of the world. Every signpost points to another one, near or far: while that
one is away the reference waits, and leads to it again as soon as it comes.
"""

import tempfile
from pathlib import Path

import numpy as np

from pecs_np import EntityRef, PersistenceManager, SqliteEntityPlugin, StableId, World, component
from pecs_np.testing import assert_worlds_equal

SIZE = 16  # metres, of a chunk
CHUNKS = 48  # along each side of the map
THINGS = 8  # on a chunk


@component
class WorldChunk:
    """A square of the map, and who stands on it."""

    x: np.int32
    z: np.int32
    entities: list[EntityRef]


@component
class Position:
    """Metres."""

    x: np.float32
    z: np.float32


@component
class Tree:
    """How high it is, in metres; trees grow while somebody looks."""

    height: np.float32 = 1.0


@component
class Signpost:
    """Points to another signpost."""

    to: EntityRef


def chunk_id(x: int, z: int) -> StableId:
    """Return the stable id of the chunk at (x, z)."""
    return StableId(1 << 64 | x << 32 | z)


def build(seed: int) -> World:
    """Return the whole map, as one program has it in memory before it goes to the store."""
    rng = np.random.default_rng(seed)
    world = World(seed=seed)
    x, z = np.divmod(np.arange(CHUNKS**2), CHUNKS)
    corners = np.stack([x, z], 1).repeat(THINGS, 0) * SIZE
    xy = corners + rng.uniform(0, SIZE, corners.shape)
    things = world.spawn_batch(Position(x=xy[:, 0], z=xy[:, 1]))
    posts = things[::THINGS]
    # To where a few chunks away another one stands.
    tx, tz = (np.clip(a + rng.integers(-4, 5, len(a)), 0, CHUNKS - 1) for a in (x, z))
    world.insert(posts, Signpost(to=posts[tx * CHUNKS + tz]))
    world.insert(np.setdiff1d(things, posts), Tree())
    on_each = list(things.reshape(-1, THINGS))
    chunks = WorldChunk(x=x, z=z, entities=on_each)
    world.spawn_batch(
        chunks, stable_ids=[chunk_id(a, b) for a, b in zip(x.tolist(), z.tolist(), strict=True)]
    )
    return world


def visible(player: tuple[int, int], distance: int) -> list[StableId]:
    """Return the stable ids of the chunks that can be seen from a chunk."""
    px, pz = player
    xs, zs = (range(max(at - distance, 0), min(at + distance + 1, CHUNKS)) for at in (px, pz))
    return [chunk_id(x, z) for x in xs for z in zs]


def load_visible_chunks(
    world: World, manager: PersistenceManager, player: tuple[int, int], distance: int
) -> int:
    """Bring the chunks around *player* into the world, with who stands on them; return how many are new."""
    seen = visible(player, distance)
    new = [stable_id for stable_id in seen if world.get_entity_id(stable_id) is None]
    chunks = manager.load_entities(world, new, missing="skip")
    chunks = chunks[chunks != 0]
    if len(chunks):
        standing = np.concatenate(world.get(chunks, WorldChunk).entities)
        # They are not alive yet, and still have stable ids.
        manager.load_entities(world, world.get_stable_id(standing))
    return len(chunks)


def unload_distant_chunks(
    world: World, manager: PersistenceManager, player: tuple[int, int], distance: int
) -> None:
    """Save the chunks that cannot be seen any more, and take them and who stands on them out of the world."""
    seen = set(visible(player, distance))
    away = []
    for ids, chunk in world.query(WorldChunk).entities():
        for entity, x, z, standing in zip(ids, chunk.x, chunk.z, chunk.entities, strict=True):
            if chunk_id(int(x), int(z)) not in seen:
                away += [entity, *standing]
    manager.evict(world, np.array(away, np.uint64))


def grow(world: World, player: tuple[int, int], distance: int) -> None:
    """Let the trees that are seen grow."""
    for position, tree in world.query(Position, Tree):
        chunk = np.stack([position.x, position.z], 1) // SIZE
        near = (abs(chunk - player) <= distance).all(1)
        tree.height[near] += 0.5


def walk(steps: int, seed: int) -> list[tuple[int, int]]:
    """Return the chunks on a walk through the map."""
    turns = np.random.default_rng(seed).integers(-2, 3, (steps, 2)).cumsum(0)
    return [(int(x), int(z)) for x, z in abs(turns + CHUNKS // 2) % CHUNKS]


def main() -> None:
    distance = 3
    whole = build(seed=5)
    with tempfile.TemporaryDirectory() as folder, SqliteEntityPlugin(Path(folder, "map.db")) as store:
        manager = PersistenceManager()
        manager.register_entity_plugin("map", store)
        manager.save_entities(whole, whole.entities())

        world = World()
        most = 0
        for player in walk(40, seed=6):
            unload_distant_chunks(world, manager, player, distance)
            load_visible_chunks(world, manager, player, distance)
            most = max(most, len(world))
            # The world in memory and the one that is whole live through the same.
            grow(world, player, distance)
            grow(whole, player, distance)

        to = world.column(Signpost)["to"]
        away = ~world.is_alive(to)
        print(f"{len(to)} signposts are here; {away.sum()} point to one that is not")
        assert 0 < away.sum() < len(to)
        # It has a stable id all the same.
        assert store.entity_exists(world.get_stable_id(int(to[away][0])))
        print(f"{len(store):,} entities are saved; at most {most:,} were in memory")
        assert most <= (2 * distance + 1) ** 2 * (THINGS + 1)

        manager.evict(world, world.entities())
        back = World(seed=5)
        manager.load_entities(back, store.list_entities())
        assert_worlds_equal(whole, back)
    print("the world in parts and the whole one are the same")


if __name__ == "__main__":
    main()

"""Players of a game server, one by one: loaded when they log in, saved when what they own changes.

Nobody is in memory but who plays. A player's stable id is made from the name, so no list of players is
kept. A trade saves both players in one batch: whatever happens, no item is lost or there twice.
"""

import enum
import tempfile
import uuid
from pathlib import Path
from typing import Annotated

import numpy as np

from pecs_np import (
    EntityId,
    EntityNotFoundError,
    EntityRef,
    PersistenceManager,
    SqliteEntityPlugin,
    StableId,
    World,
    component,
)
from pecs_np.testing import assert_worlds_equal


class Kind(enum.IntEnum):
    SWORD = 0
    ROPE = 1
    POTION = 2


class Item:
    """Some things of a kind."""

    kind: Kind
    count: np.uint16
    wear: np.float32


@component
class PlayerInventory:
    """What a player owns."""

    items: list[Item]
    gold: np.uint32 = 0


@component
class Player:
    """Who it is, and who their best friend is, online or not."""

    name: str
    friend: EntityRef = None


@component(transient=True)
class Session:
    """Of a player who is online; not saved."""

    address: Annotated[str, 40]


def stable_id_of(name: str) -> StableId:
    """Return the stable id of the player of that name."""
    return StableId(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.players.example.org").int)


def save_player_inventory(world: World, manager: PersistenceManager, player: EntityId) -> None:
    """Save a player, whose inventory has changed."""
    manager.save_entity(world, player)


def load_player_inventory(world: World, manager: PersistenceManager, player_id: StableId) -> EntityId:
    """Bring a player into the world."""
    return manager.load_entity(world, player_id)


def login(world: World, manager: PersistenceManager, name: str, address: str) -> EntityId:
    """Bring a player into the world, who is new if nothing was saved of them."""
    try:
        player = load_player_inventory(world, manager, stable_id_of(name))
    except EntityNotFoundError:
        player = world.spawn_with_stable_id(
            stable_id_of(name), Player(name), PlayerInventory(items=[], gold=100)
        )
        save_player_inventory(world, manager, player)
    world.insert(player, Session(address))
    return player


def logout(world: World, manager: PersistenceManager, player: EntityId) -> None:
    """Save a player and take them out of the world; references to them wait until they come back."""
    manager.evict(world, [player])


def give(world: World, player: EntityId, kind: Kind, count: int) -> None:
    """Add things of a kind to what a player has, or take some if *count* is negative."""
    inventory = world.get(player, PlayerInventory)
    owned = inventory.items["kind"] == kind
    if not owned.any():
        inventory.items = [*inventory.items.tolist(), (kind, count, 0.0)]
        return
    inventory.items["count"][owned] += np.int16(count).astype(np.uint16)
    inventory.items = inventory.items[inventory.items["count"] > 0]


def trade(
    world: World, manager: PersistenceManager, seller: EntityId, buyer: EntityId, kind: Kind, price: int
) -> None:
    """Let one thing and its price change hands, and save both players: both or none of them."""
    give(world, seller, kind, -1)
    give(world, buyer, kind, 1)
    world.get(seller, PlayerInventory).gold += price
    world.get(buyer, PlayerInventory).gold -= price
    manager.save_entities(world, [seller, buyer])


def first_evening(manager: PersistenceManager) -> World:
    """Let two players play, and return the world as it is when the power fails."""
    world = World()
    ada = login(world, manager, "Ada", "192.0.2.1")
    ben = login(world, manager, "Ben", "192.0.2.2")
    for kind, count in ((Kind.SWORD, 1), (Kind.POTION, 5)):
        give(world, ada, kind, count)
    save_player_inventory(world, manager, ada)
    world.get(ben, Player).friend = ada
    trade(world, manager, ada, ben, Kind.POTION, price=30)
    trade(world, manager, ada, ben, Kind.SWORD, price=60)
    print("Ada:", world.get(ada, PlayerInventory))
    print("Ben:", world.get(ben, PlayerInventory))
    return world


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "players.db")
        with SqliteEntityPlugin(path) as store:
            manager = PersistenceManager()
            manager.register_entity_plugin("players", store)
            before = first_evening(manager)

        # The server starts again, with an empty world.
        with SqliteEntityPlugin(path) as store:
            manager = PersistenceManager()
            manager.register_entity_plugin("players", store)
            world = World()
            ben = login(world, manager, "Ben", "198.51.100.7")
            friend = world.get(ben, Player).friend
            assert not world.is_alive(friend)
            assert world.get_stable_id(friend) == stable_id_of("Ada")
            print("Ben is online, his friend is not")

            ada = login(world, manager, "Ada", "198.51.100.8")
            assert world.get(ben, Player).friend == ada
            for each in (before, world):
                each.remove(each.entities(), Session)
            assert_worlds_equal(before, world)

            logout(world, manager, ada)
            logout(world, manager, ben)
            assert len(world) == 0
            print(f"both own the same as before; {len(store)} players are saved, {len(world)} in memory")


if __name__ == "__main__":
    main()

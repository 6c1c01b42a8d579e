"""A world with two components, saved without a flush to the disk, as the others are."""

import numpy as np

from pecs_np import World, component

from . import DT


@component
class Position:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component
class Velocity:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


def create(given):
    x, y, vx, vy = given
    world = World()
    world.spawn_batch(Position(x=x, y=y), Velocity(x=vx, y=vy))
    return world


def step(world):
    for position, velocity in world.query(Position, Velocity):
        position.matrix += velocity.matrix * DT
    return world


def save(world, path):
    world.save(path, durable=False)


def load(path):
    return World.load(path)


def columns(world):
    position, velocity = world.column(Position), world.column(Velocity)
    return np.stack([position["x"], position["y"], velocity["x"], velocity["y"]])

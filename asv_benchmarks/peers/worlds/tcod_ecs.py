"""A registry of tcod-ecs, pickled whole."""

import pickle
from dataclasses import dataclass

import numpy as np
import tcod.ecs

from . import DT

UNORDERED = True


@dataclass(slots=True)
class Position:
    x: float = 0.0
    y: float = 0.0


@dataclass(slots=True)
class Velocity:
    x: float = 0.0
    y: float = 0.0


def create(given):
    registry = tcod.ecs.Registry()
    for x, y, vx, vy in zip(*given.tolist(), strict=True):
        registry.new_entity({Position: Position(x, y), Velocity: Velocity(vx, vy)})
    return registry


def step(registry):
    for position, velocity in registry.Q[Position, Velocity]:
        position.x += velocity.x * DT
        position.y += velocity.y * DT
    return registry


def save(registry, path):
    with open(path, "wb") as file:
        pickle.dump(registry, file, pickle.HIGHEST_PROTOCOL)


def load(path):
    with open(path, "rb") as file:
        return pickle.load(file)


def columns(registry):
    return np.array([(p.x, p.y, v.x, v.y) for p, v in registry.Q[Position, Velocity]]).T

"""Entities of esper, pickled with their components and created anew."""

import pickle
from dataclasses import dataclass

import esper
import numpy as np

from . import DT


@dataclass(slots=True)
class Position:
    x: float = 0.0
    y: float = 0.0


@dataclass(slots=True)
class Velocity:
    x: float = 0.0
    y: float = 0.0


class Movement(esper.Processor):
    def process(self, dt):
        for _, (position, velocity) in esper.get_components(Position, Velocity):
            position.x += velocity.x * dt
            position.y += velocity.y * dt


esper.add_processor(Movement())


def create(given):
    for x, y, vx, vy in zip(*given.tolist(), strict=True):
        esper.create_entity(Position(x, y), Velocity(vx, vy))
    return esper.current_world


def step(world):
    esper.process(DT)
    return world


def save(world, path):
    entities = [esper.components_for_entity(entity) for entity in esper.get_entities()]
    with open(path, "wb") as file:
        pickle.dump(entities, file, pickle.HIGHEST_PROTOCOL)


def load(path):
    with open(path, "rb") as file:
        entities = pickle.load(file)
    for components in entities:
        esper.create_entity(*components)
    return esper.current_world


def columns(world):
    rows = [(p.x, p.y, v.x, v.y) for _, (p, v) in esper.get_components(Position, Velocity)]
    return np.array(rows).T


def discard(world):
    esper.clear_database()

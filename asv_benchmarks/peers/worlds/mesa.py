"""A model of mesa with one kind of agent, pickled whole."""

import pickle

import mesa
import numpy as np

from . import DT


class Mover(mesa.Agent):
    def __init__(self, model, x, y, vx, vy):
        super().__init__(model)
        self.x = x
        self.y = y
        self.vx = vx
        self.vy = vy

    def step(self):
        self.x += self.vx * DT
        self.y += self.vy * DT


class Movers(mesa.Model):
    def __init__(self, given):
        super().__init__(seed=1)
        Mover.create_agents(self, given.shape[1], *given.tolist())

    def step(self):
        self.agents.do("step")


def create(given):
    return Movers(given)


def step(model):
    model.step()
    return model


def save(model, path):
    with open(path, "wb") as file:
        pickle.dump(model, file, pickle.HIGHEST_PROTOCOL)


def load(path):
    with open(path, "rb") as file:
        return pickle.load(file)


def columns(model):
    return np.array([(agent.x, agent.y, agent.vx, agent.vy) for agent in model.agents]).T


def discard(model):
    mesa.Agent._ids.pop(model, None)  # which would hold the model for ever

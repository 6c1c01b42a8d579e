"""A model of mesa-frames with one set of agents in Polars, its frame saved as Parquet."""

import numpy as np
import polars as pl
from mesa_frames import AgentSetPolars, ModelDF

from . import DT, FIELDS


class Movers(AgentSetPolars):
    def __init__(self, model, agents):
        super().__init__(model)
        self += agents

    def step(self):
        self.agents = self.agents.with_columns(
            x=pl.col("x") + pl.col("vx") * DT, y=pl.col("y") + pl.col("vy") * DT
        )


class Movement(ModelDF):
    def __init__(self, agents):
        super().__init__(seed=1)
        self.agents += Movers(self, agents)

    def step(self):
        self.agents.step()


def create(given):
    ids = np.arange(given.shape[1], dtype=np.int64)
    # Polars would share the given memory.
    return Movement(pl.DataFrame({"unique_id": ids, **dict(zip(FIELDS, given.copy(), strict=True))}))


def step(model):
    model.step()
    return model


def save(model, path):
    model.get_agents_of_type(Movers).agents.write_parquet(path, compression="uncompressed")


def load(path):
    return Movement(pl.read_parquet(path))


def columns(model):
    agents = model.get_agents_of_type(Movers).agents
    return np.stack([agents[name].to_numpy() for name in FIELDS])

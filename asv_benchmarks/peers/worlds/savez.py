"""Two arrays in an archive of NumPy."""

import numpy as np

from .arrays import columns, create, step

__all__ = ["columns", "create", "load", "save", "step"]


def save(world, path):
    with open(path, "wb") as file:
        np.savez(file, **world)


def load(path):
    with np.load(path) as archive:
        return dict(archive)

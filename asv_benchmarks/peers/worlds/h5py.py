"""Two arrays as data sets of an HDF5 file."""

import h5py

from .arrays import columns, create, step

__all__ = ["columns", "create", "load", "save", "step"]


def save(world, path):
    with h5py.File(path, "w") as file:
        for name, array in world.items():
            file[name] = array


def load(path):
    with h5py.File(path, "r") as file:
        return {name: data[:] for name, data in file.items()}

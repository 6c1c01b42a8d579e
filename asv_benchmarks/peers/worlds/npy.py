"""One structured array in a file of NumPy."""

import numpy as np

from . import DT, FIELDS

ROW = np.dtype([(name, "<f4") for name in FIELDS])


def create(given):
    rows = np.empty(given.shape[1], ROW)
    for name, column in zip(FIELDS, given, strict=True):
        rows[name] = column
    return rows


def step(rows):
    rows["x"] += rows["vx"] * DT
    rows["y"] += rows["vy"] * DT
    return rows


def save(rows, path):
    with open(path, "wb") as file:
        np.save(file, rows)


def load(path):
    with open(path, "rb") as file:
        return np.load(file)


def columns(rows):
    return np.stack([rows[name] for name in FIELDS])

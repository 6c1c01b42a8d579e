"""Records of version 1 that belong together: what they have in common, and where their data stand."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array
from pecs_np.persistence.binary.record_writer import windows

__all__ = [
    "MOST_AT_ONCE",
    "Bytes",
    "Piece",
    "Places",
    "Run",
    "Scatter",
    "Shape",
    "first_other",
    "gathered",
    "shape_of",
]

# Records that are compared or copied at once: they stay in the cache.
MOST_AT_ONCE = 1 << 13

Bytes = NDArray[np.uint8]
Places = NDArray[np.intp]


class Shape(NamedTuple):
    """What records with the same types and sizes, in the same order, have in common.

    Attributes
    ----------
    types : tuple of int
        Places in the registry, increasing.
    data : tuple of (offset, size)
        Of each type's data, from the start of a record.
    dtype : dtype
        Of a record: ``id``, ``data0`` and so on for each type that has bytes, ``same0`` and so on.
    same : tuple of (name, bytes)
        What the fields ``same`` hold in every record: the count, type ids and sizes.
    """

    types: tuple[int, ...]
    data: tuple[tuple[int, int], ...]
    dtype: np.dtype[Any]
    same: tuple[tuple[str, bytes], ...]


@functools.lru_cache(maxsize=64)
def shape_of(components: tuple[tuple[int, bytes, int], ...]) -> Shape:
    """Return the shape of records with these components: place in the registry, type id, size of the data."""
    fields: list[tuple[str, int, int]] = [("id", 0, 16)]
    same: list[tuple[str, bytes]] = []
    data = {}
    constant = len(components).to_bytes(4, "little")
    start = 16
    for place, key, size in components:
        constant += key + size.to_bytes(4, "little")
        # Pieces of 16, 8 and 4 bytes are copied several times faster than others.
        while constant:
            piece = next(n for n in (16, 8, 4) if n <= len(constant))
            fields.append((f"same{len(same)}", start, piece))
            same.append((f"same{len(same)}", constant[:piece]))
            constant = constant[piece:]
            start += piece
        data[place] = (start, size)
        start += size
    if not components:
        fields.append(("same0", 16, 4))
        same.append(("same0", constant))
    types = tuple(sorted(data))
    fields += [(f"data{i}", *data[place]) for i, place in enumerate(types) if data[place][1]]
    names, offsets, sizes = zip(*fields, strict=True)
    formats = [(np.void, size) for size in sizes]
    dtype = np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": start + 4 * (not components)}
    )
    return Shape(types, tuple([data[place] for place in types]), dtype, tuple(same))


@dataclass(slots=True)
class Run:
    """Records of one shape that stand one after the other, the first at byte *start*."""

    start: int
    count: int
    shape: Shape

    @property
    def types(self) -> tuple[int, ...]:
        """The places of the types in the registry."""
        return self.shape.types

    def places(self, component: int) -> Places:
        """Return where the data of a component begin."""
        offset, _ = self.shape.data[component]
        first, step = self.start + offset, self.shape.dtype.itemsize
        return np.arange(first, first + step * self.count, step)

    def sizes(self, component: int) -> Places:
        """Return how long the data of a component are."""
        return np.full(self.count, self.shape.data[component][1], np.intp)

    def one_size(self, component: int) -> int | None:
        """Return how long all data of a component are."""
        return self.shape.data[component][1]

    def copy_to(self, body: Bytes, targets: list[tuple[int | None, int, Array]]) -> None:
        """Write ids (None) and the first bytes of components to (count,) arrays of bytes."""
        records = np.frombuffer(body, self.shape.dtype, self.count, self.start)
        for start in range(0, self.count, MOST_AT_ONCE):
            stop = start + MOST_AT_ONCE
            # While the records are in the cache.
            block = records[start:stop] if self.count > MOST_AT_ONCE else records
            for component, _, target in targets:
                target[start:stop] = block["id" if component is None else f"data{component}"]


@dataclass(slots=True)
class Scatter:
    """Records of one archetype anywhere.

    Attributes
    ----------
    starts : array, shape (count,)
    types : tuple of int
    data, lengths : array, shape (types, count)
        Where the data of each component begin, and how long they are.
    """

    starts: Places
    types: tuple[int, ...]
    data: Places
    lengths: Places

    @property
    def count(self) -> int:
        """How many records."""
        return len(self.starts)

    def places(self, component: int) -> Places:
        """Return where the data of a component begin."""
        found: Places = self.data[component]
        return found

    def sizes(self, component: int) -> Places:
        """Return how long the data of a component are."""
        found: Places = self.lengths[component]
        return found

    def one_size(self, component: int) -> int | None:
        """Return how long all data of a component are, None where they differ."""
        lengths = self.lengths[component]
        return int(lengths[0]) if (lengths == lengths[0]).all() else None

    def copy_to(self, body: Bytes, targets: list[tuple[int | None, int, Array]]) -> None:
        """Write ids (None) and the first bytes of components to (count,) arrays of bytes."""
        for component, size, target in targets:
            places = self.starts if component is None else self.data[component]
            # Indexing, because `take` would first copy the windows, each byte as often as a row has bytes.
            target[...] = windows(body, size)[places]


Piece = Run | Scatter


def first_other(block: Array, shape: Shape) -> int:
    """Return the first of *block*, records, that is not of that shape; there is one."""
    others = np.zeros(len(block), bool)
    for name, value in shape.same:
        others |= block[name] != np.void(value)
    return int(others.argmax())


def gathered(body: Bytes, places: Places, dtype: str) -> Array:
    """Return the values that stand at *places*, each whole within *body*."""
    wanted = np.dtype(dtype)
    found = windows(body, wanted.itemsize)[places].view(wanted)
    return found.astype(np.intp) if wanted.kind == "u" else found

"""Numbers that stand side by side in a row of text, written for all rows at once.

The writer of JSON puts commas between the numbers of a whole table. Each comma becomes a byte that stands for
the constant text at its place in the row, and every such byte is then replaced by its text: no object is made
for a number, only one for the numbers of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as member
from typing import Any

import numpy as np
import orjson

from pecs_np.ecs.arrays import BYTE, Array
from pecs_np.ecs.dtypes import Field
from pecs_np.persistence.json.tokens import all_numbers

__all__ = ["Path", "Run", "Slot", "runs_of"]

# Finds the values of a slot: the columns' keys, one inside the other.
Path = tuple[str, ...]

# Two numbers in a row are as quickly written one by one.
_LEAST_PLACES = 3
_COMMA = ord(",")
# Bytes that JSON text never holds: it has escapes for them, in names too.
_MARKS = bytes({*range(32)} - set(b"\t\n\r"))


@dataclass(slots=True)
class Slot:
    """The places in a row where the elements of a leaf stand, in C order; without a field they are bare ids."""

    path: Path
    field: Field | None
    places: list[int] = member(default_factory=list)


@dataclass(slots=True)
class Run:
    """Slots of one dtype that have some places of a row for themselves, one after the other.

    Attributes
    ----------
    dtype : dtype
    slots : list of Slot
    start, stop : int
        The first place, and the one after the last.
    """

    dtype: np.dtype[Any]
    slots: list[Slot]
    start: int
    stop: int

    def texts(
        self, count: int, values: Callable[[Path], Array], constants: list[bytes]
    ) -> list[bytes] | None:
        """Return the text of each row from the first value to the last, or None where some are no JSON numbers.

        Parameters
        ----------
        count : int
            Of rows, one at least.
        values : callable
            Gives the values of a slot, shape (count, ...).
        constants : list of bytes
            The text before, between and after the values of a row.
        """
        table = np.empty((count, self.stop - self.start), self.dtype)
        for slot in self.slots:
            first, last = slot.places[0] - self.start, slot.places[-1] - self.start + 1
            together = last - first == len(slot.places)
            at: Any = slice(first, last) if together else np.array(slot.places) - self.start
            table[:, at] = values(slot.path).reshape(count, -1)
        if not all_numbers(table):
            return None
        end, *others = _MARKS
        between = constants[self.start + 1 : self.stop]
        marks = dict(zip(_texts(between), others, strict=False))
        text = bytearray(orjson.dumps(table.reshape(-1), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])
        data = np.frombuffer(text, BYTE)
        commas = np.flatnonzero(data == _COMMA)
        row = np.array([*[marks.get(t, _COMMA) for t in between], end], BYTE)
        data[commas] = np.broadcast_to(row, table.shape).reshape(-1)[:-1]
        rows = bytes(text)
        # Short ones first: each goes through what those before it have made longer.
        for constant in sorted(marks, key=len):
            rows = rows.replace(bytes([marks[constant]]), constant)
        return rows.split(bytes([end]))


def runs_of(slots: list[Slot], constants: list[bytes]) -> list[Run]:
    """Return the runs of three places or more among the *slots* of a row, which are in the order of their places.

    Examples
    --------
    >>> i4, f4 = np.dtype("<i4"), np.dtype("<f4")
    >>> vector, count = Slot(("v",), Field("v", f4, shape=(3,)), [0, 1, 2]), Slot(("n",), Field("n", i4), [3])
    >>> [(run.start, run.stop) for run in runs_of([vector, count], [b"[[", b",", b",", b"],", b"]"])]
    [(0, 3)]
    """
    runs: list[Run] = []
    texts: set[bytes] = set()
    for block in _blocks(slots):
        dtype = _dtype(block)
        if dtype is None:
            continue
        start, stop = block[0].places[0], _stop(block)
        last = runs[-1] if runs else None
        if last is not None and last.stop == start and last.dtype == dtype:
            joined = texts | _texts(constants[start:stop])
            if len(joined) < len(_MARKS):
                texts = joined
                last.slots += block
                last.stop = stop
                continue
        texts = _texts(constants[start + 1 : stop])
        if len(texts) < len(_MARKS):
            runs.append(Run(dtype, block, start, stop))
    return [run for run in runs if run.stop - run.start >= _LEAST_PLACES]


def _blocks(slots: list[Slot]) -> list[list[Slot]]:
    """Return the slots in parts: those of structs in a subarray take turns, and stay together."""
    blocks: list[list[Slot]] = []
    for slot in slots:
        if blocks and slot.places[0] < _stop(blocks[-1]):
            blocks[-1].append(slot)
        else:
            blocks.append([slot])
    return blocks


def _stop(block: list[Slot]) -> int:
    return max(slot.places[-1] for slot in block) + 1


def _texts(constants: list[bytes]) -> set[bytes]:
    """Return the texts that need a mark."""
    return set(constants) - {b","}


def _dtype(block: list[Slot]) -> np.dtype[Any] | None:
    """Return the dtype of numbers that all values have, or None."""
    fields = [slot.field for slot in block]
    dtypes = {None if f is None or f.variable or f.enum else f.dtype for f in fields}
    dtype = dtypes.pop()
    plain = not dtypes and dtype is not None and (dtype.kind in "biu" or dtype.char in "fd")
    return dtype if plain else None

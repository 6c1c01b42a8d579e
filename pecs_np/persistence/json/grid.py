"""The values of many rows of text, found by the commas between them.

Constant text, with a comma in it, stands between two values of a row, and between two rows. Where no value
holds a comma, those of the text tell where each constant has to be: NumPy compares all of them with what
they should be, and what is left are the values, which the parser takes as one list. No pattern looks at
every byte, and no object is made for a value before it is parsed.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import orjson

from pecs_np.ecs.arrays import BYTE, Array
from pecs_np.errors import InvalidFormatError

__all__ = ["Cut", "Grid", "doubles"]

_COMMA = ord(",")
# A longer constant costs more as blanks than as an end of a piece of text.
_MOST_BLANKS = 48
_OF_NUMBERS = b"0123456789.eE+-, "


class Cut(NamedTuple):
    """The values of some rows.

    Attributes
    ----------
    first : list of bytes
        The text of the first value of each row, of any bytes but commas.
    others : bytes
        That of all other values, row by row, with a comma and perhaps blanks between any two, and no
        comma within one.
    size : int
        How many others there are.
    """

    first: list[bytes]
    others: bytes
    size: int

    def parsed(self) -> list[Any]:
        """Return the other values, row by row, each of them one value of JSON.

        Raises
        ------
        InvalidFormatError
            If they are not as many as the commas say: then some stand within a text.
        orjson.JSONDecodeError
            If it is no JSON.
        """
        values: list[Any] = orjson.loads(b"[%b]" % self.others)
        if len(values) != self.size:
            raise InvalidFormatError(f"expected {self.size} values between commas, found {len(values)}")
        return values


class Grid:
    """Where the commas stand in rows of one kind.

    Parameters
    ----------
    constants : list of bytes
        The text before, between and after the values of a row. Each of them but for the first and the
        last one has a comma.
    between : bytes
        The text between rows, which begins with a comma.

    Examples
    --------
    >>> grid = Grid([b"{", b',"y":', b"}"], b",")
    >>> grid.cut(b'{1,"y":2.5},{3,"y":-4}')
    Cut(first=[b'1', b'3'], others=b'2.5,-4', size=2)
    >>> grid.cut(b'{1,"y":2.5},{3,"z":-4}')
    """

    def __init__(self, constants: list[bytes], between: bytes) -> None:
        self._head = constants[0]
        self._tail = between + constants[0]
        # What follows each value: after the last one the next row begins.
        follows = [*constants[1:-1], constants[-1] + self._tail]
        counts = [text.count(b",") for text in follows]
        self._commas = sum(counts)
        # Of each the number of its first comma in the row, where that is in it, and its size.
        self._numbers = np.cumsum([0, *counts[:-1]])
        self._before = np.array([text.index(b",") for text in follows])
        self._sizes = np.array(list(map(len, follows)))
        # The values between two of these stand in one piece.
        ends = {0, len(follows) - 1}
        self._breaks = [j for j, text in enumerate(follows) if j in ends or len(text) > _MOST_BLANKS]
        # Of each text that is more than a comma: the places where it ends a piece, and those where it does not.
        self._places: dict[tuple[bytes, bool], list[int]] = {}
        for place, text in enumerate(follows):
            if text != b",":
                self._places.setdefault((text, place in self._breaks), []).append(place)

    def cut(self, text: bytes) -> Cut | None:
        """Return the values of the rows of *text*, or None where it is no such rows or a value holds a comma."""
        if not text.startswith(self._head):
            return None
        whole = bytearray().join((text, self._tail))
        skipped = len(self._head)
        commas = np.flatnonzero(np.frombuffer(whole, BYTE)[skipped:] == _COMMA)
        rows, rest = divmod(commas.size, self._commas)
        if rest or not rows:
            return None
        starts = commas.reshape(rows, -1)[:, self._numbers] + (skipped - self._before)
        stops = starts + self._sizes
        # A constant begins where the one before has ended or later; the last one ends the text.
        apart = starts[0, 0] >= skipped and (starts.reshape(-1)[1:] >= stops.reshape(-1)[:-1]).all()
        if not apart or stops[-1, -1] != len(whole) or not self._blanked(whole, starts):
            return None
        return self._pieces(bytes(whole), starts, stops)

    def _blanked(self, whole: bytearray, starts: Array) -> bool:
        """Tell whether all constants are there, and make a comma and blanks of those within pieces."""
        for (text, ends_piece), places in self._places.items():
            size = len(text)
            windows: Array = np.ndarray((len(whole) - size + 1,), f"V{size}", whole, strides=(1,))
            at = starts[:, places].reshape(-1)
            if windows[at].tobytes() != text * at.size:
                return False
            if not ends_piece:
                windows[at] = np.void(b",".ljust(size))
        return True

    def _pieces(self, whole: bytes, starts: Array, stops: Array) -> Cut:
        begins = [len(self._head), *stops[:-1, -1].tolist()]
        first = [whole[i:j] for i, j in zip(begins, starts[:, 0].tolist(), strict=True)]
        begins = stops[:, self._breaks[:-1]].reshape(-1).tolist()
        ends = starts[:, self._breaks[1:]].reshape(-1).tolist()
        others = b",".join([whole[i:j] for i, j in zip(begins, ends, strict=True)])
        return Cut(first, others, starts.size - len(first))


def doubles(cut: Cut) -> Array | None:
    """Return the other values as ``<f8``, shape (rows, n), or None where one is no number.

    Raises
    ------
    orjson.JSONDecodeError
        If they are no JSON.

    Examples
    --------
    >>> doubles(Cut([b"1", b"2"], b"0.5,  3,-1e2,4", 4)).tolist()
    [[0.5, 3.0], [-100.0, 4.0]]
    >>> doubles(Cut([b"1"], b'0.5,"NaN"', 2))
    """
    if cut.others.translate(None, _OF_NUMBERS):
        return None
    # In a third of the time that NumPy takes.
    packed = struct.pack(f"<{cut.size}d", *cut.parsed())
    return np.frombuffer(packed, "<f8").reshape(len(cut.first), -1)

"""Where the records of a save of version 1 stand, and what they hold.

Records that follow one another with the same types and sizes are a run, which is viewed as an array of
records. Where archetypes alternate, records are walked one by one on the guess that those which begin
alike are alike, and thousands of guesses are checked at a time. Where guesses fail, as for data of any
length, each record is walked to its end. So the cost is linear whatever the order.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pecs_np.ecs.arrays import strictly_increasing
from pecs_np.ecs.id_lookup import IdLookup
from pecs_np.ecs.ids import STABLE_ID, as_int
from pecs_np.errors import CorruptedDataError, InvalidFormatError
from pecs_np.persistence.binary.header import Header, type_id
from pecs_np.persistence.binary.pieces import (
    MOST_AT_ONCE,
    Bytes,
    Piece,
    Places,
    Run,
    Scatter,
    Shape,
    first_other,
    gathered,
    shape_of,
)
from pecs_np.persistence.binary.record_writer import COMPONENT_HEAD, ENTITY_HEAD, windows

__all__ = ["find_records"]

_COUNT = struct.Struct("<I").unpack_from
# component_count, and data_len of the first component.
_COUNT_AND_SIZE = struct.Struct("<I16xI").unpack_from
# Where, from byte 16 of a record on, component_count, type id and size of the first component end: what a
# guess goes by.
_KNOWN = 40
# Records that are not worth a comparison.
_SHORT = 16
# Those beyond this size, or of more components, are not either; NumPy has no items of 2 GiB.
_LARGEST = 1 << 20
_WIDEST = 64
# Guesses that reach few records before records are walked without; shapes to guess from; bytes at once.
_FAILED, _MOST_KNOWN, _STRETCH = 8, 1 << 12, 1 << 20
# Records to guess at first; bytes to look at for each.
_FIRST_REACH, _USUAL = 64, 1 << 10
# Records that are walked instead.
_FIRST_WALK, _LONGEST_WALK = 1 << 10, 1 << 16


def find_records(body: Bytes, header: Header, name: str) -> Iterator[Piece]:
    """Yield the records in the order of the file, those of one archetype together where they are not runs.

    Parameters
    ----------
    body : array of u1
        The save without its footer.
    header : Header
    name : str
        What messages call the save.

    Raises
    ------
    CorruptedDataError, InvalidFormatError
        If the body is not exactly the records that the header announces.
    """
    return _Records(body, header, name).pieces()


class _Records:
    """Finds the records of a save."""

    def __init__(self, body: Bytes, header: Header, name: str) -> None:
        self.body = body
        self._view: Any = memoryview(body)  # type: ignore[arg-type, unused-ignore]
        self.name = name
        self.end = len(body)
        self.start = header.end
        self.count = header.entity_count
        self.type_count = len(header.registry)
        self.index = {type_id(n): i for i, (n, _) in enumerate(header.registry)}
        if self.count * ENTITY_HEAD > self.end - self.start:
            raise CorruptedDataError(
                f"expected {self.count} entities, found {self.end - self.start} bytes in {name}",
                suggestion="the file was cut short: load a backup",
            )
        self._lookup: IdLookup | None = None
        self.at = self.start
        self.left = self.count
        # By how a record goes on after its id: how long it is, and what takes its start; its shape, and where
        # the starts go.
        self._known: dict[bytes, tuple[int, Callable[[int], None]]] = {}
        self._met: dict[bytes, tuple[Shape, list[int]]] = {}

    def pieces(self) -> Iterator[Piece]:
        """Yield the records in the order of the file, those of one archetype together where they are not runs."""
        guess, walk = MOST_AT_ONCE, _FIRST_WALK
        while self.left:
            run = self._run(guess)
            if run is not None and (run.count >= _SHORT or run.count == self.left):
                yield run
                self.at += run.count * run.shape.dtype.itemsize
                self.left -= run.count
                guess, walk = min(MOST_AT_ONCE, 2 * run.count), _FIRST_WALK
            else:
                yield from self._walked(walk)
                guess, walk = 2 * _SHORT, min(2 * walk, _LONGEST_WALK)
        if self.at != self.end:
            raise InvalidFormatError(
                f"expected the footer after {self.count} entities, found {self.end - self.at} bytes before it at"
                f" byte {self.at} of {self.name}"
            )

    def _shape_at(self, at: int) -> tuple[Shape | None, int]:
        """Return the shape of the record at byte *at*, None where it is too large for one, and where it ends."""
        count = self._u32(at + 16)
        if count > self.type_count:
            raise self._bad(f"at most {self.type_count} components", count, at)
        end = at + ENTITY_HEAD
        components = []
        for _ in range(count):
            size = self._u32(end + 16)
            key = self.body[end : end + 16].tobytes()
            if key not in self.index:
                raise self._bad("a type id of the registry", key[::-1].hex(), end)
            components.append((self.index[key], key, size))
            end += COMPONENT_HEAD + size
        if end > self.end:
            raise self._short(at)
        if end - at > _LARGEST or count > _WIDEST:
            return None, end
        shape = shape_of(tuple(components))
        if len(shape.types) < count:
            raise self._bad("each type once", "one twice", at)
        return shape, end

    def _walked(self, count: int) -> Iterator[Scatter]:
        """Yield the next *count* records, or all that are left."""
        stop = self.left - min(count, self.left)
        failed = 0
        reach = _FIRST_REACH
        while self.left > stop:
            before = self.left
            if failed < _FAILED:
                wanted = min(reach, before - stop)
                yield from self._guessed(wanted)
                found = before - self.left
                failed += found < _SHORT
                # What is guessed in vain costs no more than a few times what is found.
                reach = 4 * reach if found == wanted else max(_FIRST_REACH, 4 * found)
            else:
                yield from self._shaped(self._walk(before - stop))

    def _guessed(self, count: int) -> Iterator[Scatter]:
        """Yield some of the next *count* records, at least one: as many as begin like one that was met before."""
        first = self.at
        shape, end = self._shape_at(first)
        data = self.body[first : first + min(_STRETCH, count * _USUAL)].tobytes()
        if shape is None or end - first < _KNOWN:
            # Too large, or without components; the next guess fails likewise.
            yield from self._shaped(self._walk(1))
            return
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()
            self._met.clear()
        known = self._known
        key = data[16:_KNOWN]
        if key not in known or known[key][0] != end - first or self._met[key][0] is not shape:
            met: list[int] = []
            known[key], self._met[key] = (end - first, met.append), (shape, met)
        at = 0
        # As few steps as there can be: this is all that is done for each record. The bytes end with a KeyError.
        with contextlib.suppress(KeyError):
            for _ in range(count):
                size, add = known[data[at + 16 : at + _KNOWN]]
                add(at)
                at += size
        limit = min(at, self.end - first)
        found = []
        for like, met in self._met.values():
            if met:
                places = np.array(met, np.intp)
                met.clear()
                limit = min(limit, self._first_wrong(places + first, like) - first)
                found.append((places, like))
        yield from self._scattered(
            [(places[: np.searchsorted(places, limit)] + first, like) for places, like in found]
        )
        self.at = first + limit

    def _first_wrong(self, starts: Places, shape: Shape) -> int:
        """Return the first of *starts* where no record of that shape stands; far beyond the end if there is none."""
        whole = starts[: np.searchsorted(starts, self.end - shape.dtype.itemsize, "right")]
        wrong = int(starts[len(whole)]) if len(whole) < len(starts) else 2 * self.end
        for name, value in shape.same:
            here = windows(self.body, len(value))[whole + shape.dtype.fields[name][1]]  # type: ignore[index]
            if here.tobytes() != value * len(whole):
                other = np.flatnonzero(here != np.void(value))
                wrong = min(wrong, int(whole[other[0]]))
        return wrong

    def _scattered(self, found: list[tuple[Places, Shape]]) -> Iterator[Scatter]:
        """Yield records of known shapes, those of one archetype together and in order, and count them."""
        by_types: dict[tuple[int, ...], list[tuple[Places, Shape]]] = {}
        for starts, shape in found:
            if len(starts):
                self.left -= len(starts)
                by_types.setdefault(shape.types, []).append((starts, shape))
        for types, parts in by_types.items():
            starts = np.concatenate([starts for starts, _ in parts])
            pairs = [np.array(shape.data, np.intp).reshape(-1, 2).T[:, :, np.newaxis] for _, shape in parts]
            data = np.hstack([places[0] + here for (here, _), places in zip(parts, pairs, strict=True)])
            sizes = np.hstack(
                [
                    np.broadcast_to(places[1], (len(types), len(here)))
                    for (here, _), places in zip(parts, pairs, strict=True)
                ]
            )
            if len(parts) > 1:
                order = np.argsort(starts)
                starts, data, sizes = starts[order], data[:, order], sizes[:, order]
            yield Scatter(starts, types, data, sizes)

    def _run(self, guess: int) -> Run | None:
        """Return the run that begins here, looked for in steps of *guess* records; None where they are large."""
        body, at, left = self.body, self.at, self.left
        shape, offset = self._shape_at(at)
        if shape is None:
            return None
        most = min(left, (self.end - at) // (offset - at))
        records = np.frombuffer(body, shape.dtype, most, at)
        found = 1
        repeated: list[bytes] = []
        while found < most:
            block = records[found : found + guess]
            if not repeated or len(repeated[0]) != len(block) * len(shape.same[0][1]):
                repeated = [value * len(block) for _, value in shape.same]
            if not all(
                block[name].tobytes() == value for (name, _), value in zip(shape.same, repeated, strict=True)
            ):
                found += first_other(block, shape)
                break
            found += len(block)
            guess = min(2 * guess, MOST_AT_ONCE)
        return Run(at, found, shape)

    def _walk(self, count: int) -> Places:
        """Return where the next *count* records start, walking each of them, and go on behind them."""
        body = self._view
        both, size = _COUNT_AND_SIZE, _COUNT
        at = self.at
        starts = []
        try:
            for _ in range(count):
                starts.append(at)
                components, length = both(body, at + 16)
                if components:
                    at += ENTITY_HEAD + COMPONENT_HEAD + length
                    for _ in range(components - 1):
                        at += COMPONENT_HEAD + size(body, at + 16)[0]
                else:
                    at += ENTITY_HEAD
        except struct.error:
            # Perhaps a record without components at the end.
            if at + ENTITY_HEAD != self.end or self._u32(at + 16):
                raise self._short(starts[-1]) from None
            at = self.end
        if at > self.end:
            raise self._short(starts[-1])
        self.at = at
        self.left -= len(starts)
        return np.array(starts, np.intp)

    def _components(self, starts: Places, counts: Places) -> Places:
        """Return where each of the components of the records at *starts* begins, one record after the other."""
        most = int(counts.max())
        if most > _WIDEST:
            size = _COUNT
            walked: list[int] = []
            for at, count in zip((starts + ENTITY_HEAD).tolist(), counts.tolist(), strict=True):
                for _ in range(count):
                    walked.append(at)
                    at += COMPONENT_HEAD + size(self._view, at + 16)[0]  # noqa: PLW2901 - on to the next
            return np.array(walked, np.intp)
        firsts = np.cumsum(counts) - counts
        found = np.empty(int(counts.sum()), np.intp)
        ends = starts + ENTITY_HEAD
        active = np.arange(len(starts))
        for k in range(most):
            active = active[counts[active] > k]
            here = ends[active]
            found[firsts[active] + k] = here
            ends[active] = here + COMPONENT_HEAD + gathered(self.body, here + 16, "<u4")
        return found

    def _shaped(self, starts: Places) -> Iterator[Scatter]:
        """Yield the records that begin at *starts*, those of one archetype together."""
        counts = gathered(self.body, starts + 16, "<u4")
        if counts.max() > self.type_count:
            where = int(starts[counts.argmax()])
            raise self._bad(f"at most {self.type_count} components", int(counts.max()), where)
        components = self._components(starts, counts)
        stops = np.cumsum(counts)
        firsts = stops - counts
        types = self._types(components)
        sizes = gathered(self.body, components + 16, "<u4")
        places = components + COMPONENT_HEAD
        # Components in the order of the registry.
        record = np.repeat(np.arange(len(starts)), counts)
        key = record * max(self.type_count, 1) + types
        if not strictly_increasing(key):
            order = np.argsort(key, kind="stable")
            key, types, places, sizes = key[order], types[order], places[order], sizes[order]
            if (again := np.flatnonzero(key[1:] == key[:-1])).size:
                raise self._bad("each type once", "one twice", int(starts[record[again[0]]]))
        # One slice for each record: linear, however many components the largest of them has.
        raw = types.astype("<u4").tobytes()
        groups: dict[bytes, list[int]] = {}
        for row, (first, stop) in enumerate(zip((4 * firsts).tolist(), (4 * stops).tolist(), strict=True)):
            groups.setdefault(raw[first:stop], []).append(row)
        for indices, members in groups.items():
            rows = np.array(members, np.intp)
            own = np.frombuffer(indices, "<u4")
            slots = firsts[rows] + np.arange(len(own))[:, np.newaxis]
            yield Scatter(starts[rows], tuple(own.tolist()), places[slots], sizes[slots])

    def _types(self, places: Places) -> Places:
        """Return the place in the registry of the type ids that stand at *places*."""
        if self._lookup is None:
            ids = np.frombuffer(b"".join(self.index), STABLE_ID) if self.index else np.empty(0, STABLE_ID)
            self._lookup = IdLookup(ids)
        ids = gathered(self.body, places, "V16").view(STABLE_ID)
        found = self._lookup.find(ids)
        if (found < 0).any():
            first = int((found < 0).argmax())
            raise self._bad("a type id of the registry", f"{as_int(ids[first]):032x}", int(places[first]))
        return found

    def _u32(self, at: int) -> int:
        try:
            return int(_COUNT(self._view, at)[0])
        except struct.error:
            raise self._short(at) from None

    def _bad(self, expected: str, found: object, at: int) -> InvalidFormatError:
        return InvalidFormatError(f"expected {expected}, found {found} at byte {at} of {self.name}")

    def _short(self, at: int) -> CorruptedDataError:
        return CorruptedDataError(
            f"expected {self.count} whole entities, found that the one at byte {at} goes beyond the end at byte"
            f" {self.end} of {self.name}",
            suggestion="load a backup",
        )

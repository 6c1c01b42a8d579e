"""`EntityId` and `StableId`, and the books a world keeps: who is alive, and where.

An entity id is ``generation << 32 | index``; the index is a slot of the books. Slot 0 is never used, so that 0 means "no entity". The
books are arrays indexed by slot that start as zeros, which cost nothing until they are written.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Self
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array, resized
from pecs_np.ecs.dtypes import EntityRef
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn, as_int, as_record
from pecs_np.errors import DuplicateEntityError, WorldError
from pecs_np.messages import shown

__all__ = ["Entities", "EntityId", "StableId", "StableIdSource", "as_stable_ids"]

_SLOT = (1 << 32) - 1
_SLOTS = np.uint64(_SLOT)
_MOST_SLOTS = 1 << 32
_AWAITED = -2
# So many places are noted one by one quicker than together.
_FEW = 8
_COVERING = threading.Lock()


# Slot 0 of new books, and no free slots: shared, because nothing is ever written to them.
_EMPTY_BOOKS = (
    np.zeros(1, np.uint32),
    np.zeros(1, np.int32),
    np.zeros(1, np.int64),
    np.empty(0, np.uint32),
)
for _array in _EMPTY_BOOKS:
    _array.flags.writeable = False


_EMPTY_VIEWS = _EMPTY_BOOKS[2].data, _EMPTY_BOOKS[1].data, _EMPTY_BOOKS[0].data


class EntityId(EntityRef):
    """An entity in one world: an int, ``generation << 32 | index``. 0 is "no entity".

    Examples
    --------
    >>> e = EntityId(3 << 32 | 7)
    >>> e, e.index, e.generation
    (EntityId(7v3), 7, 3)
    """

    __slots__ = ()

    @property
    def index(self) -> int:
        """The place in the world's books; reused after the entity is despawned."""
        return self & _SLOT

    @property
    def generation(self) -> int:
        """How often the slot had been used before."""
        return self >> 32

    def __repr__(self) -> str:
        return f"EntityId({self.index}v{self.generation})"


class StableId(int):
    """An entity's identity across worlds, saves and programs: an int of 128 bits, never 0.

    Examples
    --------
    >>> s = StableId.from_hex("0123456789abcdef0123456789abcdef")
    >>> s == StableId.from_uuid(s.uuid) == StableId(int(s))
    True
    >>> s
    StableId('0123456789abcdef0123456789abcdef')
    """

    __slots__ = ()

    def __new__(cls, value: Any) -> Self:
        """Return the stable id of an integer or of an element of a ``STABLE_ID`` array; 0 means "no entity"."""
        if isinstance(value, np.void) and value.dtype == STABLE_ID:
            value = as_int(value)
        if not isinstance(value, int | np.integer) or not 0 <= int(value) < 1 << 128:
            raise WorldError(
                f"expected a stable id of 128 bits, found {value!r:.80}",
                suggestion="use StableId.from_uuid or StableId.from_hex for other forms",
            )
        return super().__new__(cls, value)

    @classmethod
    def from_uuid(cls, value: UUID) -> Self:
        """Return the stable id with the 128 bits of a UUID."""
        if not isinstance(value, UUID):
            raise WorldError(f"expected a UUID, found {shown(value)}")
        return cls(value.int)

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Return the stable id written as 32 hex digits, hyphens allowed."""
        digits = text.replace("-", "") if isinstance(text, str) else ""
        if len(digits) != 32 or not set(digits.lower()) <= set("0123456789abcdef"):
            raise WorldError(f"expected 32 hex digits, found {text!r:.80}")
        return cls(int(digits, 16))

    @property
    def uuid(self) -> UUID:
        """The same 128 bits as a UUID."""
        return UUID(int=int(self))

    @property
    def hex(self) -> str:
        """The id as 32 hex digits."""
        return f"{int(self):032x}"

    def __repr__(self) -> str:
        return f"StableId('{self.hex}')"


def as_stable_ids(values: Any) -> Array:
    """Return stable ids, given as a ``STABLE_ID`` array or integers, as a ``STABLE_ID`` array."""
    if isinstance(values, np.ndarray) and values.dtype == STABLE_ID and values.ndim == 1:
        return values
    if isinstance(values, np.ndarray) and values.dtype.kind not in "iuO":
        raise WorldError(f"expected stable ids, found an array of {values.dtype}")
    if not isinstance(values, list | tuple) and not (isinstance(values, np.ndarray) and values.ndim == 1):
        raise WorldError(f"expected an array or a list of stable ids, found {shown(values)}")
    ids = np.empty(len(values), STABLE_ID)
    ids[:] = [as_record(StableId(value)) for value in values]
    return ids


class Entities:
    """Allocates entity ids and knows the table and row of each; recycles slots under a new generation.

    The arrays follow on demand: a slot beyond their end that was handed out is alive in generation 0.

    Attributes
    ----------
    generations : ndarray of uint32
        By slot.
    tables : ndarray of int32
        By slot, the table's number; -1 where the slot is free, -2 where its entity is awaited.
    rows : ndarray of int64
    generation_of, table_of, row_of : memoryview
        The same three, for one slot at a time.
    end : int
        The first slot that was never used.
    """

    __slots__ = (
        "_free",
        "_free_count",
        "end",
        "generation_of",
        "generations",
        "row_of",
        "rows",
        "table_of",
        "tables",
    )

    def __init__(self, capacity: int = 0) -> None:
        self.end = 1
        self.generations, self.tables, self.rows, self._free = _EMPTY_BOOKS
        self.row_of, self.table_of, self.generation_of = _EMPTY_VIEWS
        self._free_count = 0
        if capacity:
            size = capacity + 1
            self._open(np.zeros(size, np.int64), np.zeros(size, np.int32), np.zeros(size, np.uint32))

    def _open(self, rows: Array, tables: Array, generations: Array) -> None:
        """Go on with these arrays; that which tells the length comes last: other threads may be looking."""
        self.rows, self.tables = rows, tables
        self.row_of, self.table_of, self.generation_of = rows.data, tables.data, generations.data
        self.generations = generations

    @classmethod
    def holding(cls, columns: list[IdColumn]) -> Entities:
        """Return new books in which exactly the ids of *columns* are alive.

        Raises
        ------
        DuplicateEntityError
            If two ids have the same slot.
        """
        books = cls()
        end = 1
        for column in columns:
            if column.runs is None or len(column.runs) != 1 or column.runs[0][0] != end:
                break
            end += column.size
        else:
            # Numbered from 1, as a reader does.
            books.end = end
            return books
        ids = np.concatenate([np.empty(0, ENTITY_ID), *[column.array() for column in columns]])
        slots = (ids & _SLOTS).astype(np.int64)
        if 0 in slots:
            raise DuplicateEntityError("expected entity ids of distinct slots above 0, found slot 0")
        books.end = int(slots.max(initial=0)) + 1
        if books.end == 1:
            return books
        books._cover()
        books.tables[1:] = -1
        books.tables[slots] = 0
        books.generations[slots] = ids >> np.uint64(32)
        books._free = (np.flatnonzero(books.tables[1 : books.end] < 0) + 1)[::-1].astype(np.uint32)
        books._free_count = len(books._free)
        if books.end - 1 - books._free_count != len(ids):
            raise DuplicateEntityError("expected entity ids of distinct slots above 0, found one twice")
        return books

    def allocate(self, count: int) -> IdColumn:
        """Return *count* new ids, recycled slots first."""
        reused = min(count, self._free_count)
        fresh = count - reused
        first = self._take_fresh(fresh)
        if not reused:
            return IdColumn(ENTITY_ID, [(first, count)] if count else ())
        self._free_count -= reused
        slots = self._free[self._free_count : self._free_count + reused][::-1].astype(np.int64)
        self.tables[slots] = 0
        ids = np.empty(count, ENTITY_ID)
        ids[:reused] = slots
        ids[:reused] |= self.generations[slots].astype(np.uint64) << np.uint64(32)
        ids[reused:] = np.arange(first, first + fresh, dtype=np.uint64)
        return IdColumn(ENTITY_ID, array=ids)

    def allocate_one(self) -> int:
        """Return one new id."""
        if not self._free_count:
            first = self.end
            if first == _MOST_SLOTS:
                return self._take_fresh(1)  # says that it is too many
            self.end = first + 1
            return first
        self._free_count -= 1
        slot = int(self._free[self._free_count])
        self.table_of[slot] = 0
        return self.generation_of[slot] << 32 | slot

    def _take_fresh(self, count: int) -> int:
        """Return the first of *count* slots that were never used."""
        first = self.end
        if first + count > _MOST_SLOTS:
            raise WorldError(f"expected at most {_MOST_SLOTS - 1} entities, found {first + count - 1}")
        self.end = first + count
        return first

    def release(self, ids: Array) -> None:
        """Free the slots of live, distinct *ids*; a slot whose generations are used up is retired."""
        if not len(ids):
            return
        self._cover()
        slots = (ids & _SLOTS).astype(np.int64)
        self.tables[slots] = -1
        self.generations[slots] += np.uint32(1)
        slots = slots[self.generations[slots] != 0]
        stop = self._free_count + len(slots)
        if stop > len(self._free):
            self._free = resized(self._free, self._free_count, stop + stop // 2)
        self._free[self._free_count : stop] = slots
        self._free_count = stop

    def release_one(self, entity: int) -> None:
        """Free the slot of one entity that has a place."""
        slot = entity & _SLOT
        self.table_of[slot] = -1
        generation = (self.generation_of[slot] + 1) & _SLOT
        self.generation_of[slot] = generation
        if generation:
            if self._free_count == len(self._free):
                self._free = resized(self._free, self._free_count, self._free_count * 3 // 2 + 1)
            self._free[self._free_count] = slot
            self._free_count += 1

    def set_aside(self, ids: NDArray[np.uint64]) -> None:
        """Make *ids*, just allocated or alive, those of entities that are awaited."""
        self._cover()
        self.tables[(ids & _SLOTS).astype(np.int64)] = _AWAITED

    def bring(self, ids: NDArray[np.uint64]) -> None:
        """Make awaited *ids* alive."""
        self.tables[(ids & _SLOTS).astype(np.int64)] = 0

    def awaits(self, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Tell which of *ids*, u64 of any shape, are set aside for entities to come."""
        awaited: NDArray[np.bool_] = self._tables_of(ids) == _AWAITED
        return awaited

    def alive(self, ids: Array) -> NDArray[np.bool_]:
        """Tell which of *ids*, u64 of any shape, are alive."""
        alive: NDArray[np.bool_] = self._tables_of(ids) >= 0
        return alive

    def _tables_of(self, ids: Array) -> NDArray[np.int32]:
        """Return the table number of each of *ids*, -2 where it is awaited, -1 where it is none of this world."""
        self._cover()
        slots = (ids & _SLOTS).astype(np.int64)
        known = (slots < self.end) & (slots > 0)
        slots = np.where(known, slots, 0)
        known &= self.generations[slots] == ids >> np.uint64(32)
        return np.where(known, self.tables[slots], np.int32(-1))

    def is_alive(self, entity: int) -> bool:
        """Tell whether one entity is alive."""
        slot = entity & _SLOT
        if not 0 < slot < self.end:
            return False
        if slot >= len(self.generations):
            return entity >> 32 == 0
        return int(self.generations[slot]) == entity >> 32 and bool(self.tables[slot] >= 0)

    def place(self, column: IdColumn, table: int, start: int) -> None:
        """Note that the ids of *column* from row *start* on stand in that row of *table*."""
        stop = column.size
        if start == stop:
            return
        self._cover()
        if stop - start <= _FEW:
            for row in range(start, stop):
                slot = column.one(row) & _SLOT
                self.table_of[slot] = table
                self.row_of[slot] = row
            return
        runs = column.runs
        if runs is not None and len(runs) == 1 and runs[0][0] + runs[0][1] <= _SLOT:
            first = runs[0][0]
            slots: Any = slice(first + start, first + stop)
        else:
            slots = (column.array()[start:] & _SLOTS).astype(np.int64)
        self.tables[slots] = table
        self.rows[slots] = np.arange(start, stop)

    def _cover(self) -> None:
        """Make the arrays long enough for every slot handed out."""
        if self.end <= len(self.generations):
            return
        with _COVERING:  # several threads may look up entities at once
            length = len(self.generations)
            if self.end <= length:
                return
            capacity = min(self.end + (self.end // 2 if length > 1 else 0), _MOST_SLOTS)
            books = []
            for old in (self.rows, self.tables, self.generations):
                book = np.zeros(capacity, old.dtype)
                book[:length] = old
                books.append(book)
            self._open(*books)


class StableIdSource:
    """Makes new stable ids: a random high half for the world, and a counting low half.

    Parameters
    ----------
    seed : int, optional
        Makes the ids reproducible; saves then carry the state, so that a restarted run continues.

    Attributes
    ----------
    high : int
        0 until the first id is asked for, where there is no seed.
    next : int
    """

    __slots__ = ("high", "next", "seeded")

    def __init__(self, seed: int | None = None) -> None:
        self.seeded = seed is not None
        self.high = 0
        self.next = 0
        if seed is not None:
            self.high = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]) or 1

    def take(self, count: int) -> int:
        """Return the first of *count* new consecutive ids."""
        if not self.high:
            self.high = int.from_bytes(os.urandom(8), "little") or 1
        if self.next + count > 1 << 64:
            self._turn_over()
        first = self.high << 64 | self.next
        self.next += count
        return first

    def avoid(self, column: IdColumn) -> None:
        """Never make the ids of *column*, which came from elsewhere."""
        if column.runs is not None:
            last = [as_record(first + count - 1) for first, count in column.runs]
            lows = [low for low, high in last if high == self.high]
        else:
            ids = column.array()
            own = ids["lo"][ids["hi"] == self.high]
            lows = [int(own.max())] if len(own) else []
        self.next = max(self.next, 1 + max(lows, default=-1))
        if self.next == 1 << 64:
            self._turn_over()

    def _turn_over(self) -> None:
        """Go on with another high half: somebody chose an id near the end of this one."""
        self.high = (self.high + 0x9E3779B97F4A7C15) % (1 << 64) or 1
        self.next = 0

"""Batches in Redis: taken in at once, or, where that would keep the server from others, in two steps.

A large batch is first written beside the entities, a few thousand in a command, where nobody reads it. One
short transaction then enters it in a list: from there on it is saved. Then it is moved to its place, part by
part. Who finds something in the list moves it before anything else, whoever wrote it: so a program that dies
leaves all of a batch or nothing, and nobody sees a part. A batch that never came into the list is forgotten
by the server after a day.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pecs_np.persistence.stores.records import Records
from pecs_np.persistence.stores.redis_talk import command, head, pairs, said, said_in_turn, said_together
from pecs_np.persistence.stores.server import parts

__all__ = ["STEP", "Batches"]

# Keys of a command. More of them are not faster, and the server does nothing else meanwhile.
STEP = 4096
# Commands with records up to which a batch is taken in at once, by which the server is busy for some 0.1 s.
_AT_ONCE = 32
# How often a reading that changes interrupt is begun again before others have to wait for it.
_ATTEMPTS = 3
_DAY = b"86400"

# Moves the records of a part to their place; the second time it does nothing. A call takes some thousand words.
_MOVE = b"""
local words = redis.call('HGETALL', KEYS[1])
for i = 1, #words, 4000 do
    redis.call('HSET', KEYS[2], unpack(words, i, math.min(i + 3999, #words)))
end
return redis.call('DEL', KEYS[1])
"""


class Batches:
    """Reads and changes the entities of a store as a whole.

    Parameters
    ----------
    prefix : bytes
        What the names of keys begin with.
    """

    def __init__(self, prefix: bytes) -> None:
        self.entities = prefix + b":entities"
        self.changes = prefix + b":changes"
        # Batches that are saved and not yet in their place, as <name>:<number of parts>.
        self.pending = prefix + b":pending"
        self._prefix = prefix + b":batch:"

    def steady(self, pool: Any, commands: Sequence[bytes]) -> list[Any]:
        """Return what *commands*, which only read, say of one state of the store."""
        number, pending = command(b"GET", self.changes), command(b"EXISTS", self.pending)
        left = _ATTEMPTS if len(commands) > 1 else 0
        while True:
            if left:
                left -= 1
                before, waiting, *answers, after = said_in_turn(pool, [number, pending, *commands, number])
                if before != after:
                    continue
            else:
                waiting, *answers = said_together(pool, [pending, *commands], len(commands) + 1) or [1]
            if not waiting:
                return answers
            self.finish(pool)

    def scanned(self, pool: Any, scan: Callable[[], Iterable[list[bytes]]]) -> list[list[bytes]]:
        """Return all keys, each once, as *scan* gives them in a state that did not change meanwhile."""
        number, pending = command(b"GET", self.changes), command(b"EXISTS", self.pending)
        for _ in range(_ATTEMPTS):
            before, waiting = said(pool, [number, pending], 2)
            if waiting:
                self.finish(pool)
                continue
            found = dict.fromkeys(itertools.chain.from_iterable(scan()))
            if said(pool, [number], 1) == [before]:
                return [list(found)]
        return self.steady(pool, [command(b"HKEYS", self.entities)])

    def changed(self, pool: Any, commands: Callable[[], Iterable[Any]], replies: int) -> list[Any]:
        """Return what *commands*, carried out together, say."""
        while True:
            made = itertools.chain(commands(), [command(b"INCR", self.changes)])
            answers = said_together(pool, made, replies + 1, unless=self.pending)
            if answers is not None:
                return answers[:-1]
            self.finish(pool)

    def write(self, pool: Any, first: list[bytes], batch: Sequence[Records]) -> None:
        """Carry out *first* and hold the records of *batch*, all or nothing."""
        ranges = [(records, *rows) for records in batch for rows in _ranges(records)]

        def commands() -> Iterator[Any]:
            yield from first
            for records, start, stop in ranges:
                yield head(2 * (stop - start), b"HSET", self.entities)
                yield pairs(records, start, stop)

        if len(ranges) <= _AT_ONCE:
            self.changed(pool, commands, len(first) + len(ranges))
            return
        name = secrets.token_hex(8).encode()
        places = self._places(name, len(ranges))

        def aside() -> Iterator[Any]:
            for place, (records, start, stop) in zip(places, ranges, strict=True):
                # Together, so that nothing can be left that stays for ever.
                yield command(b"MULTI") + head(2 * (stop - start), b"HSET", place)
                yield pairs(records, start, stop)
                yield command(b"EXPIRE", place, _DAY) + command(b"EXEC")

        try:
            said(pool, aside(), 4 * len(ranges))
        except Exception:
            with contextlib.suppress(Exception):
                said(pool, [command(b"UNLINK", *places)], 1)
            raise
        entry = command(b"RPUSH", self.pending, b"%b:%d" % (name, len(ranges)))
        kept = [command(b"PERSIST", place) for place in places]
        made = [*first, *kept, entry, command(b"INCR", self.changes)]
        said_together(pool, made, len(made))
        self.finish(pool)

    def finish(self, pool: Any) -> None:
        """Move what is saved to its place, in the order of saving."""
        (entries,) = said(pool, [command(b"LRANGE", self.pending, b"0", b"-1")], 1)
        for entry in entries:
            name, _, count = entry.partition(b":")
            for place in self._places(name, int(count)):
                said(pool, [command(b"EVAL", _MOVE, b"2", place, self.entities)], 1)
            said(pool, [command(b"LREM", self.pending, b"1", entry)], 1)

    def _places(self, name: bytes, count: int) -> list[bytes]:
        return [b"%b%b:%d" % (self._prefix, name, i) for i in range(count)]


def _ranges(records: Records) -> list[tuple[int, int]]:
    """Return which rows of *records* go into one command each."""
    return [
        (row, min(row + STEP, stop)) for start, stop in parts(records) for row in range(start, stop, STEP)
    ]

"""Queries: the tables that hold the wanted types, one chunk of live columns each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pecs_np.ecs.arrays import read_only
from pecs_np.ecs.components import Component
from pecs_np.errors import StructuralChangeError

if TYPE_CHECKING:
    from pecs_np.ecs.storage import Storage
    from pecs_np.ecs.tables import Table

__all__ = ["Query"]

T_co = TypeVar("T_co", covariant=True)


class Query(Generic[T_co]):
    """What ``world.query(...)`` returns: iterate it for chunks, one for each table that matches.

    A chunk is a tuple of columns, one for each type asked for; with a single type it is that column
    itself. Columns are live: ``pos.x += vel.x * dt`` changes the world. Tables come in the order of
    their type names, and empty ones are left out, so that a world that was saved and loaded iterates
    as the original does. Each method returns a new query.

    Raises
    ------
    StructuralChangeError
        If entities or components were added or removed during the iteration, as a ``dict`` does.

    Examples
    --------
    >>> import numpy as np
    >>> from pecs_np import World, component
    >>> @component
    ... class Position:
    ...     x: np.float32 = 0.0
    ...     y: np.float32 = 0.0
    >>> world = World()
    >>> ids = world.spawn_batch(Position(x=[1, 2, 3], y=0))
    >>> for entities, position in world.query(Position).entities():
    ...     position.x *= 2
    ...     print(entities, position.x)
    [1 2 3] [2. 4. 6.]
    """

    __slots__ = ("_chunks", "_key", "_storage")

    def __init__(self, storage: Storage, key: tuple[Any, ...]) -> None:
        self._storage = storage
        # (types asked for, with, without, optional, whether ids come first): also the key of caches
        self._key = key
        # None before the first iteration, and after each structural change.
        self._chunks: list[Any] | None = None

    def with_(self, *types: type[Component] | str) -> Query[T_co]:
        """Keep only tables that also have *types*, without yielding them."""
        wanted, with_, without, optional, ids = self._key
        return self._with_key((wanted, with_ + self._storage.names(types), without, optional, ids))

    def without(self, *types: type[Component] | str) -> Query[T_co]:
        """Leave out tables that have any of *types*."""
        wanted, with_, without, optional, ids = self._key
        return self._with_key((wanted, with_, without + self._storage.names(types), optional, ids))

    def optional(self, *types: type[Component] | str) -> Query[Any]:
        """Yield the columns of *types* too, last, or None where a table lacks them."""
        self._storage.names(types)
        wanted, with_, without, optional, ids = self._key
        return self._with_key((wanted, with_, without, optional + types, ids))

    def entities(self) -> Query[Any]:
        """Yield the entity ids, u64 of shape (n,), first in each chunk."""
        return self._with_key((*self._key[:4], True))

    def count(self) -> int:
        """Return how many entities match."""
        return sum(table.size for table in self._tables())

    def __iter__(self) -> Iterator[T_co]:
        chunks = self._chunks
        if chunks is None:
            chunks = self._collected()
        for chunk in chunks:
            yield chunk
            if self._chunks is not chunks:
                raise StructuralChangeError(
                    "entities or components were added or removed while a query iterated",
                    suggestion="collect the changes in world.commands() and apply them after the loop",
                )

    def __repr__(self) -> str:
        wanted, with_, without, optional, ids = self._key
        parts = [f"query({', '.join(self._storage.names(wanted))})"]
        parts += [f"with_({', '.join(with_)})"] if with_ else []
        parts += [f"without({', '.join(without)})"] if without else []
        parts += [f"optional({', '.join(self._storage.names(optional))})"] if optional else []
        parts += ["entities()"] if ids else []
        return f"<{'.'.join(parts)}: {self.count()} entities>"

    def forget(self) -> None:
        """Let go of the columns: they are no longer the world's."""
        self._chunks = None

    def _with_key(self, key: tuple[Any, ...]) -> Query[Any]:
        """Return the query of another key, the same one each time, which knows its chunks."""
        queries = self._storage.queries
        query: Query[Any] | None = queries.get(key)
        if query is None:
            query = queries[key] = Query(self._storage, key)
        return query

    def _collected(self) -> list[Any]:
        with self._storage.unchanged():
            if self._chunks is None:  # else another thread has collected them meanwhile
                self._chunks = [self._chunk(table) for table in self._tables()]
                self._storage.iterated.append(self)
            return self._chunks

    def _tables(self) -> list[Table]:
        storage = self._storage
        matching = storage.matches.get(self._key)
        if matching is None:
            wanted, with_, without, _, _ = self._key
            needed = {*storage.names(wanted), *with_}
            matching = storage.matches[self._key] = [
                table
                for table in storage.sorted_tables()
                if needed <= table.columns.keys() and not table.columns.keys() & set(without)
            ]
        return [table for table in matching if table.size]

    def _chunk(self, table: Table) -> Any:
        wanted, _, _, optional, ids = self._key
        # A copy of the ids, because they are often kept; columns are live until the next structural change.
        parts: list[Any] = [read_only(table.entities.array().copy())] if ids else []
        for asked in wanted + optional:
            name, cls = self._storage.resolve(asked)
            parts.append(cls._wrap(table.column(name)) if name in table.columns else None)
        return parts[0] if len(parts) == 1 else tuple(parts)

"""A store in memory, for tests and caches."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Self

from pecs_np.errors import PersistenceError
from pecs_np.messages import shown
from pecs_np.persistence.stores.records import Records
from pecs_np.persistence.stores.store import EntityStore

__all__ = ["KeyValueEntityPlugin"]


class KeyValueEntityPlugin(EntityStore):
    """Saves entities in a dict, as the bytes that other stores hold too.

    Examples
    --------
    >>> import numpy as np
    >>> from pecs_np import World, component
    >>> @component
    ... class Purse:
    ...     gold: np.uint32
    >>> world, store = World(), KeyValueEntityPlugin()
    >>> player = world.spawn(Purse(gold=7))
    >>> store.save_entity(world, player)
    >>> other = World()
    >>> back = store.load_entity(other, world.get_stable_id(player))
    >>> other.get(back, Purse)
    Purse(gold=7)
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._records: dict[bytes, bytes] = {}
        self._documents: dict[bytes, bytes] = {}

    @classmethod
    def with_capacity(cls, capacity: int) -> Self:
        """Return an empty store for about *capacity* entities; a dict grows by itself."""
        if type(capacity) is not int or capacity < 0:
            raise PersistenceError(f"expected a capacity from 0, found {shown(capacity)}")
        return cls()

    def backend_name(self) -> str:
        """Return ``"memory"``."""
        return "memory"

    def write(self, batch: Sequence[Records]) -> None:
        """Hold the records of *batch*."""
        made = [(records.layout, records.keys(), records.values()) for records in batch]
        for layout, keys, values in made:
            self._documents[layout.id] = layout.document
            self._records.update(zip(keys, values, strict=True))

    def read(self, keys: list[bytes]) -> Sequence[bytes | None]:
        """Return the record under each of *keys*, None where there is none."""
        return list(map(self._records.get, keys))

    def remove(self, keys: list[bytes]) -> int:
        """Forget the records under *keys*, and return how many there were."""
        return sum(self._records.pop(key, None) is not None for key in keys)

    def keys(self) -> Iterator[Collection[bytes]]:
        """Give all keys."""
        yield list(self._records)

    def count(self) -> int:
        """Return how many records there are."""
        return len(self._records)

    def read_layouts(self, ids: Collection[bytes]) -> Mapping[bytes, bytes]:
        """Return the documents of layouts."""
        return {layout_id: self._documents[layout_id] for layout_id in ids if layout_id in self._documents}

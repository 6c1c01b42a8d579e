"""How much a save may ask for before it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Self

from pecs_np.ecs.dtypes import MOST_BYTES
from pecs_np.errors import LimitExceededError, PersistenceError
from pecs_np.messages import shown

__all__ = ["Limits", "too_little_memory", "within_memory"]


@contextmanager
def within_memory(name: str) -> Iterator[None]:
    """Turn a MemoryError of the block, which reads what is called *name*, into an error of the library."""
    try:
        yield
    except MemoryError:
        raise too_little_memory(name) from None


def too_little_memory(name: str) -> LimitExceededError:
    """Return the error for a save that is sound as far as it was read, but too large for this machine."""
    return LimitExceededError(
        f"expected memory for {name}, found too little", suggestion="close other programs"
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what a reader allocates for a save, checked before it does.

    Attributes
    ----------
    head_size : int
        Bytes before the first section; of version 1, before the first entity.
    types, sections : int
        How many. A table of version 1 counts as a section, and each of its columns.
    name_length : int
        Bytes of the name of a component type; the format allows 1024.
    schema_size : int
        Bytes of the schema document.
    itemsize : int
        Bytes of one row of one component.
    total_size : int
        Bytes of all sections, unpacked.
    ratio : int
        How many times larger than the file the sections may be unpacked; of a stream, than what of it
        has come.
    free_size : int
        Bytes that all sections may have unpacked however small the file is. Ids that stay packed in
        memory, as those of freshly spawned entities do, may have 16 times as many.

    Examples
    --------
    >>> Limits(types=100).types
    100
    >>> Limits.strict().total_size
    268435456
    """

    head_size: int = 64 << 20
    types: int = 1 << 16
    sections: int = 1 << 20
    name_length: int = 1024
    schema_size: int = 32 << 20
    itemsize: int = MOST_BYTES
    total_size: int = 1 << 40
    ratio: int = 1000
    free_size: int = 1 << 30

    def __post_init__(self) -> None:
        for member in fields(self):
            value = getattr(self, member.name)
            if type(value) is not int or value < 0:
                raise PersistenceError(f"expected a number from 0 for {member.name}, found {shown(value)}")

    @classmethod
    def of(cls, limits: Self | None) -> Self:
        """Return *limits*, or the usual ones for None.

        Raises
        ------
        PersistenceError
            If it is anything else.
        """
        if limits is None:
            return cls()
        if not isinstance(limits, cls):
            raise PersistenceError(f"expected Limits, found {shown(limits)}")
        return limits

    @classmethod
    def strict(cls) -> Self:
        """Return limits for saves from strangers: what they ask for fits a small server."""
        return cls(
            head_size=1 << 20,
            types=1 << 10,
            sections=1 << 13,
            name_length=256,
            schema_size=1 << 18,
            itemsize=1 << 16,
            total_size=1 << 28,
            ratio=100,
            free_size=1 << 24,
        )

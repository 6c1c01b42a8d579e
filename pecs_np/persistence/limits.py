"""How much a save may ask for before it is refused."""

from __future__ import annotations

from dataclasses import dataclass

from pecs_np.ecs.dtypes import MOST_BYTES

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what a reader allocates for a save, checked before it does.

    Attributes
    ----------
    head_size : int
        Bytes before the first section.
    types, sections : int
        How many.
    schema_size : int
        Bytes of the schema document.
    itemsize : int
        Bytes of one row of one component.
    total_size : int
        Bytes of all sections, unpacked.
    ratio : int
        How many times larger than the file the sections may be unpacked. 1 GiB is always allowed, and
        16 GiB of ids that stay packed in memory, as those of freshly spawned entities do.

    Examples
    --------
    >>> Limits(types=100).types
    100
    """

    head_size: int = 64 << 20
    types: int = 1 << 16
    sections: int = 1 << 20
    schema_size: int = 32 << 20
    itemsize: int = MOST_BYTES
    total_size: int = 1 << 40
    ratio: int = 1000

"""Changes as records of a log, and back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from pecs_np.ecs.changes import ChangeSet
from pecs_np.errors import WorldError
from pecs_np.messages import shown
from pecs_np.persistence.binary.delta_reader import decode_delta
from pecs_np.persistence.binary.delta_writer import encode_delta
from pecs_np.persistence.compression import Packing
from pecs_np.persistence.limits import Limits, within_memory
from pecs_np.persistence.log.framing import DELTA, NOTHING, SKIPPABLE
from pecs_np.persistence.log.reading import Record

__all__ = ["LoggedChanges", "changes_of", "payload_of"]


@dataclass(slots=True, eq=False, repr=False)
class LoggedChanges(ChangeSet):
    """A `ChangeSet` as a log tells it; only the new values are known.

    Attributes
    ----------
    sequence : int
        Its number in the log.
    """

    sequence: int = 0


_MEMBERS = [f.name for f in fields(ChangeSet)]


def payload_of(changes: Any, packing: Packing | None) -> tuple[int, float, Any]:
    """Return the type, the time and the payload of the record of *changes*.

    Raises
    ------
    WorldError
        If it is no `ChangeSet`, or has no time.
    ComponentValueError
        If a column holds what could not be read again.
    """
    if not isinstance(changes, ChangeSet):
        raise WorldError(f"expected a ChangeSet, found {shown(changes)}", suggestion="call tracker.take()")
    time = changes.timestamp
    if not isinstance(time, int | float) or not math.isfinite(time):
        raise WorldError(f"expected changes of a time in seconds since 1970, found {shown(time)}")
    changes = _persistent(changes)
    if not changes:
        return NOTHING, float(time), ()
    return DELTA, float(time), encode_delta(changes, packing=packing)


def _persistent(changes: ChangeSet) -> ChangeSet:
    """Return *changes* without transient components, which saves do not hold either."""
    transient = {t.name for t in (*changes.types, *changes.lost) if t.transient}
    if not transient:
        return changes
    names = {t.name for t in changes.types} | set(changes.removed)
    kept = changes.filtered(types=names - transient)
    resources = None if kept.world is None else kept.world.resources
    if kept.world is None or resources is None or not transient.intersection(resources.names):
        return kept
    lasting = set(resources.names) - transient
    return replace(kept, world=replace(kept.world, resources=resources.keep(lasting) if lasting else None))


def changes_of(records: Iterator[Record], limits: Limits) -> Iterator[LoggedChanges]:
    """Give the changes that records hold."""
    for record in records:
        head = record.head
        if head.kind & SKIPPABLE:
            continue
        changes = ChangeSet()
        if head.kind == DELTA:
            with within_memory(record.where):
                changes, _, _ = decode_delta(record.payload, record.where, limits)
        members: dict[str, Any] = {name: getattr(changes, name) for name in _MEMBERS}
        members["timestamp"] = head.time
        yield LoggedChanges(**members, sequence=head.sequence)

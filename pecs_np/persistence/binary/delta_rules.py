"""What holds of the ids of every delta, whoever wrote it: no entity has two fates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pecs_np.ecs.arrays import Array, strictly_increasing
from pecs_np.ecs.changes import ChangeSet, ChangeTable, no_ids
from pecs_np.ecs.id_lookup import IdLookup, find_duplicate
from pecs_np.ecs.ids import STABLE_ID, IdColumn, as_int
from pecs_np.errors import PecsError

__all__ = ["check_ids"]


def check_ids(changes: ChangeSet, name: str, error: Callable[[str], PecsError]) -> None:
    """Raise *error*, in whose message *name* stands for *changes*, unless their ids fit together.

    None is 0. Among the tables no entity stands twice, nor among those despawned, nor among those that
    lost one component. Who is changed is not despawned, and loses no component that it is given; who is
    despawned may be created again.
    """
    created, modified = _ids(changes.created), _ids(changes.modified)
    told = [("created or modified", np.concatenate((created, modified))), ("despawned", changes.despawned)]
    told += [(f"without {type_}", ids) for type_, ids in changes.removed.items()]
    for what, ids in told:
        if not (ids["lo"] | ids["hi"]).all():
            raise error(f"expected stable ids other than 0, found 0 among those {what} in {name}")
        if (double := _twice(ids)) is not None:
            raise error(f"expected distinct ids, found {double:032x} twice among those {what} in {name}")
    apart = [("modified", modified, "despawned", changes.despawned)]
    for type_, ids in changes.removed.items():
        lacking = f"without {type_}"
        given = _ids([table for table in changes.modified if type_ in table.columns])
        apart += [
            (lacking, ids, "despawned", changes.despawned),
            (lacking, ids, "created", created),
            (lacking, ids, f"with {type_}", given),
        ]
    for what, ids, other, others in apart:
        if len(ids) and len(others) and (both := IdLookup(others).find(ids) >= 0).any():
            raise error(
                f"expected no entity both {what} and {other}, found {as_int(ids[both.argmax()]):032x} in {name}"
            )


def _ids(tables: Sequence[ChangeTable]) -> Array:
    return np.concatenate([no_ids(), *[table.stable_ids for table in tables]])


def _twice(ids: Array) -> int | None:
    """Return an id that stands twice in *ids*, shape (n,), or None."""
    if not len(ids):
        return None
    low, high = ids["lo"], ids["hi"]
    # As they mostly are: of one high half, and mostly in order.
    if (high == high[0]).all() and (strictly_increasing(low) or strictly_increasing(np.sort(low))):
        return None
    return find_duplicate([IdColumn(STABLE_ID, array=ids)])

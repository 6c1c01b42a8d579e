"""What of a snapshot is saved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable

__all__ = ["without_transient"]


def without_transient(snapshot: Snapshot) -> Snapshot:
    """Return *snapshot* without its transient types; entities that then have the same types share a table."""
    if not snapshot.has_transient:
        return snapshot
    by_names: dict[tuple[str, ...], list[SnapshotTable]] = {}
    for table in snapshot.tables:
        kept = table.keep(t.name for t in table.types if not t.transient)
        by_names.setdefault(tuple(t.name for t in kept.types), []).append(kept)
    resources = snapshot.resources
    if resources is not None:
        resources = resources.keep(t.name for t in resources.types if not t.transient)
    return replace(
        snapshot,
        tables=tuple(_joined(by_names[names]) for names in sorted(by_names)),
        resources=resources if resources and resources.types else None,
        cache={},
    )


def _joined(parts: list[SnapshotTable]) -> SnapshotTable:
    """Return tables of the same types as one."""
    if len(parts) == 1:
        return parts[0]
    return SnapshotTable(
        parts[0].types,
        sum(part.rows for part in parts),
        IdColumn(ENTITY_ID, array=np.concatenate([part.entities.array() for part in parts])),
        IdColumn(STABLE_ID, array=np.concatenate([part.stable_ids.array() for part in parts])),
        {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
    )

"""What of a snapshot is saved."""

from __future__ import annotations

from dataclasses import replace

from pecs_np.ecs.snapshot import Snapshot, SnapshotTable

__all__ = ["without_transient"]


def without_transient(snapshot: Snapshot) -> Snapshot:
    """Return *snapshot* without its transient types; entities that then have the same types share a table."""
    if not snapshot.has_transient:
        return snapshot
    kept = snapshot.filtered(_persistent)
    resources = snapshot.resources and _persistent(snapshot.resources)
    return replace(kept, resources=resources if resources and resources.types else None)


def _persistent(table: SnapshotTable) -> SnapshotTable:
    return table.keep(t.name for t in table.types if not t.transient)

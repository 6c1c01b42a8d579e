"""Loading worlds: what the verbs of `World` and of the manager share.

All of a save is read, checked and brought up to date before there is a world of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

from pecs_np.ecs.snapshot import Snapshot, TableFilter
from pecs_np.errors import ComponentError, PersistenceError, PluginNotFoundError
from pecs_np.messages import shown, warn
from pecs_np.persistence.disk import named
from pecs_np.persistence.files import backup_of
from pecs_np.persistence.filters import PersistenceFilter, filtered
from pecs_np.persistence.limits import within_memory
from pecs_np.persistence.migrations import Migration, MigrationChain, brought_up_to_date
from pecs_np.persistence.plugins import PersistencePlugin, name_of
from pecs_np.persistence.reporting import Progress, TrackedReader, watching
from pecs_np.persistence.resolving import Unknown

__all__ = ["LoadOptions", "PrepareOptions", "ReadOptions", "load_snapshot", "prepared", "read_snapshot"]


class PrepareOptions(TypedDict, total=False):
    """What is done to a save once it is read; see ``World.load``."""

    filter: PersistenceFilter | TableFilter | None
    unknown: Unknown
    migrations: MigrationChain | Iterable[Migration] | None


class ReadOptions(TypedDict, total=False):
    """How a file is read; see ``World.load``."""

    backup: bool
    filter: PersistenceFilter | TableFilter | None
    unknown: Unknown
    progress: Progress | bool | None


class LoadOptions(ReadOptions, total=False):
    """The options of every verb that loads; see ``World.load``."""

    migrations: MigrationChain | Iterable[Migration] | None


def load_snapshot(
    path: Any,
    plugin: PersistencePlugin,
    *,
    backup: bool = False,
    filter: PersistenceFilter | TableFilter | None = None,  # noqa: A002 - the word for it
    unknown: Unknown = "keep",
    migrations: MigrationChain | Iterable[Migration] | None = None,
    progress: Progress | bool | None = None,
) -> Snapshot:
    """Return what a path or a file object holds in the format of *plugin*, ready to be a world; see ``World.load``."""
    with within_memory(shown(path)):
        if hasattr(path, "read"):
            name = name_of(path)
            with watching(progress, None, "loading") as watch:
                snapshot = plugin.decode_stream(path if watch is None else TrackedReader(path, watch))
        else:
            name = named(path)
            snapshot = read_snapshot(path, plugin, backup=backup, progress=progress)
        return prepared(snapshot, name, filter=filter, unknown=unknown, migrations=migrations)


def prepared(
    snapshot: Snapshot,
    name: str,
    *,
    filter: PersistenceFilter | TableFilter | None = None,  # noqa: A002 - the word for it
    unknown: Unknown = "keep",
    migrations: MigrationChain | Iterable[Migration] | None = None,
) -> Snapshot:
    """Return *snapshot*, as it was read, brought up to date and filtered."""
    return filtered(brought_up_to_date(snapshot, name, migrations=migrations, unknown=unknown), filter)


def read_snapshot(
    path: Any, plugin: PersistencePlugin, *, backup: bool = False, progress: Progress | bool | None = None
) -> Snapshot:
    """Return the snapshot that a file holds, or with *backup* that of its backup, where the file is not sound."""
    try:
        return plugin.load_snapshot(path, progress=progress)
    except PersistenceError as error:
        # Not for what is wrong with the program: its backup would not load either, or should not.
        if not backup or isinstance(error, ComponentError | PluginNotFoundError):
            raise
        try:
            # What is no file is not looked for among files.
            other = backup_of(path) if plugin.has_bytes else f"{path}.bak"
            snapshot = plugin.load_snapshot(other, progress=progress)
        except PersistenceError as second:
            error.add_note(f"the backup does not help: {second}")
            raise error from None
        warn(f"loaded the backup {other}: {error}")
        return snapshot

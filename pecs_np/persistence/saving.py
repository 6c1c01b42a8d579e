"""Saving worlds: what the verbs of `World` and of the manager share."""

from __future__ import annotations

import os
import time
from typing import Any, TypedDict

from pecs_np.ecs.snapshot import Snapshot, TableFilter
from pecs_np.ecs.world import World
from pecs_np.errors import PluginNotFoundError
from pecs_np.messages import shown
from pecs_np.persistence.filters import PersistenceFilter
from pecs_np.persistence.plugins import PersistencePlugin, persistent, write_stream
from pecs_np.persistence.reporting import Progress, SaveReport, watching

__all__ = ["SaveOptions", "WriteOptions", "check_plugin", "save_snapshot", "save_stream", "save_world"]


class WriteOptions(TypedDict, total=False):
    """How a file is written; see ``World.save``."""

    durable: bool
    backup: bool
    retries: int
    progress: Progress | bool | None


class SaveOptions(WriteOptions, total=False):
    """The options of every verb that saves; see ``World.save``."""

    filter: PersistenceFilter | TableFilter | None


def save_world(
    world: World,
    path: Any,
    plugin: PersistencePlugin,
    *,
    filter: PersistenceFilter | TableFilter | None = None,  # noqa: A002 - the word for it
    durable: bool = True,
    backup: bool = False,
    retries: int = 0,
    progress: Progress | bool | None = None,
) -> SaveReport:
    """Save *world* in the format of *plugin*, to a path or to a file object; see ``World.save``."""
    start = time.perf_counter()
    check_plugin(plugin)
    snapshot = persistent(world, filter)
    return save_snapshot(
        snapshot,
        path,
        plugin,
        start=start,
        durable=durable,
        backup=backup,
        retries=retries,
        progress=progress,
    )


def save_snapshot(
    snapshot: Snapshot,
    path: Any,
    plugin: PersistencePlugin,
    *,
    start: float,
    durable: bool = True,
    backup: bool = False,
    retries: int = 0,
    progress: Progress | bool | None = None,
) -> SaveReport:
    """Save *snapshot*, which has no transient types; *start* is when ``time.perf_counter()`` began to count."""
    if hasattr(path, "write"):
        return _stream(snapshot, path, plugin, start, progress)
    size = plugin.save_snapshot(
        snapshot, path, durable=durable, backup=backup, retries=retries, progress=progress
    )
    name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else str(path)
    save_id = getattr(size, "save_id", None)
    return SaveReport(int(size), time.perf_counter() - start, snapshot.entity_count, name, save_id)


def save_stream(
    world: World,
    writer: Any,
    plugin: PersistencePlugin,
    *,
    filter: PersistenceFilter | TableFilter | None = None,  # noqa: A002 - the word for it
    progress: Progress | bool | None = None,
) -> SaveReport:
    """Save *world* in the format of *plugin* to *writer*; see ``World.save_binary_stream``."""
    start = time.perf_counter()
    return _stream(persistent(world, filter), writer, plugin, start, progress)


def _stream(
    snapshot: Snapshot,
    writer: Any,
    plugin: PersistencePlugin,
    start: float,
    progress: Progress | bool | None,
) -> SaveReport:
    with watching(progress, None, "saving") as watch:
        size = write_stream(plugin, snapshot, writer, watch)
    save_id = getattr(size, "save_id", None)
    return SaveReport(int(size), time.perf_counter() - start, snapshot.entity_count, None, save_id)


def check_plugin(plugin: Any) -> None:
    """Raise unless *plugin* is one."""
    if not isinstance(plugin, PersistencePlugin):
        raise PluginNotFoundError(
            f"expected a PersistencePlugin, found {shown(plugin)}",
            suggestion="pass BinaryPlugin(), or call PersistenceManager().save_with(world, path, name)"
            if isinstance(plugin, str)
            else "pass BinaryPlugin()",
        )

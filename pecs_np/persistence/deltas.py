"""Deltas in files: what changed since a save, or since the delta before, and worlds of a save and its deltas."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, Unpack

import numpy as np

from pecs_np.ecs.applying import apply
from pecs_np.ecs.changes import ChangeSet
from pecs_np.ecs.difference import difference
from pecs_np.ecs.id_lookup import IdLookup
from pecs_np.ecs.snapshot import Snapshot, TableFilter
from pecs_np.ecs.tracking import ChangeTracker
from pecs_np.ecs.world import World
from pecs_np.errors import (
    CorruptedDataError,
    EntityNotFoundError,
    MigrationError,
    PersistenceError,
    WorldError,
)
from pecs_np.messages import shown
from pecs_np.persistence.binary.delta_reader import Delta, decode_delta
from pecs_np.persistence.binary.delta_writer import encode_delta
from pecs_np.persistence.binary.save import Save
from pecs_np.persistence.binary.sources import FileSource
from pecs_np.persistence.compression import Packing, usable_cores
from pecs_np.persistence.consistency import check_current
from pecs_np.persistence.disk import PathLike, named
from pecs_np.persistence.files import replace_file
from pecs_np.persistence.filters import PersistenceFilter, without_transient
from pecs_np.persistence.formats import BINARY, JSON, AnyFormat
from pecs_np.persistence.input_files import InputFile
from pecs_np.persistence.limits import Limits, within_memory
from pecs_np.persistence.loading import PrepareOptions, prepared, read_snapshot
from pecs_np.persistence.plugins import persistent
from pecs_np.persistence.reporting import Progress, SaveReport, Tracked, watching
from pecs_np.persistence.resolving import is_defined_so

__all__ = ["DeltaBase", "Since", "as_paths", "load_with_deltas", "read_delta", "save_changes", "state_after"]

W = TypeVar("W", bound=World)

_ANY = AnyFormat([BINARY, JSON])


class DeltaBase(NamedTuple):
    """A state of a world that was saved: what a delta may be told from.

    Attributes
    ----------
    snapshot : Snapshot
        As it was saved, with memory of its own: ``world.snapshot(copy=True)``.
    save_id : int
        Of the save, or of the delta, that says so: ``world.save(path).save_id``.
    """

    snapshot: Snapshot
    save_id: int


# A path, or that of a save and those of the deltas after it; an opened save; what is in memory.
Since = PathLike | Sequence[PathLike] | Save | DeltaBase | ChangeTracker


def read_delta(path: PathLike, *, limits: Limits | None = None, threads: int | None = None) -> Delta:
    """Return what a delta file holds: its changes, its id and that of its base, every sum checked.

    Raises
    ------
    PersistenceIOError
        If the file cannot be read.
    InvalidFormatError, CorruptedDataError, UnsupportedVersionError, LimitExceededError
        If it is not a delta that this version reads whole and sound.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from pecs_np import World
    >>> world = World()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     base = world.save(Path(folder, "base.pecs"))
    ...     entity = world.spawn()
    ...     report = world.save_delta(Path(folder, "tick.pecs"), since=Path(folder, "base.pecs"))
    ...     delta = read_delta(Path(folder, "tick.pecs"))
    >>> len(delta.changes), delta.base_id == base.save_id, delta.save_id == report.save_id
    (1, True, True)
    """
    cores = usable_cores(threads)
    with InputFile(path) as file:
        if file.size is None:
            return decode_delta(file.read_whole(), file.name, limits, threads=cores)
        return decode_delta(FileSource(file, cores), file.name, limits, threads=cores)


def save_changes(
    world: World,
    path: PathLike,
    since: Since,
    *,
    filter: PersistenceFilter | TableFilter | None = None,  # noqa: A002 - the word for it
    compression: str | None = None,
    level: int | None = None,
    durable: bool = True,
    backup: bool = False,
    retries: int = 0,
    progress: Progress | bool | None = None,
) -> SaveReport:
    """Save what changed in *world* since a save, and return a report; see ``World.save_delta``."""
    start = time.perf_counter()
    if compression is None and level is not None:
        raise PersistenceError(f"expected a level only with compression, found {shown(level)}")
    packing = None if compression is None else Packing.of(compression, level, True, None)
    if not isinstance(world, World):
        raise PersistenceError(f"expected a World, found {shown(world)}")
    changes, base_id = _told(world, since, filter)
    encoded = encode_delta(changes, base_id=base_id, packing=packing)
    written = Tracked((), None)
    with watching(progress, encoded.size, "saving") as watch:

        def buffers() -> Tracked:
            nonlocal written
            written = Tracked(encoded, watch)
            return written

        replace_file(path, buffers, durable=durable, backup=backup, retries=retries)
    if isinstance(since, ChangeTracker):
        since.checkpoint(encoded.save_id)
    rows = sum(map(len, (*changes.created, *changes.modified))) + len(changes.despawned)
    seconds = time.perf_counter() - start
    return SaveReport(written.done, seconds, rows, os.fsdecode(path), encoded.save_id)


def _told(world: World, since: Since, filter_: Any) -> tuple[ChangeSet, int]:
    """Return what changed of what is saved of *world*, and the id of what it changed from."""
    if isinstance(since, ChangeTracker):
        if since.world is not world:
            raise PersistenceError(
                "expected a tracker of this world, found one of another", suggestion="ChangeTracker(world)"
            )
        if filter_ is not None:
            raise PersistenceError(
                "expected no filter with a tracker, which has its own, found one",
                suggestion="ChangeTracker(world, filter=filter)",
            )
        if since.base_id is None:
            raise PersistenceError(
                "expected a tracker whose last checkpoint was saved, found one that knows of no save",
                suggestion="tracker.checkpoint(world.save(path).save_id), or ChangeTracker(world, base_id=…)",
            )
        return since.changes(view=without_transient), since.base_id
    base = _base_of(since)
    now = persistent(world, filter_)
    changes = difference(base.snapshot, now, timestamp=time.time())
    check_current(now)
    return changes, base.save_id


def _base_of(since: Any) -> DeltaBase:
    if isinstance(since, str | bytes | os.PathLike):
        since = [since]
    if isinstance(since, Save):
        return DeltaBase(since.snapshot(), _id_of(since.save_id, since.name))
    if isinstance(since, DeltaBase):
        if not isinstance(since.snapshot, Snapshot):
            raise PersistenceError(f"expected a Snapshot in a DeltaBase, found {shown(since.snapshot)}")
        # Of all that the snapshot has, what saves leave out was not saved.
        return DeltaBase(without_transient(since.snapshot), _id_of(since.save_id, "the DeltaBase"))
    if isinstance(since, list | tuple) and since:
        world, save_id = state_after(since[0], since[1:], world_type=World)
        return DeltaBase(world.snapshot(), save_id)
    raise PersistenceError(
        f"expected what the delta is told from, found {shown(since)}",
        suggestion="pass the path of a save, or [save, delta, …], a ChangeTracker, or DeltaBase(snapshot, save_id)",
    )


def _id_of(save_id: int | None, name: str) -> int:
    if save_id is None:
        raise PersistenceError(
            f"expected a save with an id, which deltas apply to, found one without in {name}",
            suggestion="save it in version 2 of the binary format: world.save_binary(path)",
        )
    return save_id


def as_paths(deltas: Any) -> list[Any]:
    """Return one path, or several, as a list."""
    if isinstance(deltas, str | bytes | os.PathLike):
        return [deltas]
    try:
        return list(deltas)
    except TypeError:
        raise PersistenceError(f"expected the paths of deltas, found {shown(deltas)}") from None


def load_with_deltas(
    world_type: type[W],
    base: PathLike,
    deltas: Iterable[PathLike],
    *,
    backup: bool = False,
    progress: Progress | bool | None = None,
    **options: Unpack[PrepareOptions],
) -> W:
    """Return the world that a save and the deltas after it hold; see ``World.load``."""
    world, _ = state_after(base, deltas, world_type=world_type, backup=backup, progress=progress)
    as_it_is = options.get("filter") is None and options.get("migrations") is None
    if (
        as_it_is
        and options.get("unknown", "keep") == "keep"
        and all(map(is_defined_so, world.snapshot().types))
    ):
        return world
    return world_type.from_snapshot(prepared(world.snapshot(copy=True), named(base), **options))


def state_after(
    base: PathLike,
    deltas: Iterable[PathLike],
    *,
    world_type: type[W],
    backup: bool = False,
    progress: Progress | bool | None = None,
) -> tuple[W, int]:
    """Return the world that a save and the deltas after it hold, nothing of it migrated, and the last id.

    Raises
    ------
    PersistenceError
        If a delta does not apply to what stands before it; the message names both ids.
    CorruptedDataError
        If what it says does not fit the save that it applies to.
    """
    paths = as_paths(deltas)
    with within_memory(named(base)):
        snapshot = read_snapshot(base, _ANY, backup=backup, progress=progress)
    found = snapshot.cache.get("save_id")
    save_id = _id_of(None if found is None else int.from_bytes(found, "little"), named(base))
    world = world_type.from_snapshot(snapshot)
    before = named(base)
    for number, path in enumerate(paths):
        changes, base_id, following = read_delta(path)
        if base_id != save_id:
            raise _broken_chain(paths, number, before, save_id, base_id)
        try:
            world = _with_room(world, changes, named(path))
            apply(world, changes)
        except (WorldError, EntityNotFoundError) as error:
            raise CorruptedDataError(
                f"expected changes that fit what they apply to, found others in {named(path)}: {error}",
                suggestion="load an older save",
            ) from error
        before, save_id = named(path), following
    return world, save_id


def _broken_chain(
    paths: list[PathLike], number: int, before: str, save_id: int, base_id: int
) -> PersistenceError:
    """Return the error for a delta that applies to something else than what stands before it."""
    lacking = f"the save or delta {base_id:032x}, which comes between, is missing"
    for other in paths[number + 1 :]:
        if read_delta(other).save_id == base_id:
            lacking = (
                f"pass the deltas in the order in which they were written: {named(other)} comes before it"
            )
    return PersistenceError(
        f"expected a delta to {save_id:032x}, which is {before}, found one to {base_id:032x} in"
        f" {named(paths[number])}",
        suggestion=lacking,
    )


def _with_room(world: W, changes: ChangeSet, name: str) -> W:
    """Return *world* without the components that *changes* has in another version, in place of the old ones."""
    others = []
    for type_ in changes.types:
        known = world._storage.types.get(type_.name)
        if known is not None and known.version != type_.version:
            others.append(type_.name)
    if not others:
        return world
    told = [t.stable_ids for t in (*changes.created, *changes.modified) if set(others) & set(t.names)]
    told += [changes.despawned, *[ids for n, ids in changes.removed.items() if n in others]]
    lookup = IdLookup(np.concatenate(told))
    for table in (snapshot := world.snapshot(copy=True)).tables:
        if set(others) & set(table.columns) and (lookup.find(table.stable_ids.array()) < 0).any():
            raise MigrationError(
                f"expected all values of {', '.join(others)} in their other version, found some in {name}",
                suggestion="save the world whole after a migration",
            )
    kept = [table.keep([t.name for t in table.types if t.name not in others]) for table in snapshot.tables]
    return type(world).from_snapshot(replace(snapshot.with_tables(kept)))

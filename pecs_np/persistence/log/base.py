"""The saves beside a log: the state with which it begins, under the log's name with its sequence number."""

from __future__ import annotations

import contextlib
import os
import re

from pecs_np.ecs.snapshot import Snapshot
from pecs_np.errors import CorruptedDataError
from pecs_np.persistence import disk
from pecs_np.persistence.binary.framing import read_head
from pecs_np.persistence.binary.header import read_header
from pecs_np.persistence.binary.plugin import BinaryPlugin
from pecs_np.persistence.binary.sources import BytesSource, FileSource, Source
from pecs_np.persistence.files import replace_file
from pecs_np.persistence.input_files import InputFile
from pecs_np.persistence.limits import Limits
from pecs_np.persistence.loading import prepared
from pecs_np.persistence.log.framing import LogStart

__all__ = ["base_path", "decode_base", "load_base", "remove_bases", "save_base", "save_id_of"]


def base_path(path: str, sequence: int) -> str:
    """Return where the save with the state after that record of the log *path* is.

    Examples
    --------
    >>> base_path("game.log", 12)
    'game.log.12.pecs'
    """
    return f"{path}.{sequence}.pecs"


def save_base(path: str, sequence: int, snapshot: Snapshot, plugin: BinaryPlugin) -> bytes:
    """Save *snapshot* as the base of a log, flushed to the disk, and return its save_id."""
    base = base_path(path, sequence)
    replace_file(base, plugin.encode(snapshot), durable=True)
    with InputFile(base) as file:
        return save_id_of(FileSource(file), plugin.limits)


def load_base(path: str, start: LogStart, limits: Limits) -> Snapshot:
    """Return the state with which the log *path* begins, checked whole.

    Raises
    ------
    PersistenceIOError
        If the save is not there.
    CorruptedDataError
        If it is another save than the log was made with, or damaged.
    """
    if not start.has_base:
        return Snapshot(())
    with InputFile(base_path(path, start.sequence)) as file:
        _check(save_id_of(FileSource(file), limits), start, file.name)
        return prepared(BinaryPlugin(limits=limits).decode_file(file), file.name)


def decode_base(data: memoryview, start: LogStart, name: str, limits: Limits) -> Snapshot:
    """Return the state with which a stream begins."""
    _check(save_id_of(BytesSource(data, name), limits), start, name)
    return prepared(BinaryPlugin(limits=limits).decode(data, name), name)


def save_id_of(source: Source, limits: Limits) -> bytes:
    """Return the save_id of a save of version 2."""
    return read_head(source, read_header(source, limits), limits).save_id


def _check(found: bytes, start: LogStart, name: str) -> None:
    if found != start.base_id:
        raise CorruptedDataError(
            f"expected save {start.base_id[::-1].hex()}, with which the log begins, found {found[::-1].hex()} in {name}",
            suggestion="put back the save that was there",
        )


def remove_bases(path: str, keep: int | None) -> None:
    """Remove the saves of the log *path* other than that with number *keep*."""
    folder, name = os.path.split(path)
    pattern = re.compile(re.escape(name) + r"\.(\d+)\.pecs")
    with contextlib.suppress(OSError):
        for found in os.listdir(folder or os.curdir):
            match = pattern.fullmatch(found)
            if match and int(match[1]) != keep:
                # What stays takes space, and nothing else.
                with contextlib.suppress(OSError):
                    disk.system.unlink(os.path.join(folder, found))

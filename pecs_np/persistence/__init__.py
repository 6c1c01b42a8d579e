"""Snapshots to bytes and files, and back."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pecs_np.persistence.binary.delta_reader import Delta
from pecs_np.persistence.binary.header import FormatFlags
from pecs_np.persistence.binary.plugin import BinaryPlugin
from pecs_np.persistence.binary.save import Save, SaveTable
from pecs_np.persistence.checksum import crc64
from pecs_np.persistence.compression import CompressionType
from pecs_np.persistence.consistency import check_current
from pecs_np.persistence.delta_plugins import DeltaPersistencePlugin
from pecs_np.persistence.deltas import DeltaBase, read_delta
from pecs_np.persistence.drafts import WorldDraft
from pecs_np.persistence.entity_plugins import EntityPersistencePlugin
from pecs_np.persistence.filters import (
    BlacklistFilter,
    CompositeFilter,
    EntityRow,
    NoTransientFilter,
    PersistenceFilter,
    WhitelistFilter,
)
from pecs_np.persistence.json.plugin import JsonPlugin
from pecs_np.persistence.limits import Limits
from pecs_np.persistence.manager import PersistenceManager
from pecs_np.persistence.migrations import Migration, MigrationChain, MigrationPlan
from pecs_np.persistence.packed import pack, unpack
from pecs_np.persistence.plugins import PersistencePlugin
from pecs_np.persistence.reporting import SaveReport
from pecs_np.persistence.resolving import resolve_types

if TYPE_CHECKING:
    from pecs_np.persistence.log.log import DeltaLog
    from pecs_np.persistence.log.records import LoggedChanges
    from pecs_np.persistence.log.salvage import SalvageReport
    from pecs_np.persistence.log.stream import LogStream
    from pecs_np.persistence.stores.lmdb import LmdbEntityPlugin
    from pecs_np.persistence.stores.memory import KeyValueEntityPlugin
    from pecs_np.persistence.stores.postgres import PostgresEntityPlugin
    from pecs_np.persistence.stores.redis import RedisEntityPlugin
    from pecs_np.persistence.stores.sqlite import SqliteEntityPlugin
    from pecs_np.persistence.stores.store import EntityStore

__all__ = [
    "BinaryPlugin",
    "BlacklistFilter",
    "CompositeFilter",
    "CompressionType",
    "Delta",
    "DeltaBase",
    "DeltaLog",
    "DeltaPersistencePlugin",
    "EntityPersistencePlugin",
    "EntityRow",
    "EntityStore",
    "FormatFlags",
    "JsonPlugin",
    "KeyValueEntityPlugin",
    "Limits",
    "LmdbEntityPlugin",
    "LogStream",
    "LoggedChanges",
    "Migration",
    "MigrationChain",
    "MigrationPlan",
    "NoTransientFilter",
    "PersistenceFilter",
    "PersistenceManager",
    "PersistencePlugin",
    "PostgresEntityPlugin",
    "RedisEntityPlugin",
    "SalvageReport",
    "Save",
    "SaveReport",
    "SaveTable",
    "SqliteEntityPlugin",
    "WhitelistFilter",
    "WorldDraft",
    "check_current",
    "crc64",
    "pack",
    "read_delta",
    "resolve_types",
    "unpack",
]

# Stores and logs are imported when they are first asked for: most programs use one of them, if any.
_LATER = {
    "DeltaLog": "log.log",
    "EntityStore": "stores.store",
    "KeyValueEntityPlugin": "stores.memory",
    "LmdbEntityPlugin": "stores.lmdb",
    "LogStream": "log.stream",
    "LoggedChanges": "log.records",
    "PostgresEntityPlugin": "stores.postgres",
    "RedisEntityPlugin": "stores.redis",
    "SalvageReport": "log.salvage",
    "SqliteEntityPlugin": "stores.sqlite",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})

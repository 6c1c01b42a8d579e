"""A persistent entity-component system on NumPy columns."""

from typing import TYPE_CHECKING, Any

from pecs_np import persistence as _persistence
from pecs_np.ecs.applying import apply_to_snapshot, concatenated_changes
from pecs_np.ecs.changes import (
    ChangeSet,
    ChangeTable,
    ComponentData,
    Created,
    Deleted,
    EntityChange,
    Modified,
    WorldState,
)
from pecs_np.ecs.commands import CommandBuffer, DeferredEntity
from pecs_np.ecs.components import Component, ComponentType, component_type
from pecs_np.ecs.definition import component, make_component
from pecs_np.ecs.dtypes import EntityRef
from pecs_np.ecs.entities import EntityId, StableId
from pecs_np.ecs.queries import Query
from pecs_np.ecs.registry import registered, unregister
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.ecs.tracking import ChangeTracker
from pecs_np.ecs.validation import Validation
from pecs_np.errors import (
    ComponentDefinitionError,
    ComponentError,
    ComponentValueError,
    ComponentVersionError,
    CorruptedDataError,
    DanglingReferenceError,
    DuplicateEntityError,
    EntityNotFoundError,
    GeneratorNotFoundError,
    InvalidFormatError,
    LimitExceededError,
    MigrationError,
    PecsError,
    PersistenceError,
    PersistenceIOError,
    PluginNotFoundError,
    StructuralChangeError,
    UnknownFieldError,
    UnsupportedVersionError,
    WorldError,
)
from pecs_np.persistence import (
    BinaryPlugin,
    BlacklistFilter,
    CompositeFilter,
    CompressionType,
    DeltaBase,
    DeltaPersistencePlugin,
    EntityPersistencePlugin,
    FormatFlags,
    JsonPlugin,
    Limits,
    Migration,
    MigrationChain,
    MigrationPlan,
    NoTransientFilter,
    PersistenceFilter,
    PersistenceManager,
    PersistencePlugin,
    Save,
    SaveReport,
    SaveTable,
    WhitelistFilter,
    WorldDraft,
)
from pecs_np.persistence.binary.save import open_save as open  # noqa: A004 - as tarfile and others have it
from pecs_np.version import __version__
from pecs_np.world import World

if TYPE_CHECKING:
    from pecs_np.persistence import (
        DeltaLog,
        KeyValueEntityPlugin,
        LmdbEntityPlugin,
        LoggedChanges,
        LogStream,
        PostgresEntityPlugin,
        RedisEntityPlugin,
        SalvageReport,
        SqliteEntityPlugin,
    )

__all__ = [
    "BinaryPlugin",
    "BlacklistFilter",
    "ChangeSet",
    "ChangeTable",
    "ChangeTracker",
    "CommandBuffer",
    "Component",
    "ComponentData",
    "ComponentDefinitionError",
    "ComponentError",
    "ComponentType",
    "ComponentValueError",
    "ComponentVersionError",
    "CompositeFilter",
    "CompressionType",
    "CorruptedDataError",
    "Created",
    "DanglingReferenceError",
    "DeferredEntity",
    "Deleted",
    "DeltaBase",
    "DeltaLog",
    "DeltaPersistencePlugin",
    "DuplicateEntityError",
    "EntityChange",
    "EntityId",
    "EntityNotFoundError",
    "EntityPersistencePlugin",
    "EntityRef",
    "FormatFlags",
    "GeneratorNotFoundError",
    "InvalidFormatError",
    "JsonPlugin",
    "KeyValueEntityPlugin",
    "LimitExceededError",
    "Limits",
    "LmdbEntityPlugin",
    "LogStream",
    "LoggedChanges",
    "Migration",
    "MigrationChain",
    "MigrationError",
    "MigrationPlan",
    "Modified",
    "NoTransientFilter",
    "PecsError",
    "PersistenceError",
    "PersistenceFilter",
    "PersistenceIOError",
    "PersistenceManager",
    "PersistencePlugin",
    "PluginNotFoundError",
    "PostgresEntityPlugin",
    "Query",
    "RedisEntityPlugin",
    "SalvageReport",
    "Save",
    "SaveReport",
    "SaveTable",
    "Snapshot",
    "SnapshotTable",
    "SqliteEntityPlugin",
    "StableId",
    "StructuralChangeError",
    "UnknownFieldError",
    "UnsupportedVersionError",
    "Validation",
    "WhitelistFilter",
    "World",
    "WorldDraft",
    "WorldError",
    "WorldState",
    "__version__",
    "apply_to_snapshot",
    "component",
    "component_type",
    "concatenated_changes",
    "make_component",
    "open",
    "registered",
    "unregister",
]


def __getattr__(name: str) -> Any:
    # Stores and logs, which are imported when they are first asked for.
    if name in __all__:
        value = globals()[name] = getattr(_persistence, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

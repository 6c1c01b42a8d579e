"""A persistent entity-component system on NumPy columns."""

from pecs_np.ecs.commands import CommandBuffer, DeferredEntity
from pecs_np.ecs.components import Component, ComponentType, component_type
from pecs_np.ecs.definition import component, make_component
from pecs_np.ecs.dtypes import EntityRef
from pecs_np.ecs.entities import EntityId, StableId
from pecs_np.ecs.queries import Query
from pecs_np.ecs.registry import registered, unregister
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.ecs.validation import Validation
from pecs_np.errors import (
    ComponentDefinitionError,
    ComponentError,
    ComponentValueError,
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
    CompressionType,
    FormatFlags,
    Limits,
    PersistencePlugin,
    Save,
    SaveTable,
)
from pecs_np.persistence.binary.save import open_save as open  # noqa: A004 - as tarfile and others have it
from pecs_np.version import __version__
from pecs_np.world import World

__all__ = [
    "BinaryPlugin",
    "CommandBuffer",
    "Component",
    "ComponentDefinitionError",
    "ComponentError",
    "ComponentType",
    "ComponentValueError",
    "CompressionType",
    "CorruptedDataError",
    "DanglingReferenceError",
    "DeferredEntity",
    "DuplicateEntityError",
    "EntityId",
    "EntityNotFoundError",
    "EntityRef",
    "FormatFlags",
    "GeneratorNotFoundError",
    "InvalidFormatError",
    "LimitExceededError",
    "Limits",
    "MigrationError",
    "PecsError",
    "PersistenceError",
    "PersistenceIOError",
    "PersistencePlugin",
    "PluginNotFoundError",
    "Query",
    "Save",
    "SaveTable",
    "Snapshot",
    "SnapshotTable",
    "StableId",
    "StructuralChangeError",
    "UnknownFieldError",
    "UnsupportedVersionError",
    "Validation",
    "World",
    "WorldError",
    "__version__",
    "component",
    "component_type",
    "make_component",
    "open",
    "registered",
    "unregister",
]

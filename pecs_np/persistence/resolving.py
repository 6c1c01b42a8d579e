"""The types of a save: those of this program where it defines them, else the save's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.registry import registered, registry_version
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.errors import ComponentDefinitionError, ComponentVersionError, PersistenceError
from pecs_np.messages import is_one_of, shown, warn

__all__ = [
    "Unknown",
    "check_unknown",
    "is_current",
    "is_defined_so",
    "mark_current",
    "resolve_types",
    "with_known_types",
]

Unknown = Literal["keep", "refuse", "drop"]


def resolve_types(types: tuple[ComponentType, ...], where: str) -> tuple[ComponentType, ...]:
    """Return the types to build columns of, for those that a save describes.

    They are those that this process defines, else the save's own: of components that are not defined
    here, and of older versions, which migrations bring up to date once their columns are there.

    Raises
    ------
    ComponentVersionError
        If a type is defined in an older version: the save is newer than the program.
    ComponentDefinitionError
        If it is defined with other fields.
    """
    found = []
    for i, type_ in enumerate(types):
        cls = registered(type_.name)
        own = type_ if cls is None or cls._type.version > type_.version else cls._type
        if own.version < type_.version:
            raise ComponentVersionError(
                type_.version,
                own.version,
                what=f"component {type_.name!r} at types[{i}] in {where}",
                suggestion="update the program: the save is newer",
            )
        if not own.agrees_with(type_):
            raise ComponentDefinitionError(
                f"expected {own!r} as defined here, found {type_!r} at types[{i}] in {where}",
                suggestion="raise the version of the component when its fields change",
            )
        found.append(own)
    return tuple(found)


def is_defined_so(type_: ComponentType) -> bool:
    """Tell whether this process defines a type in that version, or not at all."""
    cls = registered(type_.name)
    return cls is None or cls._type.version == type_.version


def mark_current(snapshot: Snapshot) -> None:
    """Note that no component of *snapshot* needs a migration."""
    snapshot.cache["current"] = registry_version()


def is_current(snapshot: Snapshot) -> bool:
    """Tell whether that is known, without a look at the types."""
    return bool(snapshot.cache.get("current") == registry_version())


def check_unknown(unknown: Any) -> None:
    """Raise unless *unknown* is one of the words for what becomes of components that are not defined."""
    if not is_one_of(unknown, "keep", "refuse", "drop"):
        raise PersistenceError(f"expected 'keep', 'refuse' or 'drop' for unknown, found {shown(unknown)}")


def with_known_types(snapshot: Snapshot, unknown: Unknown, name: str) -> Snapshot:
    """Return *snapshot*, which messages call *name*, without component types that this process does not define.

    Raises
    ------
    ComponentDefinitionError
        If *unknown* is "refuse" and there are some.
    """
    check_unknown(unknown)
    strange = [type_.name for type_ in snapshot.types if registered(type_.name) is None]
    if not strange or unknown == "keep":
        return snapshot
    if unknown == "refuse":
        raise ComponentDefinitionError(
            f"expected components that are defined here, found {', '.join(strange)} in {name}",
            suggestion='define them, or pass unknown="keep" to use them by name',
        )
    warn(f"dropped components that are not defined here, {', '.join(strange)}, from {name}")

    def known(table: SnapshotTable) -> SnapshotTable:
        return table.keep(t.name for t in table.types if t.name not in strange)

    resources = None if snapshot.resources is None else known(snapshot.resources)
    kept = snapshot.filtered(known)
    return replace(kept, resources=resources if resources is not None and resources.types else None)

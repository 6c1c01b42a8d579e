"""The types of a save: those of this program where it defines them, else the save's own."""

from __future__ import annotations

from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.registry import registered
from pecs_np.errors import ComponentDefinitionError, UnsupportedVersionError

__all__ = ["resolve_types"]


def resolve_types(types: tuple[ComponentType, ...], where: str) -> tuple[ComponentType, ...]:
    """Return the types to build columns of: those defined in this process, else dynamic ones.

    Raises
    ------
    UnsupportedVersionError
        If a type is defined in another version.
    ComponentDefinitionError
        If it is defined with other fields.
    """
    found = []
    for i, type_ in enumerate(types):
        cls = registered(type_.name)
        own = type_ if cls is None else cls._type
        if own.version != type_.version:
            older = own.version > type_.version
            raise UnsupportedVersionError(
                type_.version,
                own.version,
                what=f"component {type_.name!r} at types[{i}] in {where}",
                suggestion="load it with the program that wrote it"
                if older
                else "update the program: the save is newer",
            )
        if not own.agrees_with(type_):
            raise ComponentDefinitionError(
                f"expected {own!r} as defined here, found {type_!r} at types[{i}] in {where}",
                suggestion="raise the version of the component when its fields change",
            )
        found.append(own)
    return tuple(found)

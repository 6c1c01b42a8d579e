"""The component classes of this process, by name, and the migrations between their versions.

A type is identified by its name, never by its class object, so that a notebook cell that defines it
can run again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pecs_np.errors import MigrationError

if TYPE_CHECKING:
    from pecs_np.ecs.components import Component

__all__ = ["migrations_of", "register", "register_migration", "registered", "registry_version", "unregister"]


class _Registry(dict[str, "type[Component]"]):
    version = 0


_registry = _Registry()
_migrations: dict[str, dict[int, Callable[[Any], Any]]] = {}


def register(name: str, cls: type[Component]) -> None:
    """Set the component class of a name."""
    _registry[name] = cls
    _registry.version += 1


def unregister(name: str) -> None:
    """Forget the component class of that name and its migrations, so that another one can take it.

    Worlds that hold such components keep them.
    """
    _registry.pop(name, None)
    _migrations.pop(name, None)
    _registry.version += 1


def registered(name: str) -> type[Component] | None:
    """Return the component class defined under *name* in this process, or None."""
    return _registry.get(name)


def registry_version() -> int:
    """Return a number that changes whenever a component is defined or forgotten."""
    return _registry.version


def register_migration(name: str, version: int, function: Callable[[Any], Any]) -> None:
    """Set the step from *version* of a component to the next.

    Raises
    ------
    MigrationError
        If another function is that step, or a step between this and the others is missing.
    """
    steps = _migrations.setdefault(name, {})
    if version in steps:
        old = steps[version]
        # A cell of a notebook may run again.
        if (old.__module__, old.__qualname__) != (function.__module__, function.__qualname__):
            raise MigrationError(
                f"expected one migration from version {version} of {name}, found {old.__qualname__} and"
                f" {function.__qualname__}",
                suggestion=f"remove one, or call unregister({name!r}) and define the component again",
            )
    elif steps and version not in (min(steps) - 1, max(steps) + 1):
        raise MigrationError(
            f"expected a migration from version {max(steps) + 1} of {name} next, found one from {version}",
            suggestion="define the steps in order",
        )
    steps[version] = function


def migrations_of(name: str) -> Mapping[int, Callable[[Any], Any]]:
    """Return the migrations of a component by the version that they start from."""
    return _migrations.get(name, {})

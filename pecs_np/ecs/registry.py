"""The component classes of this process, by name.

A type is identified by its name, never by its class object, so that a notebook cell that defines it
can run again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pecs_np.ecs.components import Component

__all__ = ["register", "registered", "registry_version", "unregister"]


class _Registry(dict[str, "type[Component]"]):
    version = 0


_registry = _Registry()


def register(name: str, cls: type[Component]) -> None:
    """Set the component class of a name."""
    _registry[name] = cls
    _registry.version += 1


def unregister(name: str) -> None:
    """Forget the component class of that name, so that another one can take it.

    Worlds that hold such components keep them.
    """
    _registry.pop(name, None)
    _registry.version += 1


def registered(name: str) -> type[Component] | None:
    """Return the component class defined under *name* in this process, or None."""
    return _registry.get(name)


def registry_version() -> int:
    """Return a number that changes whenever a component is defined or forgotten."""
    return _registry.version

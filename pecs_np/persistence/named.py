"""Plugins by name, of which one is the default: what the halves of the manager have in common."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pecs_np.errors import PersistenceError, PluginNotFoundError
from pecs_np.messages import shown

__all__ = ["Named"]

P = TypeVar("P")


class Named(Generic[P]):
    """Plugins of one kind by name; the first that is registered is the default one.

    Parameters
    ----------
    kind : type
        What a plugin is an instance of.
    what : str
        What messages call one, such as ``"entity store"``.
    verb : str
        The manager's method that registers one.
    example : str
        What could be passed to it.

    Attributes
    ----------
    plugins : dict
    """

    def __init__(self, kind: Any, what: str, verb: str, example: str) -> None:
        self._kind = kind
        self._what = what
        self._verb = verb
        self._example = example
        self.plugins: dict[str, P] = {}
        self._default: str | None = None

    def register(self, name: str, plugin: P) -> None:
        """Make *plugin* that of *name*, in place of another one."""
        if not isinstance(name, str) or not name:
            raise PersistenceError(f"expected a name for the {self._what}, found {shown(name)}")
        if not isinstance(plugin, self._kind):
            kind = self._kind.__name__
            raise PluginNotFoundError(
                f"expected {'an' if kind[0] in 'AEIOU' else 'a'} {kind}, found {shown(plugin)}",
                suggestion=f"pass {self._example}",
            )
        self.plugins[name] = plugin
        if self._default is None:
            self._default = name

    def unregister(self, name: str) -> P:
        """Forget the plugin of *name*, and return it."""
        plugin = self.get(name)
        del self.plugins[name]
        if name == self._default:
            self._default = next(iter(self.plugins), None)
        return plugin

    def set_default(self, name: str) -> None:
        """Make the plugin of *name* the default one."""
        self.get(name)
        self._default = name

    def get(self, name: Any = None) -> P:
        """Return the plugin of *name*, by default the default one; the error lists those that there are."""
        name = self._default if name is None else name
        try:
            return self.plugins[name]
        except (KeyError, TypeError):
            raise PluginNotFoundError(
                f"expected one of the {self._what}s {', '.join(self.plugins) or '(none is registered)'},"
                f" found {shown(name)}",
                suggestion=f"register it: manager.{self._verb}(name, plugin)",
            ) from None

"""The contract of a place for changes, and such places by name: the manager's half that is about them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from pecs_np.ecs.applying import Conflict, apply
from pecs_np.ecs.changes import ChangeSet
from pecs_np.ecs.tracking import ChangeTracker
from pecs_np.ecs.world import World
from pecs_np.errors import PersistenceError
from pecs_np.messages import shown
from pecs_np.persistence.named import Named

__all__ = ["DeltaManager", "DeltaPersistencePlugin"]


class DeltaPersistencePlugin(ABC):
    """A place where changes are saved one after the other, such as a log, a database or a connection.

    Three methods are to be written: `save_changes`, `load_changes` and `current_timestamp`. Use it in a
    ``with`` block, or `close` it.

    Examples
    --------
    >>> from pecs_np import ChangeTracker, World, make_component
    >>> from pecs_np.ecs.applying import concatenated_changes
    >>> class Memory(DeltaPersistencePlugin):
    ...     def __init__(self):
    ...         self.saved = []
    ...     def save_changes(self, changes):
    ...         self.saved.append(changes)
    ...     def load_changes(self, since=0.0):
    ...         return concatenated_changes(c for c in self.saved if c.timestamp > since)
    ...     def current_timestamp(self):
    ...         return self.saved[-1].timestamp if self.saved else 0.0
    >>> world, other, memory = World(), World(), Memory()
    >>> tracker = ChangeTracker(world)
    >>> ids = world.spawn_batch(count=3)
    >>> memory.save_changes(tracker.take())
    >>> memory.apply_changes(other, memory.load_changes())
    >>> len(other)
    3
    """

    @abstractmethod
    def save_changes(self, changes: ChangeSet) -> None:
        """Save changes, which follow those that were saved before; none at all are not saved."""

    @abstractmethod
    def load_changes(self, since: float = 0.0) -> ChangeSet:
        """Return all changes that were saved after a time, as one; empty where there are none.

        Parameters
        ----------
        since : float
            Seconds since 1970, as ``changes.timestamp`` and `current_timestamp` tell them.
        """

    @abstractmethod
    def current_timestamp(self) -> float:
        """Return the time of the last changes that were saved, in seconds since 1970; 0 where there are none."""

    def apply_changes(self, world: World, changes: ChangeSet, *, conflict: Conflict = "error") -> None:
        """Bring *changes* into *world*; see ``World.apply``."""
        apply(world, changes, conflict=conflict)

    def close(self) -> None:  # noqa: B027 - one without files has nothing to let go of
        """Let go of files and connections; a second time does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class DeltaManager:
    """The places for changes of a program; the first that is registered is the default one."""

    def __init__(self) -> None:
        self._deltas: Named[DeltaPersistencePlugin] = Named(
            DeltaPersistencePlugin, "delta plugin", "register_delta_plugin", "DeltaLog.open(path)"
        )

    def register_delta_plugin(self, name: str, plugin: DeltaPersistencePlugin) -> None:
        """Make *plugin* the place for changes of that name, in place of another one.

        Raises
        ------
        PluginNotFoundError
            If it is no `DeltaPersistencePlugin`.
        """
        self._deltas.register(name, plugin)

    def unregister_delta_plugin(self, name: str) -> DeltaPersistencePlugin:
        """Forget the place for changes of that name, and return it; it is not closed.

        Raises
        ------
        PluginNotFoundError
            If there is none.
        """
        return self._deltas.unregister(name)

    def list_delta_plugins(self) -> list[str]:
        """Return the names of the places for changes."""
        return list(self._deltas.plugins)

    def set_default_delta_plugin(self, name: str) -> None:
        """Make the place for changes of that name the default one.

        Raises
        ------
        PluginNotFoundError
            If there is none.
        """
        self._deltas.set_default(name)

    def delta_plugin(self, name: str | None = None) -> DeltaPersistencePlugin:
        """Return the place for changes of that name, by default the default one.

        Raises
        ------
        PluginNotFoundError
            If there is none; the message lists those that there are.
        """
        return self._deltas.get(name)

    def save_delta(self, changes: ChangeSet | ChangeTracker, name: str | None = None) -> ChangeSet:
        """Save changes in the delta plugin *name*, and return them.

        Of a tracker those since its last checkpoint, and when they are saved it makes another one.
        """
        plugin = self.delta_plugin(name)
        if isinstance(changes, ChangeTracker):
            with changes.taking() as found:
                plugin.save_changes(found)
            return found
        if not isinstance(changes, ChangeSet):
            raise PersistenceError(
                f"expected a ChangeSet or a ChangeTracker, found {shown(changes)}",
                suggestion="call tracker.changes()",
            )
        plugin.save_changes(changes)
        return changes

    def load_delta(
        self, world: World, since: float = 0.0, name: str | None = None, *, conflict: Conflict = "error"
    ) -> ChangeSet:
        """Bring the changes after a time from the delta plugin *name* into *world*, and return them."""
        plugin = self.delta_plugin(name)
        changes = plugin.load_changes(since)
        plugin.apply_changes(world, changes, conflict=conflict)
        return changes

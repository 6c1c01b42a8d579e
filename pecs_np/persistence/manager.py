"""`PersistenceManager`: formats and entity stores by name, migrations, and saves in the background."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self, Unpack

from pecs_np.ecs.snapshot import TableFilter
from pecs_np.ecs.world import World
from pecs_np.errors import PersistenceError, PluginNotFoundError
from pecs_np.messages import shown
from pecs_np.persistence.delta_plugins import DeltaManager
from pecs_np.persistence.disk import has_suffix
from pecs_np.persistence.entity_manager import EntityManager
from pecs_np.persistence.filters import PersistenceFilter
from pecs_np.persistence.formats import BINARY, JSON, AnyFormat, installed
from pecs_np.persistence.loading import ReadOptions, load_snapshot
from pecs_np.persistence.migrations import Migration, MigrationChain
from pecs_np.persistence.plugins import PersistencePlugin, persistent, world_made_by
from pecs_np.persistence.reporting import SaveReport
from pecs_np.persistence.saving import SaveOptions, WriteOptions, check_plugin, save_snapshot, save_world

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["PersistenceManager"]


class PersistenceManager(EntityManager, DeltaManager):
    """The formats, the entity stores, the places for changes and the migrations of a program.

    It knows "binary" and "json", and the formats that installed packages add. A path is saved in the
    format that its suffix names, else in the default one, and loaded in the format that its content
    shows. Use it in a ``with`` block, or `close` it, where it saves in the background.

    Parameters
    ----------
    migrations : MigrationChain, optional
        Applied to every world that is loaded.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from pecs_np import World
    >>> manager = PersistenceManager()
    >>> manager.list_plugins()[:2]
    ['binary', 'json']
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = manager.save_with(World(), Path(folder, "level.json"), "json")
    ...     len(manager.load(Path(folder, "level.json")))
    0
    """

    def __init__(self, *, migrations: MigrationChain | Iterable[Migration] = ()) -> None:
        EntityManager.__init__(self)
        DeltaManager.__init__(self)
        self._plugins: dict[str, PersistencePlugin] = {"binary": BINARY, "json": JSON}
        self._default = "binary"
        self._chain = migrations if isinstance(migrations, MigrationChain) else MigrationChain(migrations)
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PersistenceManager: {', '.join(self.list_plugins())}; default {self._default}>"

    # Formats

    def register_plugin(self, name: str, plugin: PersistencePlugin) -> None:
        """Make *plugin* the format of that name, in place of another one.

        Raises
        ------
        PluginNotFoundError
            If it is no plugin.
        """
        if not isinstance(name, str) or not name:
            raise PersistenceError(f"expected a name for the format, found {shown(name)}")
        check_plugin(plugin)
        self._plugins[name] = plugin

    def unregister_plugin(self, name: str) -> None:
        """Forget the format of that name, which is not the default one.

        Raises
        ------
        PluginNotFoundError
            If there is none.
        """
        self.plugin(name)
        if name == self._default:
            raise PersistenceError(
                f"expected another format than the default one, found {name!r}",
                suggestion="call set_default_plugin first",
            )
        self._plugins.pop(name, None)

    def plugin(self, name: str | None = None) -> PersistencePlugin:
        """Return the format of that name, by default the default one.

        Raises
        ------
        PluginNotFoundError
            If there is none; the message lists those that there are.
        """
        name = self._default if name is None else name
        if isinstance(name, str) and name not in self._plugins and name in installed():
            self._plugins[name] = installed()[name]()
        try:
            return self._plugins[name]
        except (KeyError, TypeError):
            raise PluginNotFoundError(
                f"expected one of the formats {', '.join(self.list_plugins())}, found {shown(name)}",
                suggestion="register it: manager.register_plugin(name, plugin)",
            ) from None

    def has_plugin(self, name: str) -> bool:
        """Tell whether there is a format of that name."""
        return isinstance(name, str) and (name in self._plugins or name in installed())

    def list_plugins(self) -> list[str]:
        """Return the names of all formats, those that packages add last."""
        return [*self._plugins, *sorted(installed().keys() - self._plugins.keys())]

    @property
    def default_plugin(self) -> str:
        """The name of the format for paths whose suffix names none."""
        return self._default

    def set_default_plugin(self, name: str) -> None:
        """Make the format of that name the default one.

        Raises
        ------
        PluginNotFoundError
            If there is none.
        """
        self.plugin(name)
        self._default = name

    # Migrations

    def register_migration(self, migration: Migration) -> None:
        """Add the next step of the world's migrations; see `MigrationChain.add`."""
        self._chain.add(migration)

    @property
    def migrations(self) -> MigrationChain:
        """What is applied to every world that is loaded."""
        return self._chain

    # Saving

    def save(self, world: World, path: Any, **options: Unpack[SaveOptions]) -> SaveReport:
        """Save *world* to a path, in the format that its suffix names, else the default one; see `World.save`."""
        return save_world(world, path, self._for_path(path), **options)

    def save_with(self, world: World, path: Any, name: str, **options: Unpack[SaveOptions]) -> SaveReport:
        """Save *world* to a path in the format *name*.

        Raises
        ------
        PluginNotFoundError
            If there is no such format.
        """
        return save_world(world, path, self.plugin(name), **options)

    def save_to_writer(
        self, world: World, writer: Any, name: str | None = None, **options: Unpack[SaveOptions]
    ) -> SaveReport:
        """Write *world* to a file object in the format *name*, by default the default one."""
        _check_stream(writer, "write")
        return save_world(world, writer, self.plugin(name), **options)

    def save_in_background(
        self,
        world: World,
        path: Any,
        name: str | None = None,
        *,
        filter: PersistenceFilter | TableFilter | None = None,  # noqa: A002 - the word for it
        **options: Unpack[WriteOptions],
    ) -> Future[SaveReport]:
        """Copy what is to be saved at once, and save it in a thread; the world may go on.

        Saves of one manager follow one another in the order of the calls.

        Returns
        -------
        Future
            Its result is the `SaveReport`, and raises what failed.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from pecs_np import World
        >>> world = World()
        >>> with tempfile.TemporaryDirectory() as folder, PersistenceManager() as manager:
        ...     saving = manager.save_in_background(world, Path(folder, "game.pecs"))
        ...     ids = world.spawn_batch(count=10)
        ...     saving.result().entities
        0
        """
        start = time.perf_counter()
        plugin = self._for_path(path) if name is None else self.plugin(name)
        snapshot = persistent(world, filter).copy()
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - it takes long to import

        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, "pecs_np-save")
            work = functools.partial(save_snapshot, snapshot, path, plugin, start=start, **options)
            return self._executor.submit(work)

    def close(self) -> None:
        """Wait for the saves in the background, and close the stores and the places for changes.

        The manager can be used on.
        """
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()
        for store in self._stores.plugins.values():
            store.close()
        for delta in self._deltas.plugins.values():
            delta.close()

    # Loading

    def load(self, path: Any, **options: Unpack[ReadOptions]) -> World:
        """Return the world that a path holds, in the format that its content shows; see `World.load`."""
        default = self.plugin()
        if not default.has_bytes:
            return self._load(path, default, **options)
        return self._load(path, AnyFormat([p for p in self._formats() if p.has_bytes]), **options)

    def load_with(self, path: Any, name: str, **options: Unpack[ReadOptions]) -> World:
        """Return the world that a path holds in the format *name*.

        Raises
        ------
        PluginNotFoundError
            If there is no such format.
        """
        return self._load(path, self.plugin(name), **options)

    def load_from_reader(self, reader: Any, name: str | None = None, **options: Unpack[ReadOptions]) -> World:
        """Return the world that a file object gives in the format *name*, by default the default one."""
        _check_stream(reader, "read")
        return self._load(reader, self.plugin(name), **options)

    def _load(self, path: Any, plugin: PersistencePlugin, **options: Unpack[ReadOptions]) -> World:
        return world_made_by().from_snapshot(load_snapshot(path, plugin, migrations=self._chain, **options))

    def _for_path(self, path: Any) -> PersistencePlugin:
        """Return the format for a path to save to."""
        for plugin in self._formats():
            if any(has_suffix(path, suffix) for suffix in plugin.suffixes):
                return plugin
        return self.plugin()

    def _formats(self) -> Iterator[PersistencePlugin]:
        """Give the default format, then all others; those of packages that cannot be loaded are left out."""
        default = self.plugin()
        yield default
        yield from [plugin for plugin in self._plugins.values() if plugin is not default]
        for name in installed().keys() - self._plugins.keys():
            with contextlib.suppress(PluginNotFoundError):
                yield self.plugin(name)


def _check_stream(stream: Any, method: str) -> None:
    if not hasattr(stream, method):
        raise PersistenceError(
            f"expected a file object with {method}(), found {shown(stream)}",
            suggestion="paths are for save, save_with, load and load_with",
        )

"""The formats at hand: those of the package, those that other packages add, and how a file tells its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from pecs_np.ecs.snapshot import Snapshot
from pecs_np.errors import PluginNotFoundError
from pecs_np.messages import shown
from pecs_np.persistence.binary.plugin import BinaryPlugin
from pecs_np.persistence.disk import PathLike, has_suffix
from pecs_np.persistence.input_files import InputFile
from pecs_np.persistence.json.plugin import JsonPlugin
from pecs_np.persistence.plugins import PersistencePlugin

__all__ = ["BINARY", "GROUP", "JSON", "AnyFormat", "for_path", "installed"]

GROUP = "pecs_np.plugins"
BINARY = BinaryPlugin()
JSON = JsonPlugin()
# What a plugin sees of a file to tell its format.
_START = 64


def for_path(path: Any) -> PersistencePlugin:
    """Return the format for a path to save to: JSON for ``.json``, else binary."""
    return JSON if has_suffix(path, ".json") else BINARY


class AnyFormat(PersistencePlugin):
    """Reads what any of *plugins* recognises; what none does is for the first of them to refuse."""

    def __init__(self, plugins: Iterable[PersistencePlugin]) -> None:
        self._plugins = tuple(plugins)

    def _of(self, start: bytes, path: Any = None) -> PersistencePlugin:
        for plugin in self._plugins:
            if plugin.recognises(start):
                return plugin
        for plugin in self._plugins:
            if any(has_suffix(path, suffix) for suffix in plugin.suffixes):
                return plugin
        return self._plugins[0]

    def decode(self, data: Any, name: str) -> Snapshot:
        """Return the snapshot that the bytes-like *data* holds in one of the formats."""
        return self._of(bytes(memoryview(data)[:_START])).decode(data, name)

    def decode_file(self, file: PathLike | InputFile) -> Snapshot:
        """Return the snapshot that a file holds in one of the formats."""
        with InputFile.of(file) as opened:
            if opened.size is None:
                return self._of(b"", opened.name).decode_file(opened)
            start = bytearray(min(_START, opened.size))
            opened.read_into(memoryview(start), 0)
            return self._of(bytes(start), opened.name).decode_file(opened)

    def format_name(self) -> str:
        """Return ``"any"``."""
        return "any"

    def format_version(self) -> int:
        """Return that of the first format."""
        return self._plugins[0].format_version()


@functools.cache
def installed() -> dict[str, Callable[[], PersistencePlugin]]:
    """Return what makes the plugin of each format that installed packages add, by name.

    A package adds one by an entry point of the group ``pecs_np.plugins``: a name, and a class or function
    that returns a `PersistencePlugin` when called without arguments.
    """
    from importlib.metadata import entry_points  # noqa: PLC0415 - it takes long to import

    return {point.name: functools.partial(_made, point) for point in entry_points(group=GROUP)}


def _made(point: Any) -> PersistencePlugin:
    """Return the plugin of an entry point."""
    try:
        plugin = point.load()()
    except Exception as error:
        raise PluginNotFoundError(
            f"the format {point.name!r} cannot be loaded from {point.value}: {type(error).__name__}: {error}",
            suggestion="update or remove the package that adds it",
        ) from error
    if not isinstance(plugin, PersistencePlugin):
        raise PluginNotFoundError(
            f"expected a PersistencePlugin from {point.value}, found {shown(plugin)} as the format {point.name!r}"
        )
    return plugin

"""`JsonPlugin`: the JSON format as a plugin."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from pecs_np.ecs.snapshot import Snapshot
from pecs_np.errors import PersistenceError
from pecs_np.messages import shown
from pecs_np.persistence.consistency import check_snapshot
from pecs_np.persistence.limits import Limits, within_memory
from pecs_np.persistence.plugins import PersistencePlugin

__all__ = ["JsonPlugin"]


class JsonPlugin(PersistencePlugin):
    """The JSON format: a world as text, to read, to compare and to edit.

    A document holds all that a save of the binary format holds, every number bit for bit. Documents of the
    original Rust library are read too.

    Parameters
    ----------
    schema : bool
        Whether to list the fields of each component type, so that the document can be read where they
        are not defined.
    limits : Limits, optional
        On what a document may ask for when it is read.

    Raises
    ------
    PersistenceError
        If an option is of another kind.

    Examples
    --------
    >>> from pecs_np import World
    >>> world = World()
    >>> _ = world.spawn_with_stable_id(7)
    >>> world.to_bytes(JsonPlugin())
    b'{"version":1,"entity_count":1,"component_types":[],"entities":[{"stable_id":"7","components":[]}]}'
    """

    suffixes = (".json",)

    def __init__(self, *, schema: bool = True, limits: Limits | None = None) -> None:
        if not isinstance(schema, bool):
            raise PersistenceError(f"expected True or False for schema, found {shown(schema)}")
        self.schema = schema
        self.limits = Limits.of(limits)
        self._pretty = False

    @classmethod
    def pretty(cls, *, schema: bool = True, limits: Limits | None = None) -> Self:
        """Return the plugin that breaks the text into lines, indented by two spaces a level.

        Lists within the data of a component stay on one line.
        """
        plugin = cls(schema=schema, limits=limits)
        plugin._pretty = True
        return plugin

    def __repr__(self) -> str:
        make = ".pretty" if self._pretty else ""
        return f"{type(self).__name__}{make}(schema={self.schema})"

    def encode(self, snapshot: Snapshot) -> Iterable[Any]:
        """Return *snapshot* as pieces of text, each made when it is asked for."""
        from pecs_np.persistence.json import templates, writer  # noqa: PLC0415 - most programs never do

        check_snapshot(snapshot)
        style = templates.PRETTY if self._pretty else templates.COMPACT
        return writer.encode(snapshot, style, schema=self.schema)

    def decode(self, data: Any, name: str = "<bytes>") -> Snapshot:
        """Return the snapshot that the document *data* holds."""
        from pecs_np.persistence.json import reader  # noqa: PLC0415 - most programs never do

        with within_memory(name):
            return reader.decode(data, name, self.limits)

    def recognises(self, start: bytes) -> bool:
        """Tell whether a file begins as an object does, white space and a byte order mark aside."""
        return start.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").startswith(b"{")

    def format_name(self) -> str:
        """Return ``"json"``."""
        return "json"

    def format_version(self) -> int:
        """Return 1."""
        return 1

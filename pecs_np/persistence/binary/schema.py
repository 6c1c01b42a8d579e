"""The schema document of a save: who wrote it, the world's own data, the fields of each type, the tables."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import orjson

from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import Layout
from pecs_np.ecs.portable import fields_from_schema, schema_of
from pecs_np.ecs.registry import registry_version
from pecs_np.ecs.snapshot import Snapshot
from pecs_np.errors import InvalidFormatError, LimitExceededError
from pecs_np.messages import shown
from pecs_np.persistence.limits import Limits
from pecs_np.persistence.resolving import is_defined_so, resolve_types
from pecs_np.persistence.world_document import read_world, world_json
from pecs_np.version import __version__

__all__ = [
    "Schema",
    "TableSchema",
    "read_schema",
    "types_json",
    "write_schema",
]

_CACHED_SIZE = 1 << 13
# Bytes of a table in the schema, at least.
_TABLE_SIZE = 32


class TableSchema(NamedTuple):
    """A table as the schema announces it: rows, indices into the registry, role."""

    rows: int
    types: tuple[int, ...]
    role: str


@dataclass(frozen=True, slots=True, eq=False)
class Schema:
    """The schema document, checked.

    Attributes
    ----------
    types : tuple of ComponentType
        As the file describes them.
    tables : tuple of TableSchema
    version : int
    metadata : dict
    rngs : dict
    id_source : (int, int) or None
    cache : dict
        What readers worked out from it, for as long as it lives.
    """

    types: tuple[ComponentType, ...]
    tables: tuple[TableSchema, ...]
    version: int
    metadata: dict[str, Any]
    rngs: dict[str, dict[str, Any]]
    id_source: tuple[int, int] | None
    cache: dict[str, Any] = field(default_factory=dict)

    def resolved(self, where: str) -> tuple[ComponentType, ...]:
        """Return the types to build columns of: see `resolve_types`."""
        found = self.cache.get("resolved")
        if found is None or found[0] != registry_version():
            found = self.cache["resolved"] = registry_version(), resolve_types(self.types, where)
            self.cache["current"] = all(map(is_defined_so, found[1]))
        own: tuple[ComponentType, ...] = found[1]
        return own

    @property
    def is_current(self) -> bool:
        """Whether none of the types last resolved is an older version of one that this process defines."""
        return bool(self.cache["current"])


def types_json(types: Sequence[ComponentType]) -> bytes:
    """Return the schema's list of types."""
    return orjson.dumps(
        [{"name": t.name, "version": t.version, "fields": schema_of(t.fields)} for t in types]
    )


def write_schema(snapshot: Snapshot, types: bytes, tables: tuple[TableSchema, ...]) -> bytes:
    """Return the schema document; *types* comes from `types_json`.

    Raises
    ------
    PersistenceError
        If the metadata is not JSON.
    """
    world = world_json(snapshot)
    large = len(world) + len(types) + _TABLE_SIZE * len(tables) > _CACHED_SIZE
    write = _document.__wrapped__ if large else _document
    document = write(world, types, tables)
    if len(document) > Limits().schema_size:
        raise LimitExceededError(
            f"expected at most {Limits().schema_size} bytes of schema, found {len(document)}",
            suggestion="keep large data in components, not in metadata",
        )
    return document


@functools.lru_cache(maxsize=64)
def _document(world: bytes, types: bytes, tables: tuple[TableSchema, ...]) -> bytes:
    rows = b",".join(
        [b'{"rows":%d,"types":%b,"role":"%b"}' % (r, orjson.dumps(t), role.encode()) for r, t, role in tables]
    )
    return b'{"writer":"pecs_np %b","world":%b,"types":%b,"tables":[%b]}' % (
        __version__.encode(),
        world,
        types,
        rows,
    )


def read_schema(data: bytes, where: str, itemsize: int) -> Schema:
    """Return the checked schema document, which is not to be changed: it may be returned again.

    Raises
    ------
    InvalidFormatError
        If it is not JSON, or not a schema document.
    """
    read = _read_schema if len(data) <= _CACHED_SIZE else _read_schema.__wrapped__
    return read(data, where, itemsize)


@functools.lru_cache(maxsize=64)
def _read_schema(data: bytes, where: str, itemsize: int) -> Schema:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidFormatError(f"expected JSON, found {error} in the schema of {where}") from None
    if not isinstance(document, dict):
        raise _bad("an object", document, where)
    world = read_world(document.get("world"), f"the schema of {where}")
    types = _read_types(document.get("types"), where, itemsize)
    tables = _read_tables(document.get("tables"), len(types), where)
    return Schema(types, tables, *world)


def _read_types(entries: Any, where: str, itemsize: int) -> tuple[ComponentType, ...]:
    if not isinstance(entries, list):
        raise _bad("a list 'types'", entries, where)
    types = []
    for i, entry in enumerate(entries):
        here = f"types[{i}] of {where}"
        if not isinstance(entry, dict):
            raise _bad("an object", entry, here)
        name, version = entry.get("name"), entry.get("version")
        if not isinstance(name, str) or type(version) is not int:
            raise _bad("a name and a version", (name, version), here)
        here = f"types[{i}] {name!r} of {where}: fields"
        fields = fields_from_schema(entry.get("fields"), here, max_itemsize=itemsize)
        types.append(ComponentType(name, version, Layout(fields)))
    return tuple(types)


def _read_tables(entries: Any, type_count: int, where: str) -> tuple[TableSchema, ...]:
    if not isinstance(entries, list):
        raise _bad("a list 'tables'", entries, where)
    tables = []
    for i, entry in enumerate(entries):
        here = f"tables[{i}] of {where}"
        if not isinstance(entry, dict):
            raise _bad("an object", entry, here)
        rows, types, role = entry.get("rows"), entry.get("types"), entry.get("role")
        if type(rows) is not int or rows < 1:
            raise _bad("a positive number of rows", rows, here)
        if not isinstance(types, list) or any(type(t) is not int for t in types):
            raise _bad("a list of type indices", types, here)
        if any(a >= b for a, b in pairwise(types)) or not all(0 <= t < type_count for t in types):
            raise _bad(f"increasing type indices below {type_count}", types, here)
        if role not in ("state", "created", "modified", "resource"):
            raise _bad("a role", role, here)
        if role == "resource" and rows != 1:
            raise _bad("one row of resources", rows, here)
        tables.append(TableSchema(rows, tuple(types), role))
    if sum(table.role == "resource" for table in tables) > 1:
        raise _bad("one table of resources", "two", where)
    if len({(table.role, table.types) for table in tables}) < len(tables):
        raise _bad("one table for each set of types", "two alike", where)
    return tuple(tables)


def _bad(expected: str, found: object, where: str) -> InvalidFormatError:
    return InvalidFormatError(f"expected {expected}, found {shown(found)} in the schema of {where}")

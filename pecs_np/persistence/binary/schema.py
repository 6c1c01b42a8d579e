"""The schema document of a save: who wrote it, the world's own data, the fields of each type, the tables."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import orjson

from pecs_np.ecs.changes import WorldState
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import Layout
from pecs_np.ecs.portable import fields_from_schema, schema_of
from pecs_np.ecs.registry import registry_version
from pecs_np.ecs.snapshot import Snapshot
from pecs_np.errors import InvalidFormatError, LimitExceededError, PersistenceError
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
# Of a delta whose world, apart from its entities, is as before.
_AS_BEFORE = b"{}"
# Seconds of the years 1 to 9999, which is what can be shown as a date.
_FIRST_SECOND, _LAST_SECOND = -62135596800, 253402300800
_ROLES = ("state", "resource")
_DELTA_ROLES = ("created", "modified", "resource")


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
    as_before : bool
        Of a delta: whether the world, apart from its entities, is as it was.
    timestamp : float
        Of a delta: seconds since 1970, of when it was noticed.
    cache : dict
        What readers worked out from it, for as long as it lives.
    """

    types: tuple[ComponentType, ...]
    tables: tuple[TableSchema, ...]
    version: int
    metadata: dict[str, Any]
    rngs: dict[str, dict[str, Any]]
    id_source: tuple[int, int] | None
    as_before: bool = False
    timestamp: float = 0.0
    cache: dict[str, Any] = field(default_factory=dict)

    def resolved(self, where: str) -> tuple[ComponentType, ...]:
        """Return the types to build columns of: see `resolve_types`."""
        found = self.cache.get("resolved")
        if found is None or found[0] != registry_version():
            version, types = registry_version(), resolve_types(self.types, where)
            # All at once: another thread may be reading a save of the same schema.
            found = self.cache["resolved"] = version, types, all(map(is_defined_so, types))
        own: tuple[ComponentType, ...] = found[1]
        return own

    @property
    def is_current(self) -> bool:
        """Whether none of the types last resolved is an older version of one that this process defines."""
        return bool(self.cache["resolved"][2])


def types_json(types: Sequence[ComponentType]) -> bytes:
    """Return the schema's list of types."""
    return orjson.dumps(
        [{"name": t.name, "version": t.version, "fields": schema_of(t.fields)} for t in types]
    )


def write_schema(
    world: Snapshot | WorldState | None,
    types: bytes,
    tables: tuple[TableSchema, ...],
    timestamp: float | None = None,
) -> bytes:
    """Return the schema document.

    Parameters
    ----------
    world : Snapshot or WorldState, optional
        None for a delta in which it is as before.
    types : bytes
        From `types_json`.
    tables : tuple of TableSchema
    timestamp : float, optional
        Of a delta: seconds since 1970.

    Raises
    ------
    PersistenceError
        If the metadata is not JSON, or the time is none.
    """
    about = _AS_BEFORE if world is None else world_json(world)
    if timestamp is not None:
        document = _document.__wrapped__(about, types, tables, _time_json(timestamp))
    else:
        large = len(about) + len(types) + _TABLE_SIZE * len(tables) > _CACHED_SIZE
        write = _document.__wrapped__ if large else _document
        document = write(about, types, tables)
    if len(document) > Limits().schema_size:
        raise LimitExceededError(
            f"expected at most {Limits().schema_size} bytes of schema, found {len(document)}",
            suggestion="keep large data in components, not in metadata",
        )
    return document


@functools.lru_cache(maxsize=64)
def _document(world: bytes, types: bytes, tables: tuple[TableSchema, ...], time: bytes = b"") -> bytes:
    rows = b",".join(
        [b'{"rows":%d,"types":%b,"role":"%b"}' % (r, orjson.dumps(t), role.encode()) for r, t, role in tables]
    )
    return b'{"writer":"pecs_np %b","world":%b,"types":%b,"tables":[%b]%b}' % (
        __version__.encode(),
        world,
        types,
        rows,
        time,
    )


def _time_json(timestamp: float) -> bytes:
    """Return the member for a time; 0, which is none, has none."""
    if not isinstance(timestamp, float | int) or not _FIRST_SECOND <= timestamp < _LAST_SECOND:
        raise PersistenceError(
            f"expected seconds since 1970 as the time of changes, found {shown(timestamp)}",
            suggestion="pass a clock that counts them to ChangeTracker",
        )
    return b',"timestamp":%b' % orjson.dumps(float(timestamp)) if timestamp else b""


def read_schema(data: bytes, where: str, itemsize: int, *, delta: bool = False) -> Schema:
    """Return the checked schema document, which is not to be changed: it may be returned again.

    Raises
    ------
    InvalidFormatError
        If it is not JSON, or not a schema document of a whole save, or of a *delta*.
    """
    # Those of deltas have a time each.
    read = _read_schema if len(data) <= _CACHED_SIZE and not delta else _read_schema.__wrapped__
    return read(data, where, itemsize, delta)


@functools.lru_cache(maxsize=64)
def _read_schema(data: bytes, where: str, itemsize: int, delta: bool) -> Schema:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidFormatError(f"expected JSON, found {error} in the schema of {where}") from None
    if not isinstance(document, dict):
        raise _bad("an object", document, where)
    world = read_world(document.get("world"), f"the schema of {where}")
    if not delta:
        types = _read_types(document.get("types"), where, itemsize)
        tables = _read_tables(document.get("tables"), len(types), where)
        strange = [table.role for table in tables if table.role not in _ROLES]
        if strange:
            raise _bad("tables of a whole save", strange[0], where)
        return Schema(types, tables, *world)
    # The same in each of many deltas.
    types = _read_types_again(orjson.dumps(document.get("types")), where, itemsize)
    tables = _read_tables(document.get("tables"), len(types), where)
    as_before = document.get("world") == {}
    _check_delta_tables(tables, where, as_before=as_before)
    timestamp = document.get("timestamp", 0.0)
    if type(timestamp) not in (int, float) or not _FIRST_SECOND <= timestamp < _LAST_SECOND:
        raise _bad("seconds since 1970 as 'timestamp'", timestamp, where)
    return Schema(types, tables, *world, as_before, float(timestamp))


@functools.lru_cache(maxsize=16)
def _read_types_again(entries: bytes, where: str, itemsize: int) -> tuple[ComponentType, ...]:
    return _read_types(orjson.loads(entries), where, itemsize)


def _check_delta_tables(tables: tuple[TableSchema, ...], where: str, *, as_before: bool) -> None:
    """Raise unless the tables of a delta are in their order: those created, modified, resources."""
    last: tuple[int, tuple[int, ...]] | None = None
    for i, table in enumerate(tables):
        here = f"tables[{i}] of {where}"
        if table.role not in _DELTA_ROLES:
            raise _bad(f"a role of a delta, {', '.join(_DELTA_ROLES)},", table.role, here)
        place = _DELTA_ROLES.index(table.role), table.types
        if last is not None and place <= last:
            raise _bad("tables created, modified and resources, each by their types", table, here)
        last = place
        if table.role == "modified" and not table.types:
            raise _bad("a component in a table of modified ones", table.types, here)
        if table.role == "resource" and as_before:
            raise _bad("no resources where the world is as before", table.role, here)


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

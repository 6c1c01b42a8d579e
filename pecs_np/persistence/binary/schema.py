"""The schema document of a save: who wrote it, the world's own data, the fields of each type, the tables."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import orjson

from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import Layout, check_name
from pecs_np.ecs.portable import fields_from_schema, schema_of
from pecs_np.ecs.registry import registered, registry_version
from pecs_np.ecs.resources import BIT_GENERATORS, STABLE_IDS
from pecs_np.ecs.snapshot import Snapshot
from pecs_np.errors import (
    ComponentDefinitionError,
    InvalidFormatError,
    LimitExceededError,
    PersistenceError,
    UnsupportedVersionError,
)
from pecs_np.messages import shown
from pecs_np.persistence.limits import Limits
from pecs_np.version import __version__

__all__ = [
    "Schema",
    "TableSchema",
    "check_metadata",
    "read_schema",
    "resolve_types",
    "types_json",
    "write_schema",
]

_DEEPEST = 100
_PHILOX_BUFFER, _MT19937_WORDS = 4, 624
_CACHED_SIZE = 1 << 13


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
        own: tuple[ComponentType, ...] = found[1]
        return own


def types_json(types: Sequence[ComponentType]) -> bytes:
    """Return the schema's list of types."""
    return orjson.dumps(
        [{"name": t.name, "version": t.version, "fields": schema_of(t.fields)} for t in types]
    )


def check_metadata(snapshot: Snapshot) -> None:
    """Raise unless the metadata are a dict."""
    if not isinstance(snapshot.metadata, dict):
        raise PersistenceError(
            f"expected a dict as metadata, found {shown(snapshot.metadata)}",
            suggestion='write world.metadata = {"note": …}',
        )


def write_schema(snapshot: Snapshot, types: bytes, tables: tuple[TableSchema, ...]) -> bytes:
    """Return the schema document; *types* comes from `types_json`.

    Raises
    ------
    PersistenceError
        If the metadata is not JSON.
    """
    check_metadata(snapshot)
    metadata = b"{}"
    if snapshot.metadata:
        check_json(snapshot.metadata, "metadata")
        try:
            metadata = orjson.dumps(snapshot.metadata, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError as error:
            raise PersistenceError(f"expected metadata that JSON can hold: {error}") from None
    rngs = b"{}"
    if snapshot.rngs or snapshot.id_source is not None:
        states = {name: _texts(state) for name, state in snapshot.rngs.items()}
        if snapshot.id_source is not None:
            states[STABLE_IDS] = _id_state(*snapshot.id_source)
        rngs = orjson.dumps(states, option=orjson.OPT_SORT_KEYS)
    version = snapshot.version
    if type(version) is not int or not 0 < version < 1 << 32:
        raise PersistenceError(f"expected a world version from 1 to {2**32 - 1}, found {version!r}")
    large = len(metadata) + len(rngs) + len(types) > _CACHED_SIZE
    write = _document.__wrapped__ if large else _document
    document = write(version, metadata, rngs, types, tables)
    if len(document) > Limits().schema_size:
        raise LimitExceededError(
            f"expected at most {Limits().schema_size} bytes of schema, found {len(document)}",
            suggestion="keep large data in components, not in metadata",
        )
    return document


@functools.lru_cache(maxsize=64)
def _document(
    version: int, metadata: bytes, rngs: bytes, types: bytes, tables: tuple[TableSchema, ...]
) -> bytes:
    rows = b",".join(
        [b'{"rows":%d,"types":%b,"role":"%b"}' % (r, orjson.dumps(t), role.encode()) for r, t, role in tables]
    )
    world = b'{"version":%d,"metadata":%b,"rng":%b}' % (version, metadata, rngs)
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
    world = document.get("world")
    if not isinstance(world, dict):
        raise _bad("an object 'world'", world, where)
    version, metadata = world.get("version", 1), world.get("metadata", {})
    if type(version) is not int or not 0 < version < 1 << 32:
        raise _bad("a world version", version, where)
    if not isinstance(metadata, dict):
        raise _bad("an object 'metadata'", metadata, where)
    rngs, id_source = _read_rngs(world.get("rng", {}), where)
    if metadata:
        check_json(metadata, f"metadata of {where}")
    types = _read_types(document.get("types"), where, itemsize)
    tables = _read_tables(document.get("tables"), len(types), where)
    return Schema(types, tables, version, metadata, rngs, id_source)


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


def check_json(value: Any, where: str) -> None:
    """Raise unless *value* is what JSON gives back unchanged."""
    if (bad := _not_json(value, 0)) is not None:
        what, path = bad
        raise PersistenceError(
            f"expected {what} at {where}{''.join(reversed(path))[:200]}",
            suggestion="convert it to a dict, list, str, int, float, bool or None",
        )


def _not_json(value: Any, depth: int) -> tuple[str, list[str]] | None:
    """Return what is wrong with *value*, and where, from the inside out."""
    if depth > _DEEPEST:
        return f"at most {_DEEPEST} levels, found more", []
    kind = type(value)
    if kind is dict:
        for key, member in value.items():
            if type(key) is not str:
                return f"text keys, found {shown(key)}", []
            if (bad := _not_json(member, depth + 1)) is not None:
                bad[1].append(f"[{shown(key)}]")
                return bad
    elif kind is list:
        for i, member in enumerate(value):
            if (bad := _not_json(member, depth + 1)) is not None:
                bad[1].append(f"[{i}]")
                return bad
    elif kind is float:
        if not math.isfinite(value):
            return f"a finite number, found {value}", []
    elif kind not in (str, int, bool, type(None)):
        return f"a dict, list, str, int, float, bool or None, found {shown(value)}", []
    return None


def _id_state(high: int, low: int) -> dict[str, Any]:
    """Return the stable-id source as a Philox: its key is the high half, its counter the next low half."""
    zeros = ["0"] * 3
    return {
        "bit_generator": "Philox",
        "state": {"counter": [str(low), *zeros], "key": [str(high), "0"]},
        "buffer": ["0", *zeros],
        "buffer_pos": "4",
        "has_uint32": "0",
        "uinteger": "0",
    }


def _texts(value: Any) -> Any:
    """Return a bit generator's state with every integer as a decimal string."""
    if isinstance(value, Mapping):
        return {key: _texts(member) for key, member in value.items()}
    if isinstance(value, np.ndarray):
        return [str(member) for member in value.tolist()]
    return value if isinstance(value, str) else str(int(value))


def _read_rngs(states: Any, where: str) -> tuple[dict[str, dict[str, Any]], tuple[int, int] | None]:
    """Return the generators' states as NumPy takes them, and the stable-id source."""
    if not isinstance(states, dict):
        raise _bad("an object 'rng'", states, where)
    rngs: dict[str, dict[str, Any]] = {}
    for name, state in states.items():
        here = f"rng {name!r:.80} of {where}"
        check_name(name, here, InvalidFormatError)
        kind = state.get("bit_generator") if isinstance(state, dict) else None
        if kind not in BIT_GENERATORS:
            raise _bad(f"one of {BIT_GENERATORS}", kind, here)
        generator = getattr(np.random, kind)()
        found = _like(generator.state, state, here)
        try:
            generator.state = found
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidFormatError(f"expected the state of a {kind}: {error} in {here}") from None
        # NumPy does not check these, and reads beyond its memory.
        at = found.get("buffer_pos", 0), found["state"].get("pos", 0)
        if at[0] > _PHILOX_BUFFER or at[1] > _MT19937_WORDS:
            raise _bad("a position within the generator's buffer", at, here)
        rngs[name] = found
    source = rngs.pop(STABLE_IDS, None)
    if source is None:
        return rngs, None
    if source["bit_generator"] != "Philox":
        raise _bad("a Philox", source["bit_generator"], f"rng {STABLE_IDS!r} of {where}")
    return rngs, (int(source["state"]["key"][0]), int(source["state"]["counter"][0]))


def _like(model: Any, value: Any, where: str) -> Any:
    """Return *value* with its decimal strings as integers, of the same structure as *model*."""
    if isinstance(model, Mapping):
        if not isinstance(value, dict) or value.keys() != model.keys():
            raise _bad(f"members {sorted(model)}", value, where)
        return {key: _like(member, value[key], where) for key, member in model.items()}
    if isinstance(model, np.ndarray):
        if not isinstance(value, list) or len(value) != len(model):
            raise _bad(f"{len(model)} integers", value, where)
        bits = 8 * model.itemsize
        return np.array([_integer(member, bits, where) for member in value], model.dtype)
    if isinstance(model, str):
        return value
    return _integer(value, 128, where)


def _integer(value: Any, bits: int, where: str) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 40:
        number = int(value)
        if number < 1 << bits:
            return number
    raise _bad(f"an integer of {bits} bits as a decimal string", value, where)


def _bad(expected: str, found: object, where: str) -> InvalidFormatError:
    return InvalidFormatError(f"expected {expected}, found {shown(found)} in the schema of {where}")

"""The component types of a document: by name and by id, as it lists them or as this program defines them."""

from __future__ import annotations

import functools
from typing import Any

import orjson

from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import Layout, check_name
from pecs_np.ecs.portable import fields_from_schema
from pecs_np.ecs.registry import registered
from pecs_np.errors import InvalidFormatError, LimitExceededError, UnsupportedVersionError
from pecs_np.persistence.json.decimals import MOST_DIGITS
from pecs_np.persistence.json.values import as_json, bad_value
from pecs_np.persistence.json.writer import id_of
from pecs_np.persistence.limits import Limits
from pecs_np.persistence.resolving import resolve_types

__all__ = ["DocumentTypes"]

# Bytes of a schema that is kept for the next load.
_MOST_CACHED = 4096


class DocumentTypes:
    """The types that the components of a document may have.

    Parameters
    ----------
    entries : list or None
        The member ``component_types``; types defined in this program need no entry.
    name : str
        Of the document, for messages.
    limits : Limits

    Raises
    ------
    InvalidFormatError
        If an entry is no type, or one stands there twice.
    UnsupportedVersionError, ComponentDefinitionError
        If this program defines a type otherwise.
    """

    def __init__(self, entries: Any, name: str, limits: Limits) -> None:
        self._name = name
        self._limits = limits
        self._types: dict[str, ComponentType | None] = {}
        # Of listed types: their ids here, which may be others than those of this library.
        self._ids: dict[str, str] = {}
        self._names: dict[str, str] = {}
        if entries is None:
            entries = []
        if not isinstance(entries, list):
            raise InvalidFormatError(f"expected a list 'component_types', found {as_json(entries)} in {name}")
        if len(entries) > limits.types:
            raise LimitExceededError(
                f"expected at most {limits.types} types, found {len(entries)} in {name}",
                suggestion="pass larger Limits if you trust where it comes from",
            )
        listed = []
        for i, entry in enumerate(entries):
            described = self._read(entry, f"component_types[{i}]")
            if described is not None:
                listed.append(described)
        for type_ in resolve_types(tuple(listed), name):
            self._types[type_.name] = type_

    def of_name(self, name: str, where: str) -> ComponentType:
        """Return the type of that name; *where* it stands is for messages."""
        type_ = self._types.get(name)
        if type_ is None:
            cls = registered(name)
            if cls is None:
                raise InvalidFormatError(
                    f"expected the fields of {name!r:.80} in component_types, found none, at {where}",
                    suggestion="define the component before loading, or save it with its schema",
                )
            type_ = self._types[name] = cls._type
        return type_

    def name_of(self, id_: Any, where: str) -> str:
        """Return the name of the type of that id."""
        name = self._names.get(_as_text(id_))
        if name is None:
            raise bad_value("the id of a type of component_types", id_, where)
        return name

    def ids_of(self, name: str) -> set[str]:
        """Return the ids, one or two, that the type of that name may be given by."""
        return {self._ids.get(name) or id_of(name), id_of(name)}

    def is_id_of(self, id_: Any, name: str) -> bool:
        """Tell whether an id is that of a type."""
        return _as_text(id_) in self.ids_of(name)

    def _read(self, entry: Any, where: str) -> ComponentType | None:
        """Note an entry, and return the type that it describes, if it does."""
        here = f"{where} in {self._name}"
        if not isinstance(entry, dict):
            raise bad_value("an object", entry, here)
        name: Any = entry.get("type_name")
        check_name(name, here, InvalidFormatError)
        if len(name.encode()) > self._limits.name_length:
            raise LimitExceededError(
                f"expected a name of at most {self._limits.name_length} bytes, found {len(name.encode())} at {here}"
            )
        if name in self._types:
            raise bad_value("each type once", name, here)
        self._types[name] = None
        id_ = _as_text(entry.get("type_id", id_of(name)))
        if not (id_.isascii() and id_.isdigit() and len(id_) <= MOST_DIGITS):
            raise bad_value("a type_id as a decimal text", entry["type_id"], here)
        if id_ in self._names:
            raise bad_value("an id of its own for each type", id_, here)
        self._ids[name] = id_
        self._names[id_] = name
        self._names.setdefault(id_of(name), name)
        cls = registered(name)
        version = entry.get("type_version", 1 if cls is None else cls._type.version)
        if type(version) is not int or not 0 < version < 1 << 32:
            raise bad_value("a type_version from 1", version, here)
        if "schema" in entry:
            layout = _layout(entry["schema"], f"{where}.schema of {self._name}", self._limits.itemsize)
            return ComponentType(name, version, layout)
        if cls is not None and cls._type.version != version:
            raise UnsupportedVersionError(
                version,
                cls._type.version,
                what=f"component {name!r} at {here}",
                suggestion="save it with its schema",
            )
        return None


def _layout(schema: Any, where: str, max_itemsize: int) -> Layout:
    """Return the layout of the fields that a schema lists."""
    try:
        text = orjson.dumps(schema)
    except orjson.JSONEncodeError:  # nested too deeply for it, and for a schema
        text = b""
    if text and len(text) <= _MOST_CACHED:
        return _cached_layout(text, where, max_itemsize)
    return Layout(fields_from_schema(schema, where, max_itemsize=max_itemsize))


@functools.lru_cache(maxsize=64)
def _cached_layout(schema: bytes, where: str, max_itemsize: int) -> Layout:
    return Layout(fields_from_schema(orjson.loads(schema), where, max_itemsize=max_itemsize))


def _as_text(id_: Any) -> str:
    """Return an id, which may be a small integer, as a text; nothing that is no id becomes one."""
    if type(id_) is int:
        return str(id_)
    return id_.lstrip("0") or "0" if type(id_) is str else ""

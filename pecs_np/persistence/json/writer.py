"""The JSON format, written: a snapshot as a document, some thousands of entities at a time.

::

    {"version": 1,
     "entity_count": N,
     "component_types": [{"type_id": "…", "type_name": "Position", "type_version": 1, "schema": [ … ]}],
     "world": {"version": 1, "metadata": { … }, "rng": { … }},
     "resources": [ components, as an entity has them ],
     "entities": [{"stable_id": "…",
                   "components": [{"type_id": "…", "type_name": "Position", "data": {"x": 1.0, "y": 2.0}}]}]}

Ids are decimal strings of u128; the id of a type is that of the binary format. ``world`` and
``resources`` stand there only where they say something. ``schema`` lists the fields as the schema of the
binary format does; with it a document can be read where the component is not defined. The same tables in the
same order give the same text.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.ids import STABLE_ID
from pecs_np.ecs.portable import schema_of
from pecs_np.ecs.references import EntityMap
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.persistence.binary.blocks import check_rows, noticing_changes
from pecs_np.persistence.binary.columns import (
    Mapped,
    check_values,
    next_rows,
    variable_part,
)
from pecs_np.persistence.binary.header import type_id
from pecs_np.persistence.json.runs import Path
from pecs_np.persistence.json.templates import COMPACT, Style, Template, quoted
from pecs_np.persistence.world_document import world_json

__all__ = ["VERSION", "encode", "entity_template", "id_of"]

VERSION = 1

_DEFAULT_WORLD = b'{"version":1,"metadata":{},"rng":{}}'
# Rows of the first block: fewer where a row may be of any size.
_FIRST_ROWS, _FIRST_ROWS_VARIABLE = 1 << 12, 1 << 8
# Slots of all rows of a block.
_MOST_SLOTS = 1 << 16


@functools.lru_cache(maxsize=4096)
def id_of(name: str) -> str:
    """Return the id of a component type as the document has it.

    Examples
    --------
    >>> id_of("Position")
    '172757902463082033919015404040541321867'
    """
    return str(int.from_bytes(type_id(name), "little"))


def encode(snapshot: Snapshot, style: Style = COMPACT, *, schema: bool = True) -> Iterator[bytes]:
    """Return *snapshot* as the pieces of a document, each made when it is asked for.

    Parameters
    ----------
    snapshot : Snapshot
    style : Style
    schema : bool
        Whether to list the fields of each type.

    Raises
    ------
    ComponentValueError
        If a column holds what no reader would accept.
    PersistenceError
        If another thread changes the world meanwhile, as far as that is noticed; also while the pieces
        are taken.
    """
    check_rows(snapshot)
    mapped: Mapped = _nulls
    with noticing_changes():
        tables = (*snapshot.tables, snapshot.resources) if snapshot.resources else snapshot.tables
        for table in tables:
            _check(table)
        if snapshot.tables and any(t.layout.refers for t in snapshot.types):
            mapped = EntityMap((t.entities, t.stable_ids) for t in snapshot.tables)
        head = _head(snapshot, style, mapped, schema=schema)
    return _pieces(head, snapshot, style, mapped)


def _check(table: SnapshotTable) -> None:
    """Raise where a value could not be read again."""
    for type_ in table.types:
        column = table.columns[type_.name]
        check_values(column, type_)
        for f in type_.layout.variable:
            start, rows = 0, _FIRST_ROWS_VARIABLE
            while start < len(column):
                part = column[start : start + rows]
                _, values = variable_part(part, f, type_, _nulls, start)
                start += len(part)
                rows = next_rows(len(part), values.nbytes)


def _nulls(references: Array) -> Array:
    """Return null for each of *references*, which are only checked."""
    return np.zeros(references.shape, STABLE_ID)


def _head(snapshot: Snapshot, style: Style, mapped: Mapped, *, schema: bool) -> bytes:
    """Return the document up to the list of entities."""
    members = [
        (b"version", b"%d" % VERSION),
        (b"entity_count", b"%d" % snapshot.entity_count),
        (b"component_types", _types(snapshot.types, style, schema=schema)),
    ]
    world = world_json(snapshot)
    if world != _DEFAULT_WORLD:
        members.append((b"world", _laid_out(world, style)))
    if snapshot.resources:
        table = snapshot.resources
        template = Template(style)
        _components(template, table.types, 1)
        members.append((b"resources", template.render(1, _values(table, 0, 1), mapped, b"")))
    members.append((b"entities", b"["))
    line = style.line(1)
    return b"{" + b",".join([b'%b"%b"%b%b' % (line, name, style.colon, text) for name, text in members])


def _types(types: tuple[ComponentType, ...], style: Style, *, schema: bool) -> bytes:
    entries = []
    for type_ in types:
        entry = {"type_id": id_of(type_.name), "type_name": type_.name, "type_version": type_.version}
        entries.append({**entry, "schema": schema_of(type_.fields)} if schema else entry)
    return _laid_out(orjson.dumps(entries), style)


def _laid_out(text: bytes, style: Style) -> bytes:
    """Return a JSON text as a member of the document."""
    if not style.indent:
        return text
    lines = orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2)
    return lines.replace(b"\n", style.line(1))


def _components(template: Template, types: tuple[ComponentType, ...], level: int) -> None:
    """Append the list of an entity's components."""
    style = template.style
    if not types:
        template.text(b"[]")
        return
    inside, member = style.line(level + 1), style.line(level + 2)
    for i, type_ in enumerate(types):
        template.text((b"," if i else b"[") + inside + b"{" + member)
        template.text(style.key("type_id") + quoted(id_of(type_.name)) + b"," + member)
        template.text(style.key("type_name") + quoted(type_.name) + b"," + member + style.key("data"))
        template.members(type_.fields, (type_.name,), level + 2)
        template.text(inside + b"}")
    template.text(style.line(level) + b"]")


def entity_template(types: tuple[ComponentType, ...], style: Style) -> Template:
    """Return the text of an entity with components of *types*."""
    inside, member = style.line(2), style.line(3)
    template = Template(style)
    template.text(b"{" + member + style.key("stable_id") + b'"')
    template.slot(())
    template.text(b'",' + member + style.key("components"))
    _components(template, types, 3)
    template.text(inside + b"}")
    return template


def _pieces(head: bytes, snapshot: Snapshot, style: Style, mapped: Mapped) -> Iterator[bytes]:
    yield head
    before = inside = style.line(2)
    for table in snapshot.tables:
        template = entity_template(table.types, style)
        variable = any(t.layout.variable for t in table.types)
        start, rows = 0, _FIRST_ROWS_VARIABLE if variable else _FIRST_ROWS
        most = max(1, _MOST_SLOTS // len(template))
        while start < table.rows:
            stop = min(start + min(rows, most), table.rows)
            with noticing_changes():
                piece = template.render(
                    stop - start, _values(table, start, stop), mapped, b"," + inside, before
                )
            yield piece
            before = b"," + inside
            rows = next_rows(stop - start, len(piece))
            start = stop
    empty = not snapshot.tables
    yield (b"" if empty else style.line(1)) + b"]" + style.line(0) + b"}"


def _values(table: SnapshotTable, start: int, stop: int) -> Callable[[Path], Array]:
    """Return what finds the values of a slot in rows *start* to *stop*."""

    def of(path: Path) -> Array:
        if not path:
            return table.stable_ids.part(start, stop)
        values: Any = table.columns[path[0]][start:stop]
        for name in path[1:]:
            values = values[name]
        found: Array = values
        return found

    return of

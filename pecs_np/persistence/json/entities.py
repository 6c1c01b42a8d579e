"""The entities of a document, grouped by the names of their components.

Documents as the library writes them are grouped by a few calls for each component type. Others, edited
by hand or written by the Rust library, are first brought into that form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Any

from pecs_np.errors import InvalidFormatError
from pecs_np.persistence.json.document_types import DocumentTypes
from pecs_np.persistence.json.values import Where, as_json, bad_value

__all__ = ["Group", "grouped"]

_COMPONENTS = itemgetter("components")
_NAME = itemgetter("type_name")
_ID = itemgetter("type_id")
_DATA = itemgetter("data")
# Where a component that was brought into form stood in its entity.
_PLACE = "place in the document of pecs_np"


@dataclass(slots=True)
class Group:
    """Entities with components of the same types.

    Attributes
    ----------
    names : tuple of str
        Sorted.
    rows : sequence of int
        Which of the given entities.
    components : list of list of dict
        For each name, one component a row.
    """

    names: tuple[str, ...]
    rows: Any
    components: list[list[dict[str, Any]]]

    def data(self, number: int) -> list[Any]:
        """Return the data of the component of the given number of each row."""
        return list(map(_DATA, self.components[number]))

    def path(self, number: int, row: int) -> str:
        """Return the place of a component in its entity."""
        place = self.components[number][row].get(_PLACE, number)
        return f"[{as_json(place)}]"


def grouped(entities: list[Any], types: DocumentTypes, where: Where) -> Iterator[Group]:
    """Yield *entities* in groups, which are all that they need to be but for the fields of their data.

    Parameters
    ----------
    entities : list
    types : DocumentTypes
    where : callable
        ``where(entity, suffix)`` is the place of one.

    Raises
    ------
    InvalidFormatError
        If something is missing, of another kind, contradictory or there twice.
    """
    groups = _groups(entities)
    if groups is None or not all(_is_plain(group, types) for group in groups):
        groups = _groups([_tidied(entity, i, types, where) for i, entity in enumerate(entities)])
    yield from groups or ()


def _groups(entities: list[Any]) -> list[Group] | None:
    """Return the groups, or None where the entities are not in the form that the library writes."""
    try:
        lists = list(map(_COMPONENTS, entities))
        if not set(map(type, lists)) <= {list}:
            return None
        sizes = set(map(len, lists))
        if len(sizes) == 1:
            columns = list(map(list, zip(*lists, strict=True)))
            alike = [set(map(_NAME, column)) for column in columns]
            if all(len(found) == 1 for found in alike):
                return [Group(tuple([found.pop() for found in alike]), range(len(lists)), columns)]
        keys = [tuple(map(_NAME, components)) for components in lists]
        rows: dict[tuple[Any, ...], list[int]] = {}
        for row, key in enumerate(keys):
            rows.setdefault(key, []).append(row)
    except (KeyError, TypeError):
        return None
    groups = []
    for key, chosen in rows.items():
        components = map(list, zip(*[lists[row] for row in chosen], strict=True))
        groups.append(Group(key, chosen, list(components)))
    return groups


def _is_plain(group: Group, types: DocumentTypes) -> bool:
    """Tell whether names are sorted and known, ids those of the names, and data objects."""
    names = group.names
    if not set(map(type, names)) <= {str} or any(a >= b for a, b in pairwise(names)):
        return False
    for number, (name, components) in enumerate(zip(names, group.components, strict=True)):
        try:
            if not set(map(_ID, components)) <= types.ids_of(name):
                return False
            if not set(map(type, group.data(number))) <= {dict}:
                return False
        except (KeyError, TypeError):
            return False
    return True


def _tidied(entity: Any, number: int, types: DocumentTypes, where: Where) -> dict[str, Any]:
    """Return an entity whose components are as the library writes them, sorted by name."""
    if not isinstance(entity, dict):
        raise bad_value("an object", entity, where(number))
    components = entity.get("components")
    if isinstance(components, dict):
        # As the Rust library writes them: by name.
        named = [(name, {"type_name": name, "data": data, _PLACE: name}) for name, data in components.items()]
    elif isinstance(components, list):
        named = []
        for i, component in enumerate(components):
            name = _name(component, types, number, i, where)
            named.append((name, {**component, "type_name": name, _PLACE: i}))
    else:
        found = "none" if components is None else as_json(components)
        raise InvalidFormatError(f"expected a list 'components', found {found} at {where(number)}")
    tidy: dict[str, Any] = {}
    for name, component in named:
        suffix = f".components[{as_json(component[_PLACE])}]"
        if name in tidy:
            raise bad_value("each component once", name, where(number, suffix))
        if not isinstance(component.get("data"), dict):
            found = as_json(component["data"]) if "data" in component else "none"
            raise InvalidFormatError(f"expected an object 'data', found {found} at {where(number, suffix)}")
        tidy[name] = component
    return {"components": [tidy[name] for name in sorted(tidy)]}


def _name(component: Any, types: DocumentTypes, number: int, i: int, where: Where) -> str:
    """Return the name of a component's type, by name or id."""
    suffix = f".components[{i}]"
    if not isinstance(component, dict):
        raise bad_value("an object", component, where(number, suffix))
    if "type_name" not in component:
        if "type_id" not in component:
            raise InvalidFormatError(
                f"expected a type_name or a type_id, found neither at {where(number, suffix)}"
            )
        return types.name_of(component["type_id"], where(number, f"{suffix}.type_id"))
    name = component["type_name"]
    if not isinstance(name, str):
        raise bad_value("a name", name, where(number, f"{suffix}.type_name"))
    if "type_id" in component and not types.is_id_of(component["type_id"], name):
        raise bad_value(
            f"the type_id of {name!r}, {min(types.ids_of(name))}",
            component["type_id"],
            where(number, f"{suffix}.type_id"),
        )
    return name

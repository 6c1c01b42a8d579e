"""Several components given together, to spawn entities with or to insert."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pecs_np.ecs.arrays import Array, resized
from pecs_np.ecs.components import Component, ComponentType, component_type
from pecs_np.ecs.values import private_copy
from pecs_np.errors import ComponentDefinitionError, ComponentValueError, WorldError

if TYPE_CHECKING:
    from pecs_np.ecs.storage import Storage

__all__ = ["Bundle"]


class Bundle:
    """Components of different types, one value or a column each, that fit a world.

    Attributes
    ----------
    types : tuple of ComponentType
    values : dict of str to ndarray
        By type name, shape () or (n,).
    """

    __slots__ = ("types", "values")

    def __init__(self, components: Sequence[Any], storage: Storage) -> None:
        self.values: dict[str, Array] = {}
        types: list[ComponentType] = []
        for given in components:
            if not isinstance(given, Component):
                name = component_type(given).name
                raise ComponentDefinitionError(
                    f"expected a value of {name}, found the class", suggestion=f"write {name}(…)"
                )
            type_ = given._type
            if type_.name in self.values:
                raise ComponentDefinitionError(f"expected one {type_.name}, found two")
            storage.check_known(type_)
            self.values[type_.name] = given._array
            types.append(type_)
        self.types = tuple(types)

    def length(self, count: int | None) -> int:
        """Return the number of entities that the columns and *count* agree on.

        Raises
        ------
        ComponentValueError
            If they do not, or if nothing tells the number.
        """
        if count is not None and (not isinstance(count, int | np.integer) or count < 0):
            raise WorldError(f"expected a count of 0 or more, found {count!r}")
        columns = {name: value for name, value in self.values.items() if value.ndim}
        if count is None:
            if not columns:
                raise ComponentValueError(
                    "expected a column or a count, found single values only", suggestion="pass count=…"
                )
            count = max({len(column) for column in columns.values()} - {1}, default=1)
        for name, column in columns.items():
            if column.ndim > 1:
                raise ComponentValueError(f"expected {name} of shape () or (n,), found {column.shape}")
            if len(column) not in (1, count):
                raise ComponentValueError(
                    f"expected {count} rows of {name}, found {len(column)}",
                    suggestion="give every component one value or one for each entity",
                )
        if count >= 1 << 32:
            raise WorldError(f"expected a count below {1 << 32}, found {count}")
        return int(count)

    def owned(self, count: int) -> dict[str, Array]:
        """Return the values for *count* entities, shape () or (n,), ready to be written to a world.

        No list in them is shared with the caller or between entities, and views are copied: they may
        be of the very rows that are about to move.
        """
        owned = {}
        for type_ in self.types:
            value = self.values[type_.name]
            if type_.layout.lists:
                value = private_copy(value, type_.fields, count)
            elif value.base is not None:
                value = resized(value.reshape(-1), value.size, value.size).reshape(value.shape)
            owned[type_.name] = value
        return owned

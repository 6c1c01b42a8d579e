"""A field of a component: how it is read and written by name, and how single values of it become bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pecs_np.ecs.dtypes import Field
from pecs_np.ecs.values import coerce, own_lists
from pecs_np.errors import ComponentValueError

if TYPE_CHECKING:
    from pecs_np.ecs.components import Component

__all__ = ["PACKING_ERRORS", "FieldAccess", "packer", "quick_types"]

PACKING_ERRORS = (struct.error, OverflowError)
# How `struct` writes one value of a dtype, and what it takes without a further look.
_PACKED_AS = {
    "f2": "e",
    "f4": "f",
    "f8": "d",
    "b1": "?",
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
}
_WHOLE = frozenset(
    {int, bool, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64}
)
_FLOATS = frozenset({np.float16, np.float32, np.float64})
_QUICK: dict[str, frozenset[type]] = {
    "f": _WHOLE | _FLOATS | {float},
    "i": _WHOLE,
    "u": _WHOLE,
    "b": frozenset({bool}),
}


def quick_types(f: Field) -> frozenset[type]:
    """Return the types of which a value of *f* needs no look but at its size."""
    if f.dtype is None or f.dtype.str[1:] not in _PACKED_AS or f.shape or f.enum or f.variable:
        return frozenset()
    return _QUICK.get(f.dtype.kind, frozenset())


def packer(fields: tuple[Field, ...]) -> Callable[..., bytes]:
    """Return the function that makes the bytes of a row of values of `quick_types`; it may raise `PACKING_ERRORS`."""
    return struct.Struct("<" + "".join([_PACKED_AS[cast(Any, f.dtype).str[1:]] for f in fields])).pack


class FieldAccess:
    """A field of a component: its value for a single one, a live view for a column."""

    __slots__ = ("direct", "field", "high", "low", "name", "takes", "wrapper")

    def __init__(self, f: Field, wrapper: Callable[[Any], Any] | None) -> None:
        self.name = f.name
        self.field = f
        self.wrapper = wrapper
        # Whether an element of the column is the value, and what NumPy may set it to as it is.
        self.direct = bool(f.variable) or not f.fields
        self.takes = quick_types(f)
        self.low: Any = 0
        self.high: Any = 1
        if self.takes and f.dtype is not None and f.dtype.kind == "f":
            # A narrower float would have to hold the limits, to be compared with them.
            self.takes -= {t for t in _FLOATS if np.dtype(t).itemsize < f.dtype.itemsize}
            self.high = float(np.finfo(f.dtype).max)
            self.low = -self.high
        elif self.takes and f.dtype is not None and f.dtype.kind != "b":
            limits = np.iinfo(f.dtype)
            self.low, self.high = int(limits.min), int(limits.max)

    def __get__(self, instance: Component | None, owner: type | None = None) -> Any:
        if instance is None:
            return self
        at = instance._at
        if at is not None and self.direct:
            try:
                value = at[0][self.name][at[1]]
            except KeyError:
                views, row, column = at
                value = views.setdefault(self.name, column[self.name])[row]
            return value if self.wrapper is None or np.ndim(value) else self.wrapper(value)
        try:
            return instance._views[self.name]
        except KeyError:
            return self.read(instance)

    def __set__(self, instance: Component, value: Any) -> None:
        at = instance._at
        if at is None:
            if instance._views.get(self.name) is not value:  # as `pos["x"] += v` hands it back
                self.write(instance, value)
        elif type(value) in self.takes and self.low <= value <= self.high:
            _, row, column = at
            column[self.name][row] = value
        else:
            self.write(instance, value)

    def read(self, instance: Component) -> Any:
        """Return the value, or a view that the instance keeps for next time."""
        array = instance._array
        value = array[self.name]
        if self.field.fields and not self.field.variable:
            value = cast(Any, self.wrapper)(value)
        elif array.ndim == 0:
            if value.ndim == 0:
                value = value[()]
            return value if self.wrapper is None or np.ndim(value) else self.wrapper(value)
        instance._views[self.name] = value
        return value

    def write(self, instance: Component, value: Any) -> None:
        """Set the value, of any kind that fits."""
        where = f"{instance._type.name}.{self.name}"
        target = instance._array[self.name]
        values = coerce(value, self.field, where)
        if self.field.variable == "list" and values.ndim < target.ndim:
            values = own_lists(np.broadcast_to(values, target.shape))
        try:
            target[...] = values
        except ValueError:
            if not target.flags.writeable:
                raise ComponentValueError(
                    f"{where} belongs to a read-only copy", suggestion="change it through a query"
                ) from None
            raise ComponentValueError(
                f"expected values of shape {target.shape}, found {values.shape} for {where}"
            ) from None

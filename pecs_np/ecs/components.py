"""A component type, and the class whose instances hold one value of it or a whole column."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn, Self, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.dtypes import MOST_BYTES, Field, Layout
from pecs_np.ecs.entities import EntityId
from pecs_np.ecs.fields import PACKING_ERRORS, FieldAccess, packer, quick_types
from pecs_np.ecs.portable import fields_from_schema, schema_of
from pecs_np.ecs.registry import register_migration, registered
from pecs_np.ecs.values import assemble, coerce, private_copy
from pecs_np.errors import ComponentDefinitionError, ComponentValueError, MigrationError, UnknownFieldError

__all__ = [
    "RESERVED",
    "Component",
    "ComponentType",
    "accessors",
    "component_type",
    "new_component",
    "row_of",
    "set_at",
    "type_name",
    "value_of",
]

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound="Component")

RESERVED = frozenset({"matrix", "from_array", "migration", "is_persistent"})

_SETTLING = threading.RLock()


@dataclass(eq=False)
class ComponentType:
    """What a component is, apart from its Python class: a name, a version and fields.

    Attributes
    ----------
    name : str
        Identifies the type in worlds and saves.
    version : int
    layout : Layout
    transient : bool
        Whether the type is left out of saves.
    """

    name: str
    version: int
    layout: Layout
    transient: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.signature = self.name, self.version
        self.fields = self.layout.fields
        self.names = tuple(f.name for f in self.fields)
        # How values that need no further look become the bytes of a row; and which types of values these
        # are, as far as they were met.
        self._takes = [quick_types(f) for f in self.fields]
        if quick := self.fields and all(self._takes):
            self.pack = packer(self.fields)
        self._quick = bool(quick)
        self.packable: set[tuple[type, ...]] = set()
        self._cls: type[Component] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled_type, (self.name, self.version, self.layout, self.transient, dict(self.defaults))

    def __repr__(self) -> str:
        shown = ", ".join(f"{f.name}: {describe(f)}" for f in self.fields)
        return f"<component {self.name} v{self.version} ({shown})>"

    @functools.cached_property
    def default(self) -> bytes | None:
        """The bytes of a row in which every field has its default, where all have one and need no further look."""
        return (
            self.packed(self.arrange((), {}))
            if self.names and set(self.names) <= set(self.defaults)
            else None
        )

    @property
    def selective(self) -> bool:
        """Whether the class says by ``is_persistent`` which of its values are saved."""
        return self._cls is not None and callable(getattr(self._cls, "is_persistent", None))

    @property
    def cls(self) -> type[Component]:
        """The class whose instances hold columns of the type; a dynamic one is made on first use."""
        if self._cls is None:
            body = accessors(self.fields, {})
            # A component only the file defines: of the name that its world knows it by.
            self._cls = cast(type[Component], type(self.name, (Component,), body | {"__slots__": ()}))
            self._cls._type = self
        return self._cls

    def agrees_with(self, other: ComponentType) -> bool:
        """Tell whether columns of *other* are columns of this type as they stand."""
        return self is other or _types_agree(self, other)

    def array(self, values: tuple[Any, ...]) -> Array:
        """Return the structured array of *values*, one a field, in declaration order."""
        if not self.fields:
            return np.zeros((), self.layout.memory)
        return assemble(self.fields, self.layout.memory, values, self.name)

    def matrix(self, array: Array) -> Array:
        """Return a column, shape (...), as a plain array, shape (..., k), that shares its memory."""
        uniform = self.layout.uniform
        if uniform is None:
            raise ComponentValueError(
                f"{self!r} has no matrix: its fields have different dtypes",
                suggestion="use its fields one by one",
            )
        dtype, k = uniform
        matrix: Array = array[..., np.newaxis].view(dtype).reshape(*array.shape, k)
        return matrix

    def packed(self, values: tuple[Any, ...]) -> bytes | None:
        """Return *values*, one a field, as the bytes of a row, or None where `array` has to have a look at them."""
        if not self._quick or not all(type(v) in ok for v, ok in zip(values, self._takes, strict=True)):
            return None
        self.packable.add(tuple(map(type, values)))
        try:
            return self.pack(*values)
        except PACKING_ERRORS:
            return None

    def arrange(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """Return one value a field from positional and keyword arguments and the defaults."""
        if len(args) > len(self.names):
            raise ComponentValueError(
                f"expected at most {len(self.names)} values, found {len(args)} for {self.name}"
            )
        given = dict(zip(self.names, args, strict=False))
        for name, value in kwargs.items():
            if name not in self.names:
                self.no_field(name)
            if name in given:
                raise ComponentValueError(f"two values for field {name!r} of {self.name}")
            given[name] = value
        missing = [n for n in self.names if n not in given and n not in self.defaults]
        if missing:
            raise ComponentValueError(
                f"expected a value for {', '.join(missing)} of {self.name}, found none",
                suggestion=f"pass {missing[0]}=… or give the field a default",
            )
        return tuple([given[n] if n in given else self.defaults[n] for n in self.names])

    def no_field(self, name: object) -> NoReturn:
        """Raise the error for a field that is not there."""
        fields = ", ".join(self.names) or "none"
        raise UnknownFieldError(f"expected a field of {self.name}, found {name!r}; its fields are {fields}")


def describe(f: Field) -> str:
    """Return a field's kind in a word or two, such as ``f4``, ``f4[3]`` or ``list of ref``."""
    if f.variable in ("str", "bytes"):
        return f.variable
    if f.ref:
        base = "ref"
    elif f.dtype is not None:
        base = f.dtype.str.lstrip("<|")
    else:
        base = "{" + ", ".join(f"{m.name}: {describe(m)}" for m in f.fields) + "}"
    base += f"[{', '.join(map(str, f.shape))}]" if f.shape else ""
    return f"list of {base}" if f.variable else base


@functools.lru_cache(maxsize=256)
def _types_agree(ours: ComponentType, theirs: ComponentType) -> bool:
    return ours.version == theirs.version and _agree(ours.fields, theirs.fields)


def _agree(ours: tuple[Field, ...], theirs: tuple[Field, ...]) -> bool:
    """Compare fields; an enum may have gained members since."""
    return len(ours) == len(theirs) and all(
        (a.name, a.dtype, a.ref, a.shape, a.variable) == (b.name, b.dtype, b.ref, b.shape, b.variable)
        and set(b.enum) <= set(a.enum)
        and bool(a.enum) == bool(b.enum)
        and _agree(a.fields, b.fields)
        for a, b in zip(ours, theirs, strict=True)
    )


def accessors(fields: tuple[Field, ...], wrappers: dict[str, Any]) -> dict[str, Any]:
    """Return the class attributes that give access to *fields*, where their names allow it."""
    body: dict[str, Any] = {}
    for f in fields:
        if f.name.isidentifier() and not f.name.startswith("_") and f.name not in RESERVED:
            body[f.name] = _access_to(f, wrappers.get(f.name))
    return body


def _access_to(f: Field, wrapper: Any) -> FieldAccess:
    if f.ref:
        wrapper = _as_entity
    elif f.fields and not f.variable and wrapper is None:
        wrapper = ComponentType(f.name, 1, Layout(f.fields)).cls._wrap
    return FieldAccess(f, wrapper)


def _as_entity(value: Any) -> EntityId:
    return EntityId(int(value))


class Component:
    """One value or a column of values of a component type: a structured array with named fields.

    ``Position(1, 2)`` has shape (), ``Position(x=xs, y=0)`` has shape (n,). ``pos.x`` reads a field
    and writes through; ``np.asarray(pos)`` is the structured array itself; ``pos["x"]`` and
    ``pos[rows]`` select a field or rows. ``pos.matrix`` is the same memory as a plain array of shape
    (..., k), where all fields have one dtype. Iterating yields the column once, as a chunk of one, so that
    ``for pos in query`` and ``for (pos,) in query`` mean the same.

    Examples
    --------
    >>> import numpy as np
    >>> from pecs_np import component
    >>> @component
    ... class Position:
    ...     x: np.float32 = 0.0
    ...     y: np.float32 = 0.0
    >>> column = Position(x=[1, 2, 3], y=0)
    >>> column.x += 10
    >>> column
    Position[3](x=[11. 12. 13.], y=[0. 0. 0.])
    >>> column.matrix.shape
    (3, 2)
    """

    # An instance is one of three: an array, `_array`; or a row of a column, `_at`; or a new value, the
    # bytes `_packed`. The last two become the first when their array is asked for: what is not
    # set is made by `__getattr__`.
    __slots__ = ("_array", "_at", "_packed", "_views", "matrix")

    _array: Array
    # Views of the fields that were asked for so far, which all rows of the column share; the row; the column.
    _at: tuple[dict[str, Array], int, Array] | None
    _packed: bytes
    _views: dict[str, Any]
    _type: ClassVar[ComponentType]
    matrix: NDArray[Any]

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        type_ = self._type
        if kwargs:
            ordered = tuple(kwargs) == type_.names[len(args) :]
            args = (*args, *kwargs.values()) if ordered else type_.arrange(args, kwargs)
        elif len(args) != len(type_.names):
            if not args and type_.default is not None:
                _set_packed(self, type_.default)
                return
            args = type_.arrange(args, kwargs)
        if tuple(map(type, args)) in type_.packable:
            try:
                _set_packed(self, type_.pack(*args))
            except PACKING_ERRORS:
                _hold(self, type_.array(args))
        elif (packed := type_.packed(args)) is not None:
            _set_packed(self, packed)
        else:
            _hold(self, type_.array(args))

    @classmethod
    def _wrap(cls, array: Array) -> Self:
        self = cls.__new__(cls)
        _hold(self, array)
        return self

    def _settle(self) -> None:
        """Make the array of a row or of packed bytes; it may be written to, so that the bytes are no longer the value."""
        with _SETTLING:  # several threads may look at one value
            try:
                array = np.ndarray((), self._type.layout.memory, bytearray(_get_packed(self)))
                del self._packed
            except AttributeError:
                if (at := _get_at(self)) is None:
                    return  # another thread has made it
                _, row, column = at
                array = column[row, ...]
            _hold(self, array)

    @classmethod
    def from_array(cls, array: Any) -> Self:
        """Return *array*, of this component's dtype and any shape, as a component that shares its memory.

        Raises
        ------
        ComponentValueError
            If the dtype is another one.
        """
        array = np.asarray(array)
        if array.dtype != cls._type.layout.memory:
            raise ComponentValueError(
                f"expected dtype {cls._type.layout.memory}, found {array.dtype} for {cls._type.name}",
                suggestion=f"build a column from fields: {cls._type.name}(x=…)",
            )
        return cls._wrap(array)

    @classmethod
    def migration(cls, version: int) -> Callable[[F], F]:
        """Register a function as the step from *version* of this component to the next.

        Loading an old save calls it with each column of that version, a structured array of shape (n,)
        with the fields that the save describes; what it returns takes its place: a structured array, a
        column of a component, or a mapping of field names to arrays, in which fields with a default may
        be left out. Entity references are entity ids, here and there.

        Parameters
        ----------
        version : int
            That the function starts from.

        Raises
        ------
        MigrationError
            If the component has no later version, or the steps would not follow one another.

        Examples
        --------
        >>> import numpy as np
        >>> from pecs_np import component
        >>> @component(version=2)
        ... class Point:
        ...     x: np.float32
        ...     y: np.float32
        ...     z: np.float32 = 0.0
        >>> @Point.migration(1)
        ... def add_height(old):
        ...     return {"x": old["x"], "y": old["y"]}
        """
        type_ = component_type(cls)
        if type(version) is not int or not 0 < version < type_.version:
            raise MigrationError(
                f"expected a version of {type_.name} from 1 to {type_.version - 1}, which is before"
                f" {type_.version} as defined here, found {version!r}",
                suggestion=f"raise the version of {type_.name} first: @component(version=…)",
            )

        def decorate(function: F) -> F:
            register_migration(type_.name, version, function)
            return function

        return decorate

    def __setattr__(self, name: str, value: Any) -> None:
        # `pos.x += v` has already added in place and hands back the view itself.
        if name == "matrix":
            if value is not self.matrix:
                self._write_matrix(value)
        elif self._at is not None or self._views.get(name) is not value:
            try:
                object.__setattr__(self, name, value)
            except AttributeError:
                self._type.no_field(name)

    def _write_matrix(self, value: Any) -> None:
        matrix = self.matrix
        where = f"{self._type.name}.matrix"
        values = coerce(value, Field("matrix", matrix.dtype), where)
        try:
            matrix[...] = values
        except ValueError as error:
            raise ComponentValueError(f"{error} for {where}") from None

    def __getattr__(self, name: str) -> Any:
        if name in _MADE:
            self._settle()
            return getattr(self, name)
        if name == "matrix":
            _set_matrix(self, self._type.matrix(self._array))
            return self.matrix
        if name == "_packed" and self._array.ndim == 0 and not self._array.dtype.hasobject:
            return self._array.tobytes()
        if name == "_packed" or name.startswith("__"):  # NumPy looks for several of these in vain
            raise AttributeError(name)
        return component_type(type(self)).no_field(name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        array = self._array
        if dtype is not None and array.dtype != dtype:
            if copy is False:  # NumPy's own contract of __array__
                raise ComponentValueError(f"expected {array.dtype}, found {dtype}: that takes a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __len__(self) -> int:
        return len(self._array)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Self]:
        yield self

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._access(key).__get__(self)
        return self._wrap(self._array[self._rows(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, str):
            self._access(key).__set__(self, value)
            return
        if not isinstance(value, Component) or value._type.layout.memory != self._array.dtype:
            raise ComponentValueError(f"expected a {self._type.name}, found {value!r:.80}")
        rows = self._rows(key)
        array = value._array
        if value._type.layout.lists:
            count = self._array[rows].size if array.ndim == 0 else array.size
            array = private_copy(array.reshape(-1), self._type.fields, count).reshape(
                array.shape or self._array[rows].shape
            )
        try:
            self._array[rows] = array
        except ValueError as error:
            raise ComponentValueError(f"{error} for {self._type.name}") from None

    def _rows(self, key: Any) -> tuple[Any, ...]:
        rows: tuple[Any, ...] = key if isinstance(key, tuple) else (key,)
        if not any(part is Ellipsis for part in rows):
            rows = (*rows, ...)
        try:
            self._array[rows]
        except IndexError as error:
            raise ComponentValueError(f"{error} for {self._type.name}") from None
        return rows

    def _access(self, name: str) -> FieldAccess:
        access = vars(type(self)).get(name)
        if isinstance(access, FieldAccess):
            return access
        # A field whose name is no attribute, as only a file can describe it.
        f = next((f for f in self._type.fields if f.name == name), None) or self._type.no_field(name)
        return _access_to(f, None)

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, Component) or not self._type.agrees_with(other._type):
            return NotImplemented
        ours, theirs = self._array, other._array
        if self._type.name != other._type.name:
            return NotImplemented
        try:
            shape = np.broadcast_shapes(ours.shape, theirs.shape)
        except ValueError:
            raise ComponentValueError(
                f"expected {self._type.name} of one shape to compare, found {ours.shape} and {theirs.shape}"
            ) from None
        same = np.ones(shape, bool)
        for f in self._type.fields:
            equal = _equal_values(ours[f.name], theirs[f.name], f)
            same &= equal.all(axis=tuple(range(len(shape), equal.ndim)))
        return same if same.ndim else bool(same)

    __hash__ = None  # type: ignore[assignment]

    def __copy__(self) -> Self:
        array = self._array
        return self._wrap(private_copy(array.reshape(-1), self._type.fields).reshape(array.shape))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        type_ = self._type
        return _unpickled, (type_.name, type_.version, schema_of(type_.fields), self._array)

    def __repr__(self) -> str:
        array = self._array
        shape = f"[{', '.join(map(str, array.shape))}]" if array.ndim else ""
        with np.printoptions(threshold=8, edgeitems=3):
            values = ", ".join(
                f"{n}={array[n]}" if array.ndim else f"{n}={array[n][()]!s}" for n in self._type.names
            )
        return f"{self._type.name}{shape}({values})"


# What is made of the rest when it is first asked for.
_MADE = frozenset({"_array", "_at", "_views"})
# These are plain calls of C: a component's own attributes would be set by its `__setattr__`.
new_component: Any = object.__new__
_set_array = vars(Component)["_array"].__set__
_set_views = vars(Component)["_views"].__set__
_set_packed, _get_packed = vars(Component)["_packed"].__set__, vars(Component)["_packed"].__get__
_set_matrix = vars(Component)["matrix"].__set__
set_at, _get_at = vars(Component)["_at"].__set__, vars(Component)["_at"].__get__


def _hold(component: Component, array: Array) -> None:
    """Make *component* that of *array*."""
    _set_array(component, array)
    _set_views(component, {})
    set_at(component, None)


def row_of(cls: type[C], column: Array, views: dict[str, Array], row: int) -> C:
    """Return a live view of one row of *column*; as a view of the array does, it stays with that memory.

    All rows of a column share *views*, at first empty, of its fields.
    """
    view: C = new_component(cls)
    set_at(view, (views, row, column))
    return view


def value_of(cls: type[C], packed: bytes) -> C:
    """Return the single value that is a row of these bytes."""
    value: C = new_component(cls)
    _set_packed(value, packed)
    return value


def _unpickled(name: str, version: int, schema: list[Any], array: Array) -> Component:
    """Return a component by the name of its type: of the class defined here, else of a dynamic one."""
    fields = fields_from_schema(schema, f"a pickled {name}", max_itemsize=MOST_BYTES)
    return _unpickled_type(name, version, Layout(fields)).cls.from_array(array)


def _unpickled_type(name: str, version: int, layout: Layout, *more: Any) -> ComponentType:
    """Return the type of that name that is defined here if the pickled one agrees with it, else that one."""
    type_ = ComponentType(name, version, layout, *more)
    cls = registered(name)
    return cls._type if cls is not None and cls._type.agrees_with(type_) else type_


def _equal_values(left: Array, right: Array, f: Field) -> Array:
    if f.variable == "list":
        left, right = np.broadcast_arrays(left, right)
        pairs = zip(left.flat, right.flat, strict=True)
        return np.array([np.array_equal(a, b) for a, b in pairs], bool).reshape(left.shape)
    return np.asarray(left == right)


def component_type(component: Any) -> ComponentType:
    """Return the type of a component class or instance.

    Raises
    ------
    ComponentDefinitionError
        If *component* is neither.
    """
    type_ = getattr(component, "_type", None)
    if isinstance(type_, ComponentType):
        return type_
    shown = component.__name__ if isinstance(component, type) else repr(component)[:80]
    raise ComponentDefinitionError(
        f"expected a component, found {shown}", suggestion="decorate its class with @component"
    )


def type_name(type_: Any) -> str:
    """Return the name of a component type given as a class, an instance or a name."""
    return type_ if isinstance(type_, str) else component_type(type_).name

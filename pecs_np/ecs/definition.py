"""`@component`: an annotated class becomes a component type."""

from __future__ import annotations

import contextlib
import enum
import sys
import typing
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, ClassVar, TypeVar, dataclass_transform, overload

from pecs_np.ecs.components import RESERVED, Component, ComponentType, accessors, component_type
from pecs_np.ecs.dtypes import MOST_BYTES, Field, Layout, bytes_of, check_name, field_from_annotation
from pecs_np.ecs.fields import FieldAccess
from pecs_np.ecs.registry import register, registered
from pecs_np.ecs.values import coerce
from pecs_np.errors import ComponentDefinitionError, ComponentValueError
from pecs_np.messages import shown

__all__ = ["component", "make_component"]

C = TypeVar("C")


@overload
def component(cls: type[C], /) -> type[C]: ...
@overload
def component(
    *, name: str | None = None, version: int = 1, transient: bool = False, register: bool = True
) -> Callable[[type[C]], type[C]]: ...
@dataclass_transform()
def component(
    cls: type[Any] | None = None,
    /,
    *,
    name: str | None = None,
    version: int = 1,
    transient: bool = False,
    register: bool = True,
) -> Any:
    """Make an annotated class a component.

    Parameters
    ----------
    name : str, optional
        The name that identifies the type in worlds and saves; the class name by default.
    version : int
        Of the fields; raise it when they change.
    transient : bool
        Keep the type out of saves.
    register : bool
        Make it the component of that name in this process. Not so what a migration needs of the past.

    Raises
    ------
    ComponentDefinitionError
        If an annotation cannot be stored, a default does not fit, or the name is taken by a type of
        the same version with other fields.

    Examples
    --------
    >>> import numpy as np
    >>> @component(version=1)
    ... class Health:
    ...     points: np.int32
    ...     armour: np.float32 = 1.0
    >>> Health(100)
    Health(points=100, armour=1.0)
    """
    scope = sys._getframe(1).f_locals

    def decorate(cls: type[Any]) -> type[Component]:
        return _define(
            cls,
            str(getattr(cls, "__name__", "?")) if name is None else name,
            version,
            transient,
            scope,
            register,
        )

    return decorate if cls is None else decorate(cls)


def make_component(
    name: str,
    annotations: Mapping[str, Any],
    *,
    version: int = 1,
    transient: bool = False,
    defaults: Mapping[str, Any] | None = None,
    register: bool = True,
) -> type[Component]:
    """Define a component from a mapping of field names to annotations, as `component` does from a class.

    Examples
    --------
    >>> Mass = make_component("Mass", {"kg": float}, defaults={"kg": 1.0})
    >>> Mass()
    Mass(kg=1.0)
    """
    check_name(name, "the name of a component", ComponentDefinitionError)
    if not isinstance(annotations, Mapping):
        raise ComponentDefinitionError(f"expected a mapping of annotations, found {shown(annotations)}")
    if unknown := set(defaults or ()) - set(annotations):
        raise ComponentDefinitionError(
            f"expected defaults of fields, found {shown(sorted(unknown))} for {name}"
        )
    body = {"__annotations__": dict(annotations), "__module__": __name__, **(defaults or {})}
    return _define(type(name, (), body), name, version, transient, {}, register)


def _define(
    cls: type[Any],
    name: str,
    version: int,
    transient: bool,
    scope: Mapping[str, Any],
    registering: bool,
) -> type[Component]:
    check_name(name, "the name of a component", ComponentDefinitionError)
    if not isinstance(cls, type):
        raise ComponentDefinitionError(f"expected a class to make a component of, found {shown(cls)}")
    if type(version) is not int or not 0 < version < 1 << 32:
        raise ComponentDefinitionError(
            f"expected a version from 1 to {2**32 - 1}, found {version!r} for {name}"
        )
    if "__init__" in vars(cls) or "__new__" in vars(cls):
        raise ComponentDefinitionError(
            f"{name} defines its own constructor, which cannot make columns",
            suggestion="use defaults, and a classmethod for other ways to make one",
        )
    hints = _hints(cls, scope)
    fields = _fields(name, hints, scope)
    size = sum(bytes_of(f) for f in fields if not f.variable)
    if size > MOST_BYTES:
        raise ComponentDefinitionError(
            f"expected at most {MOST_BYTES} bytes a row, found {size} for {name}",
            suggestion="use a list[T] field for large arrays",
        )
    for f in fields:
        if f.name in RESERVED or f.name.startswith("_") or not f.name.isidentifier():
            raise ComponentDefinitionError(
                f"{name}.{f.name} cannot be the name of a field", suggestion="choose another name"
            )
    defaults = {f.name: getattr(cls, f.name) for f in fields if hasattr(cls, f.name)}
    defaults = {n: d for n, d in defaults.items() if not isinstance(d, FieldAccess)}
    for base in reversed(cls.__mro__):
        if inherited := vars(base).get("_type"):
            defaults = dict(inherited.defaults) | defaults
    for f in fields:
        if f.name in defaults:
            try:
                value = coerce(defaults[f.name], f, f"the default of {name}.{f.name}")
            except ComponentValueError as error:
                raise ComponentDefinitionError(str(error)) from None
            if value.ndim > (0 if f.variable else len(f.shape)):
                raise ComponentDefinitionError(
                    f"expected one value as the default of {name}.{f.name}, found a column"
                )
    type_ = ComponentType(name, version, Layout(fields), transient, defaults)
    if registering:
        _check_registered(type_)
    built = _rebuilt(cls, type_, {n: w for n, h in hints.items() if (w := _wrapper(h))})
    type_._cls = built
    built._type = type_
    if registering:
        register(name, built)
    return built


def _hints(cls: type, scope: Mapping[str, Any]) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(cls, localns=dict(scope), include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise ComponentDefinitionError(
            f"an annotation of {cls.__name__} cannot be read: {error}",
            suggestion="check its spelling, and import what it names before the class is defined",
        ) from None
    own = typing.get_type_hints(Component) if issubclass(cls, Component) else {}
    return {n: h for n, h in hints.items() if n not in own and typing.get_origin(h) is not ClassVar}


def _fields(
    where: str, hints: Mapping[str, Any], scope: Mapping[str, Any], within: tuple[type, ...] = ()
) -> tuple[Field, ...]:
    def struct(nested: type) -> tuple[Field, ...]:
        if issubclass(nested, Component):
            return component_type(nested).fields
        if nested in within:
            raise ComponentDefinitionError(
                f"{where}: {nested.__name__} holds itself", suggestion="refer to others by EntityRef"
            )
        return _fields(nested.__name__, _hints(nested, scope), scope, (*within, nested))

    return tuple(field_from_annotation(n, h, f"{where}.{n}", struct) for n, h in hints.items())


def _wrapper(hint: Any) -> Callable[[Any], Any] | None:
    """Return what a single value of a field is shown as: a nested component or an enum member."""
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if isinstance(hint, type) and issubclass(hint, Component):
        return hint._wrap
    if isinstance(hint, type) and issubclass(hint, enum.IntEnum):
        members = hint._value2member_map_
        return lambda value: members.get(int(value), int(value))
    return None


def _rebuilt(cls: type[Any], type_: ComponentType, wrappers: dict[str, Any]) -> type[Component]:
    """Return *cls* made anew as a subclass of `Component`, without an instance dictionary."""
    body = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
    body |= accessors(type_.fields, wrappers)
    body["__slots__"] = ()
    bases = tuple(base for base in cls.__bases__ if base is not object)
    if not any(issubclass(base, Component) for base in bases):
        bases = (*bases, Component)
    try:
        built = type(cls.__name__, bases, body)
    except TypeError as error:
        raise ComponentDefinitionError(
            f"{cls.__name__} cannot be a component: {error}", suggestion="derive it from plain classes"
        ) from None
    for value in body.values():  # zero-argument super() refers to the class by a closure cell
        parts = (value.fget, value.fset, value.fdel) if isinstance(value, property) else (value,)
        for part in parts:
            function = getattr(part, "__func__", part)
            for cell in (isinstance(function, FunctionType) and function.__closure__) or ():
                with contextlib.suppress(ValueError):  # a cell that is filled later
                    if cell.cell_contents is cls:
                        cell.cell_contents = built
    return built


def _check_registered(new: ComponentType) -> None:
    cls = registered(new.name)
    if cls is None:
        return
    old = cls._type
    if old.version == new.version and not new.agrees_with(old):
        raise ComponentDefinitionError(
            f"expected {old!r} as defined before, found {new!r}",
            suggestion=f"raise its version, or call unregister({new.name!r}) first",
        )

"""Annotations to fields, and fields to NumPy dtypes.

A component is a tuple of `Field`. Its rows in memory are a packed structured array, so that a column
without references and variable-length fields *is* its bytes on disk. Packing costs little where it
leaves a field unaligned (a pass over 1M unaligned ``f8`` took 0.8 ms against 0.35 ms), and it keeps
padding out of saves, comparisons and hashes.
"""

from __future__ import annotations

import enum
import math
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np

from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID
from pecs_np.errors import ComponentDefinitionError

__all__ = [
    "MOST_AXES",
    "MOST_BYTES",
    "MOST_NESTED",
    "PORTABLE",
    "EntityRef",
    "Field",
    "Layout",
    "axes",
    "bytes_of",
    "check_name",
    "field_from_annotation",
    "levels",
]

Variable = Literal["str", "bytes", "list"]

PORTABLE = re.compile(
    r"\|b1|\|[iu]1|<[iu][248]|<f[248]|<c(8|16)|\|S[1-9]\d{0,7}|<U[1-9]\d{0,7}"
    r"|<[mM]8\[([1-9]\d{0,8})?(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\]"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# NumPy stops at 64 dimensions, of which columns and the library's own views need some.
MOST_AXES = 32
MOST_NESTED = 32
# Of one row; the default of a reader's limits.
MOST_BYTES = 16 << 20
_ABSTRACT = {
    *(np.generic, np.number, np.integer, np.signedinteger, np.unsignedinteger),
    *(np.inexact, np.floating, np.complexfloating, np.flexible, np.character),
}
_PLAIN = {float: "<f8", int: "<i8", bool: "|b1", complex: "<c16"}
_SUPPORTED = (
    "use a NumPy scalar type, float, int, bool, complex, str, bytes, an IntEnum, EntityRef, list[T], "
    "Annotated[T, shape], Annotated[str | bytes, length], Annotated[np.datetime64, unit] or another "
    "annotated class"
)


class EntityRef(int):
    """Annotation of a field that refers to an entity; 0 or None is "no entity".

    In memory the field holds an `EntityId`; a save holds the target's `StableId`, and loading maps it
    back, so references survive however the world numbers its entities.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a component.

    Attributes
    ----------
    name : str
    dtype : dtype or None
        Of one element: a scalar dtype, ``None`` for references and structs.
    ref : bool
        Whether an element is an entity reference.
    fields : tuple of Field
        Of a struct element.
    shape : tuple of int
        Of the subarray that an element is; ``()`` for a single one.
    enum : tuple of (name, value)
        The allowed values of an enum element.
    variable : "str", "bytes", "list" or None
        How a variable-length field holds its elements; None for a fixed-size field.
    """

    name: str
    dtype: np.dtype[Any] | None = None
    ref: bool = False
    fields: tuple[Field, ...] = ()
    shape: tuple[int, ...] = ()
    enum: tuple[tuple[str, int], ...] = ()
    variable: Variable | None = None

    def element(self, *, disk: bool = False) -> np.dtype[Any]:
        """Return the dtype of one element, in memory or on *disk*; a byte for texts."""
        if self.variable in ("str", "bytes"):
            return np.dtype("u1")
        if self.ref:
            base = STABLE_ID if disk else ENTITY_ID
        elif self.dtype is not None:
            base = self.dtype
        else:
            base = np.dtype([(f.name, f.element(disk=disk)) for f in self.fields])
        return np.dtype((base, self.shape)) if self.shape else base

    def has_refs(self) -> bool:
        """Tell whether an element is or holds an entity reference."""
        return self.ref or any(f.has_refs() for f in self.fields)

    def has_checks(self) -> bool:
        """Tell whether some bit patterns of an element are not values: of a bool, an enum or text."""
        if self.dtype is not None:
            return self.dtype.kind in "bU" or bool(self.enum)
        return any(f.has_checks() for f in self.fields)


@dataclass(frozen=True, eq=False)
class Layout:
    """What the fields of a component mean for its columns, worked out once.

    Attributes
    ----------
    memory : dtype
        Of a row in memory; variable-length fields are objects.
    disk : dtype
        Of the fixed-size part of a row on disk; references are stable ids.
    fixed, variable : tuple of Field
    refers : bool
        Whether it holds entity references.
    portable : dtype
        Of a row whose references are stable ids, and variable-length fields objects.
    plain : bool
        Whether memory and disk agree, so that a column is its own encoding.
    lists : bool
        Whether it holds lists, which are arrays of their own and must not be shared.
    checked : bool
        Whether some bit patterns of a row are not values.
    uniform : (dtype, int) or None
        The one dtype that all fields share, and how many make a row: what ``.matrix`` shows.
    """

    fields: tuple[Field, ...]
    memory: np.dtype[Any] = field(init=False)
    disk: np.dtype[Any] = field(init=False)
    portable: np.dtype[Any] = field(init=False)
    fixed: tuple[Field, ...] = field(init=False)
    variable: tuple[Field, ...] = field(init=False)
    refers: bool = field(init=False)
    plain: bool = field(init=False)
    lists: bool = field(init=False)
    checked: bool = field(init=False)
    uniform: tuple[np.dtype[Any], int] | None = field(init=False)

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        fixed = tuple(f for f in self.fields if f.variable is None)
        variable = tuple(f for f in self.fields if f.variable is not None)
        memory = [(f.name, np.dtype(object) if f.variable else f.element()) for f in self.fields]
        put("memory", np.dtype(memory))
        put("disk", np.dtype([(f.name, f.element(disk=True)) for f in fixed]))
        put("fixed", fixed)
        put("variable", variable)
        put("refers", any(f.has_refs() for f in self.fields))
        portable = [(f.name, np.dtype(object) if f.variable else f.element(disk=True)) for f in self.fields]
        put("portable", np.dtype(portable) if self.refers else self.memory)
        put("plain", not variable and not self.refers)
        put("lists", any(f.variable == "list" for f in variable))
        put("checked", any(f.has_checks() for f in self.fields))
        leaves = {leaf for f in self.fields for leaf in _leaves(f)}
        uniform = None
        if len(leaves) == 1 and (leaf := leaves.pop()).kind in "biufcmM":
            uniform = (leaf, self.memory.itemsize // leaf.itemsize)
        put("uniform", uniform)


def _leaves(f: Field) -> set[np.dtype[Any]]:
    if f.variable or f.ref or f.enum:  # not numbers to calculate with
        return {np.dtype(object)}
    if f.fields:
        return {leaf for member in f.fields for leaf in _leaves(member)}
    return {np.dtype(object) if f.dtype is None else f.dtype}


def bytes_of(field: Field) -> int:
    """Return the bytes of one element on disk in Python integers, before any dtype of that size is made."""
    if field.ref:
        size = 16
    else:
        size = field.dtype.itemsize if field.dtype is not None else sum(map(bytes_of, field.fields))
    return size * math.prod(field.shape)


def levels(field: Field) -> int:
    """Return how deep structs are nested in a field: 0 for a scalar."""
    return 1 + max(map(levels, field.fields)) if field.fields else 0


def axes(field: Field) -> int:
    """Return how many dimensions the subarrays of a field add up to, those of nested structs included."""
    return len(field.shape) + max(map(axes, field.fields), default=0)


def field_from_annotation(
    name: str, annotation: Any, where: str, struct: Callable[[type], tuple[Field, ...]]
) -> Field:
    """Return the field that an annotation stands for.

    Parameters
    ----------
    name : str
    annotation : type or typing form
        A row of the table of annotations in the README.
    where : str
        Such as ``Position.x``, for messages.
    struct : callable
        Gives the fields of an annotated class, ``()`` for any other.

    Raises
    ------
    ComponentDefinitionError
        If the annotation cannot be stored.
    """
    if annotation is str or annotation is bytes:
        return Field(name, variable="str" if annotation is str else "bytes")
    if typing.get_origin(annotation) is list:
        (element_type,) = typing.get_args(annotation) or (list,)
        element = _element(name, element_type, f"{where}[]", struct)
        found = replace(element, variable="list")
    else:
        found = _element(name, annotation, where, struct)
    check_name(name, where, ComponentDefinitionError)
    for what, size, most in (
        ("dimensions", axes(found), MOST_AXES),
        ("nested structs", levels(found), MOST_NESTED),
        ("bytes", bytes_of(found), MOST_BYTES),
    ):
        if size > most:
            raise ComponentDefinitionError(f"{where}: expected at most {most} {what}, found {size}")
    return found


def _element(name: str, annotation: Any, where: str, struct: Callable[[type], tuple[Field, ...]]) -> Field:
    """Return the fixed-size field that an annotation stands for."""
    metadata: tuple[Any, ...] = ()
    if typing.get_origin(annotation) is Annotated:
        annotation, *extra = typing.get_args(annotation)
        metadata = tuple(extra)
    if typing.get_origin(annotation) is np.dtype or not isinstance(annotation, type):
        raise _unsupported(where, annotation)
    if annotation in (str, bytes, np.str_, np.bytes_, np.datetime64, np.timedelta64):
        if not metadata:
            raise _unsupported(where, annotation, "here it needs a length or unit: Annotated[T, …]")
        return Field(name, _sized(annotation, metadata[0], where), shape=_shape(metadata[1:], where))
    shape = _shape(metadata, where)
    if issubclass(annotation, EntityRef):
        return Field(name, ref=True, shape=shape)
    if issubclass(annotation, enum.IntEnum):
        members = tuple((key, int(value)) for key, value in annotation.__members__.items())
        for key, _ in members:
            check_name(key, f"a member of {where}", ComponentDefinitionError)
        return Field(name, _enum_dtype(members, where), shape=shape, enum=members)
    if annotation in _PLAIN or (issubclass(annotation, np.generic) and annotation not in _ABSTRACT):
        try:
            dtype = np.dtype(_PLAIN.get(annotation, annotation)).newbyteorder("<")
        except TypeError:
            raise _unsupported(where, annotation) from None
        if not PORTABLE.fullmatch(dtype.str):
            raise _unsupported(where, annotation, "it has no fixed portable size")
        return Field(name, dtype, shape=shape)
    fields = struct(annotation)
    if not fields:
        raise _unsupported(where, annotation)
    for member in fields:
        if member.variable:
            raise ComponentDefinitionError(
                f"{where}.{member.name} has variable length, which only a component's own fields can have",
                suggestion="give it a fixed length, such as Annotated[str, 32]",
            )
    return Field(name, fields=fields, shape=shape)


def _unsupported(where: str, annotation: Any, why: str | None = None) -> ComponentDefinitionError:
    shown = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return ComponentDefinitionError(
        f"{where}: {shown} cannot be stored" + (f": {why}" if why else ""), suggestion=_SUPPORTED
    )


def _sized(base: type, size: Any, where: str) -> np.dtype[Any]:
    if base in (np.datetime64, np.timedelta64):
        code = f"<{'M' if base is np.datetime64 else 'm'}8[{size}]"
        if isinstance(size, str) and PORTABLE.fullmatch(code):
            return np.dtype(code)
        raise ComponentDefinitionError(
            f"{where}: expected a time unit, found {size!r}", suggestion='use one such as "ms"'
        )
    if type(size) is not int or not 0 < size <= MOST_BYTES:
        raise ComponentDefinitionError(
            f"{where}: expected a length of 1 to {MOST_BYTES}, found {size!r}",
            suggestion="Annotated[str, 32], or str for any length",
        )
    return np.dtype(f"<U{size}" if issubclass(base, str) else f"|S{size}")


def _shape(metadata: tuple[Any, ...], where: str) -> tuple[int, ...]:
    if not metadata:
        return ()
    shape = metadata[0] if isinstance(metadata[0], tuple) else (metadata[0],)
    if len(metadata) > 1 or not shape or any(type(n) is not int or n < 1 for n in shape):
        raise ComponentDefinitionError(
            f"{where}: expected a shape of positive integers, found {metadata!r}",
            suggestion="write Annotated[T, 3] or Annotated[T, (2, 2)]",
        )
    return shape


def _enum_dtype(members: tuple[tuple[str, int], ...], where: str) -> np.dtype[Any]:
    values = [value for _, value in members]
    if not values:
        raise ComponentDefinitionError(f"{where}: the enum has no members")
    for code in ("|u1", "<u2", "<u4", "<u8") if min(values) >= 0 else ("|i1", "<i2", "<i4", "<i8"):
        info = np.iinfo(code)
        if info.min <= min(values) and max(values) <= info.max:
            return np.dtype(code)
    raise ComponentDefinitionError(f"{where}: the enum's values do not fit 64 bits")


def check_name(name: Any, where: str, error: Callable[[str], Exception]) -> None:
    """Raise *error* unless *name* is 1 to 1024 bytes of UTF-8 without control characters."""
    if isinstance(name, str) and not _CONTROL.search(name):
        try:
            if 1 <= len(name.encode()) <= 1024:
                return
        except UnicodeEncodeError:
            pass
    raise error(
        f"expected a name of 1 to 1024 UTF-8 bytes without control characters, found {name!r:.80} at {where}"
    )

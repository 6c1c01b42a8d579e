"""Worlds that hold one of everything, for the contract suites: components of every kind of field, and values at their limits."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np

from pecs_np.ecs.definition import component, make_component
from pecs_np.ecs.dtypes import EntityRef
from pecs_np.ecs.registry import unregister
from pecs_np.world import World

__all__ = ["BAD_VALUES", "KINDS", "Samples"]


class State(enum.IntEnum):
    """Small and unsigned."""

    OFF = 0
    ON = 1
    BROKEN = 200


class Level(enum.IntEnum):
    """With a negative member."""

    BELOW = -(2**40)
    GROUND = 0


class Pair:
    """A struct in a struct."""

    left: np.int16
    right: np.float32


class Nested:
    """A struct with all that a struct can hold."""

    pair: Pair
    pairs: Annotated[Pair, 2]
    name: Annotated[str, 3]
    state: State


class Berth:
    """A struct that refers to an entity."""

    number: np.uint8
    guest: EntityRef


_INTS = {
    f"{sign}int{bits}": getattr(np, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_FLOATS = {"half": np.float16, "single": np.float32, "double": np.float64}
_COMPLEX = {"complex64": np.complex64, "complex128": np.complex128}

# By the kind of field; each becomes a component of that name.
KINDS: Mapping[str, Mapping[str, Any]] = {
    "integers": {**_INTS, "whole": int, "flag": bool},
    "floats": {**_FLOATS, **_COMPLEX, "number": float},
    "arrays": {
        "vector": Annotated[np.float32, 3],
        "square": Annotated[np.int16, (2, 2)],
        "flags": Annotated[bool, 2],
    },
    "fixed texts": {"text": Annotated[str, 4], "data": Annotated[bytes, 4], "words": Annotated[str, 2, 2]},
    "texts": {"text": str, "data": bytes},
    "enums": {"state": State, "level": Level, "states": Annotated[State, 2], "many": list[State]},
    "times": {
        "when": Annotated[np.datetime64, "ms"],
        "day": Annotated[np.datetime64, "D"],
        "took": Annotated[np.timedelta64, "ns"],
    },
    "structs": {"nested": Nested, "several": Annotated[Nested, 2]},
    "lists": {
        "numbers": list[np.float32],
        "wide": list[np.uint64],
        "flags": list[bool],
        "points": list[Annotated[np.int16, 2]],
        "names": list[Annotated[str, 2]],
        "structs": list[Nested],
    },
    "references": {
        "to": EntityRef,
        "both": Annotated[EntityRef, 2],
        "berth": Berth,
        "crew": list[EntityRef],
        "berths": list[Berth],
    },
    "nothing": {},
    "names é 名前 🦀": {"größe": np.int32, "名前": str, "def": bool},
}

_TEXTS = (
    "",
    "a",
    "é字🦀",
    " two\r\nlines\t\0and a zero\0",
    "\n ",
    "\ufeff\u2028 \U0010ffff",
    "'; DROP TABLE x; --\\",
)
_ROWS = 12


class Samples:
    """The components, defined in this process until `forget`, and worlds of them.

    The names of all begin with ``contract.``, so that none of the program's own is in the way.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self.kinds = {kind: self.define(kind, fields) for kind, fields in KINDS.items()}
        self.Number: Any = self.define("number", {"value": np.float64})
        self.Count: Any = self.define("count", {"value": np.int64}, defaults={"value": 0})
        self.Note: Any = self.define("note", {"text": str, "about": EntityRef}, defaults={"about": 0})
        self.Frame: Any = self.define("frame", {"number": np.int64}, transient=True)

        @component(name=self._named("draft"))
        class Draft:
            valid: np.bool_
            number: np.int32

            def is_persistent(self) -> Any:
                return np.asarray(self)["valid"]

        self.Draft: Any = Draft

    def define(self, name: str, fields: Mapping[str, Any], **options: Any) -> Any:
        """Define the component ``contract.<name>``."""
        return make_component(self._named(name), fields, **options)

    def undefine(self, name: str) -> None:
        """Forget the component ``contract.<name>``, as in a program that never defined it."""
        unregister(f"contract.{name}")

    def forget(self) -> None:
        """Forget all components."""
        for name in self._names:
            unregister(name)

    def _named(self, name: str) -> str:
        self._names.append(f"contract.{name}")
        return self._names[-1]

    def world_of(self, kind: str) -> World:
        """Return a world with entities of one kind of component, at the limits of what it can hold."""
        world = World()
        made = self.kinds[kind]
        count = _ROWS
        others = world.spawn_batch(self.Number(value=np.arange(4.0)))
        dead = world.spawn()
        ids = world.spawn_batch(*self._rows(kind, count, [*others.tolist(), int(dead)]), count=count)
        # The same component in a second table.
        world.insert(ids[::3], self.Count(value=1))
        world.despawn(dead)
        if made._type.fields:
            world.despawn(ids[1])
        return world

    def _rows(self, kind: str, count: int, entities: list[int]) -> list[Any]:
        made = self.kinds[kind]
        if not made._type.fields:
            return [made()]
        column = np.zeros(count, made._type.layout.memory)
        rng = np.random.default_rng(len(kind))
        for f in made._type.fields:
            _fill(column[f.name], f, rng, np.array([*entities, 0], np.uint64))
        return [made.from_array(column)]

    def rich(self, *, resources: bool = True, world_data: bool = True) -> World:
        """Return a small world with something of all: several tables, references, texts, lists, and more."""
        data: Any = {"seed": 3, "version": 4, "metadata": {"a": [1, "é"]}} if world_data else {}
        world = World(**data)
        ids = world.spawn_batch(self.Number(value=[1.5, np.nan, -0.0]))
        world.insert(ids[:2], self.Note(text=["é", "a longer text"], about=ids[2]))
        crew = [ids[1], ids[0]]
        world.spawn(self.kinds["references"](ids[0], (ids[1], 0), (3, ids[2]), crew, [(1, ids[0])]))
        world.spawn_batch(*self._rows("enums", 2, []))
        world.spawn()
        if resources:
            world.resources.insert(self.Note(text="of the whole world", about=ids[0]))
        if world_data:
            world.rngs.create("dice", 5)
        return world

    def small(self) -> World:
        """Return a world whose save is so short that every byte of it can be damaged."""
        world = World()
        ids = world.spawn_batch(self.Number(value=[1.5, 2.5]), stable_ids=[5, 7])
        world.insert(ids[1], self.Note(text="é", about=ids[0]))
        return world


def _fill(values: Any, f: Any, rng: np.random.Generator, entities: Any) -> None:
    """Write values at the limits of field *f* to *values*, a view of a column."""
    if f.variable == "list":
        for row in range(len(values)):
            # The first is empty, one is long.
            inner = np.zeros((300 if row == _ROWS - 1 else row * row % 5, *f.shape), f.element().base)
            _fill(inner, _as_element(f), rng, entities)
            values[row] = inner
    elif f.variable:
        texts: list[Any] = [*_TEXTS, "x" * 3000]
        for row in range(len(values)):
            text = texts[row % len(texts)]
            values[row] = text if f.variable == "str" else bytes(range(row * 40 % 256)) + text.encode()
    elif f.fields:
        for member in f.fields:
            _fill(values[member.name], member, rng, entities)
    elif f.ref:
        values[...] = rng.choice(entities, values.shape)
        values.reshape(-1)[: len(entities)] = entities[: values.size]
    elif f.enum:
        values[...] = rng.choice(np.array([value for _, value in f.enum], values.dtype), values.shape)
    else:
        _fill_plain(values, rng)


def _as_element(f: Any) -> Any:
    return type(f)(f.name, f.dtype, f.ref, f.fields, f.shape, f.enum)


def _fill_plain(values: Any, rng: np.random.Generator) -> None:
    dtype = values.dtype
    if dtype.kind == "b":
        values[...] = rng.integers(2, size=values.shape)
    elif dtype.kind == "U":
        values[...] = rng.choice(np.array(["", "a", "é字", "a\0b", "\U0010ffff"], dtype), values.shape)
    elif dtype.kind == "S":
        values[...] = rng.choice(np.array([b"", b"a", b"\xff\0\x01", b"\0\0\0x"], dtype), values.shape)
    else:
        values[...] = np.resize(_edges(dtype, rng), values.shape)


def _edges(dtype: np.dtype[Any], rng: np.random.Generator) -> Any:
    """Return numbers or times at the limits of *dtype*, and random ones."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.array([info.max, info.min, 0, 1, info.max - 1, int(rng.integers(100))], dtype)
    if dtype.kind in "mM":
        # NaT, and far ahead and back.
        return np.array([-(2**63), 0, -1, 2**40, 1], np.int64).view(dtype)
    if dtype.kind == "c":
        parts = _edges(np.dtype(f"f{dtype.itemsize // 2}"), rng)
        found = np.empty(len(parts), dtype)
        found.real, found.imag = parts, parts[::-1]
        return found
    info_ = np.finfo(dtype)
    # Two are NaNs with payloads, one quiet and negative, one signalling.
    word = np.dtype(f"u{dtype.itemsize}")
    mantissa = info_.nmant
    exponent = ((1 << (8 * dtype.itemsize - 1 - mantissa)) - 1) << mantissa
    quiet = 1 << (8 * dtype.itemsize - 1) | exponent | 1 << (mantissa - 1) | 0x15
    numbers = [-0.0, np.inf, -np.inf, info_.max, info_.smallest_subnormal, np.pi, np.nan]
    with np.errstate(over="ignore"):
        plain = np.array(numbers, dtype)
    return np.concatenate([plain, np.array([quiet, exponent | 0x15], word).view(dtype)])


def _set(world: World, made: Any, change: Any) -> World:
    change(world.columns(made)[0])
    return world


def _bad_bool(samples: Samples) -> World:
    world = samples.world_of("integers")
    return _set(world, samples.kinds["integers"], lambda c: c["flag"].view(np.uint8).__setitem__(0, 2))


def _bad_enum(samples: Samples) -> World:
    return _set(samples.world_of("enums"), samples.kinds["enums"], lambda c: c["state"].__setitem__(0, 77))


def _bad_text(samples: Samples) -> World:
    return _set(
        samples.world_of("texts"), samples.kinds["texts"], lambda c: c["text"].__setitem__(0, "\ud800")
    )


def _not_text(samples: Samples) -> World:
    return _set(samples.world_of("texts"), samples.kinds["texts"], lambda c: c["text"].__setitem__(0, 3))


# Worlds that hold what no save can, by what that is; each is made by a function of `Samples`.
BAD_VALUES = {
    "a bool byte of 2": _bad_bool,
    "a value that is no member of its enum": _bad_enum,
    "a text that has no UTF-8 form": _bad_text,
    "a number in place of a text": _not_text,
}

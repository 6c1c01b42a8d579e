"""What a world holds once: one value for each resource type, and named random generators."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, TypeVar

import numpy as np

from pecs_np.ecs.arrays import Array, read_only
from pecs_np.ecs.components import Component, ComponentType, component_type, type_name
from pecs_np.ecs.dtypes import check_name
from pecs_np.ecs.entities import StableIdSource
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn
from pecs_np.ecs.snapshot import SnapshotTable
from pecs_np.ecs.storage import Storage
from pecs_np.ecs.values import private_copy
from pecs_np.errors import ComponentValueError, GeneratorNotFoundError, WorldError
from pecs_np.messages import shown

__all__ = ["BIT_GENERATORS", "STABLE_IDS", "Generators", "Resources"]

T = TypeVar("T")

# The name under which saves keep the source of a seeded world's stable ids, among the generators.
STABLE_IDS = "pecs.stable_ids"
BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


class Resources:
    """One component value for each type, for the whole world: a clock, settings, totals.

    Examples
    --------
    >>> from pecs_np import World, component
    >>> @component
    ... class Clock:
    ...     tick: int = 0
    >>> world = World()
    >>> world.resources.insert(Clock(tick=7))
    >>> world.resources.get(Clock).tick += 1
    >>> world.resources.get(Clock)
    Clock(tick=8)
    """

    __slots__ = ("_arrays", "_storage")

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._arrays: dict[str, Array] = {}

    def insert(self, resource: Any) -> None:
        """Set the value of a resource's type, of shape ().

        Raises
        ------
        ComponentValueError
            If *resource* is a column.
        """
        type_ = component_type(resource)
        array: Array = np.asarray(resource)
        if isinstance(resource, type) or array.shape not in ((), (1,)):
            found = "the class" if isinstance(resource, type) else f"shape {array.shape}"
            raise ComponentValueError(f"expected one value of {type_.name}, found {found}")
        self._put(type_, private_copy(array.reshape(1), type_.fields))

    def get(self, type_: type[T]) -> T | None:
        """Return the live value of a type, or None. *type_* is a class or a name."""
        name = type_name(type_)
        if not isinstance(type_, str):
            self._storage.check_known(component_type(type_))
        if name not in self._arrays:
            return None
        cls: Any = self._storage.types[name].cls if isinstance(type_, str) else type_
        value: T = cls._wrap(self._arrays[name].reshape(()))
        return value

    def remove(self, type_: type[Any] | str) -> None:
        """Forget the value of a type, if there is one."""
        self._arrays.pop(type_name(type_), None)

    def frozen(self) -> SnapshotTable | None:
        """Return the resources as a table of one row, sharing memory, or None where there are none."""
        if not self._arrays:
            return None
        names = sorted(self._arrays)
        return SnapshotTable(
            tuple(self._storage.types[name] for name in names),
            1,
            IdColumn(ENTITY_ID),
            IdColumn(STABLE_ID),
            {name: read_only(self._arrays[name]) for name in names},
        )

    def __contains__(self, type_: type[Any] | str) -> bool:
        return type_name(type_) in self._arrays

    def __len__(self) -> int:
        return len(self._arrays)

    def __iter__(self) -> Iterator[Component]:
        return (self._storage.types[n].cls._wrap(a.reshape(())) for n, a in self._arrays.items())

    def __repr__(self) -> str:
        return f"<Resources: {', '.join(map(repr, self)) or 'none'}>"

    def _put(self, type_: ComponentType, array: Array) -> None:
        """Set a value given as an array of shape (1,), which is taken over."""
        self._storage.check_known(type_)
        self._storage.types.setdefault(type_.name, type_)
        self._arrays[type_.name] = array


class Generators(UserDict[str, "np.random.Generator"]):
    """Named NumPy generators that are saved with the world, so that a restarted run draws the same numbers.

    A save holds what a generator draws from, not what it was seeded with, so that a loaded generator
    refuses to ``spawn`` others: make those with `create`.

    Examples
    --------
    >>> from pecs_np import World
    >>> world = World(seed=1)
    >>> dice = world.rngs.create("dice")
    >>> restarted = World.from_bytes(world.to_bytes())
    >>> bool(restarted.rngs["dice"].integers(6) == dice.integers(6))
    True
    """

    def __init__(self, source: StableIdSource) -> None:
        super().__init__()
        self._source = source

    def create(self, name: str, seed: int | None = None) -> np.random.Generator:
        """Return a new generator under *name*, seeded from *seed*, else from the world's seed and the name."""
        if not isinstance(name, str) or (seed is not None and (not isinstance(seed, int) or seed < 0)):
            raise WorldError(f"expected a name and a seed of 0 or more, found {name!r} and {seed!r}")
        entropy: Any = seed
        if seed is None and self._source.seeded:
            key = blake2b(name.encode(), digest_size=8).digest()
            entropy = [self._source.high, int.from_bytes(key, "little")]
        self[name] = np.random.default_rng(entropy)
        return self[name]

    def __setitem__(self, name: str, generator: np.random.Generator) -> None:
        if not isinstance(name, str) or not isinstance(generator, np.random.Generator):
            raise WorldError(
                f"expected a name and a numpy.random.Generator, found {name!r} and {generator!r:.80}",
                suggestion="use world.rngs.create(name), or numpy.random.default_rng(seed)",
            )
        check_name(name, "the name of a generator", WorldError)
        if name == STABLE_IDS:
            raise WorldError(f"expected another name than {name!r}, which stands for the world's stable ids")
        kind = type(generator.bit_generator).__name__
        if kind not in BIT_GENERATORS:
            raise WorldError(f"expected one of the bit generators {', '.join(BIT_GENERATORS)}, found {kind}")
        super().__setitem__(name, generator)

    def __missing__(self, name: str) -> np.random.Generator:
        raise GeneratorNotFoundError(
            f"expected a generator of the world ({', '.join(self) or 'it has none'}), found {name!r}",
            suggestion=f"make it with world.rngs.create({name!r})",
        )

    def states(self) -> dict[str, Mapping[str, Any]]:
        """Return the state of each bit generator, sorted by name."""
        return {name: self[name].bit_generator.state for name in sorted(self)}

    def restore(self, states: Mapping[str, Mapping[str, Any]]) -> None:
        """Set a generator for each of *states*."""
        for name, state in states.items():
            kind = state.get("bit_generator") if isinstance(state, Mapping) else None
            if not isinstance(kind, str) or kind not in BIT_GENERATORS:
                raise WorldError(
                    f"expected the state of one of {', '.join(BIT_GENERATORS)}, found {shown(state)} for the"
                    f" generator {name!r}"
                )
            bit_generator = getattr(np.random, kind)(_unseeded())
            try:
                bit_generator.state = state
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                raise WorldError(
                    f"expected the state of a {kind}: {type(error).__name__}: {error} in the generator {name!r}"
                ) from None
            self[name] = np.random.Generator(bit_generator)


def _unseeded() -> np.random.bit_generator.ISeedSequence:
    """Return a seed sequence that only stands in until a state is set, and cannot spawn."""

    class Unseeded(np.random.bit_generator.ISeedSequence):
        def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
            return np.ones(n_words, dtype)

    return Unseeded()

"""A command buffer: structural edits recorded now, from any thread, and carried out later."""

from __future__ import annotations

import threading
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.components import Component, component_type, value_of
from pecs_np.ecs.entities import EntityId
from pecs_np.ecs.storage import as_entity_ids
from pecs_np.ecs.values import private_copy
from pecs_np.errors import ComponentDefinitionError, PecsError, WorldError
from pecs_np.messages import shown

if TYPE_CHECKING:
    from pecs_np.ecs.world import World

__all__ = ["CommandBuffer", "DeferredEntity"]

# kind, entity or entities, components or types, keyword arguments
Command = tuple[str, Any, tuple[Any, ...], dict[str, Any]]


class DeferredEntity:
    """An entity that a command buffer will spawn; later commands of the same buffer can name it.

    Attributes
    ----------
    id : EntityId or None
        Set when the buffer is applied.
    """

    __slots__ = ("id",)

    def __init__(self) -> None:
        self.id: EntityId | None = None

    def __repr__(self) -> str:
        return f"<DeferredEntity {self.id!r}>"


class CommandBuffer:
    """Structural edits to carry out later: after a query, or at the end of a step.

    Recording is safe from any number of threads. Edits are carried out in the order recorded;
    neighbours of the same kind go together as one bulk operation.

    Examples
    --------
    >>> from pecs_np import CommandBuffer, World, component
    >>> @component
    ... class Burning:
    ...     since: int = 0
    >>> world = World()
    >>> ids = world.spawn_batch(count=3)
    >>> commands = CommandBuffer()
    >>> commands.insert(ids[0], Burning(since=5))
    >>> torch = commands.spawn(Burning())
    >>> commands.despawn(ids[2])
    >>> commands.apply(world)
    >>> len(world), world.has(torch.id, Burning)
    (3, True)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._commands: list[tuple[str, Any, tuple[Any, ...], dict[str, Any]]] = []

    def __len__(self) -> int:
        return len(self._commands)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<CommandBuffer of {len(self)} edits>"

    def spawn(self, *components: Any) -> DeferredEntity:
        """Record ``world.spawn``; the result stands for the entity in later commands."""
        entity = DeferredEntity()
        self._record("spawn", entity, components)
        return entity

    def spawn_batch(self, *components: Any, count: int | None = None, stable_ids: Any = None) -> None:
        """Record ``world.spawn_batch``."""
        self._record("spawn_batch", None, components, count=count, stable_ids=stable_ids)

    def spawn_with_stable_id(self, stable_id: int, *components: Any) -> DeferredEntity:
        """Record ``world.spawn_with_stable_id``."""
        entity = DeferredEntity()
        self._record("spawn_with_stable_id", entity, components, stable_id=stable_id)
        return entity

    def despawn(self, entity: Any) -> None:
        """Record ``world.despawn``; one that is no longer alive by then is passed over."""
        self._record("despawn", entity, ())

    def insert(self, entity: Any, *components: Any) -> None:
        """Record ``world.insert``."""
        self._record("insert", entity, components)

    def remove(self, entity: Any, *types: Any) -> None:
        """Record ``world.remove``."""
        self._record("remove", entity, types)

    def clear(self) -> None:
        """Forget everything recorded."""
        with self._lock:
            self._commands = []

    def apply(self, world: World) -> None:
        """Carry out what was recorded and forget it.

        Raises
        ------
        PecsError
            What the first failing edit raised. Edits before it are done, it is dropped, and those
            after it stay recorded.
        """
        if not hasattr(world, "spawn_batch"):
            raise WorldError(f"expected a World, found {shown(world)}")
        with self._lock:
            commands, self._commands = self._commands, []
        done = 0
        try:
            for _, group in groupby(commands, key=_batch_key):
                batch = list(group)
                if len(batch) == 1 or not _apply_together(world, batch):
                    for command in batch:
                        _apply(world, command)
                        done += 1
                else:
                    done += len(batch)
        except BaseException as error:
            error.add_note(f"while applying command {done + 1} of {len(commands)}: {commands[done][0]}")
            with self._lock:
                self._commands = commands[done + 1 :] + self._commands
            raise

    def _record(self, kind: str, entity: Any, args: tuple[Any, ...], **kwargs: Any) -> None:
        # Copied, because the caller may go on to change what it passed.
        entity = _copied(entity)
        kwargs = {name: _copied(value) for name, value in kwargs.items()}
        if kind == "remove":
            args = tuple([t if isinstance(t, str) else component_type(t).cls for t in args])
        else:
            args = tuple([_copied_component(value) for value in args])
        with self._lock:
            self._commands.append((kind, entity, args, kwargs))


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray | list) else value


def _copied_component(value: Any) -> Any:
    type_ = component_type(value)
    if not isinstance(value, Component):
        raise ComponentDefinitionError(
            f"expected a value of {type_.name}, found the class", suggestion=f"write {type_.name}(…)"
        )
    try:
        return value_of(type(value), value._packed)
    except AttributeError:  # a column, texts or lists
        array = value._array
        return value._wrap(private_copy(array.reshape(-1), type_.fields).reshape(array.shape))


def _batch_key(command: Command) -> Any:
    """Return equal keys for edits that one bulk operation can carry out, else a key of its own."""
    kind, entity, args, _ = command
    if kind == "despawn":
        return kind
    if kind == "remove" and _is_single(entity):
        return kind, args
    if kind in ("insert", "spawn") and _is_single(entity) and all(map(_is_value, args)):
        return kind, tuple(type(component) for component in args)
    return id(command)


def _is_value(component: Component) -> bool:
    return hasattr(component, "_packed") or component._array.ndim == 0


def _is_single(entity: Any) -> bool:
    return isinstance(entity, int | np.integer | DeferredEntity)


def _apply_together(world: World, batch: list[Command]) -> bool:
    """Carry out edits of one kind as a bulk operation; False, and nothing done, where that cannot be."""
    kind, _, args, _ = batch[0]
    try:
        if kind == "despawn":
            _despawn(world, np.concatenate([_resolved(command[1]) for command in batch]))
        elif kind == "remove":
            world.remove(np.unique(np.concatenate([_resolved(command[1]) for command in batch])), *args)
        elif kind == "insert":
            entities = np.concatenate([_resolved(command[1]) for command in batch])
            world.insert(entities, *_stacked(batch))
        else:
            ids = world.spawn_batch(*_stacked(batch), count=len(batch))
            for command, entity in zip(batch, ids.tolist(), strict=True):
                command[1].id = EntityId(entity)
    except PecsError:
        return False  # one by one finds out which edit is at fault
    return True


def _stacked(batch: list[Command]) -> list[Component]:
    """Return single components of several edits as columns, one for each type."""
    return [_column([command[2][i] for command in batch]) for i in range(len(batch[0][2]))]


def _column(values: list[Component]) -> Component:
    dtype = values[0]._type.layout.memory
    if dtype.hasobject or not dtype.itemsize:
        array = np.array([value._array for value in values], dtype)
    else:
        array = np.frombuffer(bytearray(b"".join([value._packed for value in values])), dtype)
    return values[0]._wrap(array)


def _despawn(world: World, ids: Any) -> None:
    ids = np.unique(ids)
    world.despawn(ids[world.is_alive(ids)])


def _apply(world: World, command: Command) -> None:
    kind, entity, args, kwargs = command
    if kind == "spawn":
        entity.id = world.spawn(*args)
    elif kind == "spawn_with_stable_id":
        entity.id = world.spawn_with_stable_id(kwargs["stable_id"], *args)
    elif kind == "spawn_batch":
        world.spawn_batch(*args, **kwargs)
    elif kind == "despawn":
        _despawn(world, _resolved(entity))
    else:
        getattr(world, kind)(_resolved(entity), *args)


def _resolved(entity: Any) -> NDArray[np.uint64]:
    """Return the entity or entities of an edit as ids, shape (n,)."""
    if isinstance(entity, DeferredEntity):
        if entity.id is None:
            raise WorldError(
                "expected an entity that is spawned by now, found one of another command buffer",
                suggestion="apply the buffer that spawns it first",
            )
        entity = entity.id
    return as_entity_ids(entity)[0]

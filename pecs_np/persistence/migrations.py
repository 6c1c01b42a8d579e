"""Old saves brought up to date, as columns, before the world exists; the file stays as it is.

Two kinds of steps: a component's own, from one of its versions to the next (``@Position.migration(1)``),
and a `Migration` of the whole world, for what concerns several components. The version that a step
starts from is that in the file, of the component or of the world. World migrations come first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.registry import migrations_of, registered
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.errors import ComponentVersionError, MigrationError, UnsupportedVersionError
from pecs_np.messages import shown
from pecs_np.persistence.consistency import check_snapshot
from pecs_np.persistence.drafts import WorldDraft, migrate_column
from pecs_np.persistence.resolving import (
    Unknown,
    check_unknown,
    is_current,
    is_defined_so,
    with_known_types,
)

__all__ = ["Migration", "MigrationChain", "MigrationPlan", "brought_up_to_date"]


class Migration(ABC):
    """A step that brings a world from one of its versions to a later one.

    Attributes
    ----------
    components : mapping of str to int
        Versions that components are brought to before the step; the others come as the file has them.

    Examples
    --------
    >>> class MetresToMillimetres(Migration):
    ...     def source_version(self):
    ...         return 1
    ...
    ...     def target_version(self):
    ...         return 2
    ...
    ...     def migrate(self, world):
    ...         for column in world.columns("Position"):
    ...             column["x"] *= 1000
    """

    components: Mapping[str, int] = {}

    @abstractmethod
    def source_version(self) -> int:
        """Return the version of the world that the step starts from."""

    @abstractmethod
    def target_version(self) -> int:
        """Return the version of the world that the step ends with."""

    @abstractmethod
    def migrate(self, world: WorldDraft) -> None:
        """Change *world*, the content of a save that is no world yet."""


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What loading a save would do to it.

    Attributes
    ----------
    version, target_version : int
        Of the world in the save, and after.
    steps : tuple of str
        In order. Steps of components are those that the save's own types need; a step of the world may
        change which those are.
    """

    version: int
    target_version: int
    steps: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.steps) or "nothing to do"

    def __bool__(self) -> bool:
        return bool(self.steps)


class MigrationChain:
    """World migrations, each of which starts where the one before ends.

    Examples
    --------
    >>> class OneToTwo(Migration):
    ...     def source_version(self):
    ...         return 1
    ...
    ...     def target_version(self):
    ...         return 2
    ...
    ...     def migrate(self, world):
    ...         world.rename("Position2D", "Position")
    >>> chain = MigrationChain().add(OneToTwo())
    >>> chain.target_version
    2
    """

    def __init__(self, migrations: Iterable[Migration] = ()) -> None:
        self._steps: list[Migration] = []
        if not isinstance(migrations, Iterable):
            raise MigrationError(
                f"expected migrations, found {shown(migrations)}", suggestion="pass a list of them"
            )
        for migration in migrations:
            self.add(migration)

    def add(self, migration: Migration) -> Self:
        """Add a step at the end, and return the chain.

        Raises
        ------
        MigrationError
            If it does not lead to a later version, or does not start where the last one ends.
        """
        if isinstance(migration, type) or not isinstance(migration, Migration):
            raise MigrationError(
                f"expected a Migration, found {shown(migration)}", suggestion="pass an instance of your class"
            )
        name = type(migration).__name__
        source, target = _version(migration, "source_version"), _version(migration, "target_version")
        if target <= source:
            raise MigrationError(
                f"expected {name} to lead from version {source} to a later one, found {target}"
            )
        if self._steps and (head := cast(int, self.target_version)) != source:
            taken = [s for s in self._steps if _version(s, "source_version") == source]
            what = f", from which {type(taken[0]).__name__} leads already" if taken else ""
            raise MigrationError(
                f"expected the next migration to start from version {head}, found {name} from version {source}{what}",
                suggestion="add the steps in order, without gaps",
            )
        self._steps.append(migration)
        return self

    @property
    def steps(self) -> tuple[Migration, ...]:
        """The migrations, in order."""
        return tuple(self._steps)

    @property
    def target_version(self) -> int | None:
        """The version of the world that the chain ends with, None where it is empty."""
        return _version(self._steps[-1], "target_version") if self._steps else None

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Migration]:
        return iter(self.steps)

    def __repr__(self) -> str:
        if not self._steps:
            return "<MigrationChain: empty>"
        versions = [_version(self._steps[0], "source_version")]
        versions += [_version(step, "target_version") for step in self._steps]
        return f"<MigrationChain: {' → '.join(map(str, versions))}>"

    def plan(self, save: Any) -> MigrationPlan:
        """Return what would run to bring *save*, an opened save or a snapshot, up to date; nothing does.

        Raises
        ------
        UnsupportedVersionError, MigrationError
            If it cannot be brought up to date.
        """
        version = getattr(save, "world_version", None) or getattr(save, "version", None)
        types = getattr(save, "types", None)
        if not isinstance(version, int) or types is None:
            raise MigrationError(
                f"expected an opened save or a snapshot, found {shown(save)}",
                suggestion="open it: with pecs_np.open(path) as save: print(chain.plan(save))",
            )
        name = str(getattr(save, "name", "the snapshot"))
        needed = self._needed(version, name)
        steps = [
            f"world {_version(s, 'source_version')} → {_version(s, 'target_version')}: {type(s).__name__}"
            for s in needed
        ]
        for type_ in types:
            if (current := _current(type_)) is not None and current.version != type_.version:
                for start, function in _component_steps(type_, current.version, name):
                    steps.append(f"{type_.name} {start} → {start + 1}: {function.__qualname__}")
        target = _version(needed[-1], "target_version") if needed else version
        return MigrationPlan(version, target, tuple(steps))

    def apply(self, snapshot: Snapshot, name: str = "the snapshot") -> Snapshot:
        """Return *snapshot* brought to the chain's version; its columns may have been changed.

        Raises
        ------
        UnsupportedVersionError
            If it is newer than the chain.
        MigrationError
            If it is older than the first step, or a step fails.
        """
        check_snapshot(snapshot)
        needed = self._needed(snapshot.version, name)
        if not needed:
            return snapshot
        draft = WorldDraft(snapshot)
        for step in needed:
            title = f"{type(step).__name__}, from version {_version(step, 'source_version')} of the world in {name},"
            try:
                for component, version in step.components.items():
                    draft.replace_type(component, _steps_to(version, name))
                step.migrate(draft)
            except Exception as error:
                raise MigrationError(f"the migration {title} failed: {error}") from error
            draft.version = _version(step, "target_version")
        return draft.snapshot(name)

    def _needed(self, version: int, name: str) -> list[Migration]:
        """Return the steps that lead from *version* to the end."""
        head = self.target_version
        if head is None or version == head:
            return []
        if version > head:
            raise UnsupportedVersionError(
                version, head, what=f"the world in {name}", suggestion="update the program: the save is newer"
            )
        for i, step in enumerate(self._steps):
            if _version(step, "source_version") == version:
                return self._steps[i:]
        starts = ", ".join(str(_version(step, "source_version")) for step in self._steps)
        raise MigrationError(
            f"expected a migration from version {version} of the world, as {name} has it, found some from {starts}"
        )


def brought_up_to_date(
    snapshot: Snapshot,
    name: str = "the snapshot",
    *,
    migrations: MigrationChain | Iterable[Migration] | None = None,
    unknown: Unknown = "keep",
) -> Snapshot:
    """Return *snapshot* as this program has its world and its components.

    Parameters
    ----------
    snapshot : Snapshot
        As read; its columns may be changed.
    name : str
        What messages call it.
    migrations : MigrationChain, optional
        Of the world.
    unknown : {"keep", "refuse", "drop"}
        What becomes of components that this program does not define.

    Raises
    ------
    UnsupportedVersionError
        If the world or a component is newer than the program, or nothing leads from its version.
    MigrationError
        If a step is missing or fails.
    ComponentDefinitionError
        If *unknown* is "refuse" and there are some.
    """
    check_unknown(unknown)
    if migrations is not None:
        chain = migrations if isinstance(migrations, MigrationChain) else MigrationChain(migrations)
        snapshot = chain.apply(snapshot, name)
        _check_fields(snapshot, name)
    if is_current(snapshot):
        return snapshot if unknown == "keep" else with_known_types(snapshot, unknown, name)
    outdated = {
        type_.name
        for table in (*snapshot.tables, *((snapshot.resources,) if snapshot.resources else ()))
        for type_ in table.types
        if not is_defined_so(type_)
    }
    if outdated:
        draft = WorldDraft(snapshot)
        for component in sorted(outdated):
            draft.replace_type(component, _steps_to(None, name))
        snapshot = draft.snapshot(name)
    return snapshot if unknown == "keep" else with_known_types(snapshot, unknown, name)


def _check_fields(snapshot: Snapshot, name: str) -> None:
    """Raise where a world migration left a component with other fields than this program defines."""
    for type_ in snapshot.types:
        current = _current(type_)
        if current is not None and current.version == type_.version and not current.agrees_with(type_):
            raise MigrationError(
                f"expected {current!r} after the migrations of {name}, as defined here, found {type_!r}",
                suggestion="migrate its fields too: world.rename_field, or world.change",
            )


def _current(type_: ComponentType) -> ComponentType | None:
    """Return the type of that name as it is defined here, or None."""
    cls = registered(type_.name)
    return None if cls is None else cls._type


def _component_steps(type_: ComponentType, version: int, name: str) -> list[tuple[int, Any]]:
    """Return the steps of a component from its version to another, each with the version it starts from."""
    if type_.version > version:
        raise ComponentVersionError(
            type_.version,
            version,
            what=f"component {type_.name!r} in {name}",
            suggestion="update the program: the save is newer",
        )
    known = migrations_of(type_.name)
    if not known:
        raise ComponentVersionError(
            type_.version,
            version,
            what=f"component {type_.name!r} in {name}",
            suggestion=f"write a function of the old column, @{type_.name}.migration({type_.version}), or load it"
            " with the program that wrote it",
        )
    for start in range(type_.version, version):
        if start not in known:
            raise MigrationError(
                f"expected migrations of {type_.name} from each of the versions {type_.version} to {version - 1},"
                f" found none from {start}, to load {name}",
                suggestion=f"write it: @{type_.name}.migration({start})",
            )
    return [(start, known[start]) for start in range(type_.version, version)]


def _steps_to(version: int | None, name: str) -> Any:
    """Return what brings a column to *version* of its component, or to that of this program."""

    def migrate(table: SnapshotTable, type_: ComponentType) -> tuple[ComponentType, Any]:
        current = _current(type_)
        own, column = type_, table.columns[type_.name]
        wanted = version if version is not None else current.version if current is not None else type_.version
        for start, function in _component_steps(type_, wanted, name) if wanted != type_.version else ():
            new = current if current is not None and current.version == start + 1 else None
            where = f"the migration {function.__qualname__} from version {start} of {type_.name} in {name}"
            own, column = migrate_column(function, column, own, new, where)
        return own, column

    return migrate


def _version(migration: Migration, which: str) -> int:
    """Return a version of a migration, which may be a method or a plain attribute."""
    value = getattr(migration, which)
    value = value() if callable(value) else value
    if type(value) is not int or not 0 < value < 1 << 32:
        raise MigrationError(
            f"expected a version from 1 to {2**32 - 1}, found {shown(value)} as {which} of {type(migration).__name__}"
        )
    return value

"""The types of a save and those of the program: which of them columns are made of."""

from __future__ import annotations

import enum
from typing import Annotated

import numpy as np
import pytest

from pecs_np import (
    ComponentDefinitionError,
    ComponentVersionError,
    EntityRef,
    PersistenceError,
    UnsupportedVersionError,
    World,
    unregister,
)
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import Field, Layout
from pecs_np.persistence.resolving import resolve_types, with_known_types


class SchemaState(enum.IntEnum):
    IDLE = 0
    RUN = 1


def described(name, version=1, dtype="<f4"):
    return ComponentType(name, version, Layout((Field("x", np.dtype(dtype)),)))


def test_types_are_those_of_the_program_the_old_and_the_unknown_those_of_the_save(define):
    here = define("ResolvedHere", {"x": np.float32})
    define("ResolvedOld", {"x": np.float64}, version=3)
    given = (described("ResolvedHere"), described("ResolvedOld", 2), described("ResolvedNowhere"))
    found = resolve_types(given, "a save")
    assert found[0] is here._type
    assert found[1:] == given[1:]


def test_a_newer_type_is_refused_before_anything_is_read(define):
    define("ResolvedNew", {"x": np.float32}, version=2)
    with pytest.raises(ComponentVersionError, match=r"'ResolvedNew' at types\[1\] in a save"):
        resolve_types((described("ResolvedOther"), described("ResolvedNew", 3)), "a save")


def test_unknown_types_go_from_resources_too(define):
    strange = define("ResolvedStrange", {"x": np.float32})
    world = World()
    world.spawn_batch(strange(x=[1, 2]))
    world.resources.insert(strange(x=3))
    snapshot = world.snapshot()
    assert with_known_types(snapshot, "drop", "a save") is snapshot
    unregister("ResolvedStrange")
    with pytest.warns(UserWarning, match="ResolvedStrange, from a save"):
        kept = with_known_types(snapshot, "drop", "a save")
    assert (kept.types, kept.resources, kept.entity_count) == ((), None, 2)
    assert with_known_types(snapshot, "keep", "a save") is snapshot
    with pytest.raises(ComponentDefinitionError, match="found ResolvedStrange in a save"):
        with_known_types(snapshot, "refuse", "a save")
    with pytest.raises(PersistenceError, match="found None"):
        with_known_types(snapshot, None, "a save")


def test_another_version_of_a_type_is_refused_with_both_numbers(define):
    world = World()
    world.spawn(define("SchemaVersioned", {"x": np.int8}, version=2)(1))
    data = world.to_bytes()
    for version in (1, 3):
        unregister("SchemaVersioned")
        define("SchemaVersioned", {"x": np.int8}, version=version)
        with pytest.raises(UnsupportedVersionError, match="SchemaVersioned") as caught:
            World.from_bytes(data)
        assert (caught.value.found, caught.value.expected) == (2, version)
        assert caught.value.suggestion


@pytest.mark.parametrize(
    "fields",
    [
        {"x": np.float64, "y": np.float32},
        {"y": np.float32, "x": np.float32},
        {"x": np.float32},
        {"x": np.float32, "y": np.float32, "z": np.float32},
        {"x": Annotated[np.float32, 1], "y": np.float32},
        {"x": list[np.float32], "y": np.float32},
        {"a": np.float32, "y": np.float32},
        {"x": EntityRef, "y": np.float32},
    ],
)
def test_other_fields_under_the_same_name_and_version_are_refused(define, fields):
    world = World()
    world.spawn(define("SchemaClash", {"x": np.float32, "y": np.float32})(1, 2))
    data = world.to_bytes()
    unregister("SchemaClash")
    define("SchemaClash", fields)
    with pytest.raises(ComponentDefinitionError, match=r"SchemaClash.*types\[0\]"):
        World.from_bytes(data)


def test_an_enum_may_have_gained_members_but_not_lost_or_renamed_them(define):
    more = enum.IntEnum("More", {"IDLE": 0, "RUN": 1, "JUMP": 2})
    other = enum.IntEnum("Other", {"REST": 0, "RUN": 1})
    world = World()
    world.spawn(define("SchemaEnum", {"state": SchemaState})(1))
    data = world.to_bytes()
    unregister("SchemaEnum")
    define("SchemaEnum", {"state": more})
    assert World.from_bytes(data).column("SchemaEnum")["state"].tolist() == [1]
    unregister("SchemaEnum")
    define("SchemaEnum", {"state": other})
    with pytest.raises(ComponentDefinitionError):
        World.from_bytes(data)

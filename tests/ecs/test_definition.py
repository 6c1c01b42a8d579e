"""Classes become components; types are known by name; what cannot be defined says why."""

from __future__ import annotations

import enum
import pickle
from typing import Annotated, ClassVar

import numpy as np
import pytest

from pecs_np import (
    Component,
    ComponentDefinitionError,
    ComponentValueError,
    EntityRef,
    PecsError,
    World,
    component,
    component_type,
    make_component,
    registered,
    unregister,
)
from pecs_np.ecs.registry import registry_version

pytestmark = pytest.mark.usefixtures("registry")


@pytest.fixture
def registry():
    """Forget the components that a test defines."""
    yield
    for name in ("definition.A", "definition.B", "definition.C", "Local", "Inner"):
        unregister(name)


class Colour(enum.IntEnum):
    RED = 1
    BLUE = 2


class Plain:
    """A class that is no component, used as a struct."""

    a: np.float32
    b: Annotated[np.int32, 2]


@component(name="definition.Base", version=4)
class Base:
    x: float
    y: float = 2.0

    def total(self):
        return self.x + self.y


# Classes


def test_a_class_becomes_a_component_in_all_ways_of_decorating():
    @component
    class Local:
        x: float = 1.0

    first = component_type(Local)
    assert (first.name, first.version, first.transient) == ("Local", 1, False)
    again = component(name="definition.A", version=3, transient=True)(
        type("X", (), {"__annotations__": {"x": int}})
    )
    assert (again._type.name, again._type.version, again._type.transient) == ("definition.A", 3, True)
    assert issubclass(Local, Component)
    assert issubclass(again, Component)


def test_fields_stand_in_declaration_order_with_their_defaults():
    @component(name="definition.A")
    class A:
        first: np.int16
        second: Annotated[str, 4] = "ab"
        third: Annotated[np.float32, 2] = (1, 2)
        fourth: Colour = Colour.BLUE
        fifth: Plain = (1, (2, 3))
        sixth: list[int] = [1, 2]
        seventh: EntityRef = None

    value = A(5)
    assert A._type.names == ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")
    assert (value.first, value.second, value.third.tolist(), value.fourth) == (5, "ab", [1, 2], Colour.BLUE)
    assert (value.fifth.a, value.fifth.b.tolist()) == (1, [2, 3])
    assert (value.sixth.tolist(), value.seventh) == ([1, 2], 0)


def test_a_default_is_made_anew_for_every_value():
    made = make_component("definition.A", {"x": list[int]}, defaults={"x": [1, 2]})
    made().x[0] = 9
    assert made().x.tolist() == [1, 2]


def test_class_variables_methods_and_properties_stay_and_are_no_fields():
    @component(name="definition.A")
    class A:
        unit: ClassVar[str] = "m"
        scale = 3
        x: float = 2.0

        @property
        def scaled(self):
            return self.x * self.scale

        @classmethod
        def origin(cls):
            return cls(0.0)

        @staticmethod
        def seven():
            return 7

        def is_persistent(self):
            return self.x > 0

    assert A._type.names == ("x",)
    assert (A.unit, A().scaled, A.origin().x, A.seven()) == ("m", 6.0, 0.0, 7)
    assert A([1, -1]).is_persistent().tolist() == [True, False]
    assert A([1, 2]).scaled.tolist() == [3, 6]


def test_a_subclass_has_the_fields_of_its_base_first():
    @component(name="definition.A")
    class A(Base):
        z: float = 3.0

        def total(self):
            return super().total() + self.z

    assert A._type.names == ("x", "y", "z")
    assert A(1).total() == 6
    assert Base(1).total() == 3
    assert Base._type.names == ("x", "y")
    assert (A._type.name, A._type.version) == ("definition.A", 1)


def test_a_subclass_can_give_a_field_of_its_base_a_default():
    @component(name="definition.A")
    class A(Base):
        x: float = 9.0

    assert (A().x, A().y) == (9.0, 2.0)


def test_names_that_only_a_function_knows_are_found():
    class Inner:
        v: float

    @component(name="definition.A")
    class A:
        inner: Inner
        many: list[Inner] = []

    assert A((5.0,)).inner.v == 5.0


@pytest.mark.parametrize(
    "name", ["definition.größe x", "definition.\N{GREEK SMALL LETTER ALPHA}", "x" * 1024]
)
def test_any_printable_name_names_a_type(name):
    made = make_component(name, {"x": int})
    assert registered(name) is made
    unregister(name)


@pytest.mark.parametrize(
    "field", ["class", "dtype", "name", "version", "cls", "type", "self", "T", "x_", "größe"]
)
def test_fields_may_have_ordinary_names_as_keywords_too(field):
    value = make_component("definition.A", {field: int})(**{field: 5})
    assert value[field] == 5


# Errors of definition


@pytest.mark.parametrize("name", ["", "a\nb", "\x00", "x" * 1025, "é" * 513, "\ud800", 5, b"x"])
def test_a_name_that_cannot_be_saved_is_refused(name):
    cls = type("X", (), {"__annotations__": {"x": int}})
    with pytest.raises(ComponentDefinitionError, match="expected a name of 1 to 1024 UTF-8 bytes"):
        component(name=name)(cls)
    with pytest.raises(ComponentDefinitionError, match="expected a name of 1 to 1024 UTF-8 bytes"):
        make_component(name, {"x": int})


@pytest.mark.parametrize("version", [0, -1, 2**32, 1.0, "1", True, None])
def test_a_version_is_a_positive_u32(version):
    with pytest.raises(ComponentDefinitionError, match="expected a version from 1 to 4294967295"):
        make_component("definition.A", {"x": int}, version=version)
    assert registered("definition.A") is None


@pytest.mark.parametrize(
    "field", ["matrix", "from_array", "migration", "is_persistent", "_x", "_array", "__x", "a b", "", "1a"]
)
def test_a_field_cannot_take_a_name_of_the_library(field):
    with pytest.raises(ComponentDefinitionError, match=r"definition\.A\."):
        make_component("definition.A", {field: int})


@pytest.mark.parametrize(
    ("annotation", "default"),
    [(np.int8, 500), (np.int8, "a"), (int, 1.5), (Annotated[str, 2], "abc"), (str, None), (list[int], None),
     (Colour, 3), (Annotated[float, 3], (1, 2)), (EntityRef, -1), (Plain, (1,)), (float, None), (bool, 1),
     (int, [1, 2]), (Annotated[float, 2], [[1, 2], [3, 4]]), (str, ["a", "b"]), (list[int], [[1], [2]])],
    ids=str,
)  # fmt: skip
def test_a_default_is_one_value_that_fits_its_field(annotation, default):
    with pytest.raises(ComponentDefinitionError, match=r"definition\.A\.x"):
        make_component("definition.A", {"x": annotation}, defaults={"x": default})


def test_a_default_without_a_field_is_refused():
    with pytest.raises(ComponentDefinitionError, match="y"):
        make_component("definition.A", {"x": int}, defaults={"y": 1})


@pytest.mark.parametrize("method", ["__init__", "__new__"])
def test_a_constructor_of_its_own_is_refused(method):
    cls = type("X", (), {"__annotations__": {"x": int}, method: lambda self: None})
    with pytest.raises(ComponentDefinitionError, match=r"defines its own constructor.*classmethod"):
        component(name="definition.A")(cls)


def test_a_class_that_holds_itself_is_refused():
    class Inner:
        a: int

    Inner.__annotations__["again"] = Inner
    with pytest.raises(ComponentDefinitionError, match="Inner"):
        make_component("definition.A", {"x": Inner})


def test_an_annotation_that_names_nothing_is_refused():
    with pytest.raises(ComponentDefinitionError, match=r"definition\.A .*'Nowhere'.* import"):
        make_component("definition.A", {"x": "Nowhere"})


@pytest.mark.parametrize("thing", [5, "Position", None, len, lambda: None])
def test_only_classes_become_components(thing):
    with pytest.raises(ComponentDefinitionError):
        component(name="definition.A")(thing)


def test_a_failed_definition_leaves_the_registry_alone():
    made = make_component("definition.A", {"x": int})
    before = registry_version()
    for fields, options in [({"x": dict}, {}), ({"x": float}, {}), ({"x": int}, {"version": 0})]:
        with pytest.raises(ComponentDefinitionError):
            make_component("definition.A", fields, **options)
    assert registered("definition.A") is made
    assert registry_version() == before


# The registry

CELL = """
from pecs_np import component, EntityRef
import numpy as np

@component(name="definition.A")
class A:
    x: {x} = 0
    target: EntityRef = None

    def twice(self):
        return self.x * {factor}
"""


def run_cell(**values):
    scope = {"__name__": "__main__"}
    exec(CELL.format(**{"x": "np.float32", "factor": 2} | values), scope)
    return scope["A"]


def test_a_notebook_cell_can_run_again_and_values_of_both_classes_mix():
    first, world = run_cell(), World()
    one = world.spawn(first(1))
    second = run_cell(factor=20)
    two = world.spawn(second(2))
    assert first is not second
    assert registered("definition.A") is second
    assert world.get(one, second).x == 1
    assert world.get(two, first).x == 2
    assert second(3).twice() == 60
    assert first(1) == second(1)
    assert len(world.column("definition.A")) == 2


def test_the_same_name_and_version_with_other_fields_says_both_and_the_way_out():
    run_cell()
    with pytest.raises(ComponentDefinitionError) as caught:
        run_cell(x="np.float64")
    message = str(caught.value)
    assert "expected <component definition.A v1 (x: f4, target: ref)> as defined before" in message
    assert "found <component definition.A v1 (x: f8, target: ref)>" in message
    assert "raise its version, or call unregister('definition.A') first" in message


@pytest.mark.parametrize(
    "other",
    [
        {"x": np.float32},
        {"y": np.float64},
        {"x": float, "y": float},
        {"x": Annotated[float, 2]},
        {"x": list[float]},
        {},
    ],
    ids=str,
)
def test_every_difference_in_fields_counts(other):
    make_component("definition.A", {"x": float})
    with pytest.raises(ComponentDefinitionError, match="as defined before"):
        make_component("definition.A", other)


def test_another_version_or_a_forgotten_name_may_have_other_fields():
    make_component("definition.A", {"x": float})
    newer = make_component("definition.A", {"x": int}, version=2)
    assert registered("definition.A") is newer
    unregister("definition.A")
    assert registered("definition.A") is None
    assert make_component("definition.A", {"y": str}, version=2)._type.names == ("y",)


def test_defaults_methods_and_transience_may_change_freely():
    make_component("definition.A", {"x": float}, defaults={"x": 1.0})
    again = make_component("definition.A", {"x": float}, defaults={"x": 2.0}, transient=True)
    assert again().x == 2.0
    assert again._type.transient


def test_an_enum_may_gain_members_but_not_lose_them():
    fewer, more = enum.IntEnum("E", {"A": 0}), enum.IntEnum("E", {"A": 0, "B": 1})
    make_component("definition.A", {"x": fewer})
    assert make_component("definition.A", {"x": more})(1).x == 1
    with pytest.raises(ComponentDefinitionError, match="as defined before"):
        make_component("definition.A", {"x": fewer})


def test_the_registry_version_moves_with_every_change():
    versions = [registry_version()]
    make_component("definition.A", {"x": float})
    versions.append(registry_version())
    unregister("definition.A")
    versions.append(registry_version())
    assert len(set(versions)) == 3


def test_forgetting_an_unknown_name_is_no_error():
    unregister("definition.never")
    assert registered("definition.never") is None


def test_a_world_keeps_the_type_it_has_met():
    old, world = make_component("definition.A", {"x": float}), World()
    entity = world.spawn(old(1.5))
    unregister("definition.A")
    new = make_component("definition.A", {"y": int})
    assert world.get(entity, "definition.A").x == 1.5
    with pytest.raises(
        PecsError, match=r"expected <component definition.A v1 \(x: f8\)> as this world has it"
    ):
        world.spawn(new(1))


# make_component


def test_make_component_equals_the_decorated_class():
    made = make_component("definition.A", {"x": float, "y": float}, version=4, defaults={"y": 2.0})
    assert made._type.layout.memory == Base._type.layout.memory
    assert (made(1).x, made(1).y, made._type.version, made.__name__) == (1.0, 2.0, 4, "definition.A")
    with pytest.raises(ComponentValueError, match=r"expected a value for x of definition\.A"):
        made()


def test_make_component_takes_annotations_as_text():
    made = make_component("definition.A", {"x": "float", "y": "list[int]"})
    assert made(1.5, [1]).y.tolist() == [1]


def test_a_component_without_fields_is_a_tag():
    made = make_component("definition.A", {})
    assert made._type.layout.memory.itemsize == 0
    assert made() == made()


# Pickling by name


@pytest.mark.parametrize("kind", ["made", "local", "run again"])
def test_values_are_pickled_by_the_name_of_their_type_not_by_class_object(kind):
    if kind == "made":
        value = make_component("definition.A", {"x": float})(1.5)
    elif kind == "local":

        @component(name="definition.A")
        class Local:
            x: float

        value = Local([1.5, 2.5])
    else:
        value = run_cell()(1.5)
        run_cell(factor=3)
    other = pickle.loads(pickle.dumps(value))
    assert component_type(other).name == "definition.A"
    assert np.all(other == value)

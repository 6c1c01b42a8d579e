"""One class for one value and for whole columns: reading, writing, indexing, comparing, copying."""

from __future__ import annotations

import copy
import enum
import pickle
from typing import Annotated

import numpy as np
import pytest

from pecs_np import (
    Component,
    ComponentDefinitionError,
    ComponentValueError,
    EntityId,
    EntityRef,
    UnknownFieldError,
    World,
    component,
    component_type,
)
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import Field, Layout


@component(name="components.Point")
class Point:
    """Where something is."""

    x: np.float32 = 0.0
    y: np.float32 = 0.0

    def length(self):
        return np.hypot(self.x, self.y)


class Mode(enum.IntEnum):
    OFF = 0
    ON = 7


@component(name="components.Mixed")
class Mixed:
    n: np.int16 = 0
    v: Annotated[np.float64, 3] = 0.0
    mode: Mode = Mode.OFF
    at: Point = (0, 0)
    target: EntityRef = None
    label: Annotated[str, 8] = ""


@component(name="components.Note")
class Note:
    text: str = ""
    raw: bytes = b""
    path: list[int] = []
    points: list[Point] = []
    crew: list[EntityRef] = []


@component(name="components.Tag")
class Tag:
    pass


DTYPE = np.dtype([("x", "<f4"), ("y", "<f4")])


def read_only_column():
    array = np.zeros(3, DTYPE)
    array.flags.writeable = False
    return Point.from_array(array)


# Making


def test_positional_keyword_and_default_values_make_one_value():
    for made in (Point(1, 2), Point(x=1, y=2), Point(1, y=2)):
        assert np.asarray(made).shape == ()
        assert np.asarray(made).dtype == DTYPE
        assert (made.x, made.y) == (1.0, 2.0)
    assert (Point().x, Point(5).y) == (0.0, 0.0)
    assert isinstance(Point(), Component)
    assert type(Point().x) is np.float32


def test_columns_and_single_values_broadcast():
    column = Point(x=[1, 2, 3], y=4)
    assert len(column) == 3
    assert np.asarray(column).tolist() == [(1, 4), (2, 4), (3, 4)]
    assert np.asarray(Point(np.zeros((2, 3)), 1)).shape == (2, 3)
    assert len(Point([], 1)) == 0


def test_every_kind_of_field_reads_as_its_own_kind():
    one = Mixed(3, [1, 2, 3], Mode.ON, (4, 5), 1 << 32 | 6, "ab")
    assert one.n == 3
    assert one.v.tolist() == [1, 2, 3]
    assert one.mode is Mode.ON
    assert isinstance(one.at, Point)
    assert one.at == Point(4, 5)
    assert one.target == EntityId(1 << 32 | 6)
    assert (type(one.target), one.target.index) == (EntityId, 6)
    assert one.label == "ab"


def test_columns_read_as_live_arrays():
    column = Mixed(n=[1, 2], mode=[Mode.ON, 0], at=Point([1, 2], 0), target=[5, None], label=["a", "b"])
    assert column.mode.tolist() == [7, 0]
    assert isinstance(column.at, Point)
    assert column.at.x.tolist() == [1, 2]
    assert column.target.dtype == np.uint64
    assert column.target.tolist() == [5, 0]
    assert column.v.shape == (2, 3)


def test_variable_length_fields_read_as_what_was_given():
    one = Note("ü", b"\0", [1, 2], [(1, 2), (3, 4)], [5, None])
    assert (one.text, one.raw, one.path.tolist(), one.crew.tolist()) == ("ü", b"\0", [1, 2], [5, 0])
    assert one.points.tolist() == [(1, 2), (3, 4)]
    column = Note(text=["a", "bc"], path=[[1], []])
    assert column.text.tolist() == ["a", "bc"]
    assert [p.tolist() for p in column.path] == [[1], []]
    assert [p.tolist() for p in column.crew] == [[], []]


def test_lists_of_structs_take_component_values():
    assert Note(points=Point([1, 2], 0)).points.tolist() == [(1, 0), (2, 0)]
    assert Note(points=[Point(1, 2), Point(3, 4)]).points.tolist() == [(1, 2), (3, 4)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Point(1, 2, 3), "expected at most 2 values, found 3 for components.Point"),
        (lambda: Point(1, x=2), "two values for field 'x' of components.Point"),
        (lambda: Point([1, 2], [1, 2, 3]), r"one shape for components.Point, found x \(2,\), y \(3,\)"),
        (lambda: Point("1"), "components.Point.x"),
        (lambda: Mixed(2**15), "expected values that fit <i2, found 32768 for components.Mixed.n"),
        (lambda: Mixed(1.5), "fit <i2, found <f8 values for components.Mixed.n"),
        (lambda: Mixed(v=[1, 2]), r"expected shape \(..., 3\), found \(2,\) for components.Mixed.v"),
        (lambda: Mixed(mode=3), r"expected one of \['OFF', 'ON'\], found 3"),
        (lambda: Mixed(at=(1, "a")), "components.Mixed.at.y"),
        (lambda: Mixed(target=-1), "expected entity ids"),
        (lambda: Mixed(label="a" * 9), "length 9 for components.Mixed.label"),
        (lambda: Note(None), "expected str, found None in row 0 for components.Note.text"),
        (lambda: Note(path=5), "expected a list, found 5 for components.Note.path"),
        (lambda: Tag(1), "expected at most 0 values, found 1"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_are_refused_by_name(make, message):
    with pytest.raises(ComponentValueError, match=message):
        make()


def test_missing_values_are_named(define):
    cls = define("components.Need", {"a": int, "b": str, "c": int}, defaults={"c": 1})
    with pytest.raises(ComponentValueError, match=r"expected a value for a, b of components.Need.*pass a=…"):
        cls()
    with pytest.raises(ComponentValueError, match="expected a value for b of"):
        cls(1)


@pytest.mark.parametrize(
    "use",
    [lambda p: p.z, lambda p: p["z"], lambda p: setattr(p, "z", 1), lambda p: p.__setitem__("z", 1), lambda p: Point(z=1)],
    ids=["get", "item", "set", "set item", "make"],
)  # fmt: skip
def test_unknown_fields_are_named_with_the_known_ones(use):
    with pytest.raises(
        UnknownFieldError, match=r"expected a field of components.Point, found 'z'; its fields are x, y"
    ):
        use(Point())
    assert not hasattr(Point(), "z")


def test_a_float_beyond_the_range_is_treated_alike_in_values_and_columns(recwarn):
    outcomes = []
    for value in (1e300, [1e300]):
        try:
            outcomes.append(np.ravel(Point(x=value).x).tolist())
        except ComponentValueError:
            outcomes.append("error")
    assert outcomes[0] == outcomes[1]
    assert not recwarn.list


# Writing


def test_writes_reach_the_array():
    column = Point([1, 2, 3], 0)
    array = np.asarray(column)
    column.x += 10
    column.x[0] = 5
    column.y = [7, 8, 9]
    column["y"] -= 7
    assert array.tolist() == [(5, 0), (12, 1), (13, 2)]
    column.x = 0
    assert array["x"].tolist() == [0, 0, 0]


def test_writes_to_one_value_stay():
    one = Mixed()
    one.n += 4
    one.v += [1, 2, 3]
    one.v[0] = 9
    one.mode = Mode.ON
    one.at = (1, 2)
    one.at.x += 5
    one.at.y = 7
    one.target = 3
    one.label = "x"
    assert one == Mixed(4, [9, 2, 3], Mode.ON, (6, 7), 3, "x")


def test_writes_through_nested_columns_stay():
    column = Mixed(n=[1, 2])
    column.at.x += [1, 2]
    column.at = Point(column.at.x, 5)
    column.v[1] = 3
    column.v *= 2
    assert np.asarray(column.at).tolist() == [(1, 5), (2, 5)]
    assert column.v.tolist() == [[0, 0, 0], [6, 6, 6]]


def test_variable_length_fields_are_written_whole_or_within():
    one = Note(path=[1, 2])
    one.text, one.path = "new", [3, 4, 5]
    one.path += 1
    assert (one.text, one.path.tolist()) == ("new", [4, 5, 6])
    column = Note(path=[[1], [2, 3]])
    column.path = [[5, 6], []]
    column.path[0][1] = 0
    column.text = ["a", "b"]
    assert [p.tolist() for p in column.path] == [[5, 0], []]
    assert column.text.tolist() == ["a", "b"]


def test_lists_spread_over_a_column_are_apart():
    made = Note(text=["a", "b"], path=[1])
    made.path[0][0] = 9
    assert made.path[1].tolist() == [1]
    made.path = [5]
    made.path[0][0] = 9
    assert made.path[1].tolist() == [5]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda p: setattr(p, "x", [1, 2]),
            r"expected values of shape \(3,\), found \(2,\) for components.Point.x",
        ),
        (lambda p: setattr(p, "x", "a"), "components.Point.x"),
        (lambda p: setattr(p, "x", np.zeros((2, 3))), r"expected values of shape \(3,\), found \(2, 3\)"),
        (lambda p: setattr(p, "matrix", [1, 2, 3]), "components.Point.matrix"),
        (lambda p: p.__setitem__(0, 5), "expected a components.Point, found 5"),
        (lambda p: p.__setitem__([0, 1], Point([1, 2, 3])), "for components.Point"),
        (lambda p: p.__setitem__(3, Point()), "out of bounds.* for components.Point"),
    ],
)
def test_writes_that_do_not_fit_are_refused_and_change_nothing(write, message):
    column = Point([1, 2, 3], 0)
    with pytest.raises(ComponentValueError, match=message):
        write(column)
    assert column.x.tolist() == [1, 2, 3]


def test_one_value_does_not_become_a_column():
    one, note = Point(1, 2), Note()
    with pytest.raises(ComponentValueError, match=r"expected values of shape \(\), found \(2,\)"):
        one.x = [1, 2]
    with pytest.raises(ComponentValueError, match=r"expected values of shape \(\), found \(2,\)"):
        note.path = [[1], [2]]


@pytest.mark.parametrize(
    "write",
    [lambda p: setattr(p, "x", 1), lambda p: setattr(p, "matrix", 1), lambda p: p.__setitem__(0, Point()),
     lambda p: setattr(p[0], "x", 1), lambda p: p.__setitem__("x", 1)],
)  # fmt: skip
def test_a_read_only_column_refuses_writes(write):
    column = read_only_column()
    with pytest.raises(ComponentValueError, match=r"read-only.*components.Point|components.Point.*read-only"):
        write(column)
    assert not column.matrix.any()


# Views


def test_the_matrix_is_a_live_view_of_a_uniform_component():
    column = Point([1, 2, 3], 4)
    assert column.matrix.tolist() == [[1, 4], [2, 4], [3, 4]]
    assert np.shares_memory(column.matrix, np.asarray(column))
    column.matrix += 1
    column.matrix[0] = 0
    assert column.y.tolist() == [0, 5, 5]
    column.matrix = [7, 8]
    assert column[2] == Point(7, 8)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3)])
def test_the_matrix_has_the_shape_of_the_column_and_one_more(shape):
    assert Point(np.ones(shape), 2).matrix.shape == (*shape, 2)


def test_the_matrix_of_every_second_row_is_a_view_too():
    column = Point(np.arange(6), 0)
    column[::2].matrix[:] = 9
    column[::-1].matrix[0, 1] = 5
    assert np.asarray(column).tolist() == [(9, 9), (1, 0), (9, 9), (3, 0), (9, 9), (5, 5)]


def test_nested_structs_and_subarrays_lie_flat_in_the_matrix(define):
    cls = define("components.Flat", {"p": Annotated[Point, 2], "v": Annotated[np.float32, (2, 2)]})
    assert cls(Point(1, 2), [[3, 4], [5, 6]]).matrix.tolist() == [1, 2, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("value", [Mixed(), Note(), Tag()], ids=["mixed", "note", "tag"])
def test_a_component_of_several_dtypes_has_no_matrix(value):
    with pytest.raises(ComponentValueError, match=r"has no matrix.*use its fields one by one"):
        _ = value.matrix


def test_from_array_shares_memory():
    array = np.zeros(3, DTYPE)
    column = Point.from_array(array)
    column.x = 5
    assert array["x"].tolist() == [5, 5, 5]
    assert np.asarray(column) is array


@pytest.mark.parametrize(
    "array",
    [np.zeros(3), [(1, 2)], np.zeros(3, [("x", "<f8"), ("y", "<f8")]), np.zeros(3, [("y", "<f4"), ("x", "<f4")]),
     np.zeros(3, [("x", ">f4"), ("y", ">f4")]), np.zeros(3, {"names": ["x", "y"], "formats": ["<f4"] * 2, "offsets": [0, 8]})],
)  # fmt: skip
def test_from_array_takes_no_other_dtype(array):
    with pytest.raises(ComponentValueError, match=r"expected dtype .*found .* for components.Point"):
        Point.from_array(array)


def test_numpy_asks_for_views_copies_and_other_dtypes():
    column = Point([1, 2], 3)
    assert np.shares_memory(np.asarray(column), column.x)
    assert not np.shares_memory(np.array(column), column.x)
    wide = np.dtype([("x", "<f8"), ("y", "<f8")])
    assert np.asarray(column, wide).tolist() == [(1, 3), (2, 3)]
    with pytest.raises(ValueError, match="copy"):
        np.array(column, wide, copy=False)


# Indexing


@pytest.mark.parametrize(
    "key",
    [0, -1, slice(1, 3), slice(None, None, -2), [0, 2], np.array([True, False, True, False]), np.array([3, 0]),
     np.int64(2), (), ..., None, (slice(0, 2),)],
    ids=repr,
)  # fmt: skip
def test_rows_are_selected_as_numpy_selects_them(key):
    column = Point([1, 2, 3, 4], 0)
    chosen = column[key]
    assert isinstance(chosen, Point)
    assert np.asarray(chosen).tolist() == np.asarray(column)[key].tolist()


def test_a_row_and_a_slice_are_live():
    column = Point([1, 2, 3, 4], 0)
    column[0].x = 9
    column[1:3].y += 5
    column[3] = Point(7, 8)
    column[np.array([True, True, False, False])] = Point([0, 1], 2)
    assert np.asarray(column).tolist() == [(0, 2), (1, 2), (3, 5), (7, 8)]


@pytest.mark.parametrize("key", [4, -5, 1.5, (0, 0), np.array([True]), [9], (..., 0, 0)], ids=repr)
def test_rows_that_are_not_there_are_an_error(key):
    with pytest.raises(ComponentValueError, match=r"components\.Point"):
        Point([1, 2, 3, 4])[key]


def test_one_value_has_no_length_and_no_rows():
    with pytest.raises(TypeError):
        len(Point())
    with pytest.raises(ComponentValueError, match=r"components\.Point"):
        Point()[0]


def test_iterating_gives_the_column_once_and_truth_is_not_length():
    column = Point([1, 2])
    assert [c is column for c in column] == [True]
    assert bool(Point([])) is True


# Comparing and showing


def test_single_values_compare_to_a_bool():
    assert (Point(1, 2) == Point(1, 2)) is True
    assert (Point(1, 2) == Point(1, 3)) is False
    assert Point(1, 2) != Point(2, 1)
    assert Mixed(v=[1, 2, 3]) != Mixed(v=[1, 2, 4])
    assert Mixed(at=(1, 2)) != Mixed(at=(1, 3))
    assert Note("a", b"b", [1], [(1, 2)]) == Note("a", b"b", [1], [(1, 2)])
    assert Note(path=[1, 2]) != Note(path=[1])
    assert Note(points=[(1, 2)]) != Note(points=[(1, 3)])
    assert Tag() == Tag()


def test_columns_compare_row_by_row():
    column = Mixed(n=[1, 2], v=[[1, 1, 1], [1, 1, 2]])
    assert (column == Mixed(n=[1, 2], v=1)).tolist() == [True, False]
    assert (Note(path=[[1], [2]]) == Note(path=[2])).tolist() == [False, True]
    assert (Point([]) == Point([])).tolist() == []


def test_values_of_other_kinds_are_unequal():
    assert Point() != 5
    assert Point() != Mixed()
    assert Point() != (0.0, 0.0)


def test_columns_of_other_lengths_do_not_compare():
    with pytest.raises(ComponentValueError, match=r"components\.Point"):
        _ = Point([1, 2, 3]) == Point([1, 2])


def test_components_are_not_hashable():
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point())


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Point(1, 2.5), "components.Point(x=1.0, y=2.5)"),
        (Point([1, 2], 0), "components.Point[2](x=[1. 2.], y=[0. 0.])"),
        (Point([], 0), "components.Point[0](x=[], y=[])"),
        (Point(np.zeros((1, 2))), "components.Point[1, 2](x=[[0. 0.]], y=[[0. 0.]])"),
        (Note("a", b"b", [1]), "components.Note(text=a, raw=b'b', path=[1], points=[], crew=[])"),
        (Tag(), "components.Tag()"),
        (Point._type, "<component components.Point v1 (x: f4, y: f4)>"),
    ],
)
def test_reprs_are_short_and_true(value, shown):
    assert repr(value) == shown


def test_the_repr_of_a_type_shows_every_kind_of_field():
    shown = repr(Mixed._type) + repr(Note._type)
    for part in (
        "n: i2",
        "v: f8[3]",
        "at: {x: f4, y: f4}",
        "target: ref",
        "label: U8",
        "text: str",
        "list of ref",
    ):
        assert part in shown


def test_the_repr_of_a_long_column_is_short():
    assert len(repr(Mixed(n=np.zeros(10_000, int)))) < 1500


# Pickling and copying

VALUES = [
    Point(1, 2),
    Point([1, 2], 3),
    Mixed(1, 2, Mode.ON, (3, 4), 5, "a"),
    Note(["a", "b"], path=[[1], []]),
    Tag(),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_survive_pickling(value):
    for protocol in (2, pickle.HIGHEST_PROTOCOL):
        other = pickle.loads(pickle.dumps(value, protocol))
        assert type(other) is type(value)
        assert np.asarray(other).shape == np.asarray(value).shape
        assert np.all(other == value)


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_are_equal_and_of_the_same_class(value, copied):
    other = copied(value)
    assert type(other) is type(value)
    assert np.all(other == value)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_keeps_its_values_when_the_original_changes(copied):
    one, column = Point(1, 2), Point([1, 2], 3)
    copies = copied(one), copied(column)
    one.x, column.x = 9, 9
    assert (copies[0].x, copies[1].x.tolist()) == (1, [1, 2])


def test_a_deep_copy_has_lists_of_its_own():
    one = Note(path=[1, 2])
    other = copy.deepcopy(one)
    one.path[0] = 9
    assert other.path.tolist() == [1, 2]


@pytest.mark.parametrize("where", ["a value", "a row"])
def test_a_value_that_two_threads_ask_for_its_array_at_once_gets_one(where):
    value = Point(1, 2)
    if where == "a row":
        world = World()
        value = world.get(world.spawn(value), Point)
    value._settle()
    array = np.asarray(value)
    value.x = 5
    value._settle()  # as the thread does that comes second
    assert np.asarray(value) is array
    assert value == Point(5, 2)


def test_a_pickled_view_of_a_world_is_a_value_of_its_own():
    world = World()
    entity = world.spawn(Point(1, 2))
    view = world.get(entity, Point)
    other = pickle.loads(pickle.dumps(view))
    view.x = 5
    assert (other.x, world.get(entity, Point).x) == (1, 5)


# Types


def test_the_type_of_a_class_and_of_a_value_is_one():
    assert component_type(Point) is component_type(Point(1, 2)) is Point._type
    assert (Point._type.name, Point._type.version, Point._type.names) == ("components.Point", 1, ("x", "y"))


@pytest.mark.parametrize("other", [5, int, "Point", None, np.zeros(2, DTYPE)])
def test_what_is_no_component_has_no_type(other):
    with pytest.raises(ComponentDefinitionError, match=r"expected a component, found .*decorate its class"):
        component_type(other)


def test_methods_work_on_values_and_columns():
    assert Point(3, 4).length() == 5
    assert Point([3, 6], [4, 8]).length().tolist() == [5, 10]
    assert Point.__doc__ == "Where something is."


def test_a_dynamic_class_gives_access_to_fields_whatever_their_names():
    pair = (Field("a", np.dtype("<f4")), Field("r", ref=True))
    names = ("two words", "matrix", "_private", "class", "plain")
    fields = (
        *(Field(n, np.dtype("<i8")) for n in names),
        Field("a struct", fields=pair),
        Field("a ref", ref=True),
    )
    cls = ComponentType("components.Dynamic", 3, Layout(fields)).cls
    column = cls.from_array(np.zeros(2, Layout(fields).memory))
    for i, name in enumerate(names):
        column[name] += i
        assert column[name].tolist() == [i, i]
    assert column.plain.tolist() == [4, 4]
    assert column[0]["a ref"] == EntityId(0)
    column["a struct"]["a"] = 7
    assert column["a struct"].a.tolist() == [7, 7]
    assert repr(cls._type).startswith("<component components.Dynamic v3 (two words: i8, matrix: i8")


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"fields": (Field("x", np.dtype("<f4")),)}, {"fields": (Field("x", np.dtype("<f8")), Field("y", ref=True))}],
)  # fmt: skip
def test_types_agree_by_version_and_fields_not_by_class(change):
    options = {"version": 1, "fields": (Field("x", np.dtype("<f4")), Field("y", ref=True))}
    first, again, other = (
        ComponentType("components.T", o["version"], Layout(o["fields"]))
        for o in (options, dict(options), options | change)
    )
    assert first.agrees_with(again)
    assert not first.agrees_with(other)


def test_a_type_agrees_with_one_whose_enum_had_fewer_members():
    def of(*members):
        return ComponentType("components.E", 1, Layout((Field("x", np.dtype("u1"), enum=members),)))

    assert of(("A", 0), ("B", 1)).agrees_with(of(("A", 0)))
    assert not of(("A", 0)).agrees_with(of(("A", 0), ("B", 1)))
    assert not of(("A", 0)).agrees_with(of(("A", 1)))

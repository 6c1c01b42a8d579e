"""Every row of the table of annotations, and what cannot be stored."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Annotated, Optional

import numpy as np
import pytest

from pecs_np import ComponentDefinitionError, EntityRef, InvalidFormatError
from pecs_np.ecs.dtypes import Field, Layout, check_name, field_from_annotation
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID

F4, I8 = np.dtype("<f4"), np.dtype("<i8")
MEMBERS = (Field("a", F4), Field("b", I8))


class Plain:
    a: np.float32
    b: int


class Titled:
    title: str


class Mode(enum.IntEnum):
    OFF = 0
    ON = 200


class Signed(enum.IntEnum):
    DOWN = -1
    UP = 200


class Huge(enum.IntEnum):
    LAST = 2**64 - 1


class Alias(enum.IntEnum):
    FIRST = 1
    ALSO_FIRST = 1


class NoMember(enum.IntEnum):
    pass


class TooWide(enum.IntEnum):
    LOW = -1
    HIGH = 2**63


class NotInt(enum.Enum):
    A = 1


def field_of(annotation):
    """Return the field of an annotation, where ``Plain`` and ``Titled`` are the known classes."""
    known = {Plain: MEMBERS, Titled: (Field("title", variable="str"),)}
    return field_from_annotation("x", annotation, "C.x", lambda cls: known.get(cls, ()))


@pytest.mark.parametrize(
    ("annotation", "dtype"),
    [
        (float, "<f8"),
        (int, "<i8"),
        (bool, "|b1"),
        (complex, "<c16"),
        *[(getattr(np, f"{u}int{n}"), f"{'<' if n > 8 else '|'}{'u' if u else 'i'}{n // 8}")
          for u in ("", "u") for n in (8, 16, 32, 64)],
        (np.float16, "<f2"),
        (np.float32, "<f4"),
        (np.float64, "<f8"),
        (np.complex64, "<c8"),
        (np.complex128, "<c16"),
        (np.bool_, "|b1"),
        (np.longlong, "<i8"),
        (Annotated[str, 32], "<U32"),
        (Annotated[np.str_, 3], "<U3"),
        (Annotated[bytes, 16], "|S16"),
        (Annotated[np.bytes_, 1], "|S1"),
        (Annotated[np.datetime64, "ms"], "<M8[ms]"),
        (Annotated[np.datetime64, "25s"], "<M8[25s]"),
        (Annotated[np.timedelta64, "ns"], "<m8[ns]"),
        (Mode, "|u1"),
        (Signed, "<i2"),
        (Huge, "<u8"),
    ],
)  # fmt: skip
def test_scalar_annotations_have_one_dtype(annotation, dtype):
    found = field_of(annotation)
    assert found.dtype.str == dtype
    assert (found.shape, found.variable, found.ref, found.fields) == ((), None, False, ())
    assert found.element() == found.element(disk=True) == np.dtype(dtype)


@pytest.mark.parametrize(
    ("annotation", "base", "shape"),
    [
        (Annotated[np.float32, 3], "<f4", (3,)),
        (Annotated[float, (2, 2)], "<f8", (2, 2)),
        (Annotated[bool, (1,)], "|b1", (1,)),
        (Annotated[str, 8, 3], "<U8", (3,)),
        (Annotated[bytes, 8, (2, 2)], "|S8", (2, 2)),
        (Annotated[np.datetime64, "D", 2], "<M8[D]", (2,)),
        (Annotated[Mode, 4], "|u1", (4,)),
        (Annotated[Annotated[str, 8], 3], "<U8", (3,)),
    ],
)
def test_a_shape_makes_a_subarray(annotation, base, shape):
    found = field_of(annotation)
    assert found.element() == np.dtype((base, shape))


def test_enum_members_go_into_the_field_aliases_included():
    assert field_of(Mode).enum == (("OFF", 0), ("ON", 200))
    assert field_of(Alias).enum == (("FIRST", 1), ("ALSO_FIRST", 1))


@pytest.mark.parametrize("annotation", [EntityRef, Annotated[EntityRef, 2], list[EntityRef]])
def test_references_are_entity_ids_in_memory_and_stable_ids_on_disk(annotation):
    found = field_of(annotation)
    assert found.ref
    assert found.has_refs()
    assert (found.element().base, found.element(disk=True).base) == (ENTITY_ID, STABLE_ID)


def test_a_class_is_a_packed_struct():
    found = field_of(Plain)
    assert found.element() == np.dtype([("a", "<f4"), ("b", "<i8")])
    assert found.element().itemsize == 12
    assert field_of(Annotated[Plain, 2]).element().shape == (2,)


@pytest.mark.parametrize(
    ("annotation", "kind", "element"),
    [
        (str, "str", "u1"),
        (bytes, "bytes", "u1"),
        (list[np.float32], "list", "<f4"),
        (list[Annotated[float, 2]], "list", ("<f8", (2,))),
        (list[Annotated[str, 4]], "list", "<U4"),
        (list[Mode], "list", "u1"),
        (list[Plain], "list", [("a", "<f4"), ("b", "<i8")]),
        (list[EntityRef], "list", "<u8"),
    ],
)
def test_texts_and_lists_have_variable_length(annotation, kind, element):
    found = field_of(annotation)
    assert found.variable == kind
    assert found.element() == np.dtype(element)


@pytest.mark.parametrize(
    "annotation",
    [
        dict, dict[str, int], set, tuple[int, int], object, None, 5, list, np.ndarray, bytearray,
        dt.datetime, np.dtype("f4"), np.float32(1), np.longdouble, np.clongdouble, np.object_, np.void,
        np.generic, np.floating, np.integer, np.number, NotInt, enum.IntEnum, NoMember, TooWide,
        Optional[int], int | None, str | bytes, Annotated[int | None, 3],  # noqa: UP045
        np.str_, np.bytes_, np.datetime64, np.timedelta64,
        list[list[int]], list[str], list[bytes], list[dict], list[int | None], Annotated[list[int], 3],
        Titled, list[Titled], Annotated[Titled, 2],
        Annotated[str, 0], Annotated[str, -1], Annotated[str, 2.0], Annotated[str, True], Annotated[str, "5"],
        Annotated[str, 10**9], Annotated[str, 900_000_000], Annotated[bytes, 2**31],
        Annotated[float, 0], Annotated[float, -1], Annotated[float, 1.0], Annotated[float, True],
        Annotated[float, "a"], Annotated[float, ()], Annotated[float, (2, -1)], Annotated[float, (2, 1.0)],
        Annotated[float, 3, 4], Annotated[float, 10**12], Annotated[float, (10**6, 10**6, 10**6)],
        Annotated[float, (1,) * 70], list[Annotated[float, 10**10]],
        Annotated[np.datetime64, "xx"], Annotated[np.datetime64, 3], Annotated[np.datetime64, "generic"],
        Annotated[np.datetime64, ""], Annotated[np.datetime64, "0s"], Annotated[np.datetime64, "2s/3"],
        Annotated[np.datetime64, "s][ms"], Annotated[np.datetime64, "99999999999s"], Annotated[np.datetime64, "ms", 0],
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_stored_is_an_error_that_names_the_field(define, annotation):
    with pytest.raises(ComponentDefinitionError, match=r"dtypes\.Bad\.x"):
        define("dtypes.Bad", {"x": annotation})


def test_the_error_says_what_can_be_stored_and_where():
    with pytest.raises(ComponentDefinitionError) as caught:
        field_of(dict)
    assert str(caught.value).startswith("C.x: dict cannot be stored; use a NumPy scalar type, float, int")
    with pytest.raises(
        ComponentDefinitionError, match=r"C\.x\.title has variable length.*Annotated\[str, 32\]"
    ):
        field_of(Titled)


# Layouts


def test_a_layout_without_references_is_its_own_encoding():
    layout = Layout((Field("x", F4), Field("v", I8, shape=(2,))))
    assert layout.plain
    assert layout.memory == layout.disk == np.dtype([("x", "<f4"), ("v", "<i8", (2,))])
    assert layout.memory.itemsize == 20


def test_a_layout_keeps_variable_fields_as_objects_and_off_the_fixed_part():
    layout = Layout((Field("x", F4), Field("s", variable="str"), Field("r", ref=True)))
    assert layout.memory == np.dtype([("x", "<f4"), ("s", "O"), ("r", "<u8")])
    assert layout.disk == np.dtype([("x", "<f4"), ("r", STABLE_ID)])
    assert [f.name for f in layout.fixed] == ["x", "r"]
    assert [f.name for f in layout.variable] == ["s"]
    assert layout.refers
    assert not layout.plain


@pytest.mark.parametrize(
    ("field", "refers", "checked"),
    [
        (Field("x", F4), False, False),
        (Field("x", np.dtype("?")), False, True),
        (Field("x", np.dtype("<U3")), False, True),
        (Field("x", np.dtype("u1"), enum=(("A", 1),)), False, True),
        (Field("x", ref=True), True, False),
        (Field("x", ref=True, variable="list"), True, False),
        (Field("x", fields=(Field("y", fields=(Field("r", ref=True), Field("b", np.dtype("?")))),)), True, True),
    ],
)  # fmt: skip
def test_a_layout_knows_whether_it_refers_and_needs_checks(field, refers, checked):
    layout = Layout((Field("other", F4), field))
    assert (layout.refers, layout.checked) == (refers, checked)


@pytest.mark.parametrize(
    ("fields", "uniform"),
    [
        ((Field("x", F4), Field("y", F4)), (F4, 2)),
        ((Field("x", F4), Field("v", F4, shape=(2, 2))), (F4, 5)),
        ((Field("p", fields=(Field("x", F4), Field("y", F4)), shape=(3,)),), (F4, 6)),
        ((Field("r", ref=True), Field("n", ENTITY_ID)), None),
        ((Field("e", np.dtype("u1"), enum=(("A", 1),)),), None),
        ((Field("x", F4), Field("y", I8)), None),
        ((Field("x", F4), Field("s", variable="str")), None),
        ((Field("s", np.dtype("<U3")),), None),
        ((), None),
    ],
)
def test_a_layout_is_uniform_where_all_leaves_share_one_dtype(fields, uniform):
    assert Layout(fields).uniform == uniform


@pytest.mark.parametrize("name", ["x", "größe", "a b", "x" * 1024, "é" * 512])
def test_names_of_1_to_1024_bytes_pass(name):
    assert check_name(name, "here", InvalidFormatError) is None


@pytest.mark.parametrize("name", ["", "a\n", "\x00", "\x85", "x" * 1025, "é" * 513, "\ud800", 5, None, b"x"])
def test_other_names_are_errors_of_the_given_kind(name):
    with pytest.raises(InvalidFormatError, match=r"expected a name of 1 to 1024 UTF-8 bytes.* at here"):
        check_name(name, "here", InvalidFormatError)

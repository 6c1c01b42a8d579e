"""Objects to columns."""

import numpy as np
import pytest

from pecs_np import ComponentValueError, EntityRef, InvalidFormatError, component_type
from pecs_np.persistence.json.members import read_column


def where(row, suffix=""):
    return f"{row}{suffix}"


def test_rows_hold_stable_ids_and_objects(define):
    plain = component_type(define("Plain", {"x": np.float32}))
    assert plain.layout.portable is plain.layout.memory
    linked = component_type(define("Linked", {"to": EntityRef, "crew": list[EntityRef], "name": str}))
    assert linked.layout.portable == np.dtype(
        [("to", [("lo", "<u8"), ("hi", "<u8")]), ("crew", "O"), ("name", "O")]
    )


def test_defaults_of_every_kind(define):
    inner = define("Inner", {"to": EntityRef, "n": int}, defaults={"to": 0, "n": 3})
    cls = define(
        "Full",
        {"a": int, "s": str, "l": list[int], "r": EntityRef, "rs": list[EntityRef], "i": inner},
        defaults={"a": 1, "s": "é", "l": [1, 2], "r": 9, "rs": [9], "i": inner(to=9, n=4)},
    )
    column = read_column(
        [{}, {"a": 5, "l": [], "r": "7", "i": {"to": None, "n": 1}}], component_type(cls), where
    )
    assert column["a"].tolist() == [1, 5]
    assert column["s"].tolist() == ["é", "é"]
    assert [part.tolist() for part in column["l"]] == [[1, 2], []]
    # A default names an entity of no document, so it is null.
    assert column["r"].tolist() == [(0, 0), (7, 0)]
    assert [part.tolist() for part in column["rs"]] == [[(0, 0)], [(0, 0)]]
    assert column["i"].tolist() == [((0, 0), 4), ((0, 0), 1)]


def test_places_of_values_among_rows_without_them(define):
    cls = define("Some", {"x": int, "l": list[int]}, defaults={"x": 1, "l": []})
    for rows, place in (([{}, {"x": "a"}], "1.x"), ([{}, {}, {"l": [1, "a"]}], r"2.l\[1\]")):
        with pytest.raises(InvalidFormatError, match=f'found "a" at {place}'):
            read_column(rows, component_type(cls), where)
    with pytest.raises(InvalidFormatError, match="found 'y' at 1"):
        read_column([{}, {"y": 1}], component_type(cls), where)


def test_a_default_that_no_longer_fits(define):
    cls = define("Odd", {"x": int}, defaults={"x": 1})
    component_type(cls).defaults["x"] = "a"
    with pytest.raises(ComponentValueError):
        read_column([{}], component_type(cls), where)

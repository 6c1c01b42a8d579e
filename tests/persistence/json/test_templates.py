"""Rows as text: constant pieces, and the values in their places."""

import numpy as np
import orjson
import pytest

from pecs_np.ecs.dtypes import Field
from pecs_np.ecs.references import EntityMap
from pecs_np.persistence.json.templates import COMPACT, PRETTY, Template, quoted

pytestmark = pytest.mark.usefixtures("any_length")

I4 = np.dtype("<i4")


def render(fields, values, style=COMPACT, level=None, between=b"\n", before=b""):
    template = Template(style)
    template.members(fields, (), level)

    def of(path):
        found = values
        for name in path:
            found = found[name]
        return found

    return template.render(len(values), of, EntityMap(()), between, before)


def column(fields, count):
    rows = np.zeros(count, [(f.name, f.element()) for f in fields])
    data = np.arange(rows.nbytes // 4, dtype=I4)
    return data.view(rows.dtype).reshape(count)


def test_a_row_is_an_object():
    fields = (Field("x", I4), Field('y"', I4))
    assert render(fields, column(fields, 2)) == b'{"x":0,"y\\"":1}\n{"x":2,"y\\"":3}'
    assert render(fields, column(fields, 0), before=b"<") == b"<"


def test_rows_without_slots():
    assert render((), np.zeros(3, []), between=b",", before=b"<") == b"<{},{},{}"


def test_lines_are_indented():
    fields = (Field("x", I4), Field("s", fields=(Field("a", I4),)), Field("l", I4, shape=(2,)))
    assert render(fields, column(fields, 1), PRETTY, 0).decode() == (
        '{\n  "x": 0,\n  "s": {\n    "a": 1\n  },\n  "l": [2, 3]\n}'
    )
    inner = (Field("l", fields=(Field("a", I4), Field("b", I4)), shape=(2,)),)
    assert render(inner, column(inner, 1), PRETTY, 0) == b'{\n  "l": [{"a": 0, "b": 1}, {"a": 2, "b": 3}]\n}'


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 3), (2, 1, 2), (4, 1), (1, 1)])
@pytest.mark.parametrize("count", [1, 2, 50])
def test_subarrays_are_nested_lists(shape, count):
    fields = (Field("a", I4, shape=shape), Field("b", I4))
    rows = column(fields, count)
    found = [orjson.loads(line) for line in render(fields, rows).split(b"\n")]
    assert found == [{"a": row["a"].tolist(), "b": int(row["b"])} for row in rows]


@pytest.mark.parametrize("count", [1, 3, 40])
def test_structs_in_subarrays_in_structs(count):
    inner = (Field("x", I4, shape=(2,)), Field("y", I4))
    fields = (Field("s", fields=(Field("t", fields=inner, shape=(2, 2)), Field("z", I4)), shape=(3,)),)
    rows = column(fields, count)

    def plain(value):
        if value.dtype.names and not value.ndim:
            return {name: plain(value[name]) for name in value.dtype.names}
        return [plain(v) for v in value] if value.ndim else int(value)

    found = [orjson.loads(line) for line in render(fields, rows).split(b"\n")]
    assert found == [plain(np.asarray(row)) for row in rows]


def test_a_row_of_many_values():
    fields = (Field("a", I4, shape=(100_000,)),)
    rows = column(fields, 2)
    assert [orjson.loads(line)["a"] for line in render(fields, rows).split(b"\n")] == rows["a"].tolist()


def test_names_are_quoted():
    assert quoted('é"\\') == '"é\\"\\\\"'.encode()

"""Numbers side by side: the same text as one by one."""

from itertools import pairwise

import numpy as np
import orjson
import pytest

from pecs_np.ecs.dtypes import Field
from pecs_np.persistence.json.runs import Run, Slot, runs_of

I4, F4, F8 = map(np.dtype, ("<i4", "<f4", "<f8"))


def slot(name, dtype, *places, **options):
    return Slot((name,), Field(name, dtype, **options), list(places))


def constants_of(count):
    return [b"{", *[b',"%d":' % i for i in range(count - 1)], b"}"]


def found(*slots, constants=None):
    stop = slots[-1].places[-1] + 1
    return [(run.start, run.stop) for run in runs_of(list(slots), constants or constants_of(stop))]


def test_runs_are_of_one_dtype():
    assert found(slot("a", F4, 0), slot("b", F4, 1), slot("c", F4, 2), slot("d", I4, 3)) == [(0, 3)]
    assert found(slot("a", I4, 0), slot("b", F4, 1, 2, 3), slot("c", I4, 4, 5, 6, 7)) == [(1, 4), (4, 8)]
    assert found(slot("a", F4, 0), slot("b", F8, 1), slot("c", F4, 2), slot("d", F8, 3)) == []
    assert found(slot("a", F4, 0), slot("b", F4, 1)) == []


@pytest.mark.parametrize(
    "other",
    [
        Slot((), None, [2]),
        slot("o", None, 2, ref=True),
        slot("o", I4, 2, enum=(("A", 1),)),
        slot("o", None, 2, variable="str"),
        slot("o", F4, 2, variable="list"),
        *[slot("o", np.dtype(code), 2) for code in ("<f2", "<c8", "<M8[s]", "<m8[s]", "S3", "<U3")],
    ],
)
def test_what_is_no_plain_number_ends_a_run(other):
    three = slot("b", F4, 3, 4, 5)
    assert found(slot("a", F4, 0, 1), other, three) == [(3, 6)]


def test_structs_in_a_subarray_take_turns():
    x, y, z = slot("x", F4, 0, 2, 4), slot("y", F4, 1, 3, 5), slot("z", F4, 6)
    assert found(x, y, z) == [(0, 7)]
    assert found(x, slot("y", I4, 1, 3, 5), z) == []


def test_a_run_ends_where_marks_do():
    slots = [slot(str(i), I4, i) for i in range(100)]
    ends = found(*slots)
    assert len(ends) > 2
    assert ends[0][0] == 0
    assert all(before[1] == after[0] for before, after in pairwise(ends))
    assert ends[-1][1] == 100
    same = [b"{", *[b',"x":'] * 99, b"}"]
    assert found(*slots, constants=same) == [(0, 100)]
    assert found(slot("a", I4, *range(100))) == []


@pytest.mark.parametrize("code", ["?", "i1", "u1", "<i8", "<u8", "<f4", "<f8"])
@pytest.mark.parametrize("count", [1, 2, 50])
def test_texts_are_those_of_single_numbers(code, count):
    dtype = np.dtype(code)
    rng = np.random.default_rng(1)
    if dtype.kind == "f":
        columns = {"a": rng.standard_normal((count, 2, 2)) * 1e-9, "b": rng.standard_normal(count) * 1e30}
    else:
        columns = {"a": rng.integers(0, 2, (count, 2, 2)), "b": rng.integers(0, 2, count)}
        if dtype.kind != "b":
            columns["b"][-1:] = np.iinfo(dtype).max if dtype != "<u8" else 2**62
    columns = {name: column.astype(dtype) for name, column in columns.items()}
    slots = [slot("b", dtype, 0), slot("a", dtype, 1, 2, 3, 4, shape=(2, 2))]
    constants = [b"{", b',"a":[[', b",", b"],[", b",", b"]]}"]
    (run,) = runs_of(slots, constants)
    texts = run.texts(count, lambda path: columns[path[0]], constants)
    rows = [orjson.loads(b'{"b":%b]]}' % text) for text in texts]
    assert np.array([row["b"] for row in rows], dtype).tobytes() == columns["b"].tobytes()
    assert np.array([row["a"] for row in rows], dtype).tobytes() == columns["a"].tobytes()


def test_constants_hold_any_text_of_json():
    names = ['é"\\', "\0\x01\x1f", ",", "1", "\n\t ", "\U0001f980"]
    constants = [b"{" + orjson.dumps("a") + b":"]
    constants += [b",\n\t" + orjson.dumps(name) + b": " for name in names]
    slots = [slot(str(i), I4, i) for i in range(7)]
    values = {str(i): np.array([i, -i], I4) for i in range(7)}
    texts = Run(I4, slots, 0, 7).texts(2, lambda path: values[path[0]], [*constants, b"}"])
    rows = [orjson.loads(constants[0] + text + b"}") for text in texts]
    assert rows == [dict(zip(["a", *names], range(0, 7 * s, s), strict=True)) for s in (1, -1)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.uint32(0x15AE43FD).view("f4")])
def test_what_is_not_written_as_a_number_is_left(value):
    table = np.ones((3, 4), F4)
    run = Run(F4, [slot("a", F4, 0, 1, 2, 3, shape=(4,))], 0, 4)
    constants = [b"[", b",", b",", b",", b"]"]
    assert run.texts(3, lambda _: table, constants) == [b"1.0,1.0,1.0,1.0"] * 3
    table[1, 2] = value
    assert run.texts(3, lambda _: table, constants) is None

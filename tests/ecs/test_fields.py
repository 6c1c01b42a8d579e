"""Single values packed as the bytes of a row are those that NumPy would write."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from pecs_np import World, make_component
from pecs_np.ecs.dtypes import Field
from pecs_np.ecs.fields import PACKING_ERRORS, packer, quick_types

NUMBERS = ["f2", "f4", "f8", "b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]


@pytest.mark.parametrize("code", NUMBERS)
def test_bytes_are_those_of_numpy(code):
    rng = np.random.default_rng(1)
    field = Field("x", np.dtype("?" if code == "b1" else f"<{code}"))
    pack = packer((field,))
    values = [True, False] if code == "b1" else [0, 1, 77, True]
    if code[0] == "f":
        values += [
            0.1,
            -1.5,
            1e-40,
            65504.0,
            2**60 + 1 if code != "f2" else 3,
            *rng.normal(size=200).tolist(),
        ]
        values += [
            float("nan"),
            float("inf"),
            -0.0,
            np.float16(0.1),
            np.float32(0.1),
            np.float64(0.1),
            np.int8(-3),
        ]
    elif code[0] == "i":
        values += [-1, np.iinfo(code).min, np.iinfo(code).max, np.int8(-3)]
    elif code[0] == "u":
        values += [np.iinfo(code).max, np.uint8(3)]
    for value in values:
        if code == "b1" or not isinstance(value, bool):
            assert type(value) in quick_types(field)
        assert pack(value) == np.array(value).astype(field.dtype).tobytes(), value


@pytest.mark.parametrize("code", [c for c in NUMBERS if c not in ("b1", "f8")])
def test_what_does_not_fit_is_not_packed(code):
    pack = packer((Field("x", np.dtype(f"<{code}")),))
    with pytest.raises(PACKING_ERRORS):
        pack(1e300 if code[0] == "f" else 1 << 64)


@pytest.mark.parametrize("annotation", [complex, str, bytes, list[int], np.longdouble, np.datetime64])
def test_others_take_a_look(annotation):
    try:
        type_ = make_component("fields.Other", {"x": annotation}, register=False)._type
    except Exception:  # noqa: BLE001 - not every one is a field everywhere
        pytest.skip("no field on this machine")
    assert not quick_types(type_.fields[0])
    assert type_.packed((1,)) is None


@pytest.mark.parametrize("code", ["f2", "f4", "f8"])
@pytest.mark.parametrize("given", [np.float16, np.float32, np.float64, float])
def test_a_float_of_any_width_is_set_without_a_word(code, given):
    type_ = make_component("fields.Float", {"x": np.dtype(code).type}, register=False)
    world = World()
    row = world.get(world.spawn(type_(0.0)), type_)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (3.0, -0.1, 65504.0, float("inf"), float("-inf"), float("nan")):
            row.x = given(value)
            np.testing.assert_array_equal(row.x, np.array(given(value)).astype(code))

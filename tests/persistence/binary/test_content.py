"""What an opened save holds is the same whichever version of the format it is."""

from __future__ import annotations

import numpy as np
import pytest

from pecs_np import BinaryPlugin, World, component
from pecs_np.persistence.binary.content import ColumnContent, RecordContent
from pecs_np.persistence.binary.header import read_header
from pecs_np.persistence.binary.sources import BytesSource
from pecs_np.persistence.limits import Limits


@component
class ContentPlace:
    x: np.float32 = 0.0


@component
class ContentName:
    text: str = ""


@pytest.fixture(scope="module")
def world():
    world = World(seed=2)
    world.spawn_batch(ContentPlace(x=[1, 2, 3]))
    world.spawn(ContentPlace(9), ContentName("néar"))
    world.spawn()
    return world


def content_of(world, version):
    source = BytesSource(world.to_bytes(BinaryPlugin(version=version)), "a save")
    header = read_header(source, Limits())
    if version == 1:
        return RecordContent(source, header, Limits())
    return ColumnContent(source, header, Limits(), 1)


@pytest.mark.parametrize("version", [1, 2])
def test_tables_types_and_ids_are_told(world, version):
    content = content_of(world, version)
    assert [t.name for t in content.types] == ["ContentName", "ContentPlace"]
    assert [(t.rows, t.types) for t in content.tables] == [(1, ()), (1, (0, 1)), (3, (1,))]
    ids = np.concatenate([content.ids(i).array() for i in range(3)])
    assert (np.sort(ids) == np.sort(world.stable_ids())).all()
    assert content.metadata == {}
    assert content.world_version == 1


@pytest.mark.parametrize("version", [1, 2])
def test_parts_are_the_callers_own(world, version):
    content = content_of(world, version)
    for _ in range(2):
        rows, values, where = content.parts(2, 1)
        assert rows["x"].tolist() == [1, 2, 3]
        assert values == []
        assert "a save" in where(0)
        rows["x"] = 0
    _, (offsets, text), _ = content.parts(1, 0)
    assert np.frombuffer(offsets, "<u8").tolist() == [0, 5]
    assert bytes(text).decode() == "néar"


@pytest.mark.parametrize(("version", "sizes"), [(1, [20 + 4 + 5, 4 * (20 + 4)]), (2, [16 + 5, 4 * 4])])
def test_the_size_of_a_type_is_what_it_takes_in_the_file(world, version, sizes):
    content = content_of(world, version)
    assert [content.size(i) for i in range(2)] == sizes

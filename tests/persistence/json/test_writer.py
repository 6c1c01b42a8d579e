"""Documents in pieces, and the ids of types."""

import numpy as np
import orjson
import pytest

from pecs_np import PersistenceError, World
from pecs_np.persistence.binary.header import type_id
from pecs_np.persistence.json import writer
from pecs_np.persistence.json.templates import COMPACT, PRETTY
from pecs_np.persistence.json.writer import encode, entity_template, id_of


def test_ids_of_types_are_those_of_the_binary_format():
    assert id_of("Position") == "172757902463082033919015404040541321867"
    assert int(id_of("é")).to_bytes(16, "little") == type_id("é")


@pytest.mark.parametrize("style", [COMPACT, PRETTY])
def test_pieces_of_any_size_make_the_same_text(define, monkeypatch, style):
    cls = define("Row", {"x": float, "s": str, "m": list[int]})
    world = World(seed=1)
    world.spawn_batch(cls(x=np.arange(1000), s="a" * 5, m=np.arange(3)))
    world.spawn_batch(count=10)
    text = b"".join(encode(world.snapshot(), style))
    monkeypatch.setattr(writer, "_MOST_SLOTS", 7)
    pieces = list(encode(world.snapshot(), style))
    assert len(pieces) > 300
    assert b"".join(pieces) == text
    assert [e["components"][0]["data"]["x"] for e in orjson.loads(text)["entities"][10:]] == list(range(1000))


def test_a_template_of_an_entity():
    assert entity_template((), COMPACT).constants == [b'{"stable_id":"', b'","components":[]}']


def test_metadata_that_is_no_json_is_refused_before_anything_is_written():
    with pytest.raises(PersistenceError, match="expected"):
        encode(World(metadata={"x": {1, 2}}).snapshot())

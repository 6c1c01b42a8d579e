"""Texts cut between entities: always whole ones, or the text is parsed whole."""

import json

import numpy as np
import pytest

from pecs_np import InvalidFormatError, LimitExceededError, Limits, UnsupportedVersionError, World
from pecs_np.persistence.json import documents
from pecs_np.persistence.json.documents import Document
from pecs_np.persistence.json.plugin import JsonPlugin


@pytest.fixture
def small_parts(monkeypatch):
    """Cut texts often."""
    monkeypatch.setattr(documents, "_PART", 40)


def document(text):
    return Document(memoryview(text), "s.json", Limits())


def entities(found):
    """Return all entities of a document, by its texts or whole."""
    return [e for text in found.texts() for e in found.parsed(text)] if found.is_cut else found.entities


def cut(value, **options):
    text = json.dumps(value, **options).encode()
    return document(text)


@pytest.mark.parametrize("options", [{"separators": (",", ":")}, {"indent": 2}, {}])
def test_the_parts_are_the_whole(small_parts, options):
    made = [{"stable_id": str(i), "components": [], "note": '}, {"stable_id": "'} for i in range(50)]
    found = cut({"version": 1, "other": 7, "entities": made}, **options)
    assert found.is_cut
    assert len(list(found.texts())) > 10
    assert found.members == {"version": 1, "other": 7}
    assert entities(found) == made


def test_lists_after_the_entities(small_parts):
    made = [{"stable_id": str(i + 1), "components": []} for i in range(50)]
    text = json.dumps({"version": 1, "entities": made, "end": ["]", "x"]}).encode()
    assert len(JsonPlugin().decode(text)) == 50


def test_no_entities():
    for text in (b'{"version":1,"entities":[]}', b'{"version":1,"entities": [ ] }'):
        assert entities(document(text)) == []


@pytest.mark.parametrize(
    "value",
    [
        {"world": {"metadata": {"entities": [{"stable_id": "1"}]}}, "version": 1, "entities": [{"id": "2"}]},
        {"version": 1, "entities": [{"id": "2"}], "world": {"metadata": {"entities": [{"stable_id": "1"}]}}},
        {"version": 1, "entities": [], "world": {"metadata": {"entities": [{"stable_id": "1"}]}}},
        {"world": {"metadata": {"entities": [{"stable_id": "1"}]}}, "version": 1, "entities": []},
        {"version": 1, "entities": [{"stable_id": "1", "x": [{"stable_id": "2"}, {"stable_id": "3"}]}]},
    ],
)
def test_entities_in_other_places(small_parts, value):
    own = value["entities"]
    for separators in ((",", ":"), (", ", ": ")):
        found = cut(value, separators=separators)
        try:
            read = entities(found)
        except InvalidFormatError:
            read = None
        if read != own:
            # Such a cut must show, and not by what it says.
            assert read is None
        found.parse()
        assert found.entities == own
        assert found.members == {k: v for k, v in value.items() if k != "entities"}


def test_metadata_that_look_like_entities(small_parts, define):
    define("Tag", {"x": int})
    look = {"entities": [{"stable_id": "1", "components": []}] * 9}
    world = World(seed=1, metadata={"a": look, "entities": look["entities"], "z": look})
    world.spawn_batch(define("Tag", {"x": int})(x=np.arange(30)))
    for plugin in (JsonPlugin(), JsonPlugin.pretty()):
        back = World.from_bytes(world.to_bytes(plugin), plugin)
        assert back.metadata == world.metadata
        assert back.to_bytes() == world.to_bytes()


def test_errors_have_the_place_in_the_whole_text(small_parts):
    made = [{"stable_id": str(i + 1), "components": []} for i in range(50)]
    text = json.dumps({"version": 1, "entities": made}).encode()
    made[40] = {"stable_id": "x", "components": []}
    with pytest.raises(InvalidFormatError, match=r'found "x" at entities\[40\].stable_id'):
        JsonPlugin().decode(json.dumps({"version": 1, "entities": made}).encode())
    place = text.index(b'"40"')
    broken = text[:place] + b"!" + text[place:]
    with pytest.raises(InvalidFormatError, match=f"at line 1, column {place + 1} of s.json"):
        JsonPlugin().decode(broken, "s.json")


def test_what_is_no_document():
    with pytest.raises(UnsupportedVersionError):
        document(b'{"version":2,"entities":[]}')
    with pytest.raises(LimitExceededError):
        Document(memoryview(b"{}"), "s.json", Limits(total_size=1))
    with pytest.raises(InvalidFormatError, match="expected entities"):
        Document.parsed(b"{")

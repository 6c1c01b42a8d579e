"""Types by name and by id."""

import numpy as np
import pytest

from pecs_np import ComponentDefinitionError, InvalidFormatError, Limits, component_type
from pecs_np.persistence.json.document_types import DocumentTypes
from pecs_np.persistence.json.writer import id_of

SCHEMA = [{"name": "x", "dtype": "<f4"}]


def types(*entries, limits=None):
    return DocumentTypes(list(entries), "s.json", limits or Limits())


def test_types_of_the_program_need_no_entry(define):
    cls = define("Here", {"x": np.float32})
    for found in (types(), types({"type_name": "Here"}), types({"type_name": "Here", "schema": SCHEMA})):
        assert found.of_name("Here", "w") is component_type(cls)
    with pytest.raises(InvalidFormatError, match="expected the fields of 'Other'"):
        types({"type_name": "Other"}).of_name("Other", "w")


def test_other_types_come_from_their_schema():
    found = types({"type_name": "There", "type_version": 4, "schema": SCHEMA})
    assert found.of_name("There", "w").signature == ("There", 4)
    assert found.of_name("There", "w").layout.memory == np.dtype([("x", "<f4")])


def test_fields_that_contradict_the_program(define):
    define("Here", {"x": np.float64})
    with pytest.raises(ComponentDefinitionError):
        types({"type_name": "Here", "schema": SCHEMA})


def test_ids_are_those_listed_and_those_of_the_names():
    found = types({"type_name": "A", "type_id": "7"}, {"type_name": "B"})
    assert found.ids_of("A") == {"7", id_of("A")}
    assert found.ids_of("B") == {id_of("B")}
    assert found.name_of(7, "w") == found.name_of("07", "w") == found.name_of(id_of("A"), "w") == "A"
    assert found.is_id_of("7", "A")
    assert not found.is_id_of("7", "B")
    for bad in (None, True, 1.5, [], "x", ""):
        with pytest.raises(InvalidFormatError, match="expected the id of a type"):
            found.name_of(bad, "w")

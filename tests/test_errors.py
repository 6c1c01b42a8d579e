"""The tree of errors: its shape, its messages, and errors that travel between processes."""

from __future__ import annotations

import copy
import errno
import pickle

import pytest

from pecs_np import errors
from pecs_np.errors import (
    ComponentDefinitionError,
    ComponentError,
    ComponentVersionError,
    CorruptedDataError,
    EntityNotFoundError,
    PecsError,
    PersistenceError,
    PersistenceIOError,
    UnsupportedVersionError,
    WorldError,
)

CLASSES = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, PecsError)]

EXAMPLES = [
    *(cls("expected a, found b") for cls in CLASSES if not issubclass(cls, UnsupportedVersionError)),
    *(
        cls("expected a, found b", suggestion="try c")
        for cls in CLASSES
        if not issubclass(cls, UnsupportedVersionError)
    ),
    PersistenceIOError("disk full", errno=errno.ENOSPC, filename="a.pecs", suggestion="make room"),
    UnsupportedVersionError(3, 2),
    ComponentVersionError(3, 2, what="component 'Position'"),
    UnsupportedVersionError(3, 2, what="type 'Position'", suggestion="add a migration"),
]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_is_a_pecs_error_and_stands_in_the_drawn_tree(cls):
    assert issubclass(cls, PecsError)
    assert f" {cls.__name__}" in errors.__doc__ or cls is PecsError


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("WorldError", ValueError),
        ("DuplicateEntityError", ValueError),
        ("StructuralChangeError", RuntimeError),
        ("PersistenceIOError", OSError),
        ("InvalidFormatError", ValueError),
        ("ComponentDefinitionError", TypeError),
        ("UnknownFieldError", AttributeError),
        ("ComponentValueError", ValueError),
        ("EntityNotFoundError", KeyError),
        ("PluginNotFoundError", LookupError),
    ],
)
def test_errors_are_also_the_builtin_one_expects(name, builtin):
    assert issubclass(getattr(errors, name), builtin)


def test_world_errors_and_persistence_errors_are_apart():
    assert not issubclass(WorldError, PersistenceError)
    assert issubclass(ComponentDefinitionError, PersistenceError)
    assert issubclass(errors.DanglingReferenceError, CorruptedDataError)


def test_all_lists_every_error_class_in_order():
    assert {cls.__name__ for cls in CLASSES} <= set(errors.__all__)
    assert errors.__all__ == sorted(errors.__all__)


def test_a_component_of_another_version_is_both_kinds_of_error():
    assert issubclass(ComponentVersionError, ComponentError)
    assert issubclass(ComponentVersionError, UnsupportedVersionError)


@pytest.mark.parametrize("cls", CLASSES)
def test_damage_is_told_from_what_is_wrong_with_the_program(cls):
    error = cls(2, 1) if issubclass(cls, UnsupportedVersionError) else cls("expected a, found b")
    damage = {"InvalidFormatError", "CorruptedDataError", "DanglingReferenceError"}
    assert error.is_corruption == (cls.__name__ in damage)
    assert error.is_recoverable == error.is_corruption


@pytest.mark.parametrize(
    ("code", "recoverable"),
    [(errno.ENOSPC, True), (errno.EIO, True), (errno.ENOENT, False), (errno.EISDIR, False), (None, False)],
)
def test_what_the_system_refuses_for_a_while_is_recoverable(code, recoverable):
    assert PersistenceIOError("expected a", errno=code).is_recoverable == recoverable


def test_the_suggestion_ends_the_message():
    error = PecsError("expected 3 rows, found 2", suggestion="pass count=2")
    assert str(error) == "expected 3 rows, found 2; pass count=2"
    assert error.suggestion == "pass count=2"


def test_without_a_suggestion_the_message_stands_alone():
    error = PecsError("expected 3 rows, found 2")
    assert str(error) == "expected 3 rows, found 2"
    assert error.suggestion is None


def test_an_entity_not_found_reads_as_a_sentence_not_as_a_quoted_key():
    assert str(EntityNotFoundError("expected a live entity")) == "expected a live entity"


def test_an_io_error_tells_errno_and_file():
    error = PersistenceIOError("disk full", errno=errno.ENOSPC, filename="a.pecs")
    assert (error.errno, error.filename, str(error)) == (errno.ENOSPC, "a.pecs", "disk full")
    with pytest.raises(OSError, match="disk full"):
        raise error


def test_an_unsupported_version_tells_both_versions_and_of_what():
    error = UnsupportedVersionError(3, 2, what="type 'Position'", suggestion="add a migration")
    assert str(error) == "expected version 2 of type 'Position', found version 3; add a migration"
    assert (error.found, error.expected) == (3, 2)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize(
    "travelled",
    [
        lambda e: pickle.loads(pickle.dumps(e)),
        lambda e: pickle.loads(pickle.dumps(e, 0)),
        copy.copy,
        copy.deepcopy,
    ],
    ids=["pickle", "pickle0", "copy", "deepcopy"],
)
def test_errors_survive_pickling_and_copying(error, travelled):
    other = travelled(error)
    assert type(other) is type(error)
    assert other.args == error.args
    assert str(other) == str(error)
    assert vars(other) == vars(error)
    if isinstance(error, PersistenceIOError):
        assert (other.errno, other.filename) == (error.errno, error.filename)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_notes_survive_pickling(cls):
    error = cls(3, 2) if issubclass(cls, UnsupportedVersionError) else cls("expected a, found b")
    error.add_note("while loading world.pecs")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while loading world.pecs"]

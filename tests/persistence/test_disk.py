"""The calls to the operating system, and how their errors are told."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pecs_np import PersistenceIOError
from pecs_np.persistence.disk import has_suffix, named, printable, reporting, system


def test_an_error_of_the_system_says_what_was_done_to_which_file():
    told = r"reading 'a\.pecs' failed: No space left"
    with pytest.raises(PersistenceIOError, match=told) as caught, reporting("reading", "a.pecs"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "a.pecs")


@pytest.mark.parametrize("path", [None, 5, ["a"], object(), "a\0b"])
def test_what_no_call_takes_as_a_path_is_told_before_one_is_made(path):
    done = []
    with pytest.raises(PersistenceIOError, match="opening"), reporting("opening", path):
        done.append(path)
    assert done == []


def test_errors_of_the_program_pass_through():
    with pytest.raises(ZeroDivisionError), reporting("reading", "a"):
        raise ZeroDivisionError


def test_names_are_shown_so_that_any_terminal_takes_them():
    assert printable("\udcff.pecs").isascii()
    assert named(b"\xff.pecs") == printable("\udcff.pecs")
    assert named(Path("a")) == "a"
    assert named(5) == "5"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.json", True),
        ("A.JSON", True),
        (Path("a.json"), True),
        (b"a.json", True),
        ("json", False),
        (None, False),
    ],
)
def test_suffixes_are_those_of_paths(path, expected):
    assert has_suffix(path, ".json") is expected


def test_a_file_is_locked_for_one_at_a_time(tmp_path):
    path = tmp_path / "a"
    path.touch()
    first, second = (os.open(path, os.O_RDWR) for _ in range(2))
    try:
        system.lock(first)
        with pytest.raises(OSError):
            system.lock(second)
        os.close(first)
        system.lock(second)
    finally:
        os.close(second)

"""Files to read: by any number of threads, and not beyond what they hold."""

from __future__ import annotations

import copy
import os
import threading

import pytest

from pecs_np import PersistenceError, PersistenceIOError
from pecs_np.persistence.input_files import InputFile, read_file


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "game.pecs"
    path.write_bytes(b"old")
    return path


def test_reading_what_is_not_there_is_an_error_of_the_library(tmp_path):
    with pytest.raises(PersistenceIOError) as caught:
        read_file(tmp_path / "missing")
    assert caught.value.errno == 2


def test_a_file_can_be_closed_twice_and_then_not_be_read(old):
    with InputFile(old) as file:
        data = bytearray(3)
        file.read_into(memoryview(data), 0)
        assert data == b"old"
        file.close()
        with pytest.raises(PersistenceIOError, match=r"reading .* failed"):
            file.read_into(memoryview(data), 0)
    file.close()


def test_several_threads_may_read_at_once(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(range(256)) * 1000)
    found = []

    def read(start):
        data = bytearray(256)
        for _ in range(100):
            file.read_into(memoryview(data), start)
            found.append(bytes(data) == bytes(range(256)))

    with InputFile(path) as file:
        threads = [threading.Thread(target=read, args=[256 * i]) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [True] * 400


def test_a_file_that_has_become_shorter_is_an_error(old):
    with InputFile(old) as file:
        os.truncate(old, 2)
        with pytest.raises(PersistenceIOError, match="expected 3 bytes, found the end at byte 2"):
            file.read_whole()


def test_an_open_file_is_not_copied(old):
    with InputFile(old) as file:
        assert InputFile.of(file) is file
        with pytest.raises(PersistenceError, match="an open file cannot be copied"):
            copy.copy(file)
    assert read_file(old) == b"old"

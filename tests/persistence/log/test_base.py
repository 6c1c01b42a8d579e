"""The saves beside a log."""

from __future__ import annotations

import pytest

from pecs_np import BinaryPlugin, CorruptedDataError, Limits, PersistenceIOError, World
from pecs_np.persistence.log.base import base_path, decode_base, load_base, remove_bases, save_base
from pecs_np.persistence.log.framing import LogStart


def test_a_base_is_found_by_its_number_and_its_id(tmp_path, story):
    path = str(tmp_path / "a.log")
    save_id = save_base(path, 7, story.world().snapshot(), BinaryPlugin())
    start = LogStart(7, 1, 0.0, save_id)
    assert World.from_snapshot(load_base(path, start, Limits())).to_bytes() == story.states[0]
    data = memoryview((tmp_path / "a.log.7.pecs").read_bytes())
    assert World.from_snapshot(decode_base(data, start, "here", Limits())).to_bytes() == story.states[0]
    other = LogStart(7, 1, 0.0, bytes(range(16)))
    with pytest.raises(CorruptedDataError, match="expected save 0f0e0d0c0b0a09080706050403020100"):
        load_base(path, other, Limits())
    with pytest.raises(CorruptedDataError, match="in here"):
        decode_base(data, other, "here", Limits())
    with pytest.raises(PersistenceIOError):
        load_base(path, LogStart(8, 1, 0.0, save_id), Limits())
    assert load_base(path, LogStart(), Limits()).entity_count == 0


def test_only_bases_of_this_log_are_removed(tmp_path):
    path = str(tmp_path / "a.log")
    others = ["b.log.1.pecs", "a.log.1.pecs.bak", "a.log.one.pecs", "xa.log.1.pecs", "a.log"]
    for name in (*others, "a.log.1.pecs", "a.log.22.pecs", "a.log.3.pecs"):
        (tmp_path / name).touch()
    assert base_path(path, 3) == str(tmp_path / "a.log.3.pecs")
    remove_bases(path, 3)
    assert {file.name for file in tmp_path.iterdir()} == {*others, "a.log.3.pecs"}
    remove_bases(path, None)
    assert {file.name for file in tmp_path.iterdir()} == set(others)
    remove_bases(str(tmp_path / "none" / "a.log"), None)

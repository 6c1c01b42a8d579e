"""Logs made short, and the records that stay."""

from __future__ import annotations

import pytest

from pecs_np import DeltaLog, PersistenceIOError
from pecs_np.persistence import disk
from pecs_np.persistence.log.framing import START_SIZE, LogStart


@pytest.fixture
def log(tmp_path, story):
    with DeltaLog.open(tmp_path / "a.log", world=story.world()) as log:
        for changes in story.changes:
            log.append(changes)
        yield log


def test_records_that_stay_are_the_same_bytes(log, tmp_path):
    path = tmp_path / "a.log"
    before = path.read_bytes()
    after = log._file.after(2)
    log.compact(until=2)
    now = path.read_bytes()
    assert now[START_SIZE:] == before[after.offset :]
    start = LogStart.unpack(now, "here")
    assert (start.sequence, start.previous, start.time) == (2, after.sum, 1001.0)
    assert (
        start.base_id
        == (tmp_path / "a.log.2.pecs").read_bytes()[slice(*_save_id_at(tmp_path / "a.log.2.pecs"))]
    )


def _save_id_at(path):
    at = path.read_bytes().index(b"PCOL") + 32
    return at, at + 16


def test_one_that_cannot_be_finished_leaves_the_log_usable(log, tmp_path, story, monkeypatch):
    for step in range(2):
        calls = []

        def replace(source, target, *, calls=calls, step=step):
            calls.append(target)
            if len(calls) == step + 1:
                raise OSError(28, "no room")
            real(source, target)

        real = disk.system.replace
        with monkeypatch.context() as patch:
            patch.setattr(disk.system, "replace", replace, raising=False)
            with pytest.raises(PersistenceIOError, match="no room"):
                log.compact()
        assert (log.start, log.sequence) == (0, 5)
        assert log.world(2).to_bytes() == story.states[2]
    log.compact()
    assert log.append(story.changes[-2]) == 6
    assert log.world().to_bytes() == story.states[-1]

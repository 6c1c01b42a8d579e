"""What is sound beyond the damage, in large logs."""

from __future__ import annotations

import numpy as np
import pytest

from pecs_np import ChangeTracker, CorruptedDataError, DeltaLog, World


def test_records_beyond_the_damage_are_found_wherever_they_are(tmp_path, define):
    Heat = define("SalvagedHeat", {"kelvin": np.float64})
    world = World(seed=1)
    # Records of 1.6 MB, full of what looks like the beginning of one.
    marks = np.frombuffer(b"PRECPREC" * 100_000, np.float64)
    ids = world.spawn_batch(Heat(kelvin=np.zeros(100_000)))
    tracker = ChangeTracker(world)
    path = tmp_path / "a.log"
    with DeltaLog.open(path, "process", world=world) as log:
        for number in range(8):
            world.insert(ids, Heat(kelvin=marks * (1 + number % 2)))
            log.append(tracker.take())
        ends = [log._file.after(number).offset for number in range(9)]
    data = bytearray(path.read_bytes())
    data[ends[3] + 20] ^= 1
    data[ends[6] - 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptedDataError, match="head of record 4"):
        DeltaLog.restore(path)
    report = DeltaLog.salvage(path, tmp_path / "b.log")
    assert (report.last, report.beyond, report.lost) == (3, ((5, 5), (7, 8)), len(data) - ends[3])
    assert str(report).endswith("beyond it: 5 to 5, 7 to 8")
    assert (DeltaLog.restore(tmp_path / "b.log").column(Heat)["kelvin"] == marks).all()

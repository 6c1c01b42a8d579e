"""Numbers of records, and times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from pecs_np import ChangeSet, DeltaLog, PersistenceError
from pecs_np.persistence.log.moments import record_at


@pytest.fixture
def file(tmp_path):
    with DeltaLog.open(tmp_path / "a.log") as log:
        for time in (10.0, 20.0, 20.0, 30.0):
            log.append(ChangeSet(timestamp=time))
        log.compact(until=1)
        yield log._file


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        (1, 1),
        (4, 4),
        (np.uint8(2), 2),
        (10.0, 1),
        (19.9, 1),
        (20.0, 3),
        (np.float32(25), 3),
        (1e300, 4),
        (datetime.fromtimestamp(20, UTC), 3),
        (datetime.fromtimestamp(20, timezone(timedelta(hours=5))), 3),
        (datetime.fromtimestamp(29), 3),  # noqa: DTZ006 - the clock on the wall counts too
    ],
)
def test_moments(file, moment, number):
    assert record_at(file, moment, "since") == number


@pytest.mark.parametrize("moment", [0, -1, 5, 9.9, -1e300, None, True, "2", b"", float("nan"), float("inf")])
def test_what_is_no_moment_of_the_log(file, moment):
    with pytest.raises(PersistenceError, match=r"for since, found|expected the records after number"):
        record_at(file, moment, "since")

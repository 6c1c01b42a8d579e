"""How many times slower the library is than the bare NumPy operation at its heart.

Both sides are measured in one process, in turns, and the best of each is taken, so that the ratio
says something on any machine. ``python -m benchmarks.ratios`` in the folder above prints the table.
"""

import io
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

from pecs_np import World
from pecs_np.persistence.checksum import crc64

from .common import Position, Velocity, columns, populated


def best(*calls, repeat=15, number=1):
    """Return the least time of each of *calls* in seconds, measured in turns."""
    least = [float("inf")] * len(calls)
    for _ in range(repeat):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            for _ in range(number):
                call()
            least[i] = min(least[i], (time.perf_counter() - start) / number)
    return least


def _matrices(world):
    return [world.column(t).view("<f4").reshape(len(world), 2) for t in (Position, Velocity)]


def _step(world):
    for position, velocity in world.query(Position, Velocity):
        position.matrix += velocity.matrix * 0.1


def _add(position, velocity):
    position += velocity * 0.1


def track_spawn_batch():
    given = columns(1_000_000)
    raw = np.ones(sum(np.asarray(column).nbytes for column in given), np.uint8)
    ours, bare = best(lambda: World().spawn_batch(*given), raw.copy)
    return ours / bare


def track_step():
    world = populated(1_000_000)
    position, velocity = _matrices(world)
    ours, bare = best(lambda: _step(world), lambda: _add(position, velocity), repeat=40)
    return ours / bare


def track_step_overhead():
    world = populated(20)
    position, velocity = _matrices(world)
    ours, bare = best(lambda: _step(world), lambda: _add(position, velocity), number=5000)
    return (ours - bare) * 1e6


def track_to_bytes():
    world = populated(1_000_000)
    raw = np.ones(len(world.to_bytes()), np.uint8)
    ours, copy, crc = best(world.to_bytes, raw.tobytes, lambda: crc64(raw))
    return ours / (copy + crc)


def track_from_bytes():
    data = populated(1_000_000).to_bytes()
    raw = np.ones(len(data), np.uint8)
    ours, copy, crc = best(lambda: World.from_bytes(data), raw.copy, lambda: crc64(raw))
    return ours / (copy + crc)


def _load(data):
    with np.load(io.BytesIO(data)) as arrays:
        return arrays["position"], arrays["velocity"]


def track_to_bytes_of_1000():
    world = populated(1000)
    position, velocity = world.column(Position), world.column(Velocity)
    ours, bare = best(
        world.to_bytes, lambda: np.savez(io.BytesIO(), position=position, velocity=velocity), number=500
    )
    return ours / bare


def track_from_bytes_of_1000():
    world, file = populated(1000), io.BytesIO()
    np.savez(file, position=world.column(Position), velocity=world.column(Velocity))
    data, archive = world.to_bytes(), file.getvalue()
    ours, bare = best(lambda: World.from_bytes(data), lambda: _load(archive), number=500)
    return ours / bare


def track_import():
    code = (
        "import numpy, orjson, time; t = time.perf_counter(); import pecs_np; print(time.perf_counter() - t)"
    )
    with tempfile.TemporaryDirectory() as folder:
        # As an installed package has it: compiled once, by the first run.
        environment = os.environ | {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        runs = [
            subprocess.run(
                [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
            )
            for _ in range(9)
        ]
    return min(float(run.stdout) for run in runs) * 1e3


TABLE = (
    (
        track_spawn_batch,
        "ratio",
        "`spawn_batch` of 1M entities with two components : a copy of their bytes",
        6,
    ),
    (track_step, "ratio", "`pos.matrix += vel.matrix * dt`, 1M rows : the same on bare arrays", 1.1),
    (track_step_overhead, "microseconds", "the same on 20 rows, more than on bare arrays", 5),
    (track_to_bytes, "ratio", "`to_bytes()` of that 1M world : `tobytes()` + a checksum pass", 2),
    (track_from_bytes, "ratio", "`from_bytes()` : a copy + a checksum pass", 2),
    (track_to_bytes_of_1000, "ratio", "`to_bytes()` of 1,000 such entities : `np.savez` to memory", 1 / 6),
    (track_from_bytes_of_1000, "ratio", "`from_bytes()` : `np.load` of both arrays", 1 / 6),
    (track_import, "ms", "`import pecs_np` after `import numpy, orjson`", 40),
)
for _function, _unit, _, _ in TABLE:
    _function.unit = _unit
    _function.timeout = 300


if __name__ == "__main__":
    print("| work | measured | at most |\n|---|---|---|")
    for function, unit, title, most in TABLE:
        number = {"ratio": "{:.3f}", "microseconds": "{:.1f} µs", "ms": "{:.0f} ms"}[unit]
        print(f"| {title} | {number.format(function())} | {number.format(most)} |", flush=True)

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
from pathlib import Path

import numpy as np
import orjson

import pecs_np
from pecs_np import BinaryPlugin, WhitelistFilter, World
from pecs_np.persistence.checksum import crc64
from pecs_np.persistence.migrations import brought_up_to_date

from .common import Position, Velocity, columns, populated
from .compression import walks
from .json_format import PLUGIN as JSON
from .json_format import by_dicts
from .migration import add_height, of_ten_types, old_save
from .records import alternating


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
    raw = np.frombuffer(world.to_bytes(), np.uint8)
    ours, copy, crc = best(world.to_bytes, raw.tobytes, lambda: crc64(raw), repeat=50)
    return ours / (copy + crc)


def track_from_bytes():
    data = populated(1_000_000).to_bytes()
    raw = np.frombuffer(data, np.uint8)
    ours, copy, crc = best(lambda: World.from_bytes(data), raw.copy, lambda: crc64(raw), repeat=50)
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


V1 = BinaryPlugin(version=1)


def track_records_to_bytes():
    world = populated(1_000_000)
    raw = np.frombuffer(world.to_bytes(V1), np.uint8)
    ours, copy, crc = best(lambda: world.to_bytes(V1), raw.tobytes, lambda: crc64(raw))
    return ours / (copy + crc)


def track_records_from_bytes():
    data = populated(1_000_000).to_bytes(V1)
    raw = np.frombuffer(data, np.uint8)
    ours, copy, crc = best(lambda: World.from_bytes(data), raw.copy, lambda: crc64(raw), repeat=50)
    return ours / (copy + crc)


def _savez_to_file(world, folder):
    position, velocity = world.column(Position), world.column(Velocity)
    return lambda: np.savez(Path(folder, "a.npz"), position=position, velocity=velocity)


def track_records_to_bytes_of_1000():
    world = populated(1000)
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = best(lambda: world.to_bytes(V1), _savez_to_file(world, folder), number=300)
    return ours / bare


def track_records_from_bytes_of_1000():
    world = populated(1000)
    data = world.to_bytes(V1)
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = best(lambda: World.from_bytes(data), _savez_to_file(world, folder), number=300)
    return ours / bare


def track_alternating_records():
    mixed, grouped = alternating(200_000)
    ours, bare = best(lambda: World.from_bytes(mixed), lambda: World.from_bytes(grouped))
    return ours / bare


def track_json_to_bytes_of_1000():
    world = populated(1000)
    ours, bare = best(lambda: world.to_bytes(JSON), lambda: by_dicts(world), number=50)
    return ours / bare


def track_json_from_bytes_of_1000():
    data = populated(1000).to_bytes(JSON)
    ours, bare = best(lambda: World.from_bytes(data, JSON), lambda: orjson.loads(data), number=50)
    return ours / bare


def track_json_from_bytes():
    data = populated(1_000_000).to_bytes(JSON)
    ours, bare = best(lambda: World.from_bytes(data, JSON), lambda: orjson.loads(data), repeat=3)
    return ours / bare


def _beside(folder):
    """Return a world of 1M entities and an array of as many bytes, to save beside each other."""
    world = populated(1_000_000)
    rows = np.zeros(1_000_000, [("position", "<f4", 2), ("velocity", "<f4", 2)])
    return world, rows, Path(folder, "a.pecs"), Path(folder, "a.npy")


def track_save():
    with tempfile.TemporaryDirectory() as folder:
        world, rows, path, other = _beside(folder)
        ours, bare = best(lambda: world.save(path, durable=False), lambda: np.save(other, rows), repeat=25)
    return ours / bare


def track_load():
    with tempfile.TemporaryDirectory() as folder:
        world, rows, path, other = _beside(folder)
        world.save(path)
        np.save(other, rows)
        ours, bare = best(lambda: World.load(path), lambda: np.load(other), repeat=40)
    return ours / bare


def track_column():
    world = World()
    position, velocity = columns(1_000_000)
    others = [pecs_np.make_component(f"Ninth{i}", {"x": np.float32, "y": np.float32}) for i in range(8)]
    world.spawn_batch(position, velocity, *[T(x=position.x, y=i) for i, T in enumerate(others)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.pecs")
        world.save(path)
        rows = world.column(Position)
        offset = path.read_bytes().index(rows[:8].tobytes())
        with pecs_np.open(path) as save:
            ours, bare = best(
                lambda: save["Position"],
                lambda: np.fromfile(path, rows.dtype, len(rows), offset=offset),
                repeat=60,
            )
    return ours / bare


def track_migration():
    snapshot = old_save(1_000_000)
    column = snapshot.column("Place")
    ours, bare = best(lambda: brought_up_to_date(snapshot), lambda: add_height(column), repeat=30)
    return ours / bare


def track_whitelist():
    ten, two = of_ten_types(1_000_000), populated(1_000_000)
    only = WhitelistFilter(Position, Velocity)
    with tempfile.TemporaryDirectory() as folder:
        path, other = Path(folder, "a.pecs"), Path(folder, "b.pecs")
        ours, bare = best(
            lambda: ten.save(path, durable=False, filter=only),
            lambda: two.save(other, durable=False),
            repeat=25,
        )
    return ours / bare


def track_zstd_ratio():
    world = walks(1_000_000)
    return len(world.to_bytes()) / len(world.to_bytes(BinaryPlugin(compression="zstd")))


def track_zstd_speed():
    plugin = BinaryPlugin(compression="zstd", threads=1)
    world = walks(1_000_000)
    data = world.to_bytes(plugin)
    (ours,) = best(lambda: World.from_bytes(data, plugin))
    return world.column(Position).nbytes / ours / 1e9


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
    (
        track_records_to_bytes,
        "ratio",
        "version 1, 1M entities: `to_bytes` : `tobytes()` + a checksum pass",
        4,
    ),
    (track_records_from_bytes, "ratio", "version 1, 1M entities: `from_bytes` : a copy + a checksum pass", 4),
    (
        track_records_to_bytes_of_1000,
        "ratio",
        "version 1, 1,000 entities: `to_bytes` : `np.savez` of the columns to a file",
        0.2,
    ),
    (track_records_from_bytes_of_1000, "ratio", "version 1, 1,000 entities: `from_bytes` : the same", 0.3),
    (
        track_alternating_records,
        "ratio",
        "version 1: archetypes that alternate : those that stand together, 200,000 entities",
        20,
    ),
    (
        track_json_to_bytes_of_1000,
        "ratio",
        "JSON, 1,000 entities: `to_bytes` : a dict for each and one `orjson.dumps`",
        1 / 3,
    ),
    (track_json_from_bytes_of_1000, "ratio", "JSON, 1,000 entities: `from_bytes` : `orjson.loads` alone", 2),
    (track_json_from_bytes, "ratio", "JSON, 1M entities: `from_bytes` : `orjson.loads` alone", 2),
    (
        track_save,
        "ratio",
        "`save(durable=False)` of 1M entities : `np.save` of an array of as many bytes",
        1.3,
    ),
    (track_load, "ratio", "`load` : `np.load`", 1.5),
    (track_column, "ratio", '`save["Position"]` out of ten types of 1M rows : `np.fromfile` of it', 1.3),
    (
        track_migration,
        "ratio",
        "a component's migration, 1M rows of two floats to three : the NumPy expression alone",
        3,
    ),
    (
        track_whitelist,
        "ratio",
        "saving 2 of 10 components of 1M entities : a world that has only those",
        1.3,
    ),
    (
        track_zstd_ratio,
        "raw bytes a byte",
        "1M random-walk positions as zstd, sorted bytewise: raw bytes a byte, at least",
        1.5,
    ),
    (track_zstd_speed, "GB/s", "loading them on one core, at least", 0.8),
    (track_import, "ms", "`import pecs_np` after `import numpy, orjson`", 40),
)
for _function, _unit, _, _ in TABLE:
    _function.unit = _unit
    _function.timeout = 300


if __name__ == "__main__":
    print("| work | measured | goal, at most |\n|---|---|---|")
    for function, unit, title, most in TABLE:
        number = {
            "ratio": "{:.3f}",
            "raw bytes a byte": "{:.2f}",
            "GB/s": "{:.2f} GB/s",
            "microseconds": "{:.1f} µs",
            "ms": "{:.0f} ms",
        }[unit]
        print(f"| {title} | {number.format(function())} | {number.format(most)} |", flush=True)

"""The figures to reach, each beside what it is measured by: ``python -m benchmarks.goals`` prints the table.

Both sides are measured in one process, in turns, and the best of each is taken; of three such runs the one
in the middle. What has a goal in microseconds is scaled to a machine on which an empty Python function call
takes 50 ns. Peers that are not installed are left out: pyarrow, polars, esper.
"""

import contextlib
import pickle
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import orjson

from pecs_np import World

from . import ecs_bench_suite as suite
from . import ratios
from .common import Position, Velocity, populated
from .memory import in_new_process, peak
from .ratios import best

MILLION = 1_000_000


def empty():
    pass


def hundred_calls():
    for _ in range(100):
        empty()


def small_saves():
    world = populated(1000)
    data = world.to_bytes()
    calls, write, read = best(
        hundred_calls, world.to_bytes, lambda: World.from_bytes(data), repeat=50, number=200
    )
    at = f"100 empty calls {calls * 1e6:.2f} µs"
    return [
        ("`to_bytes` of 1,000 entities", write / calls * 5, f"{write * 1e6:.1f} µs, {at}", 25, "µs"),
        ("`from_bytes` of 1,000 entities", read / calls * 5, f"{read * 1e6:.1f} µs, {at}", 35, "µs"),
    ]


def large_saves():
    return [
        ("`to_bytes` of 1M entities : `tobytes` + checksum", ratios.track_to_bytes(), "", 1.3, ""),
        ("`from_bytes` of 1M entities : a copy + checksum", ratios.track_from_bytes(), "", 1.3, ""),
    ]


def _writers(arrays, folder):
    """Return (name, write, read) for the same columns as the formats write them uncompressed."""
    npz = Path(folder, "a.npz")

    def read_npz():
        with np.load(npz) as file:
            return {name: file[name] for name in file.files}

    yield "np.savez", lambda: np.savez(npz, **arrays), read_npz
    with contextlib.suppress(ImportError):
        import pyarrow as pa  # noqa: PLC0415 - may be missing
        from pyarrow import feather  # noqa: PLC0415

        table = pa.table(arrays)
        path = str(Path(folder, "a.feather"))
        yield (
            "feather",
            lambda: feather.write_feather(table, path, compression="uncompressed"),
            lambda: feather.read_table(path, memory_map=False),
        )
    with contextlib.suppress(ImportError):
        import polars as pl  # noqa: PLC0415

        frame = pl.DataFrame(arrays)
        file = Path(folder, "a.ipc")
        yield (
            "polars IPC",
            lambda: frame.write_ipc(file, compression="uncompressed"),
            lambda: pl.read_ipc(file),
        )


def files():
    world = populated(MILLION)
    names = [(T.__name__, T, field) for T in (Position, Velocity) for field in ("x", "y")]
    arrays = {f"{name}.{field}": world.column(T)[field].copy() for name, T, field in names}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.pecs")
        world.save(path)
        for name, write, read in _writers(arrays, folder):
            write()
            ours, theirs = best(lambda: world.save(path, durable=False), write, repeat=25)
            rows.append((f"`save(durable=False)` of 1M entities : {name}", ours / theirs, "", 1, ""))
            ours, theirs = best(lambda: World.load(path), read, repeat=25)
            rows.append((f"`load` : {name}", ours / theirs, "", 1, ""))
    return rows


def workloads():
    insert = suite.SimpleInsert()
    insert.setup()
    ours, bare = best(insert.step, insert.bare, repeat=50, number=20)
    rows = [("simple_insert by `spawn_batch` : a copy of the bytes", ours / bare, "", 3, "")]
    world = suite.simple_insert_world()
    position, velocity = (
        world.column(T).view("<f4").reshape(-1, 3) for T in (suite.Position, suite.Velocity)
    )

    def bare_iter():
        nonlocal position
        position += velocity

    query = world.query(suite.Position, suite.Velocity)

    def held_query():
        for position, velocity in query:
            position.matrix += velocity.matrix

    made = partial(suite.simple_iter_step, world)
    ours, held, bare = best(made, held_query, bare_iter, repeat=200, number=500)
    figures = f"{ours * 1e6:.2f} and {bare * 1e6:.2f} µs"
    rows.append(("simple_iter : NumPy on the same memory", ours / bare, figures, 1.2, ""))
    rows.append(("simple_iter, its query made once : the same", held / bare, "", 1.2, ""))
    usual = suite.SimpleIter()
    usual.setup()
    ours, bare = best(usual.step, usual.bare, repeat=200, number=500)
    rows.append(("simple_iter : NumPy on arrays of its own", ours / bare, "", 1.2, ""))
    fragments = suite.fragmented_iter_world()

    def there_and_back():
        suite.fragmented_iter_step(fragments, 2)
        suite.fragmented_iter_step(fragments, 0.5)

    (ours,) = best(there_and_back, repeat=50, number=100)
    rows.append(("fragmented_iter, a table", ours / 2 / len(suite.LETTERS) * 1e6, "", 2, "µs"))
    four = suite.serialize_world()
    (ours,) = best(lambda: suite.serialize_binary_step(four), repeat=50, number=50)
    rows.append(("serialize_binary, there and back", ours * 1e6, "", 100, "µs"))
    arrays = dict(zip(suite.NAMES, suite.values(1000), strict=True))
    text = four.to_bytes(suite.JSON)
    columns = orjson.dumps(arrays, option=orjson.OPT_SERIALIZE_NUMPY)
    ours, dumps, loads, columns_only = best(
        lambda: suite.serialize_text_step(four),
        lambda: orjson.dumps(arrays, option=orjson.OPT_SERIALIZE_NUMPY),
        lambda: orjson.loads(text),
        lambda: orjson.loads(columns),
        repeat=40,
    )
    title = "serialize_text, there and back : `orjson.dumps` of the columns + `orjson.loads`"
    rows.append((f"{title} of the text", ours / (dumps + loads), "", 2.5, ""))
    rows.append((f"{title} of the columns alone", ours / (dumps + columns_only), "", 2.5, ""))
    bulk = suite.AddRemove()
    bulk.setup()
    ours, bare = best(bulk.step, bulk.bare, repeat=50, number=20)
    title = "add_remove of 10,000 in bulk : a copy of the moved bytes"
    rows.append((f"{title}, with ids", ours / bare, "", 10, ""))
    column, added = bulk.moved[-1], bulk.added
    ours, bare = best(bulk.step, lambda: (column.copy(), added.copy(), column.copy()), repeat=50, number=20)
    rows.append((f"{title}, components alone", ours / bare, "", 10, ""))
    return rows


def one_by_one():
    """Return the rows for 1,000 entities one after the other, in worlds that are new each time."""
    position, velocity = Position(1.0, 2.0), Velocity(3.0, 4.0)

    def get(world, ids):
        for entity in ids:
            world.get(entity, Position).x  # noqa: B018 - reading is the work

    def insert(world, ids):
        for entity in ids:
            world.insert(entity, velocity)

    def spawn(world, ids):
        for _ in ids:
            world.spawn(position, velocity)

    def make_and_spawn(world, ids):
        for _ in ids:
            world.spawn(Position(1.0, 2.0), Velocity(3.0, 4.0))

    rows = []
    for title, work, goal in (
        ("`get` and reading a field", get, 1.5),
        ("`insert` of another component", insert, 6),
        ("`spawn` of two components", spawn, 5),
        ("making two components and `spawn`", make_and_spawn, None),
    ):
        least = calls = float("inf")
        for _ in range(100):
            world = World()
            ids = [world.spawn(position) for _ in range(1000)]
            start = time.perf_counter()
            work(world, ids)
            least = min(least, (time.perf_counter() - start) / len(ids))
            calls = min(calls, *best(hundred_calls, number=10))
        here = f"{least * 1e6:.2f} µs, 100 empty calls {calls * 1e6:.2f} µs"
        rows.append((title, least / calls * 5, here, goal, "µs"))
    return rows


def esper_and_pickle():
    try:
        import esper  # noqa: PLC0415
    except ImportError:
        return []

    values = np.random.default_rng(1).random((4, MILLION), dtype=np.float32)
    lists = values.tolist()

    def create():
        esper.clear_database()
        for px, py, vx, vy in zip(*lists, strict=True):
            esper.create_entity(EsperPosition(px, py), EsperVelocity(vx, vy))

    with tempfile.TemporaryDirectory() as folder:
        pickled, path = Path(folder, "a.pickle"), Path(folder, "a.pecs")

        def save():
            with pickled.open("wb") as file:
                entities = {e: esper.components_for_entity(e) for e in esper._entities}
                pickle.dump(entities, file, pickle.HIGHEST_PROTOCOL)

        def load():
            esper.clear_database()
            with pickled.open("rb") as file:
                for components in pickle.load(file).values():
                    esper.create_entity(*components)

        def ours():
            world = World()
            world.spawn_batch(Position(x=values[0], y=values[1]), Velocity(x=values[2], y=values[3]))
            return world

        world = ours()
        rows = []
        for title, mine, theirs, goal in (
            ("create", ours, create, 50),
            ("save", lambda: world.save(path, durable=False), save, 100),
            ("load", lambda: World.load(path), load, 100),
        ):
            (fast,) = best(mine, repeat=15)
            (slow,) = best(theirs, repeat=2)
            rows.append((f"esper + pickle : pecs_np, {title} 1M entities", slow / fast, "", -goal, "times"))
        esper.clear_database()
    return rows


@dataclass(slots=True)
class EsperPosition:
    x: float
    y: float


@dataclass(slots=True)
class EsperVelocity:
    x: float
    y: float


def write(path, n):
    populated(n).save(path)
    print(0)


def measure_save(path, small):
    """Print what saving to a file takes beyond the world, as a share of it."""
    world = World.load(path)
    # What is imported and kept for good counts for the library, not for the save.
    World.load(small).save(small)
    extra, _ = peak(lambda: world.save(path, durable=False))
    print(extra / _size(world))


def measure_load(path, small):
    """Print what loading from a file takes beyond the world, as a share of it."""
    World.load(small)
    extra, world = peak(lambda: World.load(path))
    print(extra / _size(world) - 1)


def _size(world):
    return sum(world.column(T).nbytes for T in (Position, Velocity)) / (1 << 20)


def memory():
    if not sys.platform.startswith("linux"):
        return []
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path, small = str(Path(folder, "a.pecs")), str(Path(folder, "b.pecs"))
        in_new_process("goals", "write", path, MILLION)
        in_new_process("goals", "write", small, 100_000)
        for verb in ("save", "load"):
            share = max(in_new_process("goals", f"measure_{verb}", path, small) for _ in range(3))
            title = f"peak memory of `{verb}`, 1M entities and a file, beyond the world"
            found.append((title, 100 * share, "", 5, "%"))
    return found


def rows():
    """Yield (what, figure, remark, goal, unit, runs); a negative goal is one to be reached from below.

    All is measured three times, from the first row to the last, and the figure in the middle counts: a
    machine that others use as well has slow seconds. *runs* are the three.
    """
    parts = small_saves, large_saves, files, workloads, one_by_one, memory, esper_and_pickle
    passes = [[row for part in parts for row in part()] for _ in range(3)]
    for same in zip(*passes, strict=True):
        ordered = sorted(same, key=lambda row: row[1])
        yield *ordered[1], [figure for _, figure, *_ in ordered]


def _number(figure):
    return f"{figure:.0f}" if figure >= 100 else f"{figure:.3g}"


if __name__ == "__main__":
    print("| work | measured | of three runs | goal |\n|---|---|---|---|")
    for what, figure, remark, goal, unit, runs in rows():
        bound = "" if goal is None else f"{'at least ' * (goal < 0)}{abs(goal)} {unit}".strip()
        remark = f" ({remark})" if remark else ""
        spread = f"{_number(runs[0])} to {_number(runs[-1])}"
        print(
            f"| {what} | {_number(figure)} {unit}".rstrip() + f"{remark} | {spread} | {bound} |", flush=True
        )

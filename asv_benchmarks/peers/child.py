"""What is done in a peer's own process: its rounds timed, or the memory that it takes."""

import contextlib
import ctypes
import gc
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from .worlds import DT

VERBS = ("create", "step", "save", "load")


class DataLossError(Exception):
    """A peer gives back something else than it was given."""


def given(n):
    """Return x, y, vx and vy of n entities, a float32 array of shape (4, n)."""
    return np.random.default_rng(1).random((4, n), dtype=np.float32)


def _rows(peer, columns):
    if getattr(peer, "UNORDERED", False):
        return columns[:, np.lexsort(columns)]
    return columns


def check_steps(peer, columns, values, count):
    """Raise unless *columns* are *values* after *count* steps, as far as float32 can tell."""
    expected = values.copy()
    for _ in range(count):
        expected[:2] += expected[2:] * DT
    expected, found = _rows(peer, expected), _rows(peer, columns)
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-5):
        raise DataLossError(f"expected {expected.shape[1]} entities after {count} steps, found others")


def check_loaded(peer, columns, saved):
    """Raise unless the loaded *columns* equal the *saved* ones."""
    if not np.array_equal(_rows(peer, columns), _rows(peer, saved)):
        raise DataLossError(f"expected {saved.shape[1]} entities as they were saved, loaded others")


def _discard(peer, world):
    getattr(peer, "discard", lambda world: None)(world)


def timed(peer, n, rounds, path):
    """Return the seconds of each verb in each of *rounds*, and the size of the file in bytes.

    A round before them is not counted.
    """
    values = given(n)
    seconds = {verb: [] for verb in VERBS}

    def clock(verb, function, *args):
        gc.collect()
        start = time.perf_counter()
        result = function(*args)
        seconds[verb].append(time.perf_counter() - start)
        return result

    for _ in range(rounds + 1):
        path.unlink(missing_ok=True)
        world = clock("create", peer.create, values)
        world = peer.step(world)
        world = clock("step", peer.step, world)
        saved = np.array(peer.columns(world))
        check_steps(peer, saved, values, 2)
        clock("save", peer.save, world, path)
        _discard(peer, world)
        del world
        loaded = clock("load", peer.load, path)
        check_loaded(peer, peer.columns(loaded), saved)
        _discard(peer, loaded)
        del loaded
    return {"seconds": {verb: all_[1:] for verb, all_ in seconds.items()}, "bytes": path.stat().st_size}


def _memory(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {name} in /proc/self/status")


def _settle():
    """Give freed memory back, begin a new peak, and return the bytes that are in use."""
    gc.collect()
    with contextlib.suppress(AttributeError, TypeError):  # where there is no glibc
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _warm_up(peer):
    """Import what is imported on first use."""
    with tempfile.TemporaryDirectory() as folder:
        timed(peer, 10, 1, Path(folder, "few"))


def memory_to_save(peer, n, path):
    """Return the peak in bytes of creating, stepping and saving, and how much of it saving adds.

    ``None`` where the system does not tell.
    """
    _warm_up(peer)
    values = given(n)
    try:
        before = _settle()
        world = peer.step(peer.step(peer.create(values)))
        peak = _memory("VmHWM")
        held = _settle()
        peer.save(world, path)
        return {"peak": max(peak, _memory("VmHWM")) - before, "saving": _memory("VmHWM") - held}
    except OSError:
        return None


def memory_to_load(peer, path):
    """Return the peak in bytes of loading, the world included, and how much of it is gone after."""
    _warm_up(peer)
    try:
        before = _settle()
        world = peer.load(path)
        peak = _memory("VmHWM")
        held = _settle()
    except OSError:
        return None
    else:
        _discard(peer, world)
        return {"load peak": peak - before, "loading": max(peak - held, 0)}


def main(job, module, n, rounds, path):
    """Do one *job* and print what it gives as JSON."""
    peer = importlib.import_module(f".worlds.{module}", __package__)
    jobs = {
        "time": lambda: timed(peer, int(n), int(rounds), Path(path)),
        "save": lambda: memory_to_save(peer, int(n), Path(path)),
        "load": lambda: memory_to_load(peer, Path(path)),
    }
    print(json.dumps(jobs[job]()))


if __name__ == "__main__":
    main(*sys.argv[1:])

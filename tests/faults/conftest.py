"""What the tests of faults share: worlds, a system that fails when told to, and counts told at the end."""

from __future__ import annotations

import errno
import functools
import os
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pecs_np
from pecs_np import BinaryPlugin, EntityRef, PluginNotFoundError, World, component
from pecs_np.persistence import disk
from pecs_np.persistence.disk import System
from pecs_np.testing import assert_worlds_equal

MEMORY = "/dev/shm"


@component
class FaultSpot:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component
class FaultNote:
    text: str = ""
    about: EntityRef = None


def make_world(seed, rows=24):
    """A world with two tables, texts and references; another for each seed."""
    world = World(seed=seed)
    spots = world.spawn_batch(FaultSpot(x=np.arange(rows) + 1000 * seed))
    world.spawn_batch(FaultNote(text=[f"note {seed}", "é" * seed], about=spots[:2]), FaultSpot(y=[seed, 2]))
    return world


class PowerCut(BaseException):
    """From now on nothing reaches the disk."""


@dataclass
class Fault:
    """What happens in place of a call: an error, an error after the deed, or less than was asked for."""

    name: str
    errno: int | None = None
    after: bool = False
    raises: type[BaseException] | None = None
    share: Any = None
    flips: bool = False
    kinds: frozenset[str] = frozenset()

    def fits(self, kind):
        return not self.kinds or kind in self.kinds

    def __call__(self, call, real, arguments):
        kind = call.kind
        if self.flips:
            found = real(*arguments)
            # Where nothing is left to read, nothing goes wrong.
            call.failed = bool(found)
            if kind == "read":
                return bytes([found[0] ^ 16]) + found[1:] if found else found
            if found:
                arguments[1][0] ^= 16
            return found
        if self.share is not None:
            return self._less(call, real, arguments)
        # A file that was closed with an error is closed all the same.
        if self.after or kind == "close":
            call.failed = False
            result = real(*arguments)
            call.failed = True
            if kind == "open":
                os.close(result)
        if self.raises is not None:
            raise self.raises(self.name)
        raise OSError(self.errno, os.strerror(self.errno))

    def _less(self, call, real, arguments):
        descriptor, what, *more = arguments
        if call.kind == "read":
            count = self.share(what)
            found = real(descriptor, count or 1)
            call.failed = bool(found)
            return found[:count]
        count = self.share(len(what))
        return real(descriptor, what[:count], *more) if count else 0


_MOVING = frozenset({"write", "read", "read_at"})
_READING = frozenset({"read", "read_at"})
_REFUSALS = [
    Fault(errno.errorcode[code], code)
    for code in (errno.ENOSPC, errno.EIO, errno.EINTR, errno.EACCES, errno.EDQUOT)
]
_SHORT = [
    Fault("one byte", share=lambda size: 1, kinds=_MOVING),
    Fault("half", share=lambda size: max(1, size // 2), kinds=_MOVING),
    Fault("nothing", share=lambda size: 0, kinds=_MOVING),
]
_AFTER = Fault("EIO after all", errno.EIO, after=True, kinds=frozenset({"replace", "open", "link"}))
_FLIPPED = Fault("a flipped bit", flips=True, kinds=_READING)
_INTERRUPTS = [
    Fault("KeyboardInterrupt", raises=KeyboardInterrupt),
    Fault("MemoryError", raises=MemoryError),
]


@dataclass
class Call:
    """A call that was made: which, on what, and whether it was made to fail."""

    kind: str
    path: str
    failed: bool = False
    flags: int = 0
    descriptor: int = -1


class FaultySystem(System):
    """The operating system, of which the call number *at* fails, or all from there on.

    Parameters
    ----------
    at : int
        From 0.
    fault : Fault, optional
    mode : "once", "kind" or "all"
        Whether only that call fails, or all further calls of its kind, or all further calls.
    links : bool
        Whether the file system has hard links.
    stream : bool
        Whether files are said to be pipes.

    Attributes
    ----------
    calls : list of Call
    pauses : list of float
        None of them is made.
    unflushed : set of str
        The files whose content would not survive a loss of power.
    """

    KINDS = tuple(name for name in vars(System) if not name.startswith("_") and name != "sleep")

    def __init__(self, at=0, fault=None, mode="once", *, links=True, stream=False):
        self.calls: list[Call] = []
        self.pauses: list[float] = []
        self.unflushed: set[str] = set()
        self.sleep = self.pauses.append
        self._at, self._fault, self._mode, self._stream = at, fault, mode, stream
        self._names: dict[int, tuple[str, int]] = {}
        self._cut = False
        for kind in self.KINDS:
            setattr(self, kind, functools.partial(self._call, kind, getattr(System, kind)))
        if not links:
            self.link = functools.partial(self._call, "link", self._no_links)
        # It is the flushing that takes time; here it counts only whether it was asked for.
        self.fsync = functools.partial(self._call, "fsync", lambda descriptor: None)

    @property
    def failed(self):
        return [call for call in self.calls if call.failed]

    def was_replaced(self, path):
        """Tell whether a file took the name *path*, whatever was said about it."""
        return any(
            call.kind == "replace" and call.path == path and (not call.failed or self._fault.after)
            for call in self.calls
        )

    @staticmethod
    def _no_links(source, target):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def _call(self, kind, real, *arguments):
        call = self._described(kind, arguments)
        number = len(self.calls)
        self.calls.append(call)
        if self._cut:
            if kind == "close":
                return real(*arguments)
            raise OSError(errno.EIO, "the power is off")
        if self._fault is not None and self._hits(number, kind):
            call.failed = True
            if self._fault.raises is PowerCut:
                self._cut = True
            return self._fault(call, real, arguments)
        result = real(*arguments)
        self._follow(call, arguments, result)
        if kind == "fstat" and self._stream:
            result = os.stat_result((stat.S_IFIFO, *result[1:]))
        return result

    def _described(self, kind, arguments):
        first = arguments[1] if kind in {"replace", "link"} else arguments[0]
        if isinstance(first, int):
            path, flags = self._names.get(first, ("", 0))
            return Call(kind, path, flags=flags, descriptor=first)
        return Call(kind, os.fspath(first), flags=arguments[1] if kind == "open" else 0)

    def _hits(self, number, kind):
        if number < self._at or not self._fault.fits(kind):
            return False
        if number == self._at:
            return True
        first = self.calls[self._at]
        return first.failed and (self._mode == "all" or (self._mode == "kind" and kind == first.kind))

    def _follow(self, call, arguments, result):
        """Keep track of what a loss of power would take away."""
        if call.kind == "open":
            self._names[result] = call.path, call.flags
            if call.flags & os.O_CREAT:
                self.unflushed.add(call.path)
        elif call.kind == "write":
            self.unflushed.add(call.path)
        elif call.kind == "fsync" or call.kind == "unlink":
            self.unflushed.discard(call.path)
        elif call.kind == "replace" or call.kind == "link":
            source = os.fspath(arguments[0])
            (self.unflushed.add if source in self.unflushed else self.unflushed.discard)(call.path)
            if call.kind == "replace":
                self.unflushed.discard(source)


@dataclass
class Case:
    """A path, what it and its backup hold before a save, and what the save is to put there."""

    path: Path
    plugin: BinaryPlugin
    world: World
    old: bytes
    new: bytes
    before: bytes | None
    backup_before: bytes | None

    @property
    def target(self):
        return str(self.path)

    @property
    def backup(self):
        return Path(f"{self.path}.bak")

    def prepare(self):
        for path, content in ((self.path, self.before), (self.backup, self.backup_before)):
            if content is None:
                path.unlink(missing_ok=True)
            elif self.read(path) != content or path.stat().st_nlink > 1:
                path.unlink(missing_ok=True)
                path.write_bytes(content)

    @staticmethod
    def read(path):
        try:
            with open(path, "rb", buffering=0) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def leftovers(self):
        return sorted(set(os.listdir(self.path.parent)) - {self.path.name, self.backup.name})

    def save(self, **options):
        self.world.save_with(self.path, self.plugin, **options)


_PLUGINS = {
    "raw": {},
    "zstd": {"compression": "zstd", "threads": 1},
    "version 1": {"version": 1},
}


@pytest.fixture(scope="module")
def contents():
    """For each format its plugin, a world, and three saves that load: ancient, old and that world's."""
    made = {}

    def of(name):
        if name in made:
            return made[name]
        try:
            plugin = BinaryPlugin(**_PLUGINS[name])
        except PluginNotFoundError:
            pytest.skip(f"no {name} here")
        worlds = [make_world(seed) for seed in (1, 2, 3)]
        saves = [world.to_bytes(plugin) for world in worlds]
        assert len(set(saves)) == 3
        for world, save in zip(worlds, saves, strict=True):
            assert_worlds_equal(World.from_bytes(save, plugin), World.from_bytes(world.to_bytes(plugin)))
            assert World.from_bytes(save, plugin).to_bytes(plugin) == save
            assert len(World.from_bytes(save, plugin)) == len(world)
        made[name] = plugin, worlds[2], *saves
        return made[name]

    return of


@pytest.fixture
def folder(tmp_path):
    """An empty folder, in memory where there is such a place: a disk takes a millisecond for each file."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else tmp_path) as name:
        yield Path(name).resolve()


@pytest.fixture
def make_case(folder, contents):
    """A function that returns a `Case`: *start* is "new" for a path without a file, "first" and "later"
    for one with a file, without and with a backup.
    """

    def make(start, name):
        plugin, world, ancient, old, new = contents(name)
        before = None if start == "new" else old
        backup_before = ancient if start == "later" else None
        return Case(folder / "game.pecs", plugin, world, old, new, before, backup_before)

    return make


@pytest.fixture
def faulty(monkeypatch):
    """A function that puts a `FaultySystem` in the place of the system and returns it."""

    def install(*arguments, **options):
        system = FaultySystem(*arguments, **options)
        monkeypatch.setattr(disk, "system", system)
        return system

    yield install
    monkeypatch.undo()


@pytest.fixture
def save_faults():
    """What can happen to a call of a save."""
    return [*_REFUSALS, *_SHORT, _AFTER]


@pytest.fixture
def read_faults():
    """What can happen to a call of a load."""
    return [*_REFUSALS, *_SHORT, _FLIPPED]


@pytest.fixture
def interrupts():
    """What can come at any time and is no error of the system."""
    return _INTERRUPTS


@pytest.fixture
def refusal():
    """A function that returns the fault with an error number."""
    return lambda code: Fault(errno.errorcode[code], code)


@pytest.fixture
def power_cut():
    """The fault after which nothing reaches the disk."""
    return Fault("the power is off", raises=PowerCut)


@pytest.fixture
def world_of():
    """The function that makes a world from a seed."""
    return make_world


@pytest.fixture
def open_descriptors():
    """A function that returns how many files this process has open, or None where that is not told."""
    folder = next((name for name in ("/proc/self/fd", "/dev/fd") if os.path.isdir(name)), None)
    return lambda: None if folder is None else len(os.listdir(folder))


@pytest.fixture
def start_program():
    """A function that starts a Python program that can import the package; it does not outlive the test."""
    running = []
    environment = os.environ | {"PYTHONPATH": str(Path(pecs_np.__file__).parents[1])}

    def start(code, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()


@pytest.fixture(scope="module")
def tally(request):
    """Counts by name, printed when the tests of a module are over."""
    counts = Counter()
    yield counts
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and counts:
        told = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
        reporter.ensure_newline()
        reporter.write_line(f"{request.path.name}: {told}")

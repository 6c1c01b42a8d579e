"""The third part of the contract: damaged saves, saves that fail, and streams that refuse."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pecs_np.errors import PecsError, PersistenceError, PersistenceIOError
from pecs_np.persistence.plugins import PersistencePlugin
from pecs_np.testing.harness import Harness, expect
from pecs_np.testing.samples import BAD_VALUES
from pecs_np.world import World

__all__ = ["Failures"]

# Of a longer save, this many places are damaged.
_MOST_PLACES = 3000
_FOREIGN = (
    b"",
    b"\0",
    bytes(1000),
    b"\xff" * 1000,
    b"hello, world\n" * 20,
    b"{",
    b"null",
    b"[]",
    b'{"version": 1}',
    b"\x89PNG\r\n\x1a\n" + bytes(100),
    b"PK\x03\x04" + bytes(100),
    b"\x1f\x8b\x08" + bytes(100),
    b"PECS" + bytes(100),
    np.random.default_rng(1).bytes(2000),
)


class Failures(Harness):
    """Whatever goes wrong is one of the library's errors, and costs no save that was there."""

    # Damage

    def test_cut_saves_are_refused(self, tmp_path: Path) -> None:
        """A save that ends early, wherever that is, is refused."""
        plugin = self.plugin_of_bytes(tmp_path)
        data = self.samples.small().to_bytes(plugin)
        for size in _places(len(data)):
            what = f"a save that was cut from {len(data)} to {size} bytes"
            self._judge(plugin, data[:size], what, refuses=self.detects_cuts is True)

    def test_longer_saves_are_refused(self, tmp_path: Path) -> None:
        """A save that other bytes follow is refused."""
        plugin = self.plugin_of_bytes(tmp_path)
        data = self.samples.small().to_bytes(plugin)
        for more in (b"\0", b"x" * 100, data):
            what = f"a save with {len(more)} bytes behind it"
            self._judge(plugin, data + more, what, refuses=self.detects_damage is True)

    def test_damaged_saves_are_refused(self, tmp_path: Path) -> None:
        """A save of which a bit or a byte is wrong is refused, or at least gives a sound world or an error of ours."""
        plugin = self.plugin_of_bytes(tmp_path)
        data = self.samples.small().to_bytes(plugin)
        for place in _places(len(data)):
            for flip in (1 << place % 8, 0x80, 0xFF):
                damaged = bytearray(data)
                damaged[place] ^= flip
                what = f"a save of {len(data)} bytes in which byte {place} is {damaged[place]:#x} instead of {data[place]:#x}"
                self._judge(plugin, bytes(damaged), what, refuses=self.detects_damage is True)

    def test_scrambled_saves_are_refused(self, tmp_path: Path) -> None:
        """So is one with everything in it of which a part is zeroed, removed, repeated or replaced."""
        plugin = self.plugin_of_bytes(tmp_path)
        data = self.rich().to_bytes(plugin)
        rng = np.random.default_rng(5)
        for _ in range(300):
            start = int(rng.integers(len(data)))
            stop = min(len(data), start + int(rng.integers(1, 64)))
            part = data[start:stop]
            for new in (bytes(len(part)), b"", part + part, rng.bytes(len(part))):
                if new == part:
                    continue
                damaged = data[:start] + new + data[stop:]
                if damaged != data:
                    what = f"a save of {len(data)} bytes in which bytes {start} to {stop} are {new.hex()}"
                    self._judge(plugin, damaged, what, refuses=self.detects_damage is True)

    def test_foreign_files_are_refused(self, tmp_path: Path) -> None:
        """Bytes that are none of its saves are refused, from memory and from a file."""
        plugin = self.plugin_of_bytes(tmp_path)
        path = tmp_path / "foreign"
        for data in _FOREIGN:
            what = f"{data[:20]!r}{'…' if len(data) > 20 else ''}, which is no save,"
            with self.refused(f"a load of {what}"):
                World.from_bytes(data, plugin)
            path.write_bytes(data)
            with self.refused(f"a load of a file of {what}"):
                World.load_with(path, plugin)

    def _judge(self, plugin: PersistencePlugin, data: bytes, what: str, *, refuses: bool) -> None:
        """Check that damaged *data* is refused, or unless it must be, gives a sound world."""
        if refuses:
            with self.refused(what):
                World.from_bytes(data, plugin)
            return
        try:
            world = World.from_bytes(data, plugin)
        except PecsError:
            return
        except Exception as error:
            raise AssertionError(
                f"{what} raised {type(error).__name__}, expected a PecsError: {error}"
            ) from error
        expect(world.validate(), f"{what} was loaded as a world that is not sound: {world.validate()}")

    # Saves that fail

    def test_missing_saves(self, tmp_path: Path) -> None:
        """What was never saved is an error: for files, of input and output."""
        plugin = self.make_plugin(tmp_path)
        kind = PersistenceIOError if plugin.has_bytes else PersistenceError
        with self.refused("a load of what was never saved", kind):
            World.load_with(self.make_path(tmp_path, "never saved"), plugin)

    def test_worlds_that_cannot_be_saved(self, tmp_path: Path) -> None:
        """What could not be loaded again is refused, and the older save stays as it was."""
        plugin, path = self.make_plugin(tmp_path), self.make_path(tmp_path, "kept")
        old = self.rich()
        old.save_with(path, plugin)
        bad = {what: make(self.samples) for what, make in BAD_VALUES.items()}
        bad["an object as metadata"] = World(metadata={"x": object()})
        bad["NaN as metadata"] = World(metadata={"x": float("nan")})
        for what, world in bad.items():
            if "metadata" in what and self.holds_world_data is not True:
                continue
            with self._old_save_stays(path, plugin, old), self.refused(f"a save of a world with {what}"):
                world.save_with(path, plugin)

    def test_saves_that_fail_half_way(self, tmp_path: Path) -> None:
        """A save that fails, here because ``progress`` raises, leaves the older one as it was."""
        plugin, path = self.make_plugin(tmp_path), self.make_path(tmp_path, "kept")
        old, new = self.samples.small(), self.rich()
        old.save_with(path, plugin)
        for calls in range(3):
            left = calls

            def stop(done: int, total: int | None) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise _StoppedError(f"after {done} of {total} bytes")

            try:
                with self._old_save_stays(path, plugin, old):
                    new.save_with(path, plugin, progress=stop)
                    raise _FinishedError
            except (_StoppedError, PecsError):
                continue
            except _FinishedError:
                old = new  # fewer calls than that

    def test_saves_to_where_nothing_can_be(self, tmp_path: Path) -> None:
        """A save into a folder that does not exist, or over a folder, is an error of input and output."""
        plugin = self.plugin_of_bytes(tmp_path)
        (tmp_path / "folder").mkdir()
        for path in (tmp_path / "missing" / "save", tmp_path / "folder"):
            with self.refused(f"a save to {path}", PersistenceIOError):
                self.samples.small().save_with(path, plugin)

    def test_backups(self, tmp_path: Path) -> None:
        """With ``backup=True`` the older file stays, and is loaded where the new one is damaged."""
        plugin = self.plugin_of_bytes(tmp_path)
        path = self.make_path(tmp_path, "backed up")
        old, new = self.samples.small(), self.rich()
        old.save_with(path, plugin)
        new.save_with(path, plugin, backup=True)
        self.check_equal(new, World.load_with(path, plugin, backup=True), "a save with a backup")
        Path(path).write_bytes(b"")
        import pytest  # noqa: PLC0415 - only those who run the checks have it

        with pytest.warns(UserWarning, match="backup"):
            back = World.load_with(path, plugin, backup=True)
        self.check_equal(old, back, "the backup of a save")

    @contextlib.contextmanager
    def _old_save_stays(self, path: Any, plugin: PersistencePlugin, old: World) -> Iterator[None]:
        """Check that after the block, which may end with an error, the save under *path* is still *old*."""
        before = _files_beside(path, plugin)
        failure: Exception | None = None
        try:
            yield
        except (_FinishedError, AssertionError):
            raise
        except Exception as error:  # noqa: BLE001 - raised again below
            failure = error
        what = "the older save, after one that failed,"
        try:
            found = World.load_with(path, plugin)
        except PecsError as error:
            raise AssertionError(f"{what} cannot be loaded any more: {error}") from error
        self.check_equal(old, found, what)
        after = _files_beside(path, plugin)
        expect(after.keys() == before.keys(), f"a save that failed left files: {sorted(after)}")
        expect(after == before, f"{what} has other bytes")
        if failure is not None:
            raise failure

    # Streams

    def test_streams(self, tmp_path: Path) -> None:
        """File objects take the same bytes as paths, however few at a time, and give them back."""
        plugin, path, world = self.plugin_of_bytes(tmp_path), self.make_path(tmp_path, "file"), self.rich()
        report = world.save_with(path, plugin)
        data = Path(path).read_bytes()
        expect(report.bytes == len(data), f"expected {len(data)} bytes in the report, found {report.bytes}")
        writer = _Trickle(11)
        world.save_with(writer, plugin)
        direct = io.BytesIO()
        plugin.save(world, direct)
        for what, found in (
            ("a writer that takes 11 bytes at a time", writer.taken),
            ("plugin.save(world, writer)", direct.getvalue()),
            ("world.to_bytes(plugin)", world.to_bytes(plugin)),
        ):
            back = World.from_bytes(found, plugin)
            self.check_equal(world, back, f"what {what} got")
            if self.deterministic is True:
                expect(found == data, f"{what} got other bytes than the file: {len(found)} and {len(data)}")
        for what, reader in (("a file object", io.BytesIO(data)), ("a pipe", _Pipe(data))):
            self.check_equal(world, World.load_with(reader, plugin), f"a world from {what}")
        for what, reader in (("a file object", io.BytesIO(data)), ("a pipe", _Pipe(data))):
            self.check_equal(world, plugin.load(reader), f"a world of plugin.load from {what}")
        for buffer in (bytearray(data), memoryview(data)):
            self.check_equal(
                world, World.from_bytes(buffer, plugin), f"a world from a {type(buffer).__name__}"
            )

    def test_loaded_worlds_do_not_need_the_bytes(self, tmp_path: Path) -> None:
        """A world does not change with the buffer that it was loaded from."""
        plugin, world = self.plugin_of_bytes(tmp_path), self.rich()
        buffer = bytearray(world.to_bytes(plugin))
        back = World.from_bytes(buffer, plugin)
        buffer[:] = bytes(len(buffer))
        self.check_equal(world, back, "a world whose buffer was overwritten")

    def test_writers_that_fail(self, tmp_path: Path) -> None:
        """A writer that fails, at the first byte or later, is an error of input and output."""
        plugin, world = self.plugin_of_bytes(tmp_path), self.rich()
        size = len(world.to_bytes(plugin))
        for room in (0, 1, size // 2, size - 1):
            with self.refused(f"a save to a disk with {room} of {size} bytes free", PersistenceIOError):
                world.save_with(_FullDisk(room), plugin)
            with self.refused(f"plugin.save to a disk with {room} of {size} bytes free", OSError):
                plugin.save(world, _FullDisk(room))
        with self.refused("a save to a writer of text", PersistenceIOError):
            world.save_with(io.StringIO(), plugin)

    def test_readers_that_fail(self, tmp_path: Path) -> None:
        """A reader that fails is an error of input and output; one that gives text is an error too."""
        plugin, world = self.plugin_of_bytes(tmp_path), self.rich()
        data = world.to_bytes(plugin)
        for good in (0, len(data) // 2):
            with self.refused(f"a load from a reader that fails after {good} bytes", PersistenceIOError):
                World.load_with(_BadDisk(data[:good]), plugin)
        with self.refused("a load from a reader of text"):
            World.load_with(io.StringIO("hello"), plugin)

    def test_formats_without_bytes_say_so(self, tmp_path: Path) -> None:
        """A plugin that saves to a place of its own refuses file objects."""
        plugin = self.make_plugin(tmp_path)
        self.needs("it has bytes" if plugin.has_bytes else True, "saves to file objects")
        with self.refused("a save to a file object", PersistenceError):
            World().save_with(io.BytesIO(), plugin)
        with self.refused("a load from a file object", PersistenceError):
            World.load_with(io.BytesIO(), plugin)

    def test_progress(self, tmp_path: Path) -> None:
        """``progress`` hears of the bytes that are done, up to all of them."""
        plugin, path, world = self.plugin_of_bytes(tmp_path), self.make_path(tmp_path, "file"), self.rich()
        heard: list[tuple[int, int | None]] = []

        def listen(done: int, total: int | None) -> None:
            heard.append((done, total))

        size = world.save_with(path, plugin, progress=listen).bytes
        self._check_progress(heard, size, "a save")
        heard.clear()
        World.load_with(path, plugin, progress=listen)
        self._check_progress(heard, size, "a load")

    def _check_progress(self, heard: list[tuple[int, int | None]], size: int, what: str) -> None:
        done = [count for count, _ in heard]
        expect(done == sorted(done), f"progress of {what} goes backwards: {done}")
        expect(
            done and done[-1] == size, f"expected progress of {what} up to {size} bytes, found {done[-3:]}"
        )
        totals = {total for _, total in heard} - {None}
        expect(totals <= {size}, f"expected {size} as the total of {what}, found {totals}")


class _StoppedError(Exception):
    """Stands for whatever can go wrong in the midst of a save."""


class _FinishedError(Exception):
    """The save that should have been stopped was not."""


class _FullDisk:
    """Takes some bytes, then fails as a full disk does."""

    def __init__(self, room: int) -> None:
        self._room = room

    def write(self, data: Any, /) -> int:
        size = len(memoryview(data).cast("B"))
        self._room -= size
        if self._room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return size


class _Trickle(io.RawIOBase):
    """Takes a few bytes at a time, as a socket may."""

    def __init__(self, step: int) -> None:
        self._step = step
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        part = bytes(memoryview(data).cast("B")[: self._step])
        self.taken += part
        return len(part)


class _Pipe(io.RawIOBase):
    """Gives a few bytes at a time, and cannot be sought."""

    def __init__(self, data: bytes) -> None:
        self._left = memoryview(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        part = self._left[: min(len(buffer), 13)]
        buffer[: len(part)] = part
        self._left = self._left[len(part) :]
        return len(part)


class _BadDisk(_Pipe):
    """Gives some bytes, then fails as a broken disk does."""

    def readinto(self, buffer: Any, /) -> int:
        count = super().readinto(buffer)
        if not count:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return count


def _files_beside(path: Any, plugin: PersistencePlugin) -> dict[str, bytes]:
    """Return what the files in the folder of *path* hold, by name."""
    if not plugin.has_bytes:
        return {}
    return {p.name: p.read_bytes() for p in Path(path).parent.iterdir() if p.is_file()}


def _places(size: int) -> Iterator[int]:
    """Give every place in *size* bytes, or so many that are spread over them."""
    step = max(1, -(-size // _MOST_PLACES))
    return iter(range(0, size, step))

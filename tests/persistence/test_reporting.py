"""What a save says of itself, and progress on the way."""

from __future__ import annotations

import io
import os
import sys
import types

import numpy as np
import pytest

from pecs_np import BinaryPlugin, JsonPlugin, PersistenceError, SaveReport, World, component


@component
class ReportedPoint:
    x: np.float64
    y: np.float64


@pytest.fixture(scope="module")
def world():
    world = World(seed=1)
    world.spawn_batch(ReportedPoint(x=np.arange(1_000_000), y=np.random.default_rng(1).random(1_000_000)))
    return world


class Steps(list):
    """Collects the calls of a progress function."""

    def __call__(self, done, total):
        self.append((done, total))

    def check(self, size, total):
        assert self[-1] == (size, total)
        done = [step[0] for step in self]
        assert done == sorted(done)
        assert {step[1] for step in self} == {total}


def test_every_save_verb_returns_a_report(world, tmp_path):
    path = tmp_path / "a.pecs"
    verbs = [
        lambda: world.save(path),
        lambda: world.save_binary(str(path)),
        lambda: world.save_json(path),
        lambda: world.save_with(path, BinaryPlugin(version=1)),
        lambda: world.save_filtered(path, lambda table: table.get(ReportedPoint).x < 10),
    ]
    for save in verbs[:2] + verbs[3:]:
        report = save()
        assert report.bytes == os.path.getsize(path)
        assert report.path == str(path)
        assert 0 < report.seconds < 60
        assert report.entities == (10 if save is verbs[-1] else 1_000_000)
    small = World()
    report = small.save_json(path)
    assert (report.bytes, report.entities) == (os.path.getsize(path), 0)
    assert small.save(os.fsencode(path)).path == str(path)
    stream = io.BytesIO()
    for save in (small.save_binary_stream, small.save_binary, small.save_json):
        stream.seek(0)
        stream.truncate()
        report = save(stream)
        assert (report.bytes, report.path) == (len(stream.getvalue()), None)


def test_a_report_reads_as_a_line():
    report = SaveReport(2_000_000, 0.5, 1000, "a.pecs")
    assert str(report) == "1000 entities, 2000000 bytes in 0.500 s, 4 MB/s to a.pecs"
    assert str(SaveReport(0, 0.0, 0, None)) == "0 entities, 0 bytes in 0.000 s to a stream"
    with pytest.raises(AttributeError):
        report.bytes = 3


def test_progress_counts_up_to_the_bytes_of_the_file(world, tmp_path):
    path = tmp_path / "a.pecs"
    saving, loading = Steps(), Steps()
    size = world.save(path, progress=saving).bytes
    saving.check(size, size)
    assert len(saving) > 3
    World.load(path, progress=loading)
    # The head may be read twice.
    assert {total for _, total in loading} == {size}
    assert size <= loading[-1][0] < size + 65536
    assert len(loading) > 3


def test_progress_never_goes_beyond_the_bytes_of_the_file(tmp_path):
    path = tmp_path / "small"
    for plugin in (BinaryPlugin(), BinaryPlugin(version=1)):
        size = World().save_with(path, plugin).bytes
        loading = Steps()
        World.load(path, progress=loading)
        assert loading[-1] == (size, size)
        assert max(done for done, _ in loading) == size


def test_where_the_size_is_not_known_before_progress_says_so(world, tmp_path):
    saving, streaming, reading = Steps(), Steps(), Steps()
    size = world.save_with(tmp_path / "a", BinaryPlugin(version=1), progress=saving).bytes
    assert saving[-1][0] == size
    stream = io.BytesIO()
    size = world.save_binary_stream(stream, progress=streaming).bytes
    streaming.check(size, None)
    stream.seek(0)
    World.load_binary(stream, progress=reading)
    reading.check(size, None)


def test_json_has_progress_too(tmp_path):
    world = World()
    world.spawn_batch(ReportedPoint(x=np.arange(50_000), y=0))
    saving, loading = Steps(), Steps()
    size = world.save_json(tmp_path / "a.json", progress=saving).bytes
    assert saving[-1][0] == size
    World.load_json(tmp_path / "a.json", progress=loading)
    loading.check(size, size)


def test_what_progress_raises_stops_the_save_and_leaves_the_old_file(world, tmp_path):
    path = tmp_path / "a.pecs"
    path.write_bytes(b"old")

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.save(path, progress=stop)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.pecs"]


@pytest.mark.parametrize("progress", [5, "yes", [], np.array([1, 2])])
def test_what_cannot_be_called_is_refused_before_anything_is_written(world, tmp_path, progress):
    with pytest.raises(PersistenceError, match="expected a function of"):
        world.save(tmp_path / "a.pecs", progress=progress)
    assert os.listdir(tmp_path) == []


def test_true_shows_a_bar_where_tqdm_is_installed(world, tmp_path, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, **options):
            self.options, self.done = options, 0
            bars.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.closed = True

        def update(self, count):
            self.done += count

    module = types.ModuleType("tqdm.auto")
    module.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    size = world.save(tmp_path / "a.pecs", progress=True).bytes
    World.load(tmp_path / "a.pecs", progress=True)
    assert [(bar.options["total"], bar.options["desc"], bar.closed) for bar in bars] == [
        (size, "saving", True),
        (size, "loading", True),
    ]
    assert bars[0].done == size


def test_true_without_tqdm_warns_and_saves(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.warns(UserWarning, match="pip install tqdm") as caught:
        World().save(tmp_path / "a.pecs", progress=True)
    assert caught[0].filename == __file__
    assert len(World.load(tmp_path / "a.pecs", progress=False)) == 0


def test_json_options_are_those_of_every_format(tmp_path):
    report = World().save_with(
        tmp_path / "a.json", JsonPlugin.pretty(), durable=False, backup=True, retries=2
    )
    assert report.bytes == os.path.getsize(tmp_path / "a.json")

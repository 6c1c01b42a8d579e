"""What all verbs that save have in common."""

from __future__ import annotations

import io
import os

import pytest

from pecs_np import BinaryPlugin, PersistenceError, PersistenceIOError, PluginNotFoundError, World
from pecs_np.persistence.saving import check_plugin, save_stream, save_world


@pytest.mark.parametrize("plugin", [None, 5, "json", BinaryPlugin])
def test_what_is_no_plugin_is_refused_before_anything_is_written(tmp_path, plugin):
    for call in (
        lambda: check_plugin(plugin),
        lambda: save_world(World(), tmp_path / "a", plugin),
        lambda: World().save_with(tmp_path / "a", plugin),
        lambda: World.load_with(tmp_path / "a", plugin),
    ):
        with pytest.raises(PluginNotFoundError, match="expected a PersistencePlugin"):
            call()
    assert os.listdir(tmp_path) == []


def test_a_name_in_place_of_a_plugin_points_to_the_manager():
    with pytest.raises(PluginNotFoundError, match=r"PersistenceManager\(\)\.save_with\(world, path, name\)"):
        World().save_with("a", "json")


@pytest.mark.parametrize("world", [None, 5, World])
def test_what_is_no_world_is_refused(tmp_path, world):
    with pytest.raises(PersistenceError, match="expected a World"):
        save_world(world, tmp_path / "a", BinaryPlugin())
    with pytest.raises(PersistenceError, match="expected a World"):
        save_stream(world, io.BytesIO(), BinaryPlugin())
    assert os.listdir(tmp_path) == []


def test_a_path_is_no_writer(tmp_path):
    with pytest.raises(PersistenceIOError, match="writing to"):
        World().save_binary_stream(str(tmp_path / "a"))


def test_reports_name_paths_as_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("a.pecs", b"a.pecs", tmp_path / "a.pecs"):
        report = World().save(path)
        assert report.path == os.fsdecode(path)
        assert report.bytes == os.path.getsize(path)

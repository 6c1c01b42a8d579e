"""Formats that other packages add: installed packages, as a program finds them."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

EXAMPLE = next((Path(__file__).parents[2] / "examples").glob("??_messagepack_plugin.py"))

METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"


@pytest.fixture
def site(tmp_path):
    """A folder of packages, to which `install` adds one with entry points."""
    folder = tmp_path / "site"
    folder.mkdir()
    shutil.copy(EXAMPLE, folder / "messagepack_for_pecs.py")
    (folder / "wrong_for_pecs.py").write_text(
        "class NoPlugin: pass\ndef fails(): raise ValueError('no licence')\n"
    )
    return folder


def install(site, name, **points):
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA.format(name=name))
    lines = [f"{point} = {value}" for point, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[pecs_np.plugins]", *lines, ""]))


def run(site, code):
    """Run *code* in a program that has the packages of *site*, in an empty folder."""
    folder = site.parent / "work"
    folder.mkdir(exist_ok=True)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    # The root of the repository may be on the path as the empty text.
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([path, root])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_package_adds_a_format_by_an_entry_point(site):
    install(site, "messagepack_for_pecs", messagepack="messagepack_for_pecs:MessagePackPlugin")
    lines = run(
        site,
        """
        import sys
        from pecs_np import PersistenceManager, World, make_component
        from pecs_np.testing import assert_worlds_equal

        manager = PersistenceManager()
        print(manager.list_plugins(), manager.has_plugin("messagepack"), "messagepack_for_pecs" in sys.modules)
        world = World(seed=1)
        world.spawn_batch(make_component("Mass", {"kg": float})(kg=[1, 2]))
        manager.save_with(world, "by name", "messagepack")
        manager.save(world, "by suffix.msgpack")
        manager.save(world, "default.pecs")
        assert open("by name", "rb").read() == open("by suffix.msgpack", "rb").read()
        print(open("by name", "rb").read(21), open("default.pecs", "rb").read(4))
        for back in (
            manager.load_with("by name", "messagepack"),
            PersistenceManager().load_with("by name", "messagepack"),
            PersistenceManager().load("by name"),
            PersistenceManager().load("by suffix.msgpack"),
            PersistenceManager().load("default.pecs"),
        ):
            assert_worlds_equal(world, back)
        print(manager.plugin("messagepack").format_name())
        """,
    )
    assert lines == [
        "['binary', 'json', 'messagepack'] True False",
        r"b'\x94\xb3pecs_np.messagepack' b'PECS'",
        "messagepack",
    ]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("missing_for_pecs:Plugin", "ModuleNotFoundError"),
        ("messagepack_for_pecs:Missing", "AttributeError"),
        ("wrong_for_pecs:fails", "no licence"),
        ("wrong_for_pecs:NoPlugin", "expected a PersistencePlugin"),
        ("wrong_for_pecs:NoPlugin.attribute", "AttributeError"),
    ],
)
def test_a_broken_entry_point_is_named_and_breaks_no_other_format(site, value, reason):
    install(site, "broken_for_pecs", broken=value)
    install(site, "messagepack_for_pecs", messagepack="messagepack_for_pecs:MessagePackPlugin")
    lines = run(
        site,
        """
        from pecs_np import PersistenceManager, PluginNotFoundError, World

        manager = PersistenceManager()
        for call in (
            lambda: manager.save_with(World(), "x", "broken"),
            lambda: manager.load_with("x", "broken"),
            lambda: manager.plugin("broken"),
        ):
            try:
                call()
            except PluginNotFoundError as error:
                print(error)
        manager.save(World(), "a.msgpack")
        manager.save(World(), "a.json")
        manager.save(World(), "a")
        print(*(len(manager.load(path)) for path in ("a.msgpack", "a.json", "a")))
        """,
    )
    assert lines[-1] == "0 0 0"
    assert len(lines) == 4
    for line in lines[:3]:
        assert "'broken'" in line
        assert value.split(":")[0] in line
        assert reason in line


def test_an_entry_point_does_not_take_the_place_of_a_format_of_the_library(site):
    install(site, "greedy_for_pecs", binary="messagepack_for_pecs:MessagePackPlugin")
    lines = run(
        site,
        """
        from pecs_np import PersistenceManager, World

        manager = PersistenceManager()
        manager.save(World(), "a")
        print(open("a", "rb").read(4), manager.list_plugins())
        """,
    )
    assert lines == ["b'PECS' ['binary', 'json']"]

"""Every example runs, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pecs_np import PersistenceError, PersistenceManager, SqliteEntityPlugin, World

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
ADDRESS = "PECS_NP_POSTGRES"


def run(path, **variables):
    environment = {name: value for name, value in os.environ.items() if name != ADDRESS}
    return subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, **variables},
        encoding="utf-8",
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, request):
    variables = {}
    if "postgres" in path.stem:
        variables[ADDRESS] = request.getfixturevalue("postgres").address
    done = run(path, **variables)
    assert done.returncode == 0, done.stderr
    assert "equal" in done.stdout or "the same" in done.stdout


def test_examples_are_numbered_and_say_what_they_show():
    assert [path.name[:3] for path in EXAMPLES] == [f"{i:02}_" for i in range(1, len(EXAMPLES) + 1)]
    for path in EXAMPLES:
        assert path.read_text(encoding="utf-8").startswith('"""')


def test_an_example_without_its_server_says_what_it_needs():
    (path,) = [path for path in EXAMPLES if "postgres" in path.stem]
    done = run(path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"this example needs a PostgreSQL server: set {ADDRESS}")
    away = run(path, **{ADDRESS: "host=127.0.0.1 port=1 connect_timeout=2"})
    assert away.returncode == 1
    assert "PersistenceIOError: PostgreSQL refused" in away.stderr
    assert "start the server" in away.stderr


def test_what_an_auto_save_could_not_save_stays_marked(example, tmp_path):
    auto_save = example("auto_save")
    store = SqliteEntityPlugin(tmp_path / "fleet.db", durable=False)
    manager, world = PersistenceManager(), World()
    manager.register_entity_plugin("fleet", store)
    system = auto_save.AutoSaveSystem(save_interval=30, now=0)
    first, second = world.spawn_batch(auto_save.Ship(x=[1, 2], y=0))
    system.mark_dirty([first, second, first])
    assert system.update(world, manager, now=29) == 0
    system.despawn(world, second)
    store.close()
    with pytest.raises(PersistenceError):
        system.update(world, manager, now=30)
    manager.register_entity_plugin("fleet", SqliteEntityPlugin(tmp_path / "fleet.db"))
    assert system.update(world, manager, now=31) == 1
    assert manager.entity_exists(world.get_stable_id(first))
    assert system.update(world, manager, now=70) == 0
    manager.entity_plugin("fleet").close()

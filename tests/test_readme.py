"""README is true: its snippets run in the order they stand, its marked commands are there once."""

import re
import tomllib
from pathlib import Path

import pytest

import pecs_np
from pecs_np.persistence.formats import GROUP

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def namespace(tmp_path, monkeypatch):
    """What the snippets have defined when the last one is over; they run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    yield names
    for value in names.values():
        if isinstance(value, type) and issubclass(value, pecs_np.Component):
            pecs_np.unregister(pecs_np.component_type(value).name)


def run(snippets, namespace):
    for snippet in snippets:
        # One piece with line numbers of README, so that a failure says where.
        line = README[: README.index(snippet)].count("\n")
        exec(compile("\n" * line + snippet, "README.md", "exec"), namespace)


# What README calls the addresses of servers.
REDIS, POSTGRES = "redis://localhost:6379/0", "host=localhost user=postgres password=secret"


def test_snippets_run(namespace, tmp_path, capsys):
    snippets = [s for s in blocks("python") if REDIS not in s and POSTGRES not in s]
    assert len(snippets) >= 20
    run(snippets, namespace)
    assert (tmp_path / "world.pecs").exists()
    # What comments promise of the output.
    output = capsys.readouterr().out
    for promise in ('expected a number, found "seven" at entities[', "world 1 → 2: MassIsWeight", " of "):
        assert promise in README
        assert promise in output


@pytest.fixture
def own_databases(redis_server, postgres):
    """The addresses of databases that no other test uses, by those that README names."""
    import psycopg

    with psycopg.connect(postgres.address, autocommit=True) as connection:
        connection.execute("CREATE DATABASE readme")
    yield {REDIS: redis_server.address.replace("/0", "/9"), POSTGRES: f"{postgres.address} dbname=readme"}
    with psycopg.connect(postgres.address, autocommit=True) as connection:
        connection.execute("DROP DATABASE readme")


@pytest.mark.parametrize(("address", "options"), [(REDIS, {"prefix": "game"}), (POSTGRES, {})])
def test_snippets_with_servers_run(address, options, namespace, own_databases):
    (snippet,) = [s for s in blocks("python") if address in s]
    made = next(s for s in blocks("python") if "town = World()" in s)
    exec("import numpy as np\nfrom pecs_np import EntityRef, World, component", namespace)
    run([made], namespace)
    exec(snippet.replace(address, own_databases[address]), namespace)
    with type(namespace["store"])(own_databases[address], **options) as again:
        assert len(again) == 2
        again.clear()


def test_its_format_passes_the_contract_that_it_names(namespace, tmp_path):
    snippets = [s for s in blocks("python") if "class MessagePackPlugin" in s or "PluginContract" in s]
    (definition, suite) = snippets
    run([definition[: definition.index("world.save_with")]], namespace)
    exec(suite, namespace)
    tests = namespace["TestMessagePackPlugin"]
    names = [name for name in dir(tests) if name.startswith("test_")]
    assert len(names) > 20
    skipped = 0
    for name in names:
        (folder := tmp_path / name).mkdir()
        test = tests()
        test.setup_method()
        try:
            getattr(test, name)(folder)
        except pytest.skip.Exception:
            skipped += 1
        finally:
            test.teardown_method()
    assert skipped < 3


def test_entry_points_are_in_the_group_that_is_read():
    (text,) = blocks("toml")
    assert list(tomllib.loads(text)["project"]["entry-points"]) == [GROUP]


def test_commands_are_marked():
    for mark in ("run", "test"):
        found = re.findall(rf"^<!-- {mark} -->\n```sh\n(.+)\n```$", README, re.MULTILINE)
        assert len(found) == 1
        assert "venv" in found[0]


def test_names_exist():
    names = set(re.findall(r"`([A-Z][a-z]+[A-Za-z]*|make_component)\b", README))
    assert {"JsonPlugin", "StructuralChangeError", "Limits", "make_component"} <= names
    assert names <= {*pecs_np.__all__, "Annotated", "Philox"}


def test_files_that_it_names_exist():
    for path in re.findall(r"`((?:examples|pecs_np)/[a-z0-9_/]+\.py)`", README):
        assert (Path(__file__).parents[1] / path).exists(), path

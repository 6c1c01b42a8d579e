"""Every example runs, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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

"""Every example runs, as a user runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path):
    run = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "equal" in run.stdout or "the same" in run.stdout


def test_there_are_examples():
    assert [path.name[:3] for path in EXAMPLES[:2]] == ["01_", "02_"]

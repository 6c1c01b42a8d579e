"""README is true: its snippets run in the order they stand, its marked commands are there once."""

import re
from pathlib import Path

import pecs_np

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_snippets_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    snippets = blocks("python")
    assert len(snippets) >= 8
    namespace = {"__name__": "readme"}
    for snippet in snippets:
        # One piece with line numbers of README, so that a failure says where.
        line = README[: README.index(snippet)].count("\n")
        exec(compile("\n" * line + snippet, "README.md", "exec"), namespace)
    for name in ("Position", "Velocity", "Drone", "Clock"):
        pecs_np.unregister(name)
    assert (tmp_path / "world.pecs").exists()


def test_commands_are_marked():
    for mark in ("run", "test"):
        found = re.findall(rf"^<!-- {mark} -->\n```sh\n(.+)\n```$", README, re.MULTILINE)
        assert len(found) == 1
        assert "venv" in found[0]


def test_names_exist():
    for name in re.findall(r"`(World|BinaryPlugin|make_component|StructuralChangeError)\b", README):
        assert name in pecs_np.__all__

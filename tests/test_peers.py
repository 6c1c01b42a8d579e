"""The comparison with other ways to do it: its table, its figures, and what it refuses."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
KEYS = ["pecs_np", "pecs_np-durable", "savez", "npy", "pickle"]
TITLES = {"pecs_np", "pecs_np, durable", "np.savez", "np.save, structured", "pickle 5 of arrays"}


@pytest.fixture
def peers(monkeypatch):
    """Import one of its modules by name."""
    monkeypatch.syspath_prepend(ROOT)
    return lambda name: importlib.import_module(f"asv_benchmarks.peers.{name}")


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "asv_benchmarks.peers", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A run of all peers that need no further package: its output and its figures."""
    folder = tmp_path_factory.mktemp("peers")
    figures, readme = folder / "figures.json", folder / "README.md"
    readme.write_text("before\n<!-- peers -->\nold\n<!-- /peers -->\nafter\n")
    done = command(
        *("--sizes", 1000, "--rounds", 1, "--peers", *KEYS, "--json", figures),
        *("--readme", readme, "--chart", folder / "chart.svg"),
    )
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(
        table=done.stdout, figures=figures, raw=json.loads(figures.read_text()), readme=readme
    )


def rows(table):
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return {row[0].strip("*"): row[1:] for row in cells if row[0] != "holds"}


def test_the_table_has_a_row_for_each_peer_ours_first(measured):
    found = rows(measured.table)
    assert set(found) == TITLES
    assert list(found)[:2] == ["pecs_np", "pecs_np, durable"]
    for row in found.values():
        times, (size, *memory) = row[1:5], row[5:]
        assert all(re.fullmatch(r"[\d,.]+ \([\d,.]+\)", cell) for cell in times)
        assert 0.016 <= float(size) <= 0.02
        assert len(memory) == 2
    assert "1,000 entities" in measured.table
    assert measured.raw["date"] in measured.table
    assert f"NumPy {np.__version__}" in measured.table


def test_the_figures_hold_every_round_of_every_verb(measured):
    results = measured.raw["results"]
    assert [result["peer"] for result in results] == KEYS
    for result in results:
        assert result["n"] == 1000
        assert set(result["seconds"]) == {"create", "step", "save", "load"}
        assert all(len(all_) == 1 and all_[0] > 0 for all_ in result["seconds"].values())
        assert result["bytes"] >= 16_000
    assert measured.raw["missing"] == measured.raw["failed"] == []


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells peaks")
def test_peaks_of_memory_cover_what_a_part_adds(peers):
    (npy,) = (peer for peer in peers("catalog").PEERS if peer.module == "npy")
    n = 1_000_000
    found = peers("measure").one(npy, n, 1)["memory"]
    world = 16 * n
    assert world * 0.9 < found["peak"] < world * 2
    assert 0 <= found["saving"] < world / 2
    assert world * 0.9 < found["load peak"] < world * 1.5
    assert 0 <= found["loading"] < world / 2


def test_figures_that_were_kept_give_the_same_table(measured, tmp_path):
    done = command("--from-json", measured.figures, "--chart", tmp_path / "chart.svg")
    assert done.returncode == 0
    assert done.stdout == measured.table


def test_the_table_goes_between_the_marks(measured):
    text = measured.readme.read_text(encoding="utf-8")
    assert text == f"before\n<!-- peers -->\n{measured.table}<!-- /peers -->\nafter\n"


@pytest.mark.parametrize(
    "text", ["", "<!-- peers -->", "<!-- /peers --><!-- peers -->", "<!-- peers --><!-- /peers -->" * 2]
)
def test_a_text_without_marks_is_refused_and_stays(measured, tmp_path, text):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    done = command("--from-json", measured.figures, "--readme", readme, "--chart", tmp_path / "chart.svg")
    assert done.returncode == 1
    assert "expected one <!-- peers -->" in done.stderr
    assert readme.read_text() == text


def test_a_missing_package_is_reported_with_how_to_install_it(peers):
    catalog, measure, table = peers("catalog"), peers("measure"), peers("table")
    absent = catalog.Peer("x", "x", "X + pickle", "entities", ("numpy", "pecs-no-such"), "pecs-no-such")
    raw = measure.run([absent], [1000], 1)
    assert raw["results"] == raw["failed"] == []
    (missing,) = raw["missing"]
    assert missing["lacks"] == ["pecs-no-such"]
    assert (
        "Not measured: X + pickle, as pecs-no-such is not installed (`pip install pecs-no-such`)."
        in table.markdown(raw)
    )


def test_a_peer_that_fails_is_a_row_that_says_so(peers):
    catalog, measure, table = peers("catalog"), peers("measure"), peers("table")
    broken = catalog.Peer("x", "no_such_module", "X | Y", "entities", ("numpy",), "numpy")
    raw = measure.run([broken], [1000], 1)
    (failed,) = raw["failed"]
    assert "no_such_module" in failed["error"]
    assert "failed: ModuleNotFoundError" in table.markdown(raw)


def test_figures_with_a_failure_stay_out_of_a_readme(measured, tmp_path):
    raw = {**measured.raw, "failed": [{"title": "X + Y", "holds": "arrays", "n": 1000, "error": "no"}]}
    figures, readme = tmp_path / "figures.json", tmp_path / "README.md"
    figures.write_text(json.dumps(raw))
    readme.write_text("<!-- peers --><!-- /peers -->")
    done = command("--from-json", figures, "--readme", readme, "--chart", tmp_path / "chart.svg")
    assert done.returncode == 1
    assert "failed: X + Y" in done.stderr
    assert readme.read_text() == "<!-- peers --><!-- /peers -->"


def losing(arrays, part):
    """A peer that keeps arrays, and loses something in *part* of its work."""

    def load(path):
        with np.load(path) as archive:
            world = dict(archive)
        if part == "load":
            world["velocity"][-1, 1] += 1
        elif part == "rows":
            world = {name: array[:-1] for name, array in world.items()}
        return world

    def save(world, path):
        with open(path, "wb") as file:
            np.savez(file, **world)

    step = arrays.step if part != "step" else lambda world: world
    return SimpleNamespace(create=arrays.create, step=step, save=save, load=load, columns=arrays.columns)


@pytest.mark.parametrize(
    ("part", "message"), [("load", "loaded others"), ("rows", "loaded others"), ("step", "2 steps")]
)
def test_a_peer_that_loses_data_is_an_error(peers, tmp_path, part, message):
    child, arrays = peers("child"), peers("worlds.arrays")
    assert child.timed(losing(arrays, "nothing"), 100, 2, tmp_path / "world")["bytes"] > 1600
    with pytest.raises(child.DataLossError, match=message):
        child.timed(losing(arrays, part), 100, 1, tmp_path / "world")


def test_order_counts_unless_a_peer_has_none(peers):
    child = peers("child")
    saved = child.given(50)
    child.check_loaded(SimpleNamespace(UNORDERED=True), saved[:, ::-1], saved)
    with pytest.raises(child.DataLossError):
        child.check_loaded(SimpleNamespace(), saved[:, ::-1], saved)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00123456, "0.00123"),
        (9.996, "10.0"),
        (12.34, "12.3"),
        (999.6, "1,000"),
        (123456, "123,000"),
    ],
)
def test_numbers_have_three_digits(peers, value, text):
    assert peers("table").three_digits(value) == text


def test_every_peer_has_a_module_and_a_key_of_its_own(peers):
    catalog = peers("catalog").PEERS
    assert len({peer.key for peer in catalog}) == len({peer.title for peer in catalog}) == len(catalog) == 13
    for peer in catalog:
        assert (ROOT / "asv_benchmarks" / "peers" / "worlds" / f"{peer.module}.py").exists()


def test_an_unknown_peer_and_a_size_of_nothing_are_refused():
    assert "invalid choice: 'flecs'" in command("--peers", "flecs").stderr
    assert "expected at least 1, found 0" in command("--sizes", 0).stderr


def test_the_chart_names_the_peers_and_is_the_same_each_time(measured, peers, tmp_path):
    pytest.importorskip("matplotlib")
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    for path in (first, second):
        peers("chart").draw(measured.raw, path)
    text = first.read_text(encoding="utf-8")
    assert first.read_bytes() == second.read_bytes()
    assert all(f">{title}<" in text for title in TITLES | {"create", "step", "save", "load"})
    assert "dc:date" not in text

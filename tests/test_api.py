"""The public surface, and the floors of the package: imports point down only."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import pecs_np

ROOT = Path(pecs_np.__file__).parent
MODULES = sorted(m.name for m in pkgutil.walk_packages(pecs_np.__path__, "pecs_np."))

# From the ground up; a module imports modules of lower floors, or those before it on its own floor.
FLOORS = [
    ["version", "messages", "errors"],
    [
        "ecs.arrays",
        "ecs.ids",
        "ecs.id_lookup",
        "ecs.dtypes",
        "ecs.portable",
        "ecs.references",
        "ecs.values",
        "ecs.comparison",
        "ecs.entities",
        "ecs.stable_index",
        "ecs.awaited",
        "ecs.registry",
        "ecs.fields",
        "ecs.components",
        "ecs.definition",
        "ecs.tables",
        "ecs.snapshot",
        "ecs.changes",
        "ecs.difference",
        "ecs.storage",
        "ecs.single",
        "ecs.bundles",
        "ecs.queries",
        "ecs.commands",
        "ecs.resources",
        "ecs.restore",
        "ecs.validation",
        "ecs.world",
        "ecs.tracking",
        "ecs.applying",
    ],
    [
        "persistence.limits",
        "persistence.consistency",
        "persistence.checksum",
        "persistence.compression",
        "persistence.disk",
        "persistence.input_files",
        "persistence.files",
        "persistence.filters",
        "persistence.variable",
        "persistence.world_document",
        "persistence.resolving",
        "persistence.reporting",
        "persistence.drafts",
        "persistence.migrations",
        "persistence.plugins",
        "persistence.binary.blocks",
        "persistence.binary.sources",
        "persistence.binary.header",
        "persistence.binary.framing",
        "persistence.binary.schema",
        "persistence.binary.sections",
        "persistence.binary.shapes",
        "persistence.binary.columns",
        "persistence.binary.id_runs",
        "persistence.binary.section_writer",
        "persistence.binary.column_writer",
        "persistence.binary.column_reader",
        "persistence.binary.delta_rules",
        "persistence.binary.delta_writer",
        "persistence.binary.delta_reader",
        "persistence.binary.record_writer",
        "persistence.binary.pieces",
        "persistence.binary.records",
        "persistence.binary.record_reader",
        "persistence.binary.content",
        "persistence.binary.plugin",
        "persistence.binary.save",
        "persistence.json.decimals",
        "persistence.json.tokens",
        "persistence.json.runs",
        "persistence.json.templates",
        "persistence.json.writer",
        "persistence.json.values",
        "persistence.json.document_types",
        "persistence.json.documents",
        "persistence.json.grid",
        "persistence.json.entities",
        "persistence.json.members",
        "persistence.json.scanning",
        "persistence.json.reader",
        "persistence.json.plugin",
        "persistence.packed",
        "persistence.named",
        "persistence.entity_plugins",
        "persistence.delta_plugins",
        "persistence.stores.records",
        "persistence.stores.store",
        "persistence.stores.memory",
        "persistence.stores.server",
        "persistence.stores.redis_talk",
        "persistence.stores.redis_batches",
        "persistence.stores.redis",
        "persistence.stores.postgres_wire",
        "persistence.stores.postgres",
        "persistence.stores.file_store",
        "persistence.stores.sqlite_errors",
        "persistence.stores.sqlite_changes",
        "persistence.stores.sqlite",
        "persistence.stores.lmdb_environment",
        "persistence.stores.lmdb",
        "persistence.saving",
        "persistence.loading",
        "persistence.log.framing",
        "persistence.log.reading",
        "persistence.log.writing",
        "persistence.log.moments",
        "persistence.log.records",
        "persistence.log.base",
        "persistence.log.compaction",
        "persistence.log.salvage",
        "persistence.log.following",
        "persistence.log.stream",
        "persistence.log.log",
        "persistence.formats",
        "persistence.deltas",
        "persistence.entity_manager",
        "persistence.manager",
    ],
    [
        "world",
        "testing.comparison",
        "testing.samples",
        "testing.harness",
        "testing.round_trips",
        "testing.behaviour",
        "testing.failures",
        "testing.plugin_contract",
        "testing.store_harness",
        "testing.store_round_trips",
        "testing.store_batches",
        "testing.store_behaviour",
        "testing.store_contract",
    ],
]
PACKAGES = (
    "ecs",
    "persistence",
    "persistence.binary",
    "persistence.json",
    "persistence.stores",
    "persistence.log",
    "testing",
)
ORDER = {f"pecs_np.{name}": i for i, name in enumerate(name for floor in FLOORS for name in floor)}


def imported(module: str) -> set[str]:
    """Return the modules of the package that *module* imports when it runs."""
    tree = ast.parse((ROOT.parent / (module.replace(".", "/") + ".py")).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pecs_np"):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & set(MODULES)) or {node.module}
    return found


def test_every_module_has_its_floor():
    packages = {f"pecs_np.{name}" for name in PACKAGES}
    assert set(MODULES) - packages == set(ORDER)


@pytest.mark.parametrize("module", sorted(ORDER))
def test_imports_point_down(module):
    upwards = {name for name in imported(module) if ORDER.get(name, -1) >= ORDER[module]}
    assert not upwards


@pytest.mark.parametrize("module", ["pecs_np", *MODULES])
def test_all_is_complete(module):
    namespace = importlib.import_module(module)
    assert namespace.__doc__
    if module in (
        "pecs_np.ecs",
        "pecs_np.persistence.binary",
        "pecs_np.persistence.stores",
        "pecs_np.persistence.json",
        "pecs_np.persistence.log",
    ):
        return
    public = set(namespace.__all__)
    assert len(public) == len(namespace.__all__)
    assert all(hasattr(namespace, name) for name in public)
    own = {
        name
        for name, value in vars(namespace).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module
    }
    missing = {
        n
        for n in own - public
        if inspect.isclass(vars(namespace)[n]) or inspect.isfunction(vars(namespace)[n])
    }
    used_elsewhere = {n for n in missing for m in MODULES if m != module and f"import {n}" in source(m)}
    assert not used_elsewhere


def source(module: str) -> str:
    path = ROOT.parent / module.replace(".", "/")
    return (path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py").read_text()


def test_root_exports_what_it_imports():
    names = {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(source("pecs_np")))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("pecs_np.")
        for alias in node.names
    }
    assert names == set(pecs_np.__all__)


@pytest.mark.parametrize("module", [pecs_np, pecs_np.persistence])
def test_stores_and_logs_are_there_when_they_are_asked_for(module):
    code = f"import {module.__name__} as m, sys; print([n for n in sys.modules if '.stores.' in n or '.log.' in n])"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"
    for name in module.__all__:
        assert getattr(module, name) is getattr(module, name)
        assert name in dir(module)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        module.Nothing


def test_import_brings_in_no_extras():
    extras = [
        "pandas",
        "lz4",
        "backports",
        "compression",
        "concurrent.futures",
        "lmdb",
        "redis",
        "psycopg",
        "hypothesis",
        "numpy.random",
        "crc64iso",
    ]
    code = f"import sys, pecs_np; print([m for m in {extras} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"

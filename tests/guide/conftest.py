"""Each test of the guide runs as a program of its own: in an empty folder, with its module's components."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from pecs_np import Component, component_type
from pecs_np.ecs import registry


def pytest_collection_finish(session):
    """Forget the components that the guide's modules define: their names are those of many a program."""
    modules = {item.module for item in session.items if item.path.parent == Path(__file__).parent}
    for module in modules:
        for cls in components_of(module):
            registry.unregister(component_type(cls).name)


def components_of(module):
    """Return the component classes among a module's names."""
    values = vars(module).values()
    return [v for v in values if isinstance(v, type) and issubclass(v, Component) and v is not Component]


@pytest.fixture(autouse=True)
def program(request, tmp_path, monkeypatch):
    """An empty folder to work in, and a process that has defined what the module has and nothing else."""
    monkeypatch.chdir(tmp_path)
    saved = [(known, dict(known)) for known in (registry._registry, registry._migrations)]
    for known, _ in saved:
        known.clear()
    for cls in components_of(request.module):
        registry.register(component_type(cls).name, cls)
    yield
    for known, before in saved:
        known.clear()
        known.update(before)
    registry._registry.version += 1


@pytest.fixture(scope="session")
def guide():
    """The list of the guide's code blocks."""
    name = "pecs_guide_blocks"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("blocks.py"))
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]

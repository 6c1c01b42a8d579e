"""Fixtures for all tests: the reference format, and components that are forgotten when a test ends."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pecs_np import make_component, unregister

# A slow machine is no failure; and what CI refuses, it refuses again.
settings.register_profile(
    "any machine",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("any machine")


def pytest_collection_finish():
    """Leave the ten thousand tests to themselves: a collection that looks through all of them takes a second."""
    gc.freeze()


def _load(name, path=None):
    path = path or Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"pecs_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def reference():
    """The independent reader and writer of the binary format."""
    return sys.modules.get("pecs_reference_format") or _load("reference_format")


@pytest.fixture(scope="session")
def records():
    """The independent reader and writer of version 1 of the binary format."""
    return sys.modules.get("pecs_reference_records") or _load("reference_records")


@pytest.fixture(scope="session")
def example():
    """Gives an example as a module, by its name without the number."""

    def module(name):
        (path,) = Path(__file__).parents[1].glob(f"examples/??_{name}.py")
        return sys.modules.get(f"pecs_example_{name}") or _load(f"example_{name}", path)

    return module


@pytest.fixture(scope="session")
def story():
    """A world, what happens to it, and what it is after each step: for logs to tell."""
    return (sys.modules.get("pecs_log_story") or _load("log_story")).make_story()


@pytest.fixture(scope="session")
def servers():
    """The module that starts servers."""
    return sys.modules.get("pecs_servers") or _load("servers")


@pytest.fixture(scope="session")
def postgres(servers):
    """A PostgreSQL server that runs; its ``.address`` is what libpq takes."""
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(servers):
    """A Redis server that runs; its ``.address`` is a URL."""
    with servers.redis() as server:
        yield server


@pytest.fixture
def define():
    """`make_component`, whose components the process forgets when the test ends."""
    names = []

    def make(name, annotations, **options):
        names.append(name)
        return make_component(name, annotations, **options)

    yield make
    for name in names:
        unregister(name)


@pytest.fixture(scope="session")
def deltas():
    """Worlds that change, for deltas to tell of."""
    return sys.modules.get("pecs_delta_worlds") or _load("delta_worlds")

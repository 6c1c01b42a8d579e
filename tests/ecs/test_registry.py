"""The registry: classes by name, and a version for what is worked out from it."""

import pytest

from pecs_np import make_component, registered, unregister
from pecs_np.ecs.registry import register, registry_version


@pytest.fixture
def cls():
    yield make_component("registry.A", {"x": int})
    unregister("registry.A")


def test_a_class_is_known_by_its_name_until_it_is_forgotten(cls):
    assert registered("registry.A") is cls
    unregister("registry.A")
    assert registered("registry.A") is None


def test_forgetting_what_is_unknown_does_nothing():
    unregister("registry.unknown")
    assert registered("registry.unknown") is None


def test_every_change_gives_another_version(cls):
    versions = [registry_version()]
    unregister("registry.A")
    versions.append(registry_version())
    register("registry.A", cls)
    versions.append(registry_version())
    assert len(set(versions)) == 3

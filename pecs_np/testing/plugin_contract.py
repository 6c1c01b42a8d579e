"""`PluginContract`: the test suite that every save format passes."""

from __future__ import annotations

from pecs_np.testing.behaviour import Behaviour
from pecs_np.testing.failures import Failures
from pecs_np.testing.round_trips import RoundTrips

__all__ = ["PluginContract"]


class PluginContract(RoundTrips, Behaviour, Failures):
    """What every `PersistencePlugin` keeps to, as a class of tests for pytest to run on yours.

    Write a class in a test module that makes the plugin; pytest finds the tests that it inherits::

        class TestMyPlugin(PluginContract):
            def make_plugin(self, tmp_path):
                return MyPlugin()

    Each test has one rule of the contract as its docstring, and fails with what was expected and what was
    found. A plugin that keeps its saves elsewhere than in files overrides ``make_path`` too, unless any
    text names a save.

    A format may promise less: set an attribute below to False, or better to a text that says why, which
    pytest shows for the tests that are then skipped, or ask for less.

    Attributes
    ----------
    holds_resources : bool or str
        Resources are saved.
    holds_world_data : bool or str
        What concerns the world as a whole is saved: its version, its metadata, its generators, and
        where the stable ids of a seeded world go on.
    describes_types : bool or str
        A save can be read where its components are not defined, or are defined in a later version.
    deterministic : bool or str
        Equal worlds give equal bytes.
    detects_damage : bool or str
        A save of which any byte is wrong is refused. Otherwise it may load, as a sound world.
    detects_cuts : bool or str
        A save that ends early is refused. Otherwise it may load, as a sound world.

    Examples
    --------
    >>> from pecs_np import BinaryPlugin
    >>> class TestRecords(PluginContract):
    ...     holds_resources = "version 1 holds entities and components"
    ...
    ...     def make_plugin(self, tmp_path):
    ...         return BinaryPlugin(version=1)
    """

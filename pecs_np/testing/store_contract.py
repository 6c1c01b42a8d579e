"""`EntityStoreContract`: the test suite that every entity store passes."""

from __future__ import annotations

from pecs_np.testing.store_batches import StoreBatches
from pecs_np.testing.store_behaviour import StoreBehaviour
from pecs_np.testing.store_round_trips import StoreRoundTrips

__all__ = ["EntityStoreContract"]


class EntityStoreContract(StoreRoundTrips, StoreBatches, StoreBehaviour):
    """What every `EntityPersistencePlugin` keeps to, as a class of tests for pytest to run on yours.

    Write a class in a test module that makes the store; pytest finds the tests that it inherits::

        class TestMyStore(EntityStoreContract):
            def make_store(self, tmp_path, **options):
                return MyStore(tmp_path / "entities.db", **options)

    Each test has one rule of the contract as its docstring, and fails with what was expected and what was
    found. Each has a *tmp_path* of its own, whose store is new and empty; a store on a server can make a name
    from it. Stores are closed when the test ends.

    The options are those of `EntityStore`, ``filter`` and ``unknown``: where ``make_store`` does not take
    them, tests of them are skipped. Called again with the same *tmp_path*, ``make_store`` opens what is there;
    override ``reopen`` if that takes another call.

    A store may promise less: set an attribute below to False, or better to a text that says why, which
    pytest shows for the tests that are then skipped, or ask for less.

    Attributes
    ----------
    persistent : bool or str
        What was saved is there for a store object that is opened after this one was closed.
    shared : bool or str
        Two store objects may be open on one place at once.
    atomic : bool or str
        Batches are saved, loaded and deleted all or nothing, and seen whole by others.
    lists_entities : bool or str
        The store counts and lists its entities, and can be cleared.
    keeps_references : bool or str
        References are saved as stable ids, and wait for entities that are not loaded. Otherwise they may be null.
    describes_types : bool or str
        Entities can be loaded where their components are not defined, or are defined in a later version.
    serves_threads : bool or str
        Several threads may use one store object at once.
    many : int
        How many entities a large batch has: 10,000, unless the store takes too long for that.

    Examples
    --------
    >>> from pecs_np import KeyValueEntityPlugin
    >>> class TestMemory(EntityStoreContract):
    ...     persistent = shared = "a dict of the object's own"
    ...
    ...     def make_store(self, tmp_path, **options):
    ...         return KeyValueEntityPlugin(**options)
    """

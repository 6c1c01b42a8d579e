"""The contract catches entity stores that are wrong: each of these by the check that is for it, and says how."""

import contextlib
import threading

import numpy as np
import pytest

from pecs_np import (
    EntityNotFoundError,
    KeyValueEntityPlugin,
    PecsError,
    PersistenceError,
    World,
)
from pecs_np.ecs.entities import as_stable_ids
from pecs_np.persistence.stores.records import key_of
from pecs_np.testing import EntityStoreContract


class Right(KeyValueEntityPlugin):
    """Two of these on one place share what is saved; those below each do one thing wrong."""

    def __init__(self, place, **options):
        super().__init__(**options)
        self._records, self._documents = place.setdefault("all", ({}, {}))


class KeepsTheFirst(Right):
    def write(self, batch):
        known = dict(self._records)
        super().write(batch)
        self._records.update(known)


class ShortKeys(Right):
    def read(self, keys):
        return super().read([bytes(8) + key[8:] for key in keys])

    def write(self, batch):
        super().write(batch)
        for key in [key for key in self._records if any(key[:8])]:
            self._records[bytes(8) + key[8:]] = self._records.pop(key)


class SavesOneByOne(Right):
    def save_entities(self, world, entities):
        for entity in np.asarray(entities).tolist():
            super().save_entities(world, [entity])


class SavesByTable(Right):
    def write(self, batch):
        for records in batch:
            super().write([records])
            if len(batch) > 1:
                threading.Event().wait(0.001)

    @property
    def _lock(self):
        return contextlib.nullcontext()

    @_lock.setter
    def _lock(self, lock):
        pass

    def read(self, keys):
        found = []
        for start in range(0, len(keys), 4):
            found += super().read(keys[start : start + 4])
            threading.Event().wait(0.0001)
        return found


class SortsResults(Right):
    def load_entities(self, world, stable_ids, **options):
        return np.sort(super().load_entities(world, stable_ids, **options))


class ReturnsList(Right):
    def load_entities(self, world, stable_ids, **options):
        return super().load_entities(world, stable_ids, **options).tolist()


class LeavesOutZeros(Right):
    def load_entities(self, world, stable_ids, **options):
        ids = super().load_entities(world, stable_ids, **options)
        return ids[ids != 0]


class IgnoresMissing(Right):
    def load_entities(self, world, stable_ids, missing="skip"):
        return super().load_entities(world, stable_ids, missing="skip")


class LoadsBeforeItLooks(Right):
    def load_entities(self, world, stable_ids, missing="error"):
        ids = super().load_entities(world, stable_ids, missing="skip")
        if missing == "error" and not ids.all():
            raise EntityNotFoundError("expected others, found none")
        return super().load_entities(world, stable_ids, missing=missing)


class SaysNothing(Right):
    def load_entity(self, world, stable_id):
        try:
            return super().load_entity(world, stable_id)
        except EntityNotFoundError:
            raise EntityNotFoundError("not found") from None


class RaisesKeyError(Right):
    def load_entity(self, world, stable_id):
        try:
            return super().load_entity(world, stable_id)
        except EntityNotFoundError:
            raise KeyError(stable_id) from None


class DeletesWithoutAWord(Right):
    def delete_entities(self, stable_ids):
        with contextlib.suppress(EntityNotFoundError):
            super().delete_entities(stable_ids)


class DeletesOneByOne(Right):
    def delete_entities(self, stable_ids):
        for record in as_stable_ids(stable_ids)[:1]:
            super().delete_entities([record])
        super().delete_entities(stable_ids[1:])


class DeletesNothing(Right):
    def delete_entities(self, stable_ids):
        pass


class Unsorted(Right):
    def list_entities(self):
        return super().list_entities()[::-1]


class NeverCleared(Right):
    def clear(self):
        pass


class CountsSaves(Right):
    saves = 0

    def write(self, batch):
        super().write(batch)
        self.saves += sum(len(records.stable_ids) for records in batch)

    def count(self):
        return self.saves


class ForgetsReferences(Right):
    def load_entities(self, world, stable_ids, **options):
        ids = super().load_entities(world, stable_ids, **options)
        for type_ in world.snapshot().types:
            for column in world.columns(type_.name):
                if "about" in column.dtype.names:
                    column["about"][~world.is_alive(column["about"])] = 0
        return ids


class ReplacesEntities(Right):
    def load_entities(self, world, stable_ids, **options):
        here = world.get_entity_id(as_stable_ids(stable_ids))
        world.despawn(np.unique(here[here != 0]))
        return super().load_entities(world, stable_ids, **options)


class MergesComponents(Right):
    def load_entities(self, world, stable_ids, **options):
        other = World()
        super().load_entities(other, stable_ids, **options)
        for table in other.snapshot().tables:
            for record in table.stable_ids.array():
                if world.get_entity_id(record) is None:
                    world.spawn_with_stable_id(record)
            here = world.get_entity_id(table.stable_ids.array())
            for type_ in table.types:
                world.insert(here, other.get(table.entities.array(), type_.name))
        return world.get_entity_id(as_stable_ids(stable_ids))


class SavesLater(Right):
    def save_entities(self, world, entities):
        super().save_entities(world, entities)
        self.later = [*getattr(self, "later", []), (world, np.array(entities, np.uint64))]

    def read(self, keys):
        for world, entities in getattr(self, "later", []):
            with contextlib.suppress(PecsError):
                super().save_entities(world, entities)
        return super().read(keys)


class SavesTransient(Right):
    def save_entities(self, world, entities):
        for type_ in world.snapshot().types:
            if type_.transient:
                world.remove(world.entities(), type_.name)
        super().save_entities(world, entities)


class IgnoresFilters(Right):
    def __init__(self, place, **options):
        super().__init__(place, **{**options, "filter": None})


class FilterForgets(Right):
    def save_entities(self, world, entities):
        keys = [key_of(world.get_stable_id(e)) for e in np.asarray(entities).tolist()]
        super().remove(keys)
        super().save_entities(world, entities)


class ForgetsLayouts(Right):
    def __init__(self, place, **options):
        super().__init__(place, **options)
        self._documents = {}


class ForgetsAll(Right):
    def __init__(self, place, **options):
        super().__init__({}, **options)


class Caches(Right):
    def read(self, keys):
        cache = self.__dict__.setdefault("cache", {})
        return [cache.setdefault(key, record) for key, record in zip(keys, super().read(keys), strict=True)]


class ClosesBadly(Right):
    def close(self):
        del self._records


class ClosesOnce(Right):
    open = True

    def close(self):
        if not self.open:
            raise PersistenceError("expected an open store, found a closed one")
        self.open = False


class PicklesNothing(Right):
    def __reduce__(self):
        return KeyValueEntityPlugin, ()


class DropsUnknown(Right):
    def __init__(self, place, *, unknown="drop", **options):
        super().__init__(place, unknown="drop", **options)


class Nameless(Right):
    def backend_name(self):
        return ""


class TextVersion(Right):
    def backend_version(self):
        return "1"


BROKEN = [
    (KeepsTheFirst, "test_saving_again_replaces", "two entities were saved again is not what it was"),
    (
        ShortKeys,
        "test_stable_ids",
        "expected the value 0 under 0x10000000000000000, found|is not what it was",
    ),
    (SavesOneByOne, "test_batches_are_saved_all_or_nothing", "left 2 of its entities in the store"),
    (SavesOneByOne, "test_values_that_cannot_be_saved", "entities were saved beside a bool byte of 2"),
    (SavesByTable, "test_batches_are_seen_whole", "expected the values of one batch, found those of"),
    (SortsResults, "test_the_order_asked_for", "expected the entities in the order asked for"),
    (ReturnsList, "test_all_at_once", "entity ids as an array of uint64"),
    (LeavesOutZeros, "test_those_not_saved_can_be_skipped", "expected .* 0 for who was not saved"),
    (IgnoresMissing, "test_batches_of_which_some_were_not_saved", "raised nothing, expected EntityNotFound"),
    (LoadsBeforeItLooks, "test_batches_of_which_some_were_not_saved", "the world, after a load of a batch"),
    (SaysNothing, "test_loading_what_was_not_saved", "expected 3039 in: not found"),
    (RaisesKeyError, "test_loading_what_was_not_saved", "raised KeyError, expected EntityNotFoundError"),
    (DeletesWithoutAWord, "test_deleting_what_was_not_saved", "raised nothing, expected EntityNotFoundError"),
    (DeletesOneByOne, "test_deleting_what_was_not_saved", r"expected nothing to be deleted, .*\[False, True"),
    (DeletesNothing, "test_delete", "a load of what was deleted raised nothing"),
    (DeletesNothing, "test_exists", r"found \[False, True, True, True\]"),
    (Unsorted, "test_listing", "in rising order, found"),
    (NeverCleared, "test_clear", "after clear, found"),
    (CountsSaves, "test_saving_again_counts_once", "expected 3 entities, found 6"),
    (ForgetsReferences, "test_keeps_references_for_who_is_not_loaded", "of who is not loaded, found None"),
    (ForgetsReferences, "test_references_come_in_any_order", "entities came in parts is not what it was"),
    (ReplacesEntities, "test_loading_updates_who_is_there", "that they had, found"),
    (ReplacesEntities, "test_transient_components_stay", "a transient component was lost"),
    (MergesComponents, "test_loading_updates_who_is_there", "sets of component types"),
    (SavesLater, "test_what_is_saved_is_a_copy", "after a change to a world, is not what it was"),
    (SavesTransient, "test_saving_changes_nothing_in_the_world", "the world, after a save, is not what it"),
    (IgnoresFilters, "test_filters", "what the filter refuses was saved"),
    (IgnoresFilters, "test_filters_of_types", "expected components of contract.note only"),
    (FilterForgets, "test_filters", "expected a saved entity, found none"),
    (ForgetsLayouts, "test_what_is_saved_survives_its_store", "expected the layout"),
    (ForgetsLayouts, "test_two_objects_on_one_place", "expected the layout"),
    (ForgetsAll, "test_what_is_saved_survives_its_store", "expected a saved entity, found none"),
    (Caches, "test_two_objects_on_one_place", "saved again with another store object is not what it was"),
    (ClosesBadly, "test_use_after_closing", "save_entity of a closed store raised AttributeError"),
    (ClosesOnce, "test_closing_twice", "found a closed one"),
    (PicklesNothing, "test_pickling", "expected a saved entity, found none"),
    (DropsUnknown, "test_unknown_components_are_kept", "dropped components"),
    (DropsUnknown, "test_unknown_components_are_refused_or_dropped", "raised UserWarning, expected Comp"),
    (Nameless, "test_backend_name_and_version", "expected a name from backend_name, found ''"),
    (TextVersion, "test_backend_name_and_version", "from backend_version, found '1'"),
]


@contextlib.contextmanager
def contract_of(kind):
    """Yield the contract of a kind of store, ready for one check."""

    class Contract(EntityStoreContract):
        def make_store(self, tmp_path, **options):
            return kind(place, **options)

    place = {}
    contract = Contract()
    contract.setup_method()
    try:
        yield contract
    finally:
        with contextlib.suppress(Exception):
            contract.teardown_method()


@pytest.mark.parametrize(("store", "check", "message"), BROKEN)
def test_each_wrong_store_fails_the_right_check(store, check, message, tmp_path):
    with contract_of(Right) as contract:
        getattr(contract, check)(tmp_path)
    # A check may let errors of the store pass, and warnings are errors here: they say enough.
    errors = (AssertionError, PersistenceError, UserWarning)
    with contract_of(store) as contract, pytest.raises(errors, match=message):
        getattr(contract, check)(tmp_path)


def test_every_check_states_its_rule():
    checks = [name for name in dir(EntityStoreContract) if name.startswith("test_")]
    assert len(checks) > 50
    for name in checks:
        assert getattr(EntityStoreContract, name).__doc__.endswith(".")
    assert {check for _, check, _ in BROKEN} <= set(checks)


def test_an_opt_out_skips_with_its_reason(tmp_path):
    with contract_of(Right) as contract:
        for value, message in ((False, "does not list its entities$"), ("a queue", "its entities: a queue$")):
            type(contract).lists_entities = value
            with pytest.raises(pytest.skip.Exception, match=message):
                contract.test_listing(tmp_path)


def test_options_that_are_not_taken_skip(tmp_path):
    with contract_of(Right) as contract:
        type(contract).make_store = lambda self, tmp_path: Right({})
        with pytest.raises(pytest.skip.Exception, match="the store is made without the option filter"):
            contract.test_filters(tmp_path)

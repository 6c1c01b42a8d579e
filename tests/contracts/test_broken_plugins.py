"""The contract catches formats that are wrong: each of these by the check that is for it, and says how."""

import contextlib
import itertools
import os
import struct
import threading
from dataclasses import replace

import numpy as np
import pytest

from pecs_np import BinaryPlugin, InvalidFormatError, PersistenceError, PersistenceIOError, World
from pecs_np.testing import PluginContract


class Passed(BinaryPlugin):
    """Right; those below each do one thing wrong."""


def altered(change):
    """Return a plugin that loads what *change* makes of the columns of a save."""

    class Altered(BinaryPlugin):
        def decode(self, data, name="<bytes>"):
            return self._altered(super().decode(data, name))

        def decode_file(self, file):
            return self._altered(super().decode_file(file))

        def _altered(self, snapshot):
            for table in (*snapshot.tables, *([snapshot.resources] if snapshot.resources else [])):
                for name in table.columns:
                    table.columns[name] = table.columns[name].copy()
                    change(table.columns[name])
            return snapshot

    return Altered


def replaced(**members):
    """Return a plugin that loads snapshots with other *members*."""

    class Replaced(BinaryPlugin):
        def decode(self, data, name="<bytes>"):
            return replace(super().decode(data, name), **members)

        def decode_file(self, file):
            return replace(super().decode_file(file), **members)

    return Replaced


def through_floats(column):
    for name in column.dtype.names or ():
        if column.dtype[name] == np.uint64 and "uint64" in name:
            column[name] = np.minimum(column[name].astype(float), 2.0**63).astype(np.uint64)


def nan_is_nan(column):
    for name in column.dtype.names or ():
        if column.dtype[name].kind == "f":
            column[name][np.isnan(column[name])] = np.nan


def no_minus_zero(column):
    for name in column.dtype.names or ():
        if column.dtype[name].kind == "f":
            with np.errstate(invalid="ignore"):
                column[name] += 0.0


def stripped(column):
    for name in column.dtype.names or ():
        if column.dtype[name].kind == "O" and name == "text":
            column[name] = [text.strip() if isinstance(text, str) else text for text in column[name]]


def seconds(column):
    for name in column.dtype.names or ():
        if column.dtype[name] == np.dtype("M8[ms]"):
            column[name] = column[name].astype("M8[s]")


def no_references(column):
    for name in ("to", "about"):
        if name in (column.dtype.names or ()):
            column[name] = 0


def short_lists(column):
    for name in column.dtype.names or ():
        if column.dtype[name].kind == "O":
            column[name] = [v[:4] if isinstance(v, np.ndarray) else v for v in column[name]]


class DropsUnknown(BinaryPlugin):
    def decode_file(self, file):
        from pecs_np import registered

        found = super().decode_file(file)
        return found.filtered(lambda table: table.keep(t.name for t in table.types if registered(t.name)))


class Dated(BinaryPlugin):
    count = itertools.count()

    def encode(self, snapshot):
        return super().encode(replace(snapshot, metadata={**snapshot.metadata, "saves": next(self.count)}))

    def to_bytes(self, snapshot):
        return b"".join(self.encode(snapshot))


class Careless(BinaryPlugin):
    """Believes what it reads."""

    def decode(self, data, name="<bytes>"):
        struct.unpack_from("<4sIIQI", data)
        return super().decode(data, name)


class TakesAnything(BinaryPlugin):
    def decode(self, data, name="<bytes>"):
        with contextlib.suppress(PersistenceError):
            return super().decode(data, name)
        return World().snapshot(copy=True)


class WritesInPlace(BinaryPlugin):
    def save_snapshot(self, snapshot, path, **options):
        try:
            with open(path, "wb") as file:
                file.writelines(self.encode(snapshot))
        except OSError as error:
            raise PersistenceIOError(str(error)) from error
        return os.path.getsize(path)


class WritesHalf(BinaryPlugin):
    """Notes how far it is, and leaves its notes where it fails."""

    def save_snapshot(self, snapshot, path, **options):
        notes = f"{path}.progress"
        open(notes, "w").close()
        size = super().save_snapshot(snapshot, path, **options)
        os.remove(notes)
        return size


class Marks(BinaryPlugin):
    """Notes in the world that it was saved."""

    def save_snapshot(self, snapshot, path, **options):
        snapshot.metadata["saved"] = True
        return super().save_snapshot(snapshot, path, **options)


class Remembers(BinaryPlugin):
    """Gives what it has loaded before once more."""

    def __init__(self):
        super().__init__()
        self._known = {}

    def load_snapshot(self, path, **options):
        key = str(path), os.path.getsize(path), os.stat(path).st_mtime_ns
        if key not in self._known:
            self._known[key] = super().load_snapshot(path, **options)
            for table in self._known[key].tables:
                table.claim.__class__ = Unclaimed
        return self._known[key]


from pecs_np.ecs.snapshot import Claim  # noqa: E402


class Unclaimed(Claim):
    """Lets every world take the arrays."""

    __slots__ = ()
    taken = property(lambda self: False, lambda self, value: None)


class OneAtATime(BinaryPlugin):
    """Keeps what it works on in itself."""

    def save_snapshot(self, snapshot, path, **options):
        self._snapshot = snapshot
        with contextlib.suppress(threading.BrokenBarrierError):
            self._together.wait()
        return super().save_snapshot(self._snapshot, path, **options)

    def __init__(self):
        super().__init__()
        # Until two threads are here, or one has waited.
        self._together = threading.Barrier(2, timeout=0.2)


class Silent(BinaryPlugin):
    """Says nothing of writers that fail."""

    def encode_stream(self, snapshot):
        raise OSError("no space")


class ReadOnly(BinaryPlugin):
    def load_snapshot(self, path, **options):
        found = super().load_snapshot(path, **options)
        for table in found.tables:
            for type_ in table.types:
                for f in type_.layout.variable:
                    for value in table.columns[type_.name][f.name]:
                        if isinstance(value, np.ndarray):
                            value.flags.writeable = False
        return found


class Nameless(BinaryPlugin):
    def format_name(self):
        return ""


class TextVersion(BinaryPlugin):
    def format_version(self):
        return "2"


class LoadsAllVersions(BinaryPlugin):
    def can_load_version(self, version):
        return True


class LoudSuffix(BinaryPlugin):
    suffixes = ".PECS"


class RecognisesAll(BinaryPlugin):
    def recognises(self, start):
        return True


class AcceptsBadValues(BinaryPlugin):
    """Saves what it cannot load: a text in place of an error."""

    def save_snapshot(self, snapshot, path, **options):
        try:
            return super().save_snapshot(snapshot, path, **options)
        except PersistenceIOError:
            raise
        except PersistenceError:
            return super().save_snapshot(World().snapshot(), path, **options)


class IgnoresTypes(BinaryPlugin):
    """Refuses what is not defined here, as a format of records without a schema does."""

    def decode_file(self, file):
        from pecs_np import registered

        found = super().decode_file(file)
        for type_ in found.types:
            if registered(type_.name) is None or registered(type_.name)._type.version != type_.version:
                raise InvalidFormatError(f"unknown {type_.name}")
        return found


BROKEN = [
    (altered(through_floats), "test_integers", "contract.integers.uint64 differs"),
    (altered(nan_is_nan), "test_floats", "contract.floats.half differs"),
    (altered(no_minus_zero), "test_floats", "contract.floats"),
    (altered(stripped), "test_texts", "contract.texts.text differs"),
    (altered(seconds), "test_times", "contract.times.when differs"),
    (altered(no_references), "test_references", "contract.references.to differs"),
    (altered(short_lists), "test_lists", "contract.lists.numbers differs"),
    (replaced(resources=None), "test_resources", "resource types"),
    (replaced(metadata={}), "test_metadata", "metadata: expected"),
    (replaced(version=1), "test_world_version", "expected version 2 of the world, found 1"),
    (replaced(rngs={}), "test_generators", "generators: expected"),
    (replaced(id_source=None), "test_seeded_stable_ids", "expected the stable ids"),
    (replaced(tables=()), "test_entities_without_components", "entity count: expected 5, found 0"),
    (DropsUnknown, "test_unknown_components_are_kept", "sets of component types"),
    (DropsUnknown, "test_unknown_components_are_saved_again", "sets of component types"),
    (IgnoresTypes, "test_old_versions_reach_their_migrations", "unknown contract.reading"),
    (Dated, "test_equal_worlds_give_equal_bytes", "the bytes a second time are not the same"),
    (Careless, "test_cut_saves_are_refused", "cut from .* to 0 bytes raised error, expected PecsError"),
    (TakesAnything, "test_cut_saves_are_refused", "to 0 bytes raised nothing, expected PecsError"),
    (TakesAnything, "test_damaged_saves_are_refused", "in which byte 0 is .* raised nothing"),
    (TakesAnything, "test_longer_saves_are_refused", "1 bytes behind it raised nothing"),
    (TakesAnything, "test_foreign_files_are_refused", "which is no save, raised nothing"),
    (TakesAnything, "test_scrambled_saves_are_refused", "raised nothing"),
    (WritesInPlace, "test_worlds_that_cannot_be_saved", "the older save, after one that failed"),
    (WritesHalf, "test_saves_that_fail_half_way", "a save that failed left files"),
    (AcceptsBadValues, "test_worlds_that_cannot_be_saved", "raised nothing|is not what it was"),
    (Marks, "test_saving_changes_nothing", "the world that was saved is not what it was: metadata"),
    (Remembers, "test_loaded_worlds_are_their_own", "after a change to another one, is not what it was"),
    (ReadOnly, "test_loaded_worlds_are_their_own", "a loaded world cannot be changed"),
    (OneAtATime, "test_one_plugin_serves_several_threads", "while other threads saved theirs"),
    (Silent, "test_writers_that_fail", "bytes free raised OSError, expected PersistenceIOError"),
    (Nameless, "test_format_name_and_version", "expected a name from format_name, found ''"),
    (TextVersion, "test_format_name_and_version", "from format_version, found '2'"),
    (LoadsAllVersions, "test_format_name_and_version", "expected False from can_load_version"),
    (LoudSuffix, "test_suffixes", "expected suffixes such as"),
    (RecognisesAll, "test_recognises_its_own", "which is none of its saves"),
]


@contextlib.contextmanager
def contract_of(plugin):
    """Yield the contract of a plugin, ready for one check."""

    class Contract(PluginContract):
        def make_plugin(self, tmp_path):
            return made

        def make_path(self, tmp_path, name):
            return tmp_path / name  # also for those that load in a way of their own

    made = plugin()
    contract = Contract()
    contract.setup_method()
    try:
        yield contract
    finally:
        contract.teardown_method()


@pytest.mark.parametrize(("plugin", "check", "message"), BROKEN)
def test_each_wrong_plugin_fails_the_right_check(plugin, check, message, tmp_path):
    with contract_of(Passed) as contract:
        getattr(contract, check)(tmp_path)
    for path in tmp_path.iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
    # A check may let errors of the plugin pass: they say enough.
    with (
        contract_of(plugin) as contract,
        pytest.raises((AssertionError, PersistenceError), match=message),
    ):
        getattr(contract, check)(tmp_path)


def test_every_check_states_its_rule():
    checks = [name for name in dir(PluginContract) if name.startswith("test_")]
    assert len(checks) > 50
    for name in checks:
        assert getattr(PluginContract, name).__doc__.endswith(".")
    assert {check for _, check, _ in BROKEN} <= set(checks)


def test_an_opt_out_skips_with_its_reason(tmp_path):
    with contract_of(Passed) as contract:
        for value, message in (
            (False, "the format holds no resources$"),
            ("too small", "resources: too small$"),
        ):
            type(contract).holds_resources = value
            with pytest.raises(pytest.skip.Exception, match=message):
                contract.test_resources(tmp_path)
            assert len(contract.rich().resources) == 0

"""Each call to the operating system fails in turn: the old world stays or the new one is there, never anything else."""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
import os
import re
import warnings

import numpy as np
import pytest

import pecs_np
from pecs_np import CorruptedDataError, PecsError, PersistenceError, PersistenceIOError, World
from pecs_np.testing import assert_worlds_equal

TEMPORARY = re.compile(r"\.pecs-.*\.tmp")
SHORT = ("one byte", "half")
LASTING = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.EROFS,
    errno.ELOOP,
    errno.EINVAL,
)

# What is there, (backup, hard links), (durable, retries), format.
COMBINATIONS = [
    *itertools.product(
        ["new", "first", "later"],
        [(False, True), (True, True), (True, False)],
        [(True, 0), (True, 2), (False, 0)],
        ["raw"],
    ),
    *itertools.product(["new", "later"], [(True, False)], [(True, 0)], ["zstd", "version 1"]),
    *itertools.product(["first"], [(True, True)], [(False, 1)], ["zstd", "version 1"]),
]


def attempt(case, **options):
    try:
        case.save(**options)
    except PecsError as error:
        return error
    return None


def is_harmless(call, fault):
    """Tell whether a save goes on after that; None where it may or may not."""
    short = fault.name in SHORT
    if call.kind == "write" or call.kind == "read_at":
        return short
    if call.kind == "stat":
        return None if fault.errno == errno.EACCES else False
    if call.kind == "chmod":
        # There are file systems without modes.
        return True
    if call.kind == "link":
        # One that was made all the same stands in the way of the copy.
        return None if fault.after else True
    if call.kind == "close" and not call.flags & os.O_CREAT:
        # What was only read is none the worse.
        return None
    return call.kind == "unlink"


def check_files(case, system, error, *, backup, what):
    """Assert that path and backup hold what the calls that were made allow, and nothing else is there."""
    expected = case.new if system.was_replaced(case.target) else case.before
    assert case.read(case.path) == expected, what
    kept = case.read(case.backup)
    if not backup or case.before is None:
        assert kept == case.backup_before, what
    elif error is None:
        assert kept == case.before, what
    else:
        assert kept in {case.backup_before, case.before}, what
    leftovers = case.leftovers()
    if any(call.kind == "unlink" for call in system.failed):
        # Nobody can remove what the system does not.
        assert all(TEMPORARY.fullmatch(name) for name in leftovers), what
    else:
        assert leftovers == [], what
    return leftovers


@pytest.mark.parametrize(("start", "backing", "trying", "name"), COMBINATIONS)
def test_a_save_of_which_any_call_fails_leaves_the_old_world_or_the_new_one(
    make_case, faulty, save_faults, open_descriptors, tally, start, backing, trying, name
):
    case = make_case(start, name)
    (backup, links), (durable, retries) = backing, trying
    options = {"durable": durable, "backup": backup, "retries": retries}
    descriptors = open_descriptors()
    modes = [(fault, mode) for fault in save_faults for mode in ("once", "kind")]
    modes += [(fault, "all") for fault in save_faults if fault.name == "EIO"]
    for fault, mode in modes:
        for number in itertools.count():
            case.prepare()
            system = faulty(number, fault, mode, links=links)
            error = attempt(case, **options)
            if number >= len(system.calls):
                assert error is None
                assert not system.failed
                break
            if not system.failed:
                continue
            what = f"{fault.name} {mode} from call {number}, {system.calls[number]}: {error!r}"
            tally["saves with a fault"] += 1
            leftovers = check_files(case, system, error, backup=backup, what=what)
            assert open_descriptors() == descriptors, what
            harmless = [is_harmless(call, fault) for call in system.failed]
            if error is not None:
                assert type(error) is PersistenceIOError, what
                assert error.filename == case.target, what
                assert f"{case.target!r} failed: " in str(error) or "found the end" in str(error), what
                assert not all(harmless), what
                assert not (retries and mode == "once"), what
                codes = {fault.errno} if fault.errno else {errno.EIO, None}
                assert error.errno in codes | ({errno.EEXIST} if fault.after else set()), what
                assert len(system.pauses) == retries, what
                tally["saves that raised"] += 1
            elif False in harmless:
                assert mode == "once", what
                assert retries, what
                assert len(system.pauses) == 1, what
                tally["saves that were tried again"] += 1
            assert system.pauses == [0.1, 0.2][: len(system.pauses)], what
            if leftovers:
                faulty(links=links)
                case.save(**options)
                assert case.read(case.path) == case.new, what
                assert case.leftovers() == leftovers, what
                for leftover in leftovers:
                    (case.path.parent / leftover).unlink()
            if mode == "kind" and fault.name in SHORT:
                # From a later call on it is but less of the same.
                break


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("start", ["new", "later"])
def test_an_interrupt_at_any_call_passes_through_and_leaves_the_old_world_or_the_new_one(
    make_case, faulty, interrupts, open_descriptors, tally, start, durable, links
):
    case = make_case(start, "raw")
    length = case_length(case, faulty, durable=durable, backup=True, links=links)
    descriptors = open_descriptors()
    for fault, number in itertools.product(interrupts, range(length)):
        case.prepare()
        system = faulty(number, fault, links=links)
        with pytest.raises(fault.raises):
            case.save(durable=durable, backup=True, retries=3)
        what = f"{fault.name} at call {number}, {system.calls[number]}"
        assert not system.pauses, what
        check_files(case, system, fault, backup=True, what=what)
        assert open_descriptors() == descriptors, what
        tally["saves that were interrupted"] += 1


def case_length(case, faulty, *, durable, backup, links):
    """Return how many calls a save makes."""
    case.prepare()
    system = faulty(links=links)
    case.save(durable=durable, backup=backup)
    return len(system.calls)


@pytest.mark.parametrize("name", ["raw", "zstd", "version 1"])
@pytest.mark.parametrize("start", ["new", "first", "later"])
@pytest.mark.parametrize(("backup", "links"), [(False, True), (True, True), (True, False)])
def test_a_durable_save_survives_a_loss_of_power_at_any_call(
    make_case, faulty, power_cut, tally, name, start, backup, links
):
    case = make_case(start, name)
    length = case_length(case, faulty, durable=True, backup=backup, links=links)
    for number in range(length + 1):
        case.prepare()
        system = faulty(number, power_cut, links=links)
        try:
            case.save(durable=True, backup=backup)
        except power_cut.raises:
            assert number < length
        else:
            assert number == length
            assert not system.unflushed
        what = f"power off at call {number} of {[call.kind for call in system.calls]}"
        for path in system.unflushed:
            # The disk has the name, not the content.
            os.truncate(path, 0)
        assert case.read(case.path) == (case.new if system.was_replaced(case.target) else case.before), what
        allowed = {case.backup_before, case.before} if backup else {case.backup_before}
        assert case.read(case.backup) in allowed, what
        for leftover in case.leftovers():
            assert TEMPORARY.fullmatch(leftover)
            (case.path.parent / leftover).unlink()
        tally["losses of power"] += 1


@pytest.mark.parametrize("backup", [True, False])
def test_the_content_is_flushed_before_its_file_takes_the_name_and_the_folder_after(
    make_case, faulty, backup
):
    case = make_case("later", "raw")
    case.prepare()
    calls = faulty_calls(case, faulty, durable=True, backup=backup)
    written, replaced, flushed = (
        [(i, call.path) for i, call in enumerate(calls) if call.kind == kind]
        for kind in ("write", "replace", "fsync")
    )
    (content, temporary), (folder, directory) = flushed
    (named,) = [i for i, path in replaced if path == case.target]
    assert max(written)[0] < content < named
    assert {path for _, path in written} == {temporary}
    assert TEMPORARY.fullmatch(os.path.basename(temporary))
    assert max(replaced)[0] < folder
    assert directory == str(case.path.parent)


def test_a_save_that_need_not_be_durable_flushes_nothing(make_case, faulty):
    case = make_case("later", "raw")
    case.prepare()
    system = faulty()
    case.save(durable=False, backup=True)
    assert "fsync" not in [call.kind for call in system.calls]


def test_a_failed_flush_is_not_tried_again_on_the_same_file(make_case, faulty, refusal):
    case = make_case("later", "raw")
    case.prepare()
    first = [call.kind for call in faulty_calls(case, faulty)].index("fsync")
    case.prepare()
    system = faulty(first, refusal(errno.EIO), "kind")
    with pytest.raises(PersistenceIOError) as caught:
        case.save(retries=2)
    assert caught.value.errno == errno.EIO
    flushed = [call.path for call in system.calls if call.kind == "fsync"]
    assert len(flushed) == len(set(flushed)) == 3
    assert case.read(case.path) == case.old


def faulty_calls(case, faulty, *, links=True, **options):
    system = faulty(links=links)
    case.save(**options)
    return system.calls


def test_pauses_grow_and_the_last_refusal_is_the_one_that_is_raised(make_case, faulty, refusal):
    case = make_case("first", "raw")
    case.prepare()
    number = next(i for i, call in enumerate(faulty_calls(case, faulty)) if call.kind == "open")
    case.prepare()
    system = faulty(number, refusal(errno.ENOSPC), "kind")
    with pytest.raises(PersistenceIOError, match=re.escape(os.strerror(errno.ENOSPC))) as caught:
        case.save(retries=5)
    assert caught.value.errno == errno.ENOSPC
    assert system.pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])
    assert [call.kind for call in system.failed] == ["open"] * 6
    assert case.read(case.path) == case.old
    assert case.leftovers() == []


@pytest.mark.parametrize("code", LASTING, ids=errno.errorcode.get)
@pytest.mark.parametrize("kind", ["open", "write", "replace"])
def test_what_trying_again_does_not_change_is_not_tried_again(make_case, faulty, refusal, code, kind):
    case = make_case("first", "raw")
    case.prepare()
    number = [call.kind for call in faulty_calls(case, faulty)].index(kind)
    case.prepare()
    system = faulty(number, refusal(code))
    with pytest.raises(PersistenceIOError) as caught:
        case.save(retries=5)
    assert caught.value.errno == code
    assert system.pauses == []
    assert case.read(case.path) == case.old
    assert case.leftovers() == []


@pytest.mark.parametrize("path", ["nul\0.pecs", "half\ud800.pecs", 5, None])
def test_what_can_be_no_path_is_not_tried_again(faulty, path):
    system = faulty()
    with pytest.raises(PersistenceIOError):
        World().save(path, retries=3)
    assert system.pauses == []


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.EIO])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_a_save_whose_mode_cannot_be_set_is_made_and_no_more_open_than_the_old_one(
    make_case, faulty, refusal, code, mode
):
    case = make_case("later", "raw")
    case.prepare()
    case.path.chmod(mode)
    number = next(i for i, call in enumerate(faulty_calls(case, faulty)) if call.kind == "chmod")
    case.prepare()
    case.path.chmod(mode)
    system = faulty(number, refusal(code))
    case.save()
    assert [call.kind for call in system.failed] == ["chmod"]
    assert case.read(case.path) == case.new
    assert not case.path.stat().st_mode & 0o777 & ~(mode | 0o200)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_folder_that_does_not_flush_is_no_error(make_case, faulty, refusal, code):
    # As some network file systems have it.
    case = make_case("later", "raw")
    case.prepare()
    calls = faulty_calls(case, faulty)
    number = max(i for i, call in enumerate(calls) if call.kind == "fsync")
    case.prepare()
    system = faulty(number, refusal(code))
    case.save()
    assert len(system.failed) == 1
    assert case.read(case.path) == case.new


@pytest.mark.parametrize("links", [True, False])
def test_a_folder_whose_flush_failed_once_costs_no_backup(make_case, faulty, refusal, links):
    case = make_case("later", "raw")
    case.prepare()
    calls = faulty_calls(case, faulty, links=links, backup=True)
    number = max(i for i, call in enumerate(calls) if call.kind == "fsync")
    assert calls[number].path == str(case.path.parent)
    case.prepare()
    system = faulty(number, refusal(errno.EIO), links=links)
    case.save(backup=True, retries=1)
    assert system.pauses == [0.1]
    assert case.read(case.path) == case.new
    assert case.read(case.backup) == case.old


def test_a_save_that_fails_does_not_put_a_damaged_file_in_the_place_of_a_sound_backup(
    make_case, faulty, refusal
):
    case = make_case("later", "raw")
    case.prepare()
    calls = faulty_calls(case, faulty, backup=True)
    number = next(i for i, call in enumerate(calls) if (call.kind, call.path) == ("replace", case.target))
    case.prepare()
    damaged = bytearray(case.old)
    damaged[-1] ^= 1
    case.path.write_bytes(damaged)
    with pytest.warns(UserWarning, match="loaded the backup"):
        recovered = World.load(case.path, backup=True)
    faulty(number, refusal(errno.EIO), "kind")
    with pytest.raises(PersistenceIOError):
        recovered.save(case.path, backup=True)
    with pytest.warns(UserWarning, match="loaded the backup"):
        assert_worlds_equal(World.load(case.path, backup=True), recovered)


def touch_all(save):
    """Read all that an opened save has, and return it in a form that can be compared."""
    found = {"types": repr(save.types), "metadata": save.metadata, "version": save.world_version}
    found["entities"] = save.entities().tobytes()
    for name in save:
        rows = save[name]
        # Of texts the array has addresses.
        found[name] = {field: rows[field].tolist() for field in rows.dtype.names}
    for number, table in enumerate(save.tables):
        found[number] = [table.rows, table.entities().tobytes(), *map(repr, table.types)]
    save.verify()
    found["world"] = World.from_snapshot(save.snapshot()).to_bytes()
    return found


def open_and_touch(path, **options):
    with pecs_np.open(path, **options) as save:
        return touch_all(save)


def load(path):
    return {"world": World.load(path).to_bytes()}


READERS = {
    "load": (load, {}),
    "load a pipe": (load, {"stream": True}),
    "open": (open_and_touch, {}),
}


def first_read(system):
    return next(i for i, call in enumerate(system.calls) if call.kind in ("read_at", "read"))


@pytest.mark.parametrize("name", ["raw", "zstd", "version 1"])
@pytest.mark.parametrize("reader", READERS)
def test_a_load_of_which_any_call_fails_gives_the_world_or_raises(
    make_case, faulty, read_faults, open_descriptors, tally, name, reader
):
    case = make_case("later", name)
    case.prepare()
    read, options = READERS[reader]
    expected = read(case.path)
    descriptors = open_descriptors()
    for fault, mode in itertools.product(read_faults, ["once", "kind"]):
        for number in itertools.count():
            system = faulty(number, fault, mode, **options)
            error = found = None
            try:
                found = read(case.path)
            except PecsError as caught:
                error = caught
            if number >= len(system.calls):
                assert error is None
                assert found == expected
                break
            if not system.failed:
                continue
            what = f"{fault.name} {mode} from call {number}, {system.calls[number]}: {error!r}"
            tally["reads with a fault"] += 1
            assert open_descriptors() == descriptors, what
            if {call.kind for call in system.failed} == {"close"} or fault.name in SHORT:
                assert error is None, what
            elif error is None:
                # What is wrong once is read again, where the shape of the save is known, and so are the bytes by
                # which the format is told, of which not each one counts.
                assert (fault.name, mode) == ("a flipped bit", "once") or number == first_read(system), what
                assert found == expected, what
            if error is None:
                assert found == expected, what
            else:
                tally["reads that raised"] += 1
            if error is not None and fault.errno is not None:
                assert isinstance(error, PersistenceIOError), what
                assert error.errno == fault.errno, what
                assert case.target in str(error), what
            if mode == "kind" and fault.name in SHORT:
                break
    assert case.read(case.path) == case.old
    assert case.leftovers() == []


@pytest.mark.parametrize("name", ["raw", "zstd", "version 1"])
def test_an_opened_save_of_which_a_read_failed_can_be_read_again(make_case, faulty, read_faults, tally, name):
    case = make_case("later", name)
    case.prepare()
    system = faulty()
    expected = open_and_touch(case.path)
    assert system.calls[-1].kind == "close"
    for fault, number in itertools.product(read_faults, range(len(system.calls) - 1)):
        system = faulty(number, fault)
        with contextlib.ExitStack() as stack:
            save = None
            try:
                save = stack.enter_context(pecs_np.open(case.path))
                touch_all(save)
            except PecsError:
                if save is None:
                    continue
            assert touch_all(save) == expected, f"{fault.name} at call {number}"
            tally["opened saves read again"] += 1


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
def test_a_save_that_cannot_be_mapped_because_it_cannot_be_opened_raises(
    make_case, faulty, refusal, open_descriptors, code
):
    case = make_case("later", "raw")
    case.prepare()
    expected = open_and_touch(case.path, mmap=True)
    descriptors = open_descriptors()
    for number, kind in enumerate(["open", "fstat"]):
        system = faulty(number, refusal(code))
        with pytest.raises(PersistenceIOError) as caught:
            pecs_np.open(case.path, mmap=True)
        assert caught.value.errno == code
        assert [call.kind for call in system.failed] == [kind]
    del caught
    faulty(2, refusal(code))
    assert open_and_touch(case.path, mmap=True) == expected
    assert open_descriptors() == descriptors


def test_a_load_that_fails_finds_the_backup_and_says_so(make_case, faulty, read_faults, tally, contents):
    case = make_case("later", "raw")
    case.prepare()
    _, _, ancient, old, _ = contents("raw")
    for fault in read_faults:
        for number in itertools.count():
            system = faulty(number, fault)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = World.load(case.path, backup=True).to_bytes()
            if number >= len(system.calls):
                assert found == old
                assert not caught
                break
            if not system.failed:
                continue
            tally["loads with a backup"] += 1
            unread = fault.name == "a flipped bit" and number == first_read(system) and not caught
            if fault.name in SHORT or system.calls[number].kind == "close" or unread:
                assert found == old
                assert not caught
            else:
                assert found == ancient
                (warning,) = caught
                assert str(warning.message).startswith(f"loaded the backup {case.backup}: ")
                assert warning.filename == __file__


def test_a_load_that_fails_and_whose_backup_fails_raises_the_first_error_and_notes_the_second(
    make_case, faulty, refusal
):
    case = make_case("later", "raw")
    case.prepare()
    faulty(0, refusal(errno.EIO), "kind")
    with pytest.raises(PersistenceIOError, match=re.escape(f"opening {case.target!r} failed")) as caught:
        World.load(case.path, backup=True)
    assert caught.value.errno == errno.EIO
    assert caught.value.filename == case.target
    (note,) = caught.value.__notes__
    assert note.startswith(f"the backup does not help: opening {str(case.backup)!r} failed")


def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error(make_case):
    case = make_case("first", "raw")
    case.prepare()
    with pecs_np.open(case.path) as save:
        os.truncate(case.path, len(case.old) - 600)
        with pytest.raises(PersistenceIOError, match="found the end at byte"):
            touch_all(save)
        case.path.write_bytes(case.old)
        assert np.array_equal(save["FaultSpot"]["x"][-3:], [2021, 2022, 2023])
    os.truncate(case.path, len(case.old) - 1)
    with pytest.raises(CorruptedDataError, match=f"expected {len(case.old)} bytes"):
        World.load(case.path)


def test_a_world_that_another_thread_changes_while_it_is_saved_leaves_no_damaged_file(
    folder, faulty, world_of
):
    path = folder / "game.pecs"
    # Large enough that its columns are written from where they lie.
    world = world_of(2, rows=10_000)
    world.save(path)
    old = path.read_bytes()
    system = faulty()
    write = system.write

    def write_late(descriptor, view):
        for spots in world.query("FaultSpot"):
            spots.x += 1
        return write(descriptor, view)

    system.write = write_late
    try:
        world.save(path, backup=True)
    except PersistenceError as error:
        assert "changed" in str(error)  # noqa: PT017 - it need not be raised
        assert path.read_bytes() == old
    assert len(World.load(path)) == 10_002


@pytest.mark.parametrize("mmap", [False, True])
def test_an_opened_save_that_is_forgotten_keeps_no_file_open(make_case, open_descriptors, mmap):
    case = make_case("first", "raw")
    case.prepare()
    gc.collect()
    before = open_descriptors()
    with warnings.catch_warnings():
        # It may complain of that, as files do.
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(5):
            assert len(pecs_np.open(case.path, mmap=mmap)["FaultSpot"]) == 26
        gc.collect()
    assert open_descriptors() == before

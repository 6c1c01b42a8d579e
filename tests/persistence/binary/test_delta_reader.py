"""Deltas read back: what was written, or an error of the library's own."""

from __future__ import annotations

import io
import random
from dataclasses import replace

import numpy as np
import pytest

from pecs_np import (
    BinaryPlugin,
    ChangeSet,
    ChangeTracker,
    ComponentDefinitionError,
    CorruptedDataError,
    InvalidFormatError,
    LimitExceededError,
    Limits,
    PersistenceError,
    UnsupportedVersionError,
    World,
    unregister,
)
from pecs_np.ecs.applying import concatenated_changes
from pecs_np.ecs.ids import STABLE_ID
from pecs_np.persistence.binary.delta_reader import decode_delta
from pecs_np.persistence.binary.delta_writer import encode_delta
from pecs_np.persistence.binary.sources import StreamSource
from pecs_np.persistence.compression import Packing
from pecs_np.testing import assert_worlds_equal

PACKINGS = {"raw": None, "zstd": Packing.of("zstd", None, True, 1), "lz4": Packing.of("lz4", None, True, 1)}


def data_of(changes, **options):
    return b"".join(encode_delta(changes, **options))


@pytest.mark.parametrize("codec", PACKINGS)
@pytest.mark.parametrize("seed", range(25))
def test_what_was_written_is_read(deltas, codec, seed):
    sets = []
    for changes, before, world in deltas.changing(seed):
        sets.append(changes)
        for part in (changes, changes.invert(), concatenated_changes(sets)):
            encoded = encode_delta(part, base_id=seed, packing=PACKINGS[codec])
            data = b"".join(encoded)
            found, base_id, save_id = decode_delta(data)
            assert deltas.told(found) == deltas.told(part)
            assert (base_id, save_id) == (seed, encoded.save_id)
            assert data_of(found, base_id=seed, packing=PACKINGS[codec]) == data
            assert deltas.told(decode_delta(StreamSource(io.BytesIO(data))).changes) == deltas.told(part)
        before.apply(decode_delta(data_of(changes)).changes)
        assert_worlds_equal(before, world)


def test_arrays_that_were_read_are_the_callers(deltas):
    data = data_of(deltas.everything()[0])
    changes = decode_delta(data).changes
    for table in (*changes.created, *changes.modified):
        assert table.stable_ids.flags.writeable
        assert all(column.flags.writeable for column in table.columns.values())


def test_a_whole_save_is_no_delta():
    for data, error in (
        (World().to_bytes(), "expected a delta, found a whole save in <bytes>"),
        (World().to_bytes(BinaryPlugin(version=1)), "found a save of version 1"),
        (b"", "expected a save"),
        (None, "expected the bytes of a save"),
    ):
        with pytest.raises(InvalidFormatError, match=error):
            decode_delta(data)


@pytest.fixture(scope="module")
def tried(request):
    """Counts of damaged deltas, printed when the tests of this file are over."""
    counts = []
    yield counts
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and counts:
        reporter.ensure_newline()
        reporter.write_line(
            f"test_delta_reader.py: deltas cut or with a bit flipped, all refused: {', '.join(counts)}"
        )


@pytest.mark.parametrize("codec", ["raw", "zstd"])
def test_no_damage_is_taken_for_sound(deltas, codec, tried):
    data = data_of(deltas.everything()[0], base_id=9, packing=PACKINGS[codec])
    refused = 0
    for end in range(len(data)):
        with pytest.raises(PersistenceError):
            decode_delta(data[:end])
        refused += 1
    for place in random.Random(1).sample(range(8 * len(data)), min(8 * len(data), 6000)):
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(PersistenceError):
            decode_delta(damaged)
        refused += 1
    tried.append(f"{codec} {refused:,}")


def altered(reference, data, change):
    """Return a delta in which *change* altered what the independent reader found; all sums are right."""
    delta = reference.read(data, delta=True)
    schema = delta.schema
    change(delta, schema)
    delta.schema = schema
    return delta.to_bytes()


def roles(*order):
    def change(delta, schema):
        schema["tables"] = [schema["tables"][i] | {"role": role} for i, role in order]

    return change


def loose(place, **changed):
    """Change a section of ids that belong to no table, counted from the end."""

    def change(delta, _):
        delta.parts[place] = replace(delta.parts[place], **changed)

    return change


def put(member, found):
    def change(_, schema):
        schema[member] = found

    return change


def moved(delta, _):
    delta.parts.append(delta.parts.pop(-4))


def twice(delta, _):
    delta.parts.append(delta.parts[-1])


def doubled_id(delta, schema):
    modified = next(i for i, t in enumerate(schema["tables"]) if t["role"] == "modified" and t["rows"] > 2)
    part = delta.part(1, modified)
    raw = delta.raw(part)
    part.data, part.codec = raw[:-16] + raw[:16], 0
    assert part.rows * 16 == len(part.data)


def one_of(kind, take):
    """Put an id of another section among those of a kind."""

    def change(delta, schema):
        part = next(p for p in delta.parts if p.kind == kind)
        raw = delta.raw(part)
        part.data, part.codec = take(delta, schema).to_bytes(16, "little") + raw[16:], 0

    return change


def modified_id(delta, schema):
    number = next(i for i, t in enumerate(schema["tables"]) if t["role"] == "modified")
    return delta.ids(number)[0]


def created_id(delta, _):
    return delta.ids(0)[0]


def despawned_id(delta, _):
    return delta.loose_ids()[None][0]


HOSTILE = {
    "a role of whole saves": (roles((0, "state")), "expected a role of a delta"),
    "roles out of order": (roles((1, "modified"), (0, "created")), "expected tables created, modified"),
    "modified without components": (roles((0, "modified")), "expected a component in a table of modified"),
    "two tables of a kind": (roles((0, "created"), (0, "created")), "one table for each set of types"),
    "resources in a world as before": (put("world", {}), "no resources where the world is as before"),
    "no world": (put("world", None), "an object 'world'"),
    "a time that is none": (put("timestamp", "now"), "seconds since 1970"),
    "a time beyond all dates": (put("timestamp", 1e18), "seconds since 1970"),
    "a bool as time": (put("timestamp", True), "seconds since 1970"),
    "despawned ids at the end": (moved, "expected despawned ids, then ids without"),
    "ids without a type twice": (twice, "each once and with rows"),
    "ids without a type that there is not": (loose(-1, type=77), "ids without one of"),
    "no ids": (loose(-1, rows=0, raw_size=0, data=b""), "with rows"),
    "ids of a table": (loose(-1, table=0), "as the schema promises"),
    "ids of a field": (loose(-1, field=0), "as the schema promises"),
    "more rows than ids": (loose(-1, rows=9), "rows in"),
    "a codec for columns": (loose(-1, codec=0x101), "codec|flags"),
    "an unknown kind": (loose(-1, kind=7), "as the schema promises|every type"),
    "an id twice": (doubled_id, "twice among those created or modified"),
    "changed and gone": (one_of(5, modified_id), "both modified and despawned"),
    "without and gone": (one_of(6, despawned_id), "both without DeltaHome and despawned"),
    "without and new": (one_of(6, created_id), "both without DeltaHome and created"),
    "id 0": (one_of(5, lambda *_: 0), "other than 0"),
    "more rows than there are": (lambda d, _: setattr(d, "entity_count", 1), "expected 1 rows in all"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_fields_are_refused(reference, deltas, what):
    change, message = HOSTILE[what]
    data = altered(reference, data_of(deltas.everything()[0]), change)
    with pytest.raises(PersistenceError, match=message) as found:
        decode_delta(data, "hostile.pecs")
    assert isinstance(found.value, InvalidFormatError | CorruptedDataError)
    assert "hostile.pecs" in str(found.value)


def test_a_component_given_and_taken_at_once_is_refused(reference, deltas):
    def change(delta, schema):
        number = next(
            i
            for i, t in enumerate(schema["tables"])
            if t["role"] == "modified" and {"DeltaHome"} & {delta.types[k][0] for k in t["types"]}
        )
        return one_of(6, lambda d, _: d.ids(number)[0])(delta, schema)

    data = altered(reference, data_of(deltas.everything()[0]), change)
    with pytest.raises(CorruptedDataError, match="both without DeltaHome and with DeltaHome"):
        decode_delta(data)


def test_sections_of_later_versions_are_passed_over(reference, deltas):
    changes = deltas.everything()[0]

    def change(delta, _):
        for place in (0, 3, len(delta.parts) + 2):
            delta.parts.insert(place, reference.Part(0x8001, 0x777, 99, 88, 77, 66, 55, b"later"))

    data = altered(reference, data_of(changes), change)
    assert deltas.told(decode_delta(data).changes) == deltas.told(changes)


def test_features_of_later_versions_are_refused(reference):
    delta = reference.read(data_of(ChangeSet()), delta=True)
    delta.incompat = 1
    with pytest.raises(UnsupportedVersionError):
        decode_delta(delta.to_bytes())


def test_runs_that_ask_for_more_than_the_limits_are_refused_before_they_are_expanded(reference):
    count = 1 << 40

    def grown(delta, _):
        run = reference.pack_runs([(1, count)])
        delta.parts[0] = replace(delta.parts[0], rows=count, raw_size=16 * count, data=run)

    one = np.array([(1, 0)], STABLE_ID)
    data = altered(reference, data_of(ChangeSet(despawned=one)), grown)
    for source in (data, StreamSource(io.BytesIO(data))):
        with pytest.raises(LimitExceededError):
            decode_delta(source)


def test_limits_are_kept(deltas):
    data = data_of(deltas.everything()[0])
    for limits in (Limits(types=2), Limits(sections=3), Limits(itemsize=4), Limits(total_size=100)):
        with pytest.raises((LimitExceededError, InvalidFormatError)):
            decode_delta(data, limits=limits)


def test_components_unknown_here_come_by_name_and_others_must_agree(deltas, define):
    mark = define("DeltaUnknown", {"x": np.int8})
    tracker = ChangeTracker(world := World())
    world.spawn(mark(4))
    data = data_of(tracker.changes())
    unregister("DeltaUnknown")
    changes = decode_delta(data).changes
    assert changes.created[0].columns["DeltaUnknown"]["x"].tolist() == [4]
    define("DeltaUnknown", {"x": np.int16})
    with pytest.raises(ComponentDefinitionError):
        decode_delta(data)

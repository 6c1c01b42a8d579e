"""Sections one by one: keys, codecs and flags; that saves of them are read is for the tests of the formats."""

from __future__ import annotations

import numpy as np

from pecs_np import EntityRef, component_type
from pecs_np.ecs.ids import RUN, STABLE_ID, IdColumn
from pecs_np.persistence.binary import framing
from pecs_np.persistence.binary.blocks import SMALL, Budget, Whole
from pecs_np.persistence.binary.section_writer import SectionWriter, stored
from pecs_np.persistence.compression import Packing

NONE = framing.NOT_APPLICABLE


def test_ids_are_runs_where_that_pays_and_belong_to_a_table_or_to_none():
    sections = SectionWriter(None, Budget())
    sections.add_ids(IdColumn(STABLE_ID, ((5, 100),)), 3)
    scattered = np.array([(n * n, 1) for n in range(20)], STABLE_ID)
    sections.add_ids(IdColumn(STABLE_ID, array=scattered), NONE, kind=framing.REMOVED, type_=7)
    (runs, run), (ids, data) = sections.entries
    assert runs == (framing.STABLE_IDS, framing.RUNS, 3, NONE, NONE, 100, 1600, RUN.itemsize)
    assert np.frombuffer(run, RUN)["count"].tolist() == [100]
    assert ids == (framing.REMOVED, framing.RAW, NONE, 7, NONE, 20, 320, 320)
    assert bytes(data) == scattered.tobytes()
    assert sections.flags == framing.EXTENDED_METADATA


def test_a_column_is_as_many_sections_as_its_fields_need(define):
    type_ = component_type(define("SectionedMixed", {"n": np.int8, "to": EntityRef, "name": str}))
    column = np.zeros(2, type_.layout.memory)
    column["name"] = ["a", "bcd"]
    column["to"] = [1, 2]
    sections = SectionWriter(None, Budget())

    def mapped(references):
        found = np.zeros(references.shape, STABLE_ID)
        found["hi"] = references
        return found

    sections.add_column(column, type_, 4, 9, mapped)
    kinds = [key[0] for key, _ in sections.entries]
    assert kinds == [framing.COLUMN, framing.OFFSETS, framing.VALUES]
    assert [key[2:5] for key, _ in sections.entries] == [(4, 9, NONE), (4, 9, 2), (4, 9, 2)]
    rows, offsets, values = (bytes(data) for _, data in sections.entries)
    assert np.frombuffer(rows, type_.layout.disk)["to"]["hi"].tolist() == [1, 2]
    assert np.frombuffer(offsets, "<u8").tolist() == [0, 1, 4]
    assert values == b"abcd"


def test_what_packs_is_packed_and_the_codec_is_among_the_flags(define):
    type_ = component_type(define("SectionedPacked", {"n": np.int64}))
    sections = SectionWriter(Packing.of("zstd", None, True, 1), Budget())
    sections.add_column(np.zeros(4000, type_.layout.memory), type_, 0, 0, lambda references: references)
    sections.add_column(np.zeros(3, type_.layout.memory), type_, 0, 0, lambda references: references)
    codecs = [key[1] for key, _ in sections.entries]
    assert codecs == [framing.ZSTD | framing.SHUFFLE, framing.RAW]
    assert sections.flags == framing.EXTENDED_METADATA | framing.ZSTD


def test_small_columns_are_copied_and_large_ones_stay_where_they_lie():
    small, large = np.zeros(4, np.uint8), np.zeros(SMALL, np.uint8)
    assert stored(small) == bytes(4)
    whole = stored(large)
    assert isinstance(whole, Whole)
    assert np.shares_memory(np.frombuffer(whole.view, np.uint8), large)

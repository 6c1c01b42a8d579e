"""The frame of a save of version 2: all of it but the columns.

All integers are little-endian::

    header, type registry   as `header` has them; 1, 2: some section is zstd, lz4; 4: a delta; 8: always
                            zero bytes up to a multiple of 64
    extension header 64 B   magic "PCOL", incompat u32, ro_compat u32, compat u32, file_size u64,
                            section_count u32, schema_size u32, save_id u128, base_id u128
    directory               section_count x 64 B: kind u16, codec u16, table u32, type u32, field u32,
                            rows u64, offset u64, stored_size u64, raw_size u64, crc u64, 0 u64
    schema                  UTF-8 JSON
    head_crc          8 B   CRC of every byte before it
                            zero bytes up to a multiple of 64
    sections                each at the next multiple of 64, zero bytes between
    footer            8 B   CRC of every byte before it

Every offset follows from the sizes, so there is no place for a stray byte. Kinds of sections: 1 stable
ids, 2 the fixed-size part of a component, 3 offsets and 4 values of a variable-length field, 5 and 6
for deltas; one with bit 0x8000 may be skipped. Codecs: 0 raw, 1 zstd, 2 lz4, 3 runs of ids; with 1 and
2, bit 0x100 for shuffle and 0x200 for delta (see `compression`).
"""

from __future__ import annotations

import copy
import io
import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from pecs_np.errors import CorruptedDataError, InvalidFormatError, UnsupportedVersionError
from pecs_np.persistence.binary.blocks import Blocks, Whole, flat
from pecs_np.persistence.binary.header import HEADER, MAGIC, Header, Registry, beyond, more
from pecs_np.persistence.binary.sources import Source
from pecs_np.persistence.checksum import combine, crc64
from pecs_np.persistence.limits import Limits

__all__ = [
    "ALIGNMENT",
    "COLUMN",
    "DELTA",
    "DELTA_FILTER",
    "EXTENDED_METADATA",
    "EXTENSION_SIZE",
    "KIND_NAMES",
    "LZ4",
    "NOT_APPLICABLE",
    "OFFSETS",
    "RAW",
    "RUNS",
    "SAVE_ID",
    "SECTION_CRC",
    "SHUFFLE",
    "SKIPPABLE",
    "STABLE_IDS",
    "VALUES",
    "VERSION",
    "ZEROS",
    "ZSTD",
    "Frame",
    "Head",
    "Section",
    "aligned",
    "read_head",
    "save_id_in",
]

EXTENSION_MAGIC = b"PCOL"
VERSION = 2
ALIGNMENT = 64
NOT_APPLICABLE = 0xFFFFFFFF

_EXTENSION = struct.Struct("<4sIIIQII16s16s")
EXTENSION_SIZE = _EXTENSION.size
_ENTRY = struct.Struct("<HHIIIQQQQQQ")
_CRC = struct.Struct("<Q")
ZEROS = bytes(ALIGNMENT)
# Where the sum stands in an entry, and the save id in the extension header.
SECTION_CRC = _ENTRY.size - 16
SAVE_ID = 32

DELTA, EXTENDED_METADATA = 4, 8

# Kinds of sections. Plain integers: the members of an enum are slow to reach.
STABLE_IDS, COLUMN, OFFSETS, VALUES, DESPAWNED, REMOVED = range(1, 7)
SKIPPABLE = 0x8000
KIND_NAMES = ("", "stable ids", "column", "offsets", "values", "despawned ids", "ids without the type")

# Codecs, the low byte, and what was done before to the items.
RAW, ZSTD, LZ4, RUNS = range(4)
SHUFFLE, DELTA_FILTER = 0x100, 0x200


# One entry of the directory: kind, codec, table, type, field, rows, offset, stored size, raw size, crc, 0.
# A plain tuple, because small saves are read in microseconds.
Section = tuple[int, ...]


class Frame:
    """A save without its content: all of the head that follows from types, rows and sizes.

    Parameters
    ----------
    sections : tuple of (kind, codec, table, type, field, rows, raw size, stored size)
    """

    __slots__ = (
        "_buffers",
        "_crc_at",
        "_directory",
        "_extension",
        "_footer",
        "_head",
        "_open",
        "_registry",
        "_starts",
    )

    def __init__(
        self,
        *,
        flags: int,
        entity_count: int,
        type_count: int,
        registry: bytes,
        schema: bytes,
        sections: tuple[tuple[int, ...], ...],
        base_id: bytes = bytes(16),
    ) -> None:
        extension = aligned(HEADER.size + len(registry))
        directory = extension + _EXTENSION.size
        schema_at = directory + _ENTRY.size * len(sections)
        crc_at = schema_at + len(schema)
        end = aligned(crc_at + _CRC.size)
        head = bytearray(end)
        HEADER.pack_into(head, 0, MAGIC, VERSION, flags, entity_count, type_count)
        head[HEADER.size : HEADER.size + len(registry)] = registry
        head[schema_at:crc_at] = schema
        # The head, a gap and a section in turns, the footer.
        self._buffers: list[Any] = [b""] * (2 * len(sections) + 2)
        ends = []
        self._starts = []
        for i, (*key, raw_size, stored_size) in enumerate(sections):
            start = aligned(end)
            _ENTRY.pack_into(head, directory + _ENTRY.size * i, *key, start, stored_size, raw_size, 0, 0)
            self._buffers[2 * i + 1] = bytes(start - end)
            end = start + stored_size
            self._starts.append(start)
            ends.append(end)
        _EXTENSION.pack_into(
            head,
            extension,
            EXTENSION_MAGIC,
            0,
            0,
            0,
            end + _CRC.size,
            len(sections),
            len(schema),
            bytes(16),
            base_id,
        )
        self._head = head
        self._registry = registry
        self._extension = extension
        self._directory = directory
        self._crc_at = crc_at
        # What the sections that are not settled are: number, place of the sum, bytes up to the footer.
        self._open = [
            (i, directory + _ENTRY.size * i + SECTION_CRC, end - stop) for i, stop in enumerate(ends)
        ]
        self._footer = 0

    def settled(self, stored: Sequence[Any]) -> Frame:
        """Return a frame for saves in which the sections given in *stored*, None for others, stay as they are."""
        frame = copy.copy(self)
        frame._head = self._head.copy()
        frame._open = []
        for entry in self._open:
            data = stored[entry[0]]
            if data is None:
                frame._open.append(entry)
            else:
                frame._footer ^= _add_sum(frame._head, entry, data)
        return frame

    def filled(self, stored: Sequence[Any]) -> list[Any]:
        """Return the whole save, with *stored* as its sections, as what to write one after the other.

        That is buffers, and what stands in *stored*: bytes, and others that know their sum (`blocks`).
        """
        head = self._head.copy()
        # The sum of the head with its own sum behind it is 0, and so are those of the zero bytes.
        footer = self._footer
        for entry in self._open:
            footer ^= _add_sum(head, entry, stored[entry[0]])
        crc_at = self._crc_at
        content = self._registry + head[self._directory : crc_at]
        save_id_at = self._extension + SAVE_ID
        head[save_id_at : save_id_at + 16] = blake2b(content, digest_size=16).digest()
        _CRC.pack_into(head, crc_at, crc64(head[:crc_at]))
        buffers = self._buffers.copy()
        buffers[0] = head
        buffers[2:-1:2] = stored
        buffers[-1] = _CRC.pack(footer)
        return buffers

    def joined(self, stored: Sequence[Any]) -> bytes:
        """Return the whole save as its bytes.

        The sums are those of what was copied: whatever another thread does to the columns meanwhile, they agree.
        """
        kinds = set(map(type, stored))
        if Whole not in kinds:
            parts = self.filled(stored)
            return b"".join(map(flat, parts) if Blocks in kinds else parts)
        parts = self._buffers.copy()
        parts[0] = self._head
        parts[2:-1:2] = map(flat, stored)
        parts[-1] = ZEROS[: _CRC.size]
        # Nobody else has these bytes, so that they are written to, and given back, without a copy.
        file = io.BytesIO(b"".join(parts))
        del parts
        with file.getbuffer() as data:
            for part, start in zip(stored, self._starts, strict=True):
                if type(part) is Whole:
                    part.crc = crc64(data[start : start + len(part)])
            head, *_, footer = self.filled(stored)
            data[: len(head)] = head
            data[-len(footer) :] = footer
        return file.getvalue()


def _add_sum(head: bytearray, entry: tuple[int, int, int], data: Any) -> int:
    """Write the sum of a section to the directory and return what it adds to that of the whole save."""
    _, at, following = entry
    crc = crc64(data) if type(data) is bytes else data.crc
    _CRC.pack_into(head, at, crc)
    return combine(crc, 0, following) if following else crc


class Head(NamedTuple):
    """Everything before the sections, checked against its own sum and against the size of the save.

    Attributes
    ----------
    registry : tuple of (name, version)
    sections : tuple of Section
        Those that may be skipped included.
    schema : bytes
    size : int
        Bytes up to the first section.
    """

    flags: int
    entity_count: int
    registry: Registry
    sections: tuple[Section, ...]
    schema: bytes
    save_id: bytes
    base_id: bytes
    size: int


def read_head(source: Source, header: Header, limits: Limits) -> Head:
    """Read and check everything before the sections, of a save of version 2.

    Raises
    ------
    InvalidFormatError, UnsupportedVersionError, CorruptedDataError, LimitExceededError
    """
    _, flags, entity_count, registry, data, end = header
    if flags & ~15 or not flags & EXTENDED_METADATA:
        raise InvalidFormatError(f"expected known flags with 8, found {flags:#x} at byte 8 of {source.name}")
    extension = (end + ALIGNMENT - 1) & -ALIGNMENT
    directory = extension + _EXTENSION.size
    if len(data) < directory:
        data = more(source, data, directory)
    magic, incompat, _, _, file_size, section_count, schema_size, save_id, base_id = _EXTENSION.unpack_from(
        data, extension
    )
    if magic != EXTENSION_MAGIC:
        raise InvalidFormatError(
            f"expected {EXTENSION_MAGIC!r}, found {magic!r} at byte {extension} of {source.name}"
        )
    if incompat:
        raise UnsupportedVersionError(
            incompat, 0, what=f"the format's incompatible features in {source.name}"
        )
    if not source.ahead:
        source.size = file_size
    if file_size != source.size:
        raise CorruptedDataError(
            f"expected {file_size} bytes, found {source.size} in {source.name}",
            suggestion="the file was cut short or added to: load a backup",
        )
    if section_count > limits.sections:
        raise beyond(limits.sections, "sections", section_count, source)
    if schema_size > limits.schema_size:
        raise beyond(limits.schema_size, "bytes of schema", schema_size, source)
    schema_at = directory + section_count * _ENTRY.size
    crc_at = schema_at + schema_size
    size = (crc_at + _CRC.size + ALIGNMENT - 1) & -ALIGNMENT
    if size > limits.head_size:
        raise beyond(limits.head_size, "bytes of head", size, source)
    if len(data) < size:
        data = more(source, data, size)
    crc = crc64(data[:crc_at])
    if crc != (found := int.from_bytes(data[crc_at : crc_at + 8], "little")):
        raise CorruptedDataError(
            f"expected head checksum {crc:#018x}, found {found:#018x} at byte {crc_at} of {source.name}",
            suggestion="load a backup",
        )
    source.registry = registry
    for start, stop in ((end, extension), (crc_at + _CRC.size, size)):
        if stop > start and data[start:stop] != ZEROS[: stop - start]:
            raise CorruptedDataError(f"expected zero bytes, found others at byte {start} of {source.name}")
    sections = tuple(_ENTRY.iter_unpack(data[directory:schema_at]))
    schema = bytes(data[schema_at:crc_at])
    return Head(flags, entity_count, registry, sections, schema, save_id, base_id, size)


def save_id_in(head: bytes | bytearray) -> int:
    """Return the save id in the first part that `Frame.filled` returns."""
    end = HEADER.size
    for _ in range(int.from_bytes(head[HEADER.size - 4 : HEADER.size], "little")):
        end += 24 + int.from_bytes(head[end + 16 : end + 20], "little")
    at = aligned(end) + SAVE_ID
    return int.from_bytes(head[at : at + 16], "little")


def aligned(offset: int) -> int:
    """Return the first multiple of 64 at or after *offset*."""
    return (offset + ALIGNMENT - 1) & -ALIGNMENT

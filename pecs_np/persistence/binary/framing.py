"""The frame of a binary save, all little-endian::

    header           24 B   magic "PECS", version u32, flags u32, entity_count u64, type_count u32
    type registry           per type: type_id u128, name_len u32, name UTF-8, type_version u32
                            zero bytes up to a multiple of 64
    extension header 64 B   magic "PCOL", incompat u32, ro_compat u32, compat u32, file_size u64,
                            section_count u32, schema_size u32, save_id u128, base_id u128
    directory               section_count × 64 B: kind u16, codec u16, table u32, type u32, field u32,
                            rows u64, offset u64, stored_size u64, raw_size u64, crc u64, 0 u64
    schema                  UTF-8 JSON
    head_crc          8 B   CRC of every byte before it
                            zero bytes up to a multiple of 64
    sections                each at the next multiple of 64, zero bytes between
    footer            8 B   CRC of every byte before it

This is version 2. Every offset follows from the sizes, so there is no place for a stray byte.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import check_name
from pecs_np.errors import (
    CorruptedDataError,
    InvalidFormatError,
    LimitExceededError,
    UnsupportedVersionError,
)
from pecs_np.persistence.checksum import combine, crc64
from pecs_np.persistence.limits import Limits

__all__ = [
    "MAGIC",
    "NOT_APPLICABLE",
    "VERSION",
    "Codec",
    "FormatFlags",
    "Head",
    "Kind",
    "Section",
    "Source",
    "frame",
    "read_head",
    "registry_of",
    "type_id",
]

MAGIC = b"PECS"
EXTENSION_MAGIC = b"PCOL"
VERSION = 2
ALIGNMENT = 64
NOT_APPLICABLE = 0xFFFFFFFF

_HEADER = struct.Struct("<4sIIQI")
_EXTENSION = struct.Struct("<4sIIIQII16s16s")
_ENTRY = struct.Struct("<HHIIIQQQQQQ")
_CRC = struct.Struct("<Q")
_ZEROS = bytes(ALIGNMENT)
_SKIPPABLE = 0x8000
# One read brings in the head of most saves.
_FIRST_READ = 1 << 16


class FormatFlags(IntFlag):
    """The flags of the header."""

    NONE = 0
    COMPRESSED_ZSTD = 1
    COMPRESSED_LZ4 = 2
    DELTA = 4
    EXTENDED_METADATA = 8


class Kind(IntEnum):
    """What a section holds."""

    STABLE_IDS = 1
    COLUMN = 2
    OFFSETS = 3
    VALUES = 4
    DESPAWNED = 5
    REMOVED = 6


class Codec(IntEnum):
    """How a section is stored."""

    RAW = 0
    ZSTD = 1
    LZ4 = 2
    RUNS = 3


class Section(NamedTuple):
    """One entry of the directory."""

    kind: int
    codec: int
    table: int
    type: int
    field: int
    rows: int
    offset: int
    stored_size: int
    raw_size: int
    crc: int
    reserved: int


class Source(Protocol):
    """Bytes that can be read at any place."""

    name: str
    size: int

    def read(self, offset: int, size: int) -> bytes:
        """Return *size* bytes, which are there."""
        ...

    def array(self, offset: int, size: int) -> Array:
        """Return *size* bytes, which are there, as a new writable array of u1."""
        ...


@functools.cache
def type_id(name: str) -> bytes:
    """Return a component's type id: BLAKE2b-128 of its name, the bytes of a little-endian u128.

    Examples
    --------
    >>> type_id("Position").hex()
    '81d7bb9b7ee05a2ac10a5a5b6a3d6fc5'
    """
    return blake2b(name.encode(), digest_size=16).digest()


def registry_of(types: Sequence[ComponentType]) -> bytes:
    """Return the registry entries of *types*."""
    entries = []
    for type_ in types:
        name = type_.name.encode()
        entries.append(
            b"%b%b%b%b"
            % (
                type_id(type_.name),
                len(name).to_bytes(4, "little"),
                name,
                type_.version.to_bytes(4, "little"),
            )
        )
    return b"".join(entries)


def frame(
    *,
    flags: int,
    entity_count: int,
    type_count: int,
    registry: bytes,
    schema: bytes,
    sections: Sequence[tuple[tuple[int, ...], int, Any]],
    base_id: bytes = bytes(16),
) -> list[Any]:
    """Return a whole save as buffers to write one after the other.

    Parameters
    ----------
    sections : sequence of (key, raw size, stored bytes)
        Each key is kind, codec, table, type, field, rows.
    """
    extension = _aligned(_HEADER.size + len(registry))
    directory = extension + _EXTENSION.size
    schema_at = directory + _ENTRY.size * len(sections)
    crc_at = schema_at + len(schema)
    end = _aligned(crc_at + _CRC.size)
    head = bytearray(end)
    _HEADER.pack_into(head, 0, MAGIC, VERSION, flags, entity_count, type_count)
    head[_HEADER.size : _HEADER.size + len(registry)] = registry
    head[schema_at:crc_at] = schema
    buffers: list[Any] = [head]
    sums = []
    at = directory
    for key, raw_size, stored in sections:
        start = _aligned(end)
        size = len(stored)
        crc = crc64(stored)
        _ENTRY.pack_into(head, at, *key, start, size, raw_size, crc, 0)
        at += _ENTRY.size
        if start > end:
            buffers.append(_ZEROS[: start - end])
        buffers.append(stored)
        # Zero bytes before a section do not change its sum.
        sums.append((crc, start + size - end))
        end = start + size
    digest = blake2b(registry, digest_size=16)
    digest.update(head[directory:crc_at])
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
        digest.digest(),
        base_id,
    )
    _CRC.pack_into(head, crc_at, crc64(memoryview(head)[:crc_at]))
    footer = crc64(head)
    for crc, size in sums:
        footer = combine(footer, crc, size)
    buffers.append(_CRC.pack(footer))
    return buffers


@dataclass(frozen=True, slots=True)
class Head:
    """Everything before the sections, checked against its own sum and against the size of the save.

    Attributes
    ----------
    registry : tuple of (name, version)
    sections : tuple of Section
        Those that may be skipped included.
    schema : bytes
    size : int
        Bytes up to the first section.
    crc : int
        Of those bytes.
    """

    flags: int
    entity_count: int
    registry: tuple[tuple[str, int], ...]
    sections: tuple[Section, ...]
    schema: bytes
    save_id: bytes
    base_id: bytes
    size: int
    crc: int

    def footer(self) -> int:
        """Return the sum that the footer must hold, from the sums of head and sections."""
        crc, end = self.crc, self.size
        for section in self.sections:
            following = section.offset + section.stored_size
            crc = combine(crc, section.crc, following - end)
            end = following
        return crc

    def check_footer(self, source: Source) -> None:
        """Raise unless the gaps are zero and the footer holds the sum of all that comes before it."""
        end = self.size
        for section in self.sections:
            if section.offset > end and source.read(end, section.offset - end).strip(b"\0"):
                raise CorruptedDataError(
                    f"expected zero bytes, found others at byte {end} of {source.name}",
                    suggestion="load a backup",
                )
            end = section.offset + section.stored_size
        found = int.from_bytes(source.read(source.size - _CRC.size, _CRC.size), "little")
        if found != (expected := self.footer()):
            raise CorruptedDataError(
                f"expected footer checksum {expected:#018x}, found {found:#018x} at byte"
                f" {source.size - _CRC.size} of {source.name}",
                suggestion="load a backup",
            )


def read_head(source: Source, limits: Limits) -> Head:
    """Read and check everything before the sections.

    Raises
    ------
    InvalidFormatError, UnsupportedVersionError, CorruptedDataError, LimitExceededError
    """
    data = source.read(0, min(source.size, _FIRST_READ))
    if data[:4] != MAGIC:
        raise InvalidFormatError(
            f"expected a save, which begins with {MAGIC!r}, found {data[:4]!r} at byte 0 of {source.name}",
            suggestion="check that it is a PECS binary file",
        )
    if len(data) < _HEADER.size:
        raise _short(source, _HEADER.size)
    _, version, flags, entity_count, type_count = _HEADER.unpack_from(data)
    if version != VERSION:
        raise UnsupportedVersionError(version, VERSION, what=f"the binary format in {source.name}")
    if flags & ~15 or not flags & FormatFlags.EXTENDED_METADATA:
        raise InvalidFormatError(f"expected known flags with 8, found {flags:#x} at byte 8 of {source.name}")
    _within(type_count, limits.types, "types", source)
    registry, end = _read_registry(source, data, type_count, limits)
    extension = _aligned(end)
    data = _more(source, data, extension + _EXTENSION.size)
    if data[end:extension].strip(b"\0"):
        raise InvalidFormatError(f"expected zero bytes, found others at byte {end} of {source.name}")
    magic, incompat, _, _, file_size, section_count, schema_size, save_id, base_id = (
        _EXTENSION.unpack_from(data, extension)
    )
    if magic != EXTENSION_MAGIC:
        raise InvalidFormatError(
            f"expected {EXTENSION_MAGIC!r}, found {magic!r} at byte {extension} of {source.name}"
        )
    if incompat:
        raise UnsupportedVersionError(
            incompat, 0, what=f"the format's incompatible features in {source.name}"
        )
    if file_size != source.size:
        raise CorruptedDataError(
            f"expected {file_size} bytes, found {source.size} in {source.name}",
            suggestion="the file was cut short or added to: load a backup",
        )
    _within(section_count, limits.sections, "sections", source)
    _within(schema_size, limits.schema_size, "bytes of schema", source)
    directory = extension + _EXTENSION.size
    schema_at = directory + section_count * _ENTRY.size
    crc_at = schema_at + schema_size
    size = _aligned(crc_at + _CRC.size)
    _within(size, limits.head_size, "bytes of head", source)
    data = _more(source, data, size)
    crc = crc64(data[:crc_at])
    (found,) = _CRC.unpack_from(data, crc_at)
    if crc != found:
        raise CorruptedDataError(
            f"expected head checksum {crc:#018x}, found {found:#018x} at byte {crc_at} of {source.name}",
            suggestion="load a backup",
        )
    if data[crc_at + _CRC.size : size].strip(b"\0"):
        raise CorruptedDataError(
            f"expected zero bytes, found others at byte {crc_at + _CRC.size} of {source.name}"
        )
    sections = tuple(map(Section._make, _ENTRY.iter_unpack(data[directory:schema_at])))
    _check_tiling(sections, size, source)
    if save_id != blake2b(data[_HEADER.size : end] + data[directory:crc_at], digest_size=16).digest():
        raise CorruptedDataError(f"expected the save id of its own content, found another in {source.name}")
    return Head(
        flags,
        entity_count,
        registry,
        sections,
        data[schema_at:crc_at],
        save_id,
        base_id,
        size,
        crc64(data[crc_at:size], crc),
    )


def _read_registry(
    source: Source, data: bytes, count: int, limits: Limits
) -> tuple[tuple[tuple[str, int], ...], int]:
    """Return (name, version) of each type, and the end of the registry."""
    registry = []
    last = b""
    at = _HEADER.size
    for i in range(count):
        where = f"type {i} at byte {at} of {source.name}"
        data = _more(source, data, at + 20)
        length = int.from_bytes(data[at + 16 : at + 20], "little")
        if not 1 <= length <= 1024:
            raise InvalidFormatError(f"expected a name of 1 to 1024 bytes, found {length} for {where}")
        end = at + 20 + length + 4
        _within(end, limits.head_size, "bytes of head", source)
        data = _more(source, data, end)
        raw = data[at + 20 : end - 4]
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise InvalidFormatError(f"expected a UTF-8 name, found {raw!r:.80} for {where}") from None
        if not name.isprintable():
            check_name(name, where, InvalidFormatError)
        if raw <= last:
            raise InvalidFormatError(f"expected names in order, found {name!r} after {last!r} for {where}")
        if data[at : at + 16] != type_id(name):
            raise InvalidFormatError(
                f"expected type id {type_id(name).hex()} of {name!r}, found {data[at : at + 16].hex()} for {where}"
            )
        registry.append((name, int.from_bytes(data[end - 4 : end], "little")))
        last, at = raw, end
    return tuple(registry), at


def _check_tiling(sections: Sequence[Section], end: int, source: Source) -> None:
    for i, section in enumerate(sections):
        if section.offset != _aligned(end) or section.reserved:
            raise InvalidFormatError(
                f"expected offset {_aligned(end)} and reserved 0, found {section.offset} and"
                f" {section.reserved} for section {i} of {source.name}"
            )
        end = section.offset + section.stored_size
        if not 1 <= section.kind <= 6 and not section.kind & _SKIPPABLE:
            raise InvalidFormatError(
                f"expected a known kind, found {section.kind} for section {i} of {source.name}",
                suggestion="a newer version of the library may read it",
            )
    if end + _CRC.size != source.size:
        raise InvalidFormatError(
            f"expected sections to end at byte {source.size - _CRC.size}, found {end} in {source.name}"
        )


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _more(source: Source, data: bytes, size: int) -> bytes:
    """Return at least *size* bytes from the start of *source*, of which *data* are the first."""
    if size <= len(data):
        return data
    if size > source.size:
        raise _short(source, size)
    step = max(size, min(2 * len(data), source.size))
    return data + source.read(len(data), step - len(data))


def _short(source: Source, needed: int) -> CorruptedDataError:
    return CorruptedDataError(
        f"expected at least {needed} bytes, found {source.size} in {source.name}",
        suggestion="the file was cut short: load a backup",
    )


def _within(found: int, limit: int, what: str, source: Source) -> None:
    if found > limit:
        raise LimitExceededError(
            f"expected at most {limit} {what}, found {found} in {source.name}",
            suggestion="pass larger Limits if you trust where it comes from",
        )

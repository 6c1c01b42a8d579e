"""The frame of a binary save.

All integers are little-endian::

    header           24 B   magic "PECS", version u32, flags u32, entity_count u64, type_count u32
    type registry           per type: type_id u128, name_len u32, name UTF-8, type_version u32
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

This is version 2. Every offset follows from the sizes, so there is no place for a stray byte.
"""

from __future__ import annotations

import copy
import functools
import struct
from collections.abc import Sequence
from enum import IntFlag
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

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
    "ALIGNMENT",
    "COLUMN",
    "DELTA",
    "EXTENDED_METADATA",
    "FOOTER_SIZE",
    "KIND_NAMES",
    "LZ4",
    "MAGIC",
    "NOT_APPLICABLE",
    "OFFSETS",
    "RAW",
    "REMOVED",
    "RUNS",
    "SKIPPABLE",
    "SMALL",
    "STABLE_IDS",
    "VALUES",
    "VERSION",
    "ZEROS",
    "ZSTD",
    "FormatFlags",
    "Frame",
    "Head",
    "Section",
    "Source",
    "aligned",
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
FOOTER_SIZE = _CRC.size
ZEROS = bytes(ALIGNMENT)
_ENTRY_CRC = _ENTRY.size - 16
_SAVE_ID = 32
_LONGEST_NAME = 1024
# Below this, bytes and bytearrays are cheaper to handle than arrays.
SMALL = 1 << 15
# One read brings in the head of most saves.
_FIRST_READ = 1 << 11


class FormatFlags(IntFlag):
    """The flags of the header."""

    NONE = 0
    COMPRESSED_ZSTD = 1
    COMPRESSED_LZ4 = 2
    DELTA = 4
    EXTENDED_METADATA = 8


DELTA, EXTENDED_METADATA = 4, 8

# Kinds of sections. Plain integers: the members of an enum are slow to reach.
STABLE_IDS, COLUMN, OFFSETS, VALUES, DESPAWNED, REMOVED = range(1, 7)
SKIPPABLE = 0x8000
KIND_NAMES = ("", "stable ids", "column", "offsets", "values", "despawned ids", "ids without the type")

# Codecs, the low byte
RAW, ZSTD, LZ4, RUNS = range(4)


# One entry of the directory: kind, codec, table, type, field, rows, offset, stored size, raw size, crc, 0.
# A plain tuple, because small saves are read in microseconds.
Section = tuple[int, ...]


class Source(Protocol):
    """Bytes that can be read at any place."""

    name: str
    size: int

    def read(self, offset: int, size: int) -> bytes:
        """Return *size* bytes, which are there."""
        ...

    def fresh(self, offset: int, size: int) -> Any:
        """Return *size* bytes, which are there, as a new writable buffer: a bytearray, or an array of u1."""
        ...


@functools.lru_cache(maxsize=4096)
def type_id(name: str) -> bytes:
    """Return a component's type id: BLAKE2b-128 of its name, the bytes of a little-endian u128.

    Examples
    --------
    >>> type_id("Position").hex()
    '8b3a2ef148ecca3dc467442335f6f781'
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


class Frame:
    """A save without its content: all of the head that follows from types, rows and sizes.

    Parameters
    ----------
    sections : tuple of (kind, codec, table, type, field, rows, raw size, stored size)
    """

    __slots__ = ("_buffers", "_crc_at", "_directory", "_extension", "_footer", "_head", "_open", "_registry")

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
        extension = aligned(_HEADER.size + len(registry))
        directory = extension + _EXTENSION.size
        schema_at = directory + _ENTRY.size * len(sections)
        crc_at = schema_at + len(schema)
        end = aligned(crc_at + _CRC.size)
        head = bytearray(end)
        _HEADER.pack_into(head, 0, MAGIC, VERSION, flags, entity_count, type_count)
        head[_HEADER.size : _HEADER.size + len(registry)] = registry
        head[schema_at:crc_at] = schema
        # The head, a gap and a section in turns, the footer.
        self._buffers: list[Any] = [b""] * (2 * len(sections) + 2)
        ends = []
        for i, (*key, raw_size, stored_size) in enumerate(sections):
            start = aligned(end)
            _ENTRY.pack_into(head, directory + _ENTRY.size * i, *key, start, stored_size, raw_size, 0, 0)
            self._buffers[2 * i + 1] = bytes(start - end)
            end = start + stored_size
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
            (i, directory + _ENTRY.size * i + _ENTRY_CRC, end - stop) for i, stop in enumerate(ends)
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
        """Return the whole save, with *stored* as its sections, as buffers to write one after the other."""
        head = self._head.copy()
        # The sum of the head with its own sum behind it is 0, and so are those of the zero bytes.
        footer = self._footer
        for entry in self._open:
            footer ^= _add_sum(head, entry, stored[entry[0]])
        crc_at = self._crc_at
        content = self._registry + head[self._directory : crc_at]
        save_id_at = self._extension + _SAVE_ID
        head[save_id_at : save_id_at + 16] = blake2b(content, digest_size=16).digest()
        _CRC.pack_into(head, crc_at, crc64(head[:crc_at]))
        buffers = self._buffers.copy()
        buffers[0] = head
        buffers[2:-1:2] = stored
        buffers[-1] = _CRC.pack(footer)
        return buffers


def _add_sum(head: bytearray, entry: tuple[int, int, int], data: Any) -> int:
    """Write the sum of a section to the directory and return what it adds to that of the whole save."""
    _, at, following = entry
    crc = crc64(data)
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
    registry: tuple[tuple[str, int], ...]
    sections: tuple[Section, ...]
    schema: bytes
    save_id: bytes
    base_id: bytes
    size: int


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
    if flags & ~15 or not flags & EXTENDED_METADATA:
        raise InvalidFormatError(f"expected known flags with 8, found {flags:#x} at byte 8 of {source.name}")
    if type_count > limits.types:
        raise _beyond(limits.types, "types", type_count, source)
    end = _HEADER.size
    for _ in range(type_count):
        if end + 20 > len(data):
            data = _more(source, data, end + 20)
        # A length that the format forbids is refused below; here it must only not run away.
        end += 24 + min(int.from_bytes(data[end + 16 : end + 20], "little"), _LONGEST_NAME + 1)
    if end > limits.head_size:
        raise _beyond(limits.head_size, "bytes of head", end, source)
    extension = (end + ALIGNMENT - 1) & -ALIGNMENT
    directory = extension + _EXTENSION.size
    if len(data) < directory:
        data = _more(source, data, directory)
    registry = _read_registry(data[_HEADER.size : end], source.name)
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
    if file_size != source.size:
        raise CorruptedDataError(
            f"expected {file_size} bytes, found {source.size} in {source.name}",
            suggestion="the file was cut short or added to: load a backup",
        )
    if section_count > limits.sections:
        raise _beyond(limits.sections, "sections", section_count, source)
    if schema_size > limits.schema_size:
        raise _beyond(limits.schema_size, "bytes of schema", schema_size, source)
    schema_at = directory + section_count * _ENTRY.size
    crc_at = schema_at + schema_size
    size = (crc_at + _CRC.size + ALIGNMENT - 1) & -ALIGNMENT
    if size > limits.head_size:
        raise _beyond(limits.head_size, "bytes of head", size, source)
    if len(data) < size:
        data = _more(source, data, size)
    crc = crc64(data[:crc_at])
    if crc != (found := int.from_bytes(data[crc_at : crc_at + 8], "little")):
        raise CorruptedDataError(
            f"expected head checksum {crc:#018x}, found {found:#018x} at byte {crc_at} of {source.name}",
            suggestion="load a backup",
        )
    for start, stop in ((end, extension), (crc_at + _CRC.size, size)):
        if stop > start and data[start:stop] != ZEROS[: stop - start]:
            raise CorruptedDataError(f"expected zero bytes, found others at byte {start} of {source.name}")
    sections = tuple(_ENTRY.iter_unpack(data[directory:schema_at]))
    return Head(flags, entity_count, registry, sections, data[schema_at:crc_at], save_id, base_id, size)


@functools.lru_cache(maxsize=64)
def _read_registry(data: bytes, name_of_source: str) -> tuple[tuple[str, int], ...]:
    """Return (name, version) of each type."""
    registry: list[tuple[str, int]] = []
    last = b""
    at = 0
    while at < len(data):
        where = f"type {len(registry)} at byte {at + _HEADER.size} of {name_of_source}"
        length = int.from_bytes(data[at + 16 : at + 20], "little")
        if not 1 <= length <= _LONGEST_NAME:
            raise InvalidFormatError(
                f"expected a name of 1 to {_LONGEST_NAME} bytes, found {length} for {where}"
            )
        end = at + 24 + length
        raw = data[at + 20 : end - 4]
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise InvalidFormatError(f"expected a UTF-8 name, found {raw!r:.80} for {where}") from None
        check_name(name, where, InvalidFormatError)
        if raw <= last:
            raise InvalidFormatError(f"expected names in order, found {name!r} after {last!r} for {where}")
        if data[at : at + 16] != type_id(name):
            raise InvalidFormatError(
                f"expected type id {type_id(name).hex()} of {name!r},"
                f" found {data[at : at + 16].hex()} for {where}"
            )
        registry.append((name, int.from_bytes(data[end - 4 : end], "little")))
        last, at = raw, end
    return tuple(registry)


def aligned(offset: int) -> int:
    """Return the first multiple of 64 at or after *offset*."""
    return (offset + ALIGNMENT - 1) & -ALIGNMENT


def _more(source: Source, data: bytes, size: int) -> bytes:
    """Return at least *size* bytes from the start of *source*, of which *data* are the first."""
    if size > source.size:
        raise _short(source, size)
    step = max(size, min(2 * len(data), source.size))
    return data + source.read(len(data), step - len(data))


def _short(source: Source, needed: int) -> CorruptedDataError:
    return CorruptedDataError(
        f"expected at least {needed} bytes, found {source.size} in {source.name}",
        suggestion="the file was cut short: load a backup",
    )


def _beyond(limit: int, what: str, found: int, source: Source) -> LimitExceededError:
    return LimitExceededError(
        f"expected at most {limit} {what}, found {found} in {source.name}",
        suggestion="pass larger Limits if you trust where it comes from",
    )

"""The start of every binary save: header and registry, the same in both versions.

All integers are little-endian::

    header           24 B   magic "PECS", version u32, flags u32, entity_count u64, type_count u32
    type registry           per type: type_id u128, name_len u32, name UTF-8, type_version u32

The id of a type is BLAKE2b-128 of its name. The registry is sorted by name, bytewise. Version 1, which
has no flags, goes on with entity records (`record_writer`), version 2 with a directory of columns
(`framing`); both end with a checksum.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from enum import IntFlag
from hashlib import blake2b
from typing import NamedTuple

from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import check_name
from pecs_np.errors import (
    CorruptedDataError,
    InvalidFormatError,
    LimitExceededError,
    UnsupportedVersionError,
)
from pecs_np.persistence.binary.sources import Registry, Source
from pecs_np.persistence.limits import Limits

__all__ = [
    "FOOTER_SIZE",
    "HEADER",
    "MAGIC",
    "VERSIONS",
    "FormatFlags",
    "Header",
    "Registry",
    "beyond",
    "more",
    "read_header",
    "read_start",
    "registry_of",
    "type_id",
]

MAGIC = b"PECS"
VERSIONS = (1, 2)
HEADER = struct.Struct("<4sIIQI")
FOOTER_SIZE = 8
_LONGEST_NAME = 1024
_SHORTEST_ENTRY = 25
_CACHED_SIZE = 1 << 13


class FormatFlags(IntFlag):
    """The flags of the header."""

    NONE = 0
    COMPRESSED_ZSTD = 1
    COMPRESSED_LZ4 = 2
    DELTA = 4
    EXTENDED_METADATA = 8


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


class Header(NamedTuple):
    """Header and registry, read and checked as far as they can be without the sum of the file.

    Attributes
    ----------
    version, flags, entity_count : int
    registry : tuple of (name, version)
    data : bytes or bytearray
        From the start of the save to `end` at least.
    end : int
        Bytes of header and registry.
    """

    version: int
    flags: int
    entity_count: int
    registry: Registry
    data: bytes | bytearray
    end: int


def read_start(source: Source) -> bytes:
    """Return the first bytes of a save: its head or more, where that is small and the size is known."""
    return source.read(0, min(source.size, source.ahead or HEADER.size))


def read_header(source: Source, limits: Limits, start: bytes | None = None) -> Header:
    """Read the start of a save, of which *start* may have been read.

    Raises
    ------
    InvalidFormatError, UnsupportedVersionError, CorruptedDataError, LimitExceededError
    """
    data: bytes | bytearray = read_start(source) if start is None else start
    if data[:4] != MAGIC:
        raise InvalidFormatError(
            f"expected a save, which begins with {MAGIC!r}, found {data[:4]!r} at byte 0 of {source.name}",
            suggestion="check that it is a PECS binary file",
        )
    if len(data) < HEADER.size:
        raise _short(source, HEADER.size)
    _, version, flags, entity_count, type_count = HEADER.unpack_from(data)
    if version not in VERSIONS:
        raise UnsupportedVersionError(
            version,
            VERSIONS[-1],
            what=f"the binary format in {source.name}",
            suggestion="update pecs_np: the save is newer" if version > VERSIONS[-1] else None,
        )
    if type_count > limits.types:
        raise beyond(limits.types, "types", type_count, source)
    end = HEADER.size
    for left in range(type_count, 0, -1):
        if end + 20 > len(data):
            data = more(source, data, end + _SHORTEST_ENTRY * left)
        length = int.from_bytes(data[end + 16 : end + 20], "little")
        if length > limits.name_length and length <= _LONGEST_NAME:
            raise beyond(limits.name_length, "bytes of a type's name", length, source)
        # A length that the format forbids is refused below; here it must only not run away.
        end += 24 + min(length, _LONGEST_NAME + 1)
        if end > limits.head_size:
            raise beyond(limits.head_size, "bytes of head", end, source)
    if len(data) < end:
        data = more(source, data, end)
    # Of many types it is not kept.
    read = _read_registry if end < _CACHED_SIZE else _read_registry.__wrapped__
    registry = read(bytes(data[HEADER.size : end]), source.name)
    return Header(version, flags, entity_count, registry, data, end)


@functools.lru_cache(maxsize=64)
def _read_registry(data: bytes, name_of_source: str) -> Registry:
    """Return (name, version) of each type."""
    registry: list[tuple[str, int]] = []
    last = b""
    at = 0
    while at < len(data):
        where = f"type {len(registry)} at byte {at + HEADER.size} of {name_of_source}"
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


def more(source: Source, data: bytes | bytearray, size: int) -> bytearray:
    """Return at least *size* bytes from the start of *source*, of which *data* are the first.

    What this returned before grows in place: of a stream there may be as many steps as types.
    """
    if size > source.size:
        raise _short(source, size)
    step = max(size, min(2 * len(data), source.size)) if source.ahead else size
    grown = data if isinstance(data, bytearray) else bytearray(data)
    grown += source.read(len(data), step - len(data))
    return grown


def _short(source: Source, needed: int) -> CorruptedDataError:
    return CorruptedDataError(
        f"expected at least {needed} bytes, found {source.size} in {source.name}",
        suggestion="the file was cut short: load a backup",
    )


def beyond(limit: int, what: str, found: int, source: Source) -> LimitExceededError:
    """Return the error for more than a limit allows."""
    return LimitExceededError(
        f"expected at most {limit} {what}, found {found} in {source.name}",
        suggestion="pass larger Limits if you trust where it comes from",
    )

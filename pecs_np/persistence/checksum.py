"""CRC-64/ISO as the package crc64iso defines it, and CRC-64/WE, at memory speed.

ISO: polynomial x^64 + x^4 + x^3 + x + 1 reflected, initial value 0, no final xor: so leading zeros do
not change a sum, and the sum of two parts follows from theirs. WE, which the original Rust library
writes: polynomial 0x42F0E1EBA9EA3693, not reflected, initial value and final xor all ones.

fastcrc computes them at 30 to 60 GB/s, anycrc at 10; anycrc combines sums, which fastcrc cannot. Where
one has no wheel the other serves, and where neither has, crc64iso itself, at 4 MB/s.

A sum goes on where another ended: ``crc64(b, crc64(a))`` is the sum of a and b, of both kinds.

Examples
--------
>>> hex(crc64(b"123456789")), hex(crc64_we(b"123456789"))
('0x46a5a9388a5beffe', '0x62ec59e3f1a4f00a')
>>> combine(crc64(b"1234"), crc64(b"56789"), 5) == crc64(b"123456789")
True
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["combine", "crc64", "crc64_we"]

Crc = Callable[..., int]
Combine = Callable[[int, int, int], int]

_REFLECTED = 0xD800000000000000
_WE = 0x42F0E1EBA9EA3693
_ONES = (1 << 64) - 1


def combine_by_definition(first: int, second: int, length: int) -> int:
    """Return the sum of two parts from their sums and the *length* of the second in bytes.

    The first sum times x^(8 * length), modulo the polynomial, xor the second; bit 63 stands for x^0.
    """
    factor, square, bits = 1 << 63, 1 << 62, 8 * length
    while bits:
        if bits & 1:
            factor = _times(factor, square)
        square = _times(square, square)
        bits >>= 1
    return _times(first, factor) ^ second


def _times(a: int, b: int) -> int:
    product = 0
    for bit in range(63, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (_REFLECTED if b & 1 else 0)
    return product


def crc64_by_definition(data: Any, start: int = 0) -> int:
    """Return the sum of *data* as the package crc64iso computes it."""
    from crc64iso.crc64iso import crc64_pair  # noqa: PLC0415 - needed where anycrc is missing

    high, low = crc64_pair(bytes(data), (start >> 32, start & 0xFFFFFFFF))
    return int(high << 32 | low)


def crc64_we_by_definition(data: Any, start: int = 0) -> int:
    """Return the CRC-64/WE of *data*, bit by bit as its parameters say."""
    crc = start ^ _ONES
    for byte in bytes(data):
        crc ^= byte << 56
        for _ in range(8):
            crc = (crc << 1 & _ONES) ^ (_WE if crc >> 63 else 0)
    return crc ^ _ONES


def _choose() -> tuple[Crc, Combine, Crc]:
    crc, combination, we = crc64_by_definition, combine_by_definition, crc64_we_by_definition
    try:
        from anycrc import CRC  # noqa: PLC0415 - may be missing
    except ImportError:
        pass
    else:
        iso = CRC(64, 0x1B, 0, True, True, 0)
        crc, combination = iso.calc, iso.combine
        we = CRC(64, _WE, _ONES, False, False, _ONES).calc
    try:
        from fastcrc import crc64 as fast  # noqa: PLC0415 - may be missing
    except ImportError:
        return crc, combination, we
    go_iso = fast.go_iso

    def complemented(data: Any, start: int = 0) -> int:
        # CRC-64/GO-ISO is the same but for its ones.
        crc: int = go_iso(data, start ^ _ONES) ^ _ONES
        return crc

    return complemented, combination, fast.we


crc64, combine, crc64_we = _choose()

"""Stable ids as decimal text and back, a column at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import BYTE, Array
from pecs_np.ecs.ids import STABLE_ID, as_record

__all__ = ["MOST_DIGITS", "from_decimals", "from_hex", "to_decimals"]

# Of 2**128 - 1.
MOST_DIGITS = 39

_BILLION = np.uint64(10**9)
_LOW = np.uint64((1 << 32) - 1)
_HALF = np.uint64(32)
_BLOCK = 1 << 14
# The digits of 0 to 999.
_THREES = np.frombuffer(b"".join([b"%03d" % i for i in range(1000)]), BYTE).reshape(1000, 3)
_POWERS = 10.0 ** np.arange(8, -1, -1)
_ZERO = np.uint8(ord("0"))


def to_decimals(ids: Array) -> list[bytes]:
    """Return *ids*, shape (n,) of u128, as decimal numbers without leading zeros.

    Examples
    --------
    >>> to_decimals(np.array([(7, 0), (0, 1)], STABLE_ID))
    [b'7', b'18446744073709551616']
    """
    found: list[bytes] = []
    for start in range(0, len(ids), _BLOCK):
        block = ids[start : start + _BLOCK]
        close = _close_decimals(block)
        found += _any_decimals(block) if close is None else close
    return found


def _close_decimals(ids: Array) -> list[bytes] | None:
    """Return the decimals of ids that differ in their last 9 or 18 digits only, else None."""
    high = ids["hi"]
    if not (high == high[0]).all():
        return None
    low = np.ascontiguousarray(ids["lo"])
    least = low.min()
    first, last = (int(high[0]) << 64 | int(end) for end in (least, low.max()))
    for groups in (1, 2):
        unit = 10 ** (9 * groups)
        if first // unit == last // unit and first >= unit:
            break
    else:
        return None
    rest = low - least
    rest += np.uint64(first % unit)
    limbs = [rest] if groups == 1 else [rest // _BILLION, rest % _BILLION]
    prefix = np.frombuffer(b"%d" % (first // unit), BYTE)
    width = len(prefix) + 9 * groups
    text = np.empty((len(ids), width), BYTE)
    text[:, : len(prefix)] = prefix
    text[:, len(prefix) :] = _digits(limbs)
    texts: list[bytes] = text.view(f"S{width}").reshape(len(ids)).tolist()
    return texts


def _any_decimals(ids: Array) -> list[bytes]:
    # Long division by 10**9, 32 bits at a time.
    parts = [ids["hi"] >> _HALF, ids["hi"] & _LOW, ids["lo"] >> _HALF, ids["lo"] & _LOW]
    limbs = []
    for _ in range(5):
        rest = np.zeros(len(ids), np.uint64)
        for i, part in enumerate(parts):
            rest = rest << _HALF | part
            parts[i] = rest // _BILLION
            rest %= _BILLION
        limbs.append(rest)
    digits = _digits(limbs[::-1])
    return [text.lstrip(b"0") or b"0" for text in digits.view("S45").reshape(len(ids)).tolist()]


def _digits(limbs: list[Array]) -> NDArray[np.uint8]:
    """Return the digits of numbers below 10**9, shape (n,) each, side by side, shape (n, 9 * limbs)."""
    threes = np.empty((len(limbs[0]), 3 * len(limbs)), np.uint16)
    for i, limb in enumerate(limbs):
        number = limb.astype(np.uint32)
        thousands = number // np.uint32(1000)
        threes[:, 3 * i + 2] = number - thousands * np.uint32(1000)
        threes[:, 3 * i] = thousands // np.uint32(1000)
        threes[:, 3 * i + 1] = thousands % np.uint32(1000)
    return _THREES.take(threes, axis=0).reshape(len(threes), 9 * len(limbs))


def from_decimals(texts: Sequence[str] | Sequence[bytes]) -> tuple[Array, int | None]:
    """Return decimal numbers as ids, shape (n,) of u128, and the place of the first text that is none, or None.

    Examples
    --------
    >>> from_decimals(["7", "18446744073709551616"])[0].tolist()
    [(7, 0), (0, 1)]
    >>> from_decimals(["7", "x"])[1]
    1
    """
    if not texts:
        return np.empty(0, STABLE_ID), None
    widths = set(map(len, texts))
    width = max(widths)
    if min(widths) < 1 or width > MOST_DIGITS:
        return np.empty(0, STABLE_ID), _first_odd(texts)
    some: Any = texts
    joined = some[0][:0].join(some if len(widths) == 1 else [text.zfill(width) for text in some])
    if not joined.isascii():
        return np.empty(0, STABLE_ID), _first_odd(texts)
    data = joined.encode() if isinstance(joined, str) else joined
    digits = np.frombuffer(data, BYTE).reshape(len(texts), width) - _ZERO
    if digits.max() > 9:
        return np.empty(0, STABLE_ID), _first_odd(texts)
    close = _close_ids(digits, joined[: max(width - 18, 0)])
    if close is not None:
        return close, None
    ids, beyond = _any_ids(digits)
    return ids, int(beyond.argmax()) if beyond.any() else None


def _first_odd(texts: Sequence[Any]) -> int:
    return next(i for i, text in enumerate(texts) if not _is_id(text))


def _is_id(text: Any) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS and not int(text) >> 128


def _close_ids(digits: NDArray[np.uint8], prefix: str | bytes) -> Array | None:
    """Return the ids whose decimals begin alike but for the last 18 digits, else None."""
    if not (digits[:, : len(prefix)] == digits[0, : len(prefix)]).all():
        return None
    start = int(prefix or 0) * 10**18
    if start + 10**18 > 1 << 128:
        return None
    last = digits[:, len(prefix) :]
    rest = _number(last[:, -9:])
    if last.shape[1] > 9:
        rest += _number(last[:, :-9]) * _BILLION
    low, high = as_record(start)
    ids = np.empty(len(digits), STABLE_ID)
    ids["lo"] = rest + np.uint64(low)
    ids["hi"] = high
    ids["hi"] += ids["lo"] < np.uint64(low)
    return ids


def _any_ids(digits: NDArray[np.uint8]) -> tuple[Array, NDArray[np.bool_]]:
    """Return the ids, and which of them are beyond 128 bits."""
    low = np.zeros(len(digits), np.uint64)
    high = low.copy()
    beyond = np.zeros(len(digits), bool)
    stops = range(digits.shape[1] % 9 or 9, digits.shape[1] + 1, 9)
    for stop in stops:
        carry = _number(digits[:, max(stop - 9, 0) : stop])
        low, carry = _times_billion(low, carry)
        high, carry = _times_billion(high, carry)
        beyond |= carry != 0
    ids = np.empty(len(digits), STABLE_ID)
    ids["lo"], ids["hi"] = low, high
    return ids, beyond


def _times_billion(half: Array, carry: Array) -> tuple[Array, Array]:
    """Return (half * 10**9 + carry) modulo 2**64, and what is beyond."""
    lower = (half & _LOW) * _BILLION + carry
    upper = (half >> _HALF) * _BILLION + (lower >> _HALF)
    return upper << _HALF | lower & _LOW, upper >> _HALF


def _number(digits: NDArray[np.uint8]) -> Array:
    """Return the numbers of up to 9 digits, shape (n,)."""
    number: Array = (digits @ _POWERS[9 - digits.shape[1] :]).astype(np.uint64)
    return number


def from_hex(texts: list[str]) -> tuple[Array, int | None]:
    """Return numbers of 32 hexadecimal digits as `from_decimals` returns decimals.

    Examples
    --------
    >>> from_hex(["00000000000000010000000000000005"])[0].tolist()
    [(5, 1)]
    """
    for i, text in enumerate(texts):
        if len(text) != 32 or not text.isascii() or not text.isalnum():
            return np.empty(0, STABLE_ID), i
    try:
        halves = np.frombuffer(bytes.fromhex("".join(texts)), ">u8").reshape(-1, 2)
    except ValueError:
        return np.empty(0, STABLE_ID), next(i for i, t in enumerate(texts) if not _is_hex(t))
    ids = np.empty(len(halves), STABLE_ID)
    ids["lo"], ids["hi"] = halves[:, 1], halves[:, 0]
    return ids, None


def _is_hex(text: str) -> bool:
    try:
        bytes.fromhex(text)
    except ValueError:
        return False
    return True

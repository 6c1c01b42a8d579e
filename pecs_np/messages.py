"""What error messages say of a value."""

from __future__ import annotations

import reprlib

__all__ = ["shown"]

_BRIEFLY = reprlib.Repr()
_BRIEFLY.maxlevel = 3
_BRIEFLY.maxstring = _BRIEFLY.maxother = 80


def shown(value: object) -> str:
    """Return a short text for any value, however large or deep it is.

    Examples
    --------
    >>> shown(list(range(1000)))
    '[0, 1, 2, 3, 4, 5, ...]'
    """
    return _BRIEFLY.repr(value)[:120]

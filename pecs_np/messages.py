"""What error messages say of a value."""

from __future__ import annotations

import contextlib
import os
import reprlib
import sys
import warnings

__all__ = ["is_one_of", "shown", "warn"]

_INSIDE = os.path.dirname(__file__) + os.sep, contextlib.__file__

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


def is_one_of(value: object, *words: str) -> bool:
    """Tell whether *value*, which may be anything, is one of *words*."""
    return isinstance(value, str) and value in words


def warn(message: str) -> None:
    """Warn, naming the line outside the package from which it was called."""
    level = 1
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(_INSIDE):
        level += 1
        frame = frame.f_back  # type: ignore[assignment]
    warnings.warn(message, stacklevel=level)

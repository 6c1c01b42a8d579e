"""Everything this library raises on purpose.

::

    PecsError
    ├── WorldError (ValueError)                 a call that the world cannot carry out
    │   ├── DuplicateEntityError                one entity named twice, or a stable id already taken
    │   ├── GeneratorNotFoundError (KeyError)   no random generator of that name
    │   └── StructuralChangeError (RuntimeError)  the world changed while a query iterated
    └── PersistenceError
        ├── PersistenceIOError (OSError)        reading or writing failed
        ├── InvalidFormatError (ValueError)     not a save, or not one that follows the format
        ├── UnsupportedVersionError             written by another version: .found, .expected
        │   └── ComponentVersionError           a component of another version (also a ComponentError)
        ├── CorruptedDataError                  a checksum or a stored value is wrong
        │   └── DanglingReferenceError          a reference to an entity that is not there
        ├── ComponentError                      a component that cannot be defined, read or written
        │   ├── ComponentDefinitionError (TypeError)
        │   ├── UnknownFieldError (AttributeError)
        │   └── ComponentValueError (ValueError)
        ├── MigrationError                      an old save could not be brought up to date
        ├── EntityNotFoundError (KeyError)      no such entity
        ├── PluginNotFoundError (LookupError)   no format or store of that name
        └── LimitExceededError                  more than ``Limits`` allows

Each message says what was expected, what was found and where; ``.suggestion`` (also the end of the
message) says what to do next.
"""

from __future__ import annotations

import errno as codes
from typing import Self

__all__ = [
    "ComponentDefinitionError",
    "ComponentError",
    "ComponentValueError",
    "ComponentVersionError",
    "CorruptedDataError",
    "DanglingReferenceError",
    "DuplicateEntityError",
    "EntityNotFoundError",
    "GeneratorNotFoundError",
    "InvalidFormatError",
    "LimitExceededError",
    "MigrationError",
    "PecsError",
    "PersistenceError",
    "PersistenceIOError",
    "PluginNotFoundError",
    "StructuralChangeError",
    "UnknownFieldError",
    "UnsupportedVersionError",
    "WorldError",
    "is_lasting",
]


_LASTING = frozenset(
    {codes.ENOENT, codes.ENOTDIR, codes.EISDIR, codes.ENAMETOOLONG, codes.EROFS, codes.ELOOP, codes.EINVAL}
)


def is_lasting(errno: int | None) -> bool:
    """Tell whether trying again does not change that the system refuses with that number."""
    return errno is None or errno in _LASTING


class PecsError(Exception):
    """The root of the library's errors.

    Parameters
    ----------
    message : str
        What was expected, what was found, and where.
    suggestion : str, optional
        What to do next.

    Examples
    --------
    >>> print(PecsError("expected 3 rows, found 2", suggestion="pass count=2"))
    expected 3 rows, found 2; pass count=2
    """

    suggestion: str | None

    @property
    def is_corruption(self) -> bool:
        """Whether the bytes are damaged, or are no save: load a backup."""
        return isinstance(self, CorruptedDataError) or (
            isinstance(self, InvalidFormatError) and not isinstance(self, ComponentError)
        )

    @property
    def is_recoverable(self) -> bool:
        """Whether the same call can succeed without a change to the program.

        After a moment, where the system refused for one that passes, such as a full disk; or with a
        backup, where the bytes are damaged.
        """
        return self.is_corruption

    def __init__(self, message: str, *, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.suggestion = suggestion

    def __str__(self) -> str:
        message = str(self.args[0]) if self.args else ""
        return f"{message}; {self.suggestion}" if self.suggestion else message


class WorldError(PecsError, ValueError):
    """A call that the world cannot carry out as given; the world is unchanged."""


class DuplicateEntityError(WorldError):
    """One entity is named twice, or a stable id is already taken."""


class StructuralChangeError(WorldError, RuntimeError):
    """Entities or components were added or removed while a query iterated."""


class GeneratorNotFoundError(WorldError, KeyError):
    """The world has no random generator of that name."""


class PersistenceError(PecsError):
    """Saving or loading failed."""


class PersistenceIOError(PersistenceError, OSError):
    """The operating system refused to read or write; ``errno`` and ``filename`` are set."""

    # OSError.__new__ wants positional arguments of its own, so they are set afterwards.
    def __new__(cls, message: str, **_: object) -> Self:
        """Return a new error, without the arguments that OSError would ask for."""
        return OSError.__new__(cls, message)

    def __init__(
        self,
        message: str,
        *,
        errno: int | None = None,
        filename: str | None = None,
        suggestion: str | None = None,
    ) -> None:
        super().__init__(message, suggestion=suggestion)
        self.errno = errno
        self.filename = filename

    @property
    def is_recoverable(self) -> bool:
        """Whether the system may not refuse a second time: not where a path cannot be."""
        return not is_lasting(self.errno)

    def __reduce__(self) -> tuple[object, ...]:
        state = {**self.__dict__, "errno": self.errno, "filename": self.filename}
        return type(self), self.args[:1], state


class InvalidFormatError(PersistenceError, ValueError):
    """The bytes are not a save, or break a rule of the format."""


class UnsupportedVersionError(PersistenceError):
    """The save, or a type in it, has a version that this program does not read.

    Attributes
    ----------
    found, expected : int
    """

    def __init__(
        self, found: int, expected: int, *, what: str = "save", suggestion: str | None = None
    ) -> None:
        super().__init__(
            f"expected version {expected} of {what}, found version {found}", suggestion=suggestion
        )
        self.found = found
        self.expected = expected
        self.what = what

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.found, self.expected), {**self.__dict__, "args": self.args}


class CorruptedDataError(PersistenceError):
    """A checksum does not match, or a stored value cannot be."""


class DanglingReferenceError(CorruptedDataError):
    """A reference names an entity that is neither in the save nor in the world."""


class ComponentError(PersistenceError):
    """A component cannot be defined, read or written."""


class ComponentVersionError(UnsupportedVersionError, ComponentError):
    """A save holds a component in another version than this program defines."""


class ComponentDefinitionError(ComponentError, TypeError):
    """A component class that cannot be stored, or that contradicts one of the same name."""


class UnknownFieldError(ComponentError, AttributeError):
    """A component has no field of that name."""


class ComponentValueError(ComponentError, ValueError):
    """A value does not fit its field, or a shape does not broadcast."""


class MigrationError(PersistenceError):
    """An old save could not be brought up to date."""


class EntityNotFoundError(PersistenceError, KeyError):
    """No live entity has that id."""


class PluginNotFoundError(PersistenceError, LookupError):
    """No format or store of that name is known."""


class LimitExceededError(PersistenceError):
    """A save asks for more than ``Limits`` allows."""

"""The text of a document, cut between entities so that few are parsed at a time.

The Python objects of a parsed document take several times the memory of its text, its columns a tenth.
So the list of entities is cut where an object ends and one that begins with an id follows. A cut at a
wrong place leaves brackets open on either side: either every text between the cuts is JSON, or the document
is to be parsed whole. It is, too, where anything is wrong with it, to say what and where.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from pecs_np.errors import InvalidFormatError, LimitExceededError, UnsupportedVersionError
from pecs_np.persistence.json.values import as_json
from pecs_np.persistence.json.writer import VERSION
from pecs_np.persistence.limits import Limits

__all__ = ["Document"]

# Of the text, at once.
_PART = 1 << 20
_BOM = b"\xef\xbb\xbf"
_LIST = re.compile(rb'"entities"[ \t\r\n]*:[ \t\r\n]*\[')
_NEXT = re.compile(rb'\}[ \t\r\n]*,[ \t\r\n]*\{[ \t\r\n]*"(?:stable_id|id)"')
_COMMA = re.compile(rb",")
# Stands for the entities while the rest is parsed.
_PLACE = ["entities of pecs_np"]


class Document:
    """A JSON document: its members but for the entities, and these, parsed or as `texts`.

    Parameters
    ----------
    data : memoryview of bytes
    name : str
        For messages.
    limits : Limits

    Attributes
    ----------
    members : dict
        All but the entities.
    name : str
    size : int
        Bytes of the text.

    Raises
    ------
    InvalidFormatError
        If it is not JSON, or no object.
    UnsupportedVersionError
        If it has another version of the format.
    LimitExceededError
        If it is too large.
    """

    def __init__(self, data: memoryview, name: str, limits: Limits) -> None:
        if len(data) > limits.total_size:
            raise LimitExceededError(
                f"expected at most {limits.total_size} bytes, found {len(data)} in {name}",
                suggestion="pass larger Limits if you trust where it comes from",
            )
        self.name = name
        self.size = len(data)
        self._text = data[len(_BOM) :] if data[: len(_BOM)] == _BOM else data
        self._entities: list[Any] | None = None
        self._bounds: list[tuple[int, int]] = []
        cut = self._cut()
        if cut is None:
            self.parse()
        else:
            self.members, self._bounds = cut
            self._check_version()

    @property
    def is_cut(self) -> bool:
        """Whether the entities come as texts."""
        return self._entities is None

    def parse(self) -> None:
        """Parse the text whole, so that what is wrong with it has its place."""
        try:
            document = orjson.loads(self._text)
        except orjson.JSONDecodeError as error:
            raise InvalidFormatError(
                f"expected JSON, found {error.msg} at line {error.lineno}, column {error.colno} of {self.name}"
            ) from None
        if not isinstance(document, dict):
            raise InvalidFormatError(f"expected an object, found {as_json(document)} in {self.name}")
        self.members = document
        self._check_version()
        entities = document.pop("entities", None)
        if not isinstance(entities, list):
            found = "none" if entities is None else as_json(entities)
            raise InvalidFormatError(f"expected a list 'entities', found {found} in {self.name}")
        self._entities = entities

    def texts(self) -> Iterator[bytes]:
        """Yield the texts between which the list of entities is cut, about a MiB each."""
        for start, stop in self._bounds:
            yield bytes(self._text[start:stop])

    @property
    def entities(self) -> list[Any]:
        """The entities of a text that was parsed whole."""
        return self._entities or []

    @staticmethod
    def parsed(text: bytes) -> list[Any]:
        """Return the entities of one of the `texts`.

        Raises
        ------
        InvalidFormatError
            If it is no text of whole entities.
        """
        try:
            entities: list[Any] = orjson.loads(b"[%b]" % text)
        except orjson.JSONDecodeError as error:
            raise InvalidFormatError(f"expected entities, found {error.msg}") from None
        return entities

    def _cut(self) -> tuple[dict[str, Any], list[tuple[int, int]]] | None:
        """Return the members but for the entities, and the bounds of parts of these, or None."""
        text = self._text
        opened = _LIST.search(text)
        closed = bytes(text[-_PART:]).rfind(b"]")
        if opened is None or closed < 0:
            return None
        start, end = opened.end(), len(text) - min(_PART, len(text)) + closed
        if start > end:
            return None
        try:
            place = orjson.dumps(_PLACE)[1:-1]
            members = orjson.loads(b"".join((text[:start], place, text[end:])))
        except orjson.JSONDecodeError:
            return None
        if not isinstance(members, dict) or members.pop("entities", None) != _PLACE:
            return None
        bounds = []
        while start < end:
            found = _NEXT.search(text, start + _PART, end)
            stop = end if found is None else found.start() + 1
            bounds.append((start, stop))
            if found is None:
                break
            comma = _COMMA.search(text, stop, end)
            start = end if comma is None else comma.end()
        return members, bounds

    def _check_version(self) -> None:
        version = self.members.get("version")
        if type(version) is not int:
            found = "none" if version is None else as_json(version)
            raise InvalidFormatError(f"expected a version, found {found} in {self.name}")
        if version != VERSION:
            raise UnsupportedVersionError(version, VERSION, what=f"the format of {self.name}")

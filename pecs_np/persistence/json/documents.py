"""The text of a document, parsed a few thousand entities at a time where it can be cut between them.

Python objects of a parsed document take some ten times as much memory as the text, columns a tenth of
it. So the list of entities is cut where an object ends and one that begins with an id follows. A cut at
a wrong place leaves brackets open on either side, so that each part parses, or the text is parsed whole.
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
    """A JSON document: its members but for the entities, and these in parts.

    Parameters
    ----------
    data : bytes-like
    name : str
        For messages.
    limits : Limits

    Attributes
    ----------
    members : dict
        All but the entities.

    Raises
    ------
    InvalidFormatError
        If it is not JSON, or no object.
    UnsupportedVersionError
        If it has another version of the format.
    LimitExceededError
        If it is too large.
    """

    def __init__(self, data: Any, name: str, limits: Limits) -> None:
        if len(data) > limits.total_size:
            raise LimitExceededError(
                f"expected at most {limits.total_size} bytes, found {len(data)} in {name}",
                suggestion="pass larger Limits if you trust where it comes from",
            )
        text = data if isinstance(data, bytes | bytearray) else bytes(data)
        self.name = name
        self.size = len(text)
        self._text = memoryview(text)[len(_BOM) :] if text.startswith(_BOM) else memoryview(text)
        cut = self._cut() if len(text) > _PART else None
        if cut is None:
            self.members = self._object(self._parsed(self._text))
            # Where parts of the entities begin and end in the text; without any they are all here.
            self._bounds: list[tuple[int, int]] = []
            self._entities = self.members.pop("entities", None)
            if not isinstance(self._entities, list):
                found = "none" if self._entities is None else as_json(self._entities)
                raise InvalidFormatError(f"expected a list 'entities', found {found} in {name}")
        else:
            self.members, self._bounds = cut
        self._check_version()

    def parts(self) -> Iterator[list[Any]]:
        """Yield the entities, parsed, some thousands at a time.

        Raises
        ------
        InvalidFormatError
            If they are not JSON.
        """
        if not self._bounds:
            yield self._entities or []
            return
        done = 0
        for start, stop in self._bounds:
            part = self._part(start, stop)
            if part is None:
                # No cut between entities: a text that begins like one, or an error in the text.
                document = self._object(self._parsed(self._text))
                yield document["entities"][done:]
                return
            done += len(part)
            yield part

    def entity(self, number: int) -> Any:
        """Return one entity, parsed again: for messages."""
        for part in self.parts():
            if number < len(part):
                return part[number]
            number -= len(part)
        raise IndexError(number)

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

    def _part(self, start: int, stop: int) -> list[Any] | None:
        try:
            part: list[Any] = orjson.loads(b"".join((b"[", self._text[start:stop], b"]")))
        except orjson.JSONDecodeError:
            return None
        return part

    def _parsed(self, text: Any) -> Any:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise InvalidFormatError(
                f"expected JSON, found {error.msg} at line {error.lineno}, column {error.colno} of {self.name}"
            ) from None

    def _object(self, document: Any) -> dict[str, Any]:
        if not isinstance(document, dict):
            raise InvalidFormatError(f"expected an object, found {as_json(document)} in {self.name}")
        return document

    def _check_version(self) -> None:
        version = self.members.get("version")
        if type(version) is not int:
            found = "none" if version is None else as_json(version)
            raise InvalidFormatError(f"expected a version, found {found} in {self.name}")
        if version != VERSION:
            raise UnsupportedVersionError(version, VERSION, what=f"the format of {self.name}")

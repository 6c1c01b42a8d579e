"""How commands are put for Redis, sent over a connection, and answered."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from pecs_np.persistence.stores.records import Records

__all__ = ["borrowed", "command", "head", "pairs", "said", "said_in_turn", "said_together"]


def head(arguments: int, *words: bytes) -> bytes:
    """Return the beginning of a command of which *arguments* more are to come."""
    texts = [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"*%d\r\n" % (len(words) + arguments) + b"".join(texts)


def command(*words: bytes) -> bytes:
    r"""Return a whole command.

    Examples
    --------
    >>> command(b"GET", b"name")
    b'*2\r\n$3\r\nGET\r\n$4\r\nname\r\n'
    """
    return head(0, *words)


def pairs(records: Records, start: int, stop: int) -> Any:
    """Return keys and records of rows *start* to *stop* as arguments of a command, a buffer of bytes."""
    ids = np.ascontiguousarray(records.stable_ids[start:stop]).view("u1").reshape(-1, 16)[:, ::-1]
    keys = np.ascontiguousarray(ids).view("V16").ravel()
    if records.ends is None:
        size = records.layout.head.itemsize
        between = b"\r\n$%d\r\n" % size
        fields: list[Any] = [("head", "V5"), ("key", "V16"), ("between", f"V{len(between)}")]
        made = np.empty(stop - start, [*fields, ("record", f"V{size}"), ("end", "V2")])
        made["head"], made["between"], made["end"] = np.void(b"$16\r\n"), np.void(between), np.void(b"\r\n")
        made["key"] = keys
        made["record"] = records.data[start * size : stop * size].view(f"V{size}")
        return made.view("u1")
    begin = int(records.ends[start - 1]) if start else 0
    bounds = [0, *(records.ends[start:stop] - begin).tolist()]
    data = records.data[begin : begin + bounds[-1]].tobytes()
    return b"".join(
        [
            b"$16\r\n%b\r\n$%d\r\n%b\r\n" % (key, to - at, data[at:to])
            for key, (at, to) in zip(keys.tolist(), itertools.pairwise(bounds), strict=True)
        ]
    )


@contextlib.contextmanager
def borrowed(pool: Any) -> Iterator[Any]:
    """Give a connection of *pool*, which is ended where an error comes up."""
    connection = pool.get_connection()
    try:
        yield connection
    except BaseException:
        # What is still to come would be taken for the answer to what is asked next.
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


def said(pool: Any, commands: Iterable[Any], replies: int) -> list[Any]:
    """Return what is said to *commands*, sent all at once; any error is raised."""
    with borrowed(pool) as connection:
        return _said(connection, commands, replies)


def said_in_turn(pool: Any, commands: Sequence[bytes]) -> list[Any]:
    """Return what is said to *commands*; the server works on one while the answer to the one before arrives."""
    answers = []
    with borrowed(pool) as connection:
        for i, each in enumerate(commands):
            connection.send_packed_command([each])
            if i:
                answers.append(connection.read_response(disable_decoding=True))
        answers.append(connection.read_response(disable_decoding=True))
    return answers


def said_together(
    pool: Any, commands: Iterable[Any], replies: int, *, unless: bytes | None = None
) -> list[Any] | None:
    """Return what is said to *commands*, carried out as one transaction; any error is raised.

    With a key as *unless*, nothing is carried out where there is something under it, and None returned.
    """
    framed = itertools.chain([command(b"MULTI")], commands, [command(b"EXEC")])
    with borrowed(pool) as connection:
        if unless is not None:
            _, there = _said(connection, [command(b"WATCH", unless), command(b"EXISTS", unless)], 2)
            if there:
                _said(connection, [command(b"UNWATCH")], 1)
                return None
        answers: list[Any] | None = _said(connection, framed, replies + 2)[-1]
    for answer in answers or ():
        if isinstance(answer, Exception):
            raise answer
    return answers


def _said(connection: Any, commands: Iterable[Any], replies: int) -> list[Any]:
    connection.send_packed_command(commands)
    return [connection.read_response(disable_decoding=True) for _ in range(replies)]

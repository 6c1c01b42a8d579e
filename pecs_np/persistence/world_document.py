"""What a save says of the world as a whole: version, metadata and generators, as JSON in every format."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson

from pecs_np.ecs.changes import WorldState
from pecs_np.ecs.dtypes import check_name
from pecs_np.ecs.resources import BIT_GENERATORS, STABLE_IDS
from pecs_np.ecs.snapshot import Snapshot
from pecs_np.errors import InvalidFormatError, PersistenceError
from pecs_np.messages import shown

__all__ = ["WorldDocument", "check_json", "check_metadata", "read_world", "world_json"]

_DEEPEST = 100
_PHILOX_BUFFER, _MT19937_WORDS = 4, 624


class WorldDocument(NamedTuple):
    """What a save says of the world, as a `Snapshot` has it."""

    version: int
    metadata: dict[str, Any]
    rngs: dict[str, dict[str, Any]]
    id_source: tuple[int, int] | None


def world_json(snapshot: Snapshot | WorldState) -> bytes:
    """Return ``{"version": …, "metadata": …, "rng": …}``.

    The state of each generator is as NumPy gives it, every integer as a decimal string. The source of a
    seeded world's stable ids stands beside them as "pecs.stable_ids".

    Raises
    ------
    PersistenceError
        If the metadata is not JSON, or the version is none.
    """
    check_metadata(snapshot)
    metadata = b"{}"
    if snapshot.metadata:
        check_json(snapshot.metadata, "metadata")
        try:
            metadata = orjson.dumps(snapshot.metadata, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError as error:
            raise PersistenceError(f"expected metadata that JSON can hold: {error}") from None
    rngs = b"{}"
    if snapshot.rngs or snapshot.id_source is not None:
        states = {name: _texts(state) for name, state in snapshot.rngs.items()}
        if snapshot.id_source is not None:
            states[STABLE_IDS] = _id_state(*snapshot.id_source)
        rngs = orjson.dumps(states, option=orjson.OPT_SORT_KEYS)
    version = snapshot.version
    if type(version) is not int or not 0 < version < 1 << 32:
        raise PersistenceError(f"expected a world version from 1 to {2**32 - 1}, found {version!r}")
    return b'{"version":%d,"metadata":%b,"rng":%b}' % (version, metadata, rngs)


def read_world(world: Any, where: str) -> WorldDocument:
    """Return what the parsed JSON *world* says, checked.

    Raises
    ------
    InvalidFormatError
        If it is not what `world_json` writes; *where* stands for its place.
    """
    if not isinstance(world, dict):
        raise _bad("an object 'world'", world, where)
    version, metadata = world.get("version", 1), world.get("metadata", {})
    if type(version) is not int or not 0 < version < 1 << 32:
        raise _bad("a world version", version, where)
    if not isinstance(metadata, dict):
        raise _bad("an object 'metadata'", metadata, where)
    rngs, id_source = _read_rngs(world.get("rng", {}), where)
    if metadata:
        check_json(metadata, f"metadata of {where}")
    return WorldDocument(version, metadata, rngs, id_source)


def check_metadata(snapshot: Snapshot | WorldState) -> None:
    """Raise unless the metadata are a dict."""
    if not isinstance(snapshot.metadata, dict):
        raise PersistenceError(
            f"expected a dict as metadata, found {shown(snapshot.metadata)}",
            suggestion='write world.metadata = {"note": …}',
        )


def check_json(value: Any, where: str) -> None:
    """Raise unless *value* is what JSON gives back unchanged."""
    if (bad := _not_json(value, 0)) is not None:
        what, path = bad
        raise PersistenceError(
            f"expected {what} at {where}{''.join(reversed(path))[:200]}",
            suggestion="convert it to a dict, list, str, int, float, bool or None",
        )


def _not_json(value: Any, depth: int) -> tuple[str, list[str]] | None:
    """Return what is wrong with *value*, and where, from the inside out."""
    if depth > _DEEPEST:
        return f"at most {_DEEPEST} levels, found more", []
    kind = type(value)
    if kind is dict:
        for key, member in value.items():
            if type(key) is not str:
                return f"text keys, found {shown(key)}", []
            if (bad := _not_json(member, depth + 1)) is not None:
                bad[1].append(f"[{shown(key)}]")
                return bad
    elif kind is list:
        for i, member in enumerate(value):
            if (bad := _not_json(member, depth + 1)) is not None:
                bad[1].append(f"[{i}]")
                return bad
    elif kind is float:
        if not math.isfinite(value):
            return f"a finite number, found {value}", []
    elif kind not in (str, int, bool, type(None)):
        return f"a dict, list, str, int, float, bool or None, found {shown(value)}", []
    return None


def _id_state(high: int, low: int) -> dict[str, Any]:
    """Return the stable-id source as a Philox: its key is the high half, its counter the next low half."""
    zeros = ["0"] * 3
    return {
        "bit_generator": "Philox",
        "state": {"counter": [str(low), *zeros], "key": [str(high), "0"]},
        "buffer": ["0", *zeros],
        "buffer_pos": "4",
        "has_uint32": "0",
        "uinteger": "0",
    }


def _texts(value: Any) -> Any:
    """Return a bit generator's state with every integer as a decimal string."""
    if isinstance(value, Mapping):
        return {key: _texts(member) for key, member in value.items()}
    if isinstance(value, np.ndarray):
        return [str(member) for member in value.tolist()]
    return value if isinstance(value, str) else str(int(value))


def _read_rngs(states: Any, where: str) -> tuple[dict[str, dict[str, Any]], tuple[int, int] | None]:
    """Return the generators' states as NumPy takes them, and the stable-id source."""
    if not isinstance(states, dict):
        raise _bad("an object 'rng'", states, where)
    rngs: dict[str, dict[str, Any]] = {}
    for name, state in states.items():
        here = f"rng {name!r:.80} of {where}"
        check_name(name, here, InvalidFormatError)
        kind = state.get("bit_generator") if isinstance(state, dict) else None
        if kind not in BIT_GENERATORS:
            raise _bad(f"one of {BIT_GENERATORS}", kind, here)
        generator = getattr(np.random, kind)()
        found = _like(generator.state, state, here)
        try:
            generator.state = found
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidFormatError(f"expected the state of a {kind}: {error} in {here}") from None
        # NumPy does not check these, and reads beyond its memory.
        at = found.get("buffer_pos", 0), found["state"].get("pos", 0)
        if at[0] > _PHILOX_BUFFER or at[1] > _MT19937_WORDS:
            raise _bad("a position within the generator's buffer", at, here)
        rngs[name] = found
    source = rngs.pop(STABLE_IDS, None)
    if source is None:
        return rngs, None
    if source["bit_generator"] != "Philox":
        raise _bad("a Philox", source["bit_generator"], f"rng {STABLE_IDS!r} of {where}")
    return rngs, (int(source["state"]["key"][0]), int(source["state"]["counter"][0]))


def _like(model: Any, value: Any, where: str) -> Any:
    """Return *value* with its decimal strings as integers, of the same structure as *model*."""
    if isinstance(model, Mapping):
        if not isinstance(value, dict) or value.keys() != model.keys():
            raise _bad(f"members {sorted(model)}", value, where)
        return {key: _like(member, value[key], where) for key, member in model.items()}
    if isinstance(model, np.ndarray):
        if not isinstance(value, list) or len(value) != len(model):
            raise _bad(f"{len(model)} integers", value, where)
        bits = 8 * model.itemsize
        return np.array([_integer(member, bits, where) for member in value], model.dtype)
    if isinstance(model, str):
        return value
    return _integer(value, 128, where)


def _integer(value: Any, bits: int, where: str) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 40:
        number = int(value)
        if number < 1 << bits:
            return number
    raise _bad(f"an integer of {bits} bits as a decimal string", value, where)


def _bad(expected: str, found: object, where: str) -> InvalidFormatError:
    return InvalidFormatError(f"expected {expected}, found {shown(found)} in {where}")

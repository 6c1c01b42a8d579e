"""The guide's section "Error Handling", block by block."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from pecs_np import (
    ComponentError,
    CorruptedDataError,
    InvalidFormatError,
    Migration,
    MigrationError,
    PersistenceError,
    PersistenceIOError,
    UnsupportedVersionError,
    World,
    component,
    make_component,
    unregister,
)


@component
class Position:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component
class Lamp:
    lit: bool = False


def saved_world():
    world = World(seed=2)
    world.spawn_batch(Position(x=[1, 2, 3], y=0))
    world.save("game.pecs")
    return world, Path("game.pecs")


def test_error_types():
    """Error Handling, block 1: Error Types.

    Each of the guide's six errors is one class, raised here by what it stands for.
    """
    _, path = saved_world()
    data = path.read_bytes()

    # I/O error during read/write
    with pytest.raises(PersistenceIOError) as caught:
        World.load("missing.pecs")
    assert isinstance(caught.value, OSError)
    assert caught.value.filename == "missing.pecs"

    # Invalid format or corrupted data
    with pytest.raises(InvalidFormatError) as caught:
        World.from_bytes(b"no save")
    assert isinstance(caught.value, ValueError)

    # Unsupported format version
    with pytest.raises(UnsupportedVersionError) as caught:
        World.from_bytes(data[:4] + b"\x07" + data[5:])
    assert (caught.value.found, caught.value.expected) == (7, 2)

    # Checksum mismatch (data corruption)
    with pytest.raises(CorruptedDataError):
        World.from_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    # Component deserialization failed
    unregister("Position")
    make_component("Position", {"x": np.float64, "y": np.float64})
    with pytest.raises(ComponentError, match="Position"):
        World.from_bytes(data)

    unregister("Position")

    # Migration failed
    class Failing(Migration):
        source_version, target_version = 1, 2

        def migrate(self, world):
            world.rename("Position", "Place")
            raise KeyError("Compass")

    with pytest.raises(MigrationError, match="Compass"):
        World.from_bytes(data, migrations=[Failing()])

    kinds = [PersistenceIOError, InvalidFormatError, UnsupportedVersionError, CorruptedDataError]
    assert all(issubclass(kind, PersistenceError) for kind in [*kinds, ComponentError, MigrationError])


def test_error_handling_patterns(capsys):
    """Error Handling, block 2: Error Handling Patterns.

    The backup is a real one, of the save before, and is loaded; so it is by ``backup=True``.
    """

    def load():
        # Handle specific errors
        try:
            return World.load("game.pecs")  # Success
        except UnsupportedVersionError as error:
            print(f"Version mismatch: found {error.found}, expected {error.expected}", file=sys.stderr)
            # Attempt migration
            return World.load("exported.json")
        except CorruptedDataError:
            print("Save file corrupted, loading backup...", file=sys.stderr)
            # Load backup
            return World.load("game.pecs.bak")
        except PersistenceError as error:
            print(f"Failed to load: {error}", file=sys.stderr)
            return None

    world, path = saved_world()
    world.save("exported.json")
    world.spawn()
    world.save(path, backup=True)
    data = path.read_bytes()
    assert len(load()) == 4
    assert not capsys.readouterr().err

    path.write_bytes(data[:4] + b"\x09" + data[5:])
    assert len(load()) == 3
    assert capsys.readouterr().err == "Version mismatch: found 9, expected 2\n"

    path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    assert len(load()) == 3
    assert capsys.readouterr().err == "Save file corrupted, loading backup...\n"
    with pytest.warns(UserWarning, match=r"loaded the backup .*game\.pecs\.bak"):
        assert len(World.load(path, backup=True)) == 3

    path.unlink()
    assert load() is None
    assert "Failed to load: opening 'game.pecs' failed: No such file" in capsys.readouterr().err


def test_validation():
    """Error Handling, block 3: Validation.

    ``validate`` finds what a write through a view has broken.
    """
    MAX_ENTITIES = 3

    def save(world):
        # Validate before saving
        if world.entity_count > MAX_ENTITIES:
            raise InvalidFormatError("Too many entities")
        world.save("game.pecs")

    def load():
        # Validate after loading
        world = World.load("game.pecs")
        if not world.validate():
            raise CorruptedDataError("the world is not valid")
        return world

    world = World()
    world.spawn_batch(Lamp(lit=[True, False, True]))
    save(world)
    assert len(load()) == 3
    world.spawn()
    with pytest.raises(InvalidFormatError, match="Too many entities"):
        save(world)
    assert len(load()) == 3

    assert world.validate()
    world.column(Lamp)["lit"].view(np.uint8)[1] = 2
    assert not world.validate()
    assert "Lamp" in str(world.validate())
    # Such a world is not saved.
    with pytest.raises(ComponentError, match="Lamp"):
        world.save("game.pecs")
    assert len(load()) == 3

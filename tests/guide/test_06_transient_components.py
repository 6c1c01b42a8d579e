"""The guide's section "Transient Components", block by block."""

from __future__ import annotations

import numpy as np

from pecs_np import JsonPlugin, World, component


# Type-level transient
@component(transient=True)
class FrameCounter:
    count: np.uint64 = 0


# Instance-level transient
@component
class CachedData:
    value: np.float32 = 0.0
    is_valid: bool = False

    def is_persistent(self):
        return self.is_valid  # Only persist if valid


def test_quick_example():
    """Transient Components, block 1: Quick Example.

    Neither gets into a save of any format, and the live world keeps both.
    """
    world = World()
    world.resources.insert(FrameCounter(count=7))
    counting = world.spawn(FrameCounter(count=3))
    cached = world.spawn_batch(CachedData(value=[1, 2, 3], is_valid=[True, False, True]))

    world.save("game.pecs")
    world.save("game.json")

    for loaded in (World.load("game.pecs"), World.load("game.json")):
        ids = loaded.get_entity_id(world.get_stable_id(cached))
        assert len(loaded) == 4
        assert not loaded.has(loaded.get_entity_id(world.get_stable_id(counting)), FrameCounter)
        assert loaded.resources.get(FrameCounter) is None
        assert loaded.has(ids, CachedData).tolist() == [True, False, True]
        assert loaded.get(ids[[0, 2]], CachedData).value.tolist() == [1, 3]
    assert world.get(counting, FrameCounter).count == 3
    assert world.get(cached, CachedData).value.tolist() == [1, 2, 3]
    assert b"FrameCounter" not in world.to_bytes() + world.to_bytes(JsonPlugin())

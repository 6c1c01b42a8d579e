"""Two runs of a simulation compared in a notebook's way: from their saves alone, without its classes.

A herd grazes; the second run has less grass. Each run checkpoints itself to one compressed file, with a
backup of the checkpoint before. Then the saves are opened, and only the columns that matter are read.
"""

import tempfile
from pathlib import Path

import numpy as np

import pecs_np
from pecs_np import BinaryPlugin, World, component

HERD, TICKS = 20_000, 50


@component
class Animal:
    """Kilograms of fat, and where it stands, in metres."""

    fat: np.float32 = 2.0
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component
class Tag:
    """What the keepers call it."""

    name: str


def run(path: Path, grass: float) -> None:
    """Simulate a herd on so much grass and leave a checkpoint every ten ticks."""
    world = World(seed=1, metadata={"grass": grass})
    rng = world.rngs.create("weather")
    ids = world.spawn_batch(Animal(x=rng.normal(size=HERD), y=rng.normal(size=HERD)))
    world.insert(ids[:3], Tag(name=["Ada", "Bo", "Cleo"]))
    zstd = BinaryPlugin(compression="zstd")
    for tick in range(1, TICKS + 1):
        for here, animal in world.query(Animal).entities():
            animal.fat += rng.normal(grass, 0.5, size=len(here)) - 0.02 * animal.fat
            animal.x += rng.normal(0, 0.1, size=len(here))
            world.commands().despawn(here[animal.fat <= 0])
        world.apply_commands()
        if tick % 10 == 0:
            world.metadata["tick"] = tick
            world.save_with(path, zstd, backup=True)


def compare(left: pecs_np.Save, right: pecs_np.Save) -> None:
    """Print how two saves differ, animal by animal."""
    print(left, right, sep="\n")
    for save in (left, right):
        grass, tick = save.metadata["grass"], save.metadata["tick"]
        print(f"grass {grass}: {save.entity_count} animals after {tick} ticks")
    fat = [save.column("Animal", "fat") for save in (left, right)]
    # Entities have the same stable ids in both runs.
    ids = [save.entities("Animal") for save in (left, right)]
    _, a, b = np.intersect1d(*ids, assume_unique=True, return_indices=True)
    print(f"{len(a)} live in both; there they carry {np.mean(fat[0][a] - fat[1][b]):.1f} kg more on the left")


def main() -> None:
    """Run twice, and compare what is left."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "lush.pecs"), Path(folder, "dry.pecs")
        for path, grass in zip(paths, (0.2, 0.02), strict=True):
            run(path, grass)
        for name in ("Animal", "Tag"):
            pecs_np.unregister(name)  # as in a notebook that never defined them
        with pecs_np.open(paths[0]) as lush, pecs_np.open(paths[1]) as dry:
            compare(lush, dry)
            assert dry.entity_count < lush.entity_count
            assert World.load(paths[1]).column("Animal")["fat"].tolist() == dry["Animal"]["fat"].tolist()
            print("loading gives the same columns")


if __name__ == "__main__":
    main()

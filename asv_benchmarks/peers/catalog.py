"""The peers: what they are called, what they keep, what they need, and what to know of them."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Peer:
    """A way to keep, step, save and load a world.

    ``key`` names it on the command line, ``module`` is its file in ``worlds``, ``install`` what
    ``pip install`` takes, and ``packages`` the distributions that it needs.
    """

    key: str
    module: str
    title: str
    holds: str
    packages: tuple[str, ...]
    install: str
    note: str = ""

    def versions(self):
        """Return the version of each of its packages, ``None`` where one is not installed."""
        found = {}
        for package in self.packages:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                found[package] = None
        return found


SLOTS = (
    "components are `dataclass(slots=True)`; without slots pickling takes less than half the time, "
    "and a step twice as long"
)

PEERS = (
    Peer("pecs_np", "pecs_np", "pecs_np", "entities", ("pecs_np",), "."),
    Peer(
        "pecs_np-durable",
        "pecs_np_durable",
        "pecs_np, durable",
        "entities",
        ("pecs_np",),
        ".",
        "flushed to the disk, which none of the others does",
    ),
    Peer("esper", "esper", "esper + pickle", "entities", ("esper",), "esper", SLOTS),
    Peer(
        "tcod-ecs",
        "tcod_ecs",
        "tcod-ecs + pickle",
        "entities",
        ("tcod-ecs",),
        "tcod-ecs",
        "components as for esper; the whole registry is pickled",
    ),
    Peer("mesa", "mesa", "mesa + pickle", "agents", ("mesa",), "mesa", "the whole model is pickled"),
    Peer(
        "mesa-frames",
        "mesa_frames",
        "mesa-frames + Parquet",
        "agents",
        ("mesa-frames", "polars", "pandas", "pyarrow"),
        "--no-deps mesa-frames",
        "agents in Polars, which uses all cores; saves their ids too",
    ),
    Peer("savez", "savez", "np.savez", "arrays", ("numpy",), "numpy", "has checksums, as pecs_np has"),
    Peer("npy", "npy", "np.save, structured", "arrays", ("numpy",), "numpy"),
    Peer(
        "pickle",
        "pickled",
        "pickle 5 of arrays",
        "arrays",
        ("numpy",),
        "numpy",
        "out of band, which loads twice as fast as in band",
    ),
    Peer(
        "pandas-parquet",
        "pandas_parquet",
        "pandas + Parquet",
        "frame",
        ("pandas", "pyarrow"),
        "pandas pyarrow",
        "no compression, no dictionary: the fastest of the settings tried",
    ),
    Peer(
        "feather",
        "feather",
        "Feather",
        "arrays",
        ("pyarrow",),
        "pyarrow",
        "no compression, not mapped; small columns are loaded as read-only views of what was read",
    ),
    Peer(
        "polars-ipc",
        "polars_ipc",
        "Polars + IPC",
        "frame",
        ("polars",),
        "polars",
        "no compression, read at once; uses all cores",
    ),
    Peer("h5py", "h5py", "h5py", "arrays", ("h5py",), "h5py", "contiguous data sets"),
)

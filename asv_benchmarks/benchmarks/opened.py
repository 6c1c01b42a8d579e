"""Saves that are opened and read in part."""

from pathlib import Path

import pecs_np

from .common import SIZES, Sampled
from .migration import of_ten_types


class Opened(Sampled):
    """A save of ten types of two floats each, of which one is read."""

    params = (SIZES, ("read", "mapped"))
    param_names = ("n", "how")

    def setup_cache(self):
        for n in SIZES:
            of_ten_types(n).save(f"{n}.pecs", durable=False)

    def setup(self, n, how):
        self.path, self.mmap = Path(f"{n}.pecs"), how == "mapped"
        self.save = pecs_np.open(self.path, mmap=self.mmap)

    def teardown(self, n, how):
        self.save.close()

    def time_open(self, n, how):
        pecs_np.open(self.path, mmap=self.mmap).close()

    def time_column(self, n, how):
        self.save["Position"]

    def time_verify(self, n, how):
        self.save.verify()


class Parts(Sampled):
    """What else can be read, of the largest of them."""

    params = SIZES[-1:]
    param_names = ("n",)

    def setup_cache(self):
        of_ten_types(SIZES[-1]).save("save.pecs", durable=False)

    def setup(self, n):
        self.save = pecs_np.open("save.pecs")

    def teardown(self, n):
        self.save.close()

    def time_field(self, n):
        self.save.column("Position", "x")

    def time_stable_ids(self, n):
        self.save.entities("Position")

    def time_snapshot_of_two_types(self, n):
        self.save.snapshot(types=["Position", "Velocity"])

    def peakmem_column(self, n):
        self.save["Position"]

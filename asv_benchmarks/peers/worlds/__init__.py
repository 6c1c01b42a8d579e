"""One module a peer, imported only in its own process.

Each has ``create(given)`` for an array of shape (4, n) with the rows x, y, vx, vy, ``step(world)``,
which returns the stepped world, ``save(world, path)``, ``load(path)`` and ``columns(world)``, the four
rows back. ``discard(world)`` is there where dropping the last reference does not free a world, and
``UNORDERED`` where entities come back in another order.
"""

DT = 0.1
FIELDS = ("x", "y", "vx", "vy")

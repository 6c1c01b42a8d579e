"""Programs that tests of stores on servers run in processes of their own."""

import json
import subprocess
import sys

# What all begin with: a store, and a world that is the same in each process.
_COMMON = """
import json, os, signal, sys, time
from typing import Annotated
import numpy as np
import pecs_np
from pecs_np import World, make_component

kind, server, place, *rest = json.loads(sys.argv[1])
def store():
    return getattr(pecs_np, kind)(server, **place)

Wide = make_component("ServedWide", {"turn": np.int64, "tag": str, "block": Annotated[np.float64, 60]})
Plain = make_component("ServedPlain", {"turn": np.int64, "block": Annotated[np.float64, 30]})

def world_of(turn, count):
    world = World(seed=11)
    rows = np.arange(count)
    world.spawn_batch(Wide(turn=turn, tag=[f"{turn}-{i % 7}" for i in rows], block=np.zeros((count, 60)) + turn))
    world.spawn_batch(Plain(turn=turn, block=np.zeros((count, 30)) + turn))
    return world

def turns_of(opened, ids):
    back = World()
    opened.load_entities(back, ids)
    wide, plain = back.column(Wide), back.column(Plain)
    assert (wide["block"] == wide["turn"][:, None]).all()
    assert all(tag.startswith(f"{turn}-") for tag, turn in zip(wide["tag"], wide["turn"].tolist()))
    return sorted({*wide["turn"].tolist(), *plain["turn"].tolist()})
"""

# Children save a batch over the one before, and are killed before their call number 0, 1, 2, … that sends
# something, until one reaches the end. Prints which turns each left.
KILLED = """
count, at_once = rest
if at_once is not None:
    from pecs_np.persistence.stores import redis_batches
    redis_batches._AT_ONCE = at_once
opened = store()
opened.save_entities(world := world_of(0, count), world.entities())
ids = world.stable_ids()

def arm(at):
    calls = 0
    def kill():
        nonlocal calls
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
    if kind == "RedisEntityPlugin":
        from redis.connection import AbstractConnection
        send = AbstractConnection.send_packed_command
        def counted(self, command, *args, **kwargs):
            for item in command:
                kill()
                send(self, [item], *args, **kwargs)
        AbstractConnection.send_packed_command = counted
        read = AbstractConnection.read_response
        def reading(self, *args, **kwargs):
            kill()
            return read(self, *args, **kwargs)
        AbstractConnection.read_response = reading
    else:
        import psycopg
        for owner, name in ((psycopg.Connection, "execute"), (psycopg.Copy, "write"), (psycopg.Copy, "__exit__"), (psycopg.Transaction, "__exit__")):
            def counted(self, *args, call=getattr(owner, name), **kwargs):
                kill()
                return call(self, *args, **kwargs)
            setattr(owner, name, counted)

def settle():
    # What the killed process had sent is carried out, or thrown away, and its connection is gone.
    while True:
        if kind == "RedisEntityPlugin":
            others = len(opened._client.client_list()) - 1
        else:
            text = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pecs_np'"
            others = opened._connection.execute(text).fetchone()[0] - 1
        if not others:
            return
        time.sleep(0.001)

left, status = [], None
while status != 0:
    at = len(left)
    if at % 2:  # also where nothing is there yet
        opened.clear()
    before = [] if at % 2 else turns_of(opened, ids)
    pid = os.fork()
    if not pid:
        world = world_of(at + 1, count)
        child = store()
        arm(at)
        child.save_entities(world, world.entities())
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    settle()
    after = turns_of(opened, ids) if len(opened) == len(ids) else [len(opened)] * bool(len(opened))
    assert after in (before, [at + 1]), (at, before, after)
    left.append(after == [at + 1])
    if not after:
        opened.save_entities(world := world_of(0, count), world.entities())
print(json.dumps(left))
"""

# One of several processes that save the same entities in orders of their own, and never see two batches.
AT_ONCE = """
number, rounds, count, at_once = rest
if at_once is not None:
    from pecs_np.persistence.stores import redis_batches
    redis_batches._AT_ONCE = at_once
rng = np.random.default_rng(number)
print("ready", flush=True)
sys.stdin.readline()
with store() as opened:
    seen = set()
    for i in range(rounds):
        turn = number * 1000 + i
        world = world_of(turn, count)
        opened.save_entities(world, rng.permutation(world.entities()))
        turns = turns_of(opened, rng.permutation(world.stable_ids()))
        assert len(turns) == 1, turns
        seen.update(turns)
        assert len(opened) == len(opened.list_entities()) == 2 * count
print(json.dumps(sorted(seen)))
"""

# A store that a fork inherits works in both.
FORKED = """
opened = store()
world = world_of(1, 5)
opened.save_entities(world, world.entities())
pid = os.fork()
if not pid:
    assert turns_of(opened, world.stable_ids()) == [1]
    later = world_of(2, 5)
    opened.save_entities(later, later.entities())
    opened.close()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert turns_of(opened, world.stable_ids()) == [2]
print(json.dumps("done"))
"""


def start(program, *arguments):
    """Start a program with a kind of store, a server, what names the place there, and more."""
    command = [sys.executable, "-W", "error", "-c", _COMMON + program, json.dumps(arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answer(process):
    """Return what a program said in the end."""
    output, _ = process.communicate("\n", timeout=300)
    assert process.returncode == 0
    return json.loads(output.splitlines()[-1])

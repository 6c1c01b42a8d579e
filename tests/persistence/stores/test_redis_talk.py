"""Commands as Redis takes them, exact bytes."""

import numpy as np
import pytest

from pecs_np.ecs.ids import STABLE_ID
from pecs_np.persistence.stores.records import Records, key_of, layout_of
from pecs_np.persistence.stores.redis_talk import command, head, pairs, said, said_in_turn, said_together


def test_commands_are_words_behind_their_lengths():
    assert command(b"SET", b"a", b"") == b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$0\r\n\r\n"
    assert head(2, b"HSET", b"a") == b"*4\r\n$4\r\nHSET\r\n$1\r\na\r\n"


def test_records_of_one_size_and_of_several_are_put_alike():
    ids = np.array([(i, 3) for i in range(5)], STABLE_ID)
    values = [b"%09d-" % i for i in range(5)]
    data = np.frombuffer(b"".join(values), "u1")
    layout = layout_of(())
    wanted = b"".join(
        b"$16\r\n" + key_of(3 << 64 | i) + b"\r\n$10\r\n" + values[i] + b"\r\n" for i in (1, 2, 3)
    )
    assert bytes(pairs(Records(layout, ids, data, np.arange(10, 60, 10)), 1, 4)) == wanted
    eights = [b"%07d-" % i for i in range(5)]
    same = Records(layout, ids, np.frombuffer(b"".join(eights), "u1"), None)
    assert bytes(pairs(same, 4, 5)) == b"$16\r\n" + key_of(3 << 64 | 4) + b"\r\n$8\r\n" + eights[4] + b"\r\n"
    longer = Records(layout, ids[:2], np.frombuffer(b"abc", "u1"), np.array([0, 3]))
    assert bytes(pairs(longer, 0, 2)).endswith(b"\r\n$3\r\nabc\r\n")
    assert b"$0\r\n\r\n" in bytes(pairs(longer, 0, 2))


@pytest.fixture
def pool(redis_server):
    redis = pytest.importorskip("redis")
    with redis.Redis.from_url(redis_server.address) as client:
        yield client.connection_pool


def test_answers_come_in_order_and_errors_are_raised(pool):
    from redis.exceptions import ResponseError

    commands = [command(b"SET", b"talk", b"5"), command(b"INCR", b"talk"), command(b"GET", b"talk")]
    assert said(pool, commands, 3) == [b"OK", 6, b"6"]
    assert said_in_turn(pool, commands) == [b"OK", 6, b"6"]
    assert said_together(pool, commands, 3) == [b"OK", 6, b"6"]
    wrong = command(b"LLEN", b"talk")
    for call in (
        lambda: said(pool, [wrong, *commands], 4),
        lambda: said_in_turn(pool, [*commands, wrong]),
        lambda: said_together(pool, [*commands, wrong], 4),
    ):
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            call()
        # No answer is left over for who asks next.
        assert said(pool, [command(b"GET", b"talk")], 1) == [b"6"]


def test_nothing_is_done_where_something_is_there(pool):
    said(pool, [command(b"DEL", b"talk:made", b"talk:there")], 1)
    make = [command(b"SET", b"talk:made", b"1")]
    assert said_together(pool, make, 1, unless=b"talk:there") == [b"OK"]
    assert said_together(pool, make, 1, unless=b"talk:made") is None
    assert said(pool, [command(b"GET", b"talk:made")], 1) == [b"1"]

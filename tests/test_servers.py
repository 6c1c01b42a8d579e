"""The servers that tests start: they run, stop and start again, and what is missing is not passed over on CI."""

import socket

import pytest


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_that_is_not_installed_skips_the_test_and_fails_on_ci(servers, monkeypatch):
    monkeypatch.setattr(servers, "_postgres_program", lambda name: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="PostgreSQL is not installed"), servers.postgres():
        pass
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="PostgreSQL is not installed"), servers.postgres():
        pass
    monkeypatch.setattr(servers.shutil, "which", lambda name: None)
    with pytest.raises(pytest.fail.Exception, match="redis-server is not installed"), servers.redis():
        pass
    assert not servers.installed("redis")


def test_postgres_keeps_its_data_and_its_port_when_it_starts_again(servers):
    import psycopg

    with servers.postgres() as server:
        port, address = server.port, server.address
        with psycopg.connect(address) as db:
            db.execute("CREATE TABLE kept AS SELECT 5 AS number")
        server.stop()
        assert not answers(port)
        server.start()
        assert server.address == address
        with psycopg.connect(address) as db:
            assert db.execute("SELECT number FROM kept").fetchone() == (5,)
    assert not answers(port)


def test_redis_keeps_its_data_and_its_port_when_it_starts_again(servers):
    import redis

    with servers.redis() as server:
        port, address = server.port, server.address
        with redis.Redis.from_url(address) as client:
            client.set("kept", "5")
        server.stop()
        assert not answers(port)
        server.start()
        assert server.address == address
        with redis.Redis.from_url(address) as client:
            assert client.get("kept") == b"5"
    assert not answers(port)


def test_a_redis_that_does_not_start_says_why(servers):
    with pytest.raises(RuntimeError, match="Redis does not start"), servers.redis("--no-such-option", "5"):
        pass

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

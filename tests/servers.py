"""Servers for tests, from the system's own packages: started on a free port of this machine, and stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest


def missing(what):
    """Skip the test, or fail on CI, because a server is not installed."""
    message = f"{what} is not installed: see .ci/run"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def free_port():
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _postgres_program(name):
    # Debian does not put them on the path.
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True
    )
    return shutil.which(name) or next((str(f / name) for f in folders if (f / name).exists()), None)


def installed(server):
    """Tell whether "redis" or "postgres" can be started."""
    program = shutil.which("redis-server") if server == "redis" else _postgres_program("initdb")
    return program is not None


class Postgres:
    """A server with data of its own.

    Attributes
    ----------
    address : str
        As libpq takes it.
    """

    def __init__(self, folder):
        self._folder = folder
        # It refuses to run as root.
        self._as = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        if self._as:
            shutil.chown(folder, "postgres")
        self._run(
            "initdb", "--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"
        )
        self.port = None

    @property
    def address(self):
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"

    def start(self):
        """Start the server, on the port that it had if it ran before, and wait until it answers."""
        for _ in range(3):  # somebody may take the port meanwhile
            port = self.port or free_port()
            options = f"-p {port} -h 127.0.0.1 -k {self._folder} -F"
            try:
                self._run("pg_ctl", "start", "-w", "-o", options, "-l", f"{self._folder}/log")
            except subprocess.CalledProcessError as error:
                failure = error
            else:
                self.port = port
                return
        logs = [path.read_text()[-2000:] for path in Path(self._folder).glob("*log")]
        raise RuntimeError("\n".join(["PostgreSQL does not start", *logs])) from failure

    def stop(self):
        """Stop the server at once."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate")

    def _run(self, program, *args):
        command = [*self._as, _postgres_program(program), *args[:1], "-D", f"{self._folder}/data", *args[1:]]
        # To a file, for the server would keep a pipe open.
        with Path(self._folder, f"{program}.log").open("a") as log:
            subprocess.run(
                command, cwd="/", check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )


@contextlib.contextmanager
def postgres():
    """Yield a `Postgres` that runs."""
    if not installed("postgres"):
        missing("PostgreSQL")
    # Not below pytest's own folder, which other users cannot enter.
    with tempfile.TemporaryDirectory(prefix="pecs_np-postgres-") as folder:
        server = Postgres(folder)
        server.start()
        try:
            yield server
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                server.stop()


class Redis:
    """A Redis server with data of its own, written to disk at once.

    Attributes
    ----------
    port : int or None
    pid : int
        Of the server that runs.
    """

    def __init__(self, folder, *options):
        self._folder = folder
        self._options = options
        self._process = None
        self.port = None

    @property
    def address(self):
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self):
        return self._process.pid

    def start(self):
        """Start the server, on the port that it had if it ran before, and wait until it answers."""
        for _ in range(3):  # somebody may take the port meanwhile
            port = self.port or free_port()
            options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
            options += ["--save", "", "--appendonly", "yes", "--appendfsync", "no", *self._options]
            with Path(self._folder, "log").open("a") as log:
                self._process = subprocess.Popen(
                    ["redis-server", *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            if self._answers(port):
                self.port = port
                return
            self.stop()
        raise RuntimeError("Redis does not start\n" + Path(self._folder, "log").read_text()[-2000:])

    def _answers(self, port):
        while self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as probe:
                probe.sendall(b"PING\r\n")
                # Not while it reads what it had; a password that is asked for is an answer too.
                if not probe.recv(100).startswith(b"-LOADING"):
                    return True
            time.sleep(0.01)
        return False

    def stop(self):
        """Kill the server."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def redis(*options):
    """Yield a `Redis` that runs."""
    if not installed("redis"):
        missing("redis-server")
    with tempfile.TemporaryDirectory(prefix="pecs_np-redis-") as folder:
        server = Redis(folder, *options)
        try:
            server.start()
            yield server
        finally:
            server.stop()

"""Servers for tests, from the system's own packages: started on a free port of this machine, and stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
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
    if _postgres_program("initdb") is None:
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

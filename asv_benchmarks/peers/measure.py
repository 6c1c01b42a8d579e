"""Runs peers in their processes and gathers what they found."""

import datetime as dt
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TOP = Path(__file__).parents[2]


class PeerError(Exception):
    """A peer's process failed; the message is its last line."""


def machine():
    """Return what the figures depend on, by name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _in_a_process(job, peer, n, rounds, path):
    command = [sys.executable, "-m", f"{__package__}.child", job, peer.module, str(n), str(rounds), str(path)]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerError((done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])


def one(peer, n, rounds):
    """Return the figures of *peer* with n entities.

    Raises
    ------
    PeerError
        If one of its processes fails, as it does where data is lost.
    """
    with tempfile.TemporaryDirectory() as folder:
        figures = _in_a_process("time", peer, n, rounds, Path(folder, "timed"))
        saving = _in_a_process("save", peer, n, rounds, Path(folder, "saved"))
        loading = _in_a_process("load", peer, n, rounds, Path(folder, "saved"))
    return {**figures, "memory": {**saving, **loading} if saving and loading else None}


def run(peers, sizes, rounds, tell=lambda line: None):
    """Measure *peers* one after another and return all that a table needs, ready for JSON.

    Those of which a package is missing are listed as such, and those that fail with their error.
    """
    raw = {
        "date": dt.datetime.now().astimezone().date().isoformat(),
        "machine": machine(),
        "rounds": rounds,
        "versions": {},
        "results": [],
        "missing": [],
        "failed": [],
    }
    present = []
    for peer in peers:
        versions = peer.versions()
        if None in versions.values():
            lacks = [package for package, version in versions.items() if version is None]
            raw["missing"].append(
                {"peer": peer.key, "title": peer.title, "lacks": lacks, "install": peer.install}
            )
        else:
            raw["versions"].update(versions)
            present.append(peer)
    for n in sizes:
        for peer in present:
            tell(f"{peer.title}, {n:,} entities")
            who = {"peer": peer.key, "title": peer.title, "holds": peer.holds, "note": peer.note, "n": n}
            try:
                raw["results"].append({**who, **one(peer, n, rounds)})
            except PeerError as error:
                tell(f"  failed: {error}")
                raw["failed"].append({**who, "error": str(error)})
    return raw

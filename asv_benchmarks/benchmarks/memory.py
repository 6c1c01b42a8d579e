"""How much memory something takes, measured in a process that has done nothing else. On Linux."""

import re
import subprocess
import sys
from pathlib import Path


def _status(what):
    """Return a line of the process's status in MiB."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024


def peak(call):
    """Return how much higher the memory of the process rises in *call*, in MiB, and its result."""
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    result = call()
    return _status("VmHWM") - before, result


def in_new_process(module, function, *args):
    """Return the number that a function of a module of this package prints."""
    code = f"from benchmarks.{module} import {function} as f; f(*{args!r})"
    folder = Path(__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True)
    return float(run.stdout)

"""What importing the package costs on top of what it needs."""

import subprocess
import sys


def timeraw_import():
    return "import pecs_np", "import numpy, orjson"


timeraw_import.number = 1
timeraw_import.repeat = (10, 20, 10.0)


def track_modules():
    """How many modules an import brings in beside NumPy and orjson."""
    code = "import sys, numpy, orjson; n = len(sys.modules); import pecs_np; print(len(sys.modules) - n)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return int(run.stdout)


track_modules.unit = "modules"

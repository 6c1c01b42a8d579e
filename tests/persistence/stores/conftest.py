"""The programs that stores on servers are tested with."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def programs():
    """The module of programs that run in processes of their own."""
    name = "pecs_server_programs"
    if name not in sys.modules:
        path = Path(__file__).with_name("server_programs.py")
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]

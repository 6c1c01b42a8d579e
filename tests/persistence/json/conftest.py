"""The ways of few values and of many: both are to give and to take the same text, whatever its length."""

import pytest

from pecs_np.persistence.json import runs, scanning, templates


@pytest.fixture(params=["usual", "as few", "as many"])
def any_length(request, monkeypatch):
    """Run the test with worlds of its size treated as usual, as small ones, and as large ones."""
    least = {"usual": None, "as few": 1 << 60, "as many": 0}[request.param]
    if least is not None:
        monkeypatch.setattr(scanning, "_LEAST_GRID", least)
        monkeypatch.setattr(templates, "_LEAST_NUMBERS", least)
        monkeypatch.setattr(runs, "_LEAST_PLACES", min(least, 3))

"""Settings of all tests, and where the program runs: an empty folder."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# As many workers as cores: with threads of their own beside them, torch's small models take several times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# For a long search by hand: pytest --hypothesis-profile fuzz
settings.register_profile("fuzz", max_examples=20_000, deadline=None)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, a terminal of 160 columns, and the program's name in `sys.argv`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "argv", ["safemt"])
    return tmp_path

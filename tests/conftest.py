"""Settings of all tests, and where the program runs: an empty folder."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support.stores import copy_empty_stores

# As many workers as cores: with threads of their own beside them, torch's small models take several times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Else every process that a test starts would compile the whole program.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# For a long search by hand: pytest --hypothesis-profile fuzz
settings.register_profile("fuzz", max_examples=20_000, deadline=None)
# How long an example takes says more of what else the machine does.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Files as parameters are not named by their bytes: packed ones hold the time, and workers must agree."""
    return argname if isinstance(val, bytes) and not val.isascii() else None


@pytest.fixture(scope="session", autouse=True)
def _empty_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """New stores are copies of an empty one. The tests of the store itself, and processes, make theirs anew."""
    with pytest.MonkeyPatch.context() as patch:
        copy_empty_stores(tmp_path_factory.mktemp("empty"), patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the program keeps for the user is not kept of tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that `--provider demo --quiet` makes: to be read, and copied where a test writes to it."""
    from support.program import at_once

    path = tmp_path_factory.mktemp("run") / "safemt.duckdb"
    done = at_once("--provider", "demo", "--quiet", "--db", str(path))
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, a terminal of 160 columns, and the program's name in `sys.argv`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "argv", ["safemt"])
    return tmp_path

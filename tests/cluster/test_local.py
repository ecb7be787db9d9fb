"""The Ray that `--workers` starts on this machine: nobody else reaches it, and a run on it is like any other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cluster.processes import descendants, sockets
from cluster.said import scores, turns
from support.program import ROOT, at_once

from safemt_client.cluster.nodes import started
from safemt_client.providers.errors import InputError
from safemt_client.settings import RunSettings

pytestmark = pytest.mark.slow

_HERE = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")
"""127.0.0.1, the same in IPv6, and ::1, as Linux writes them."""
_LISTENS = "0A"


def show_listening() -> None:
    """Print where the processes of a Ray of this one listen."""
    with started(RunSettings(provider=["demo"], workers=1)):
        print(*(one.address for one in sockets(descendants(os.getpid())) if one.state == _LISTENS))


def test_it_listens_on_loopback_alone(here: Path) -> None:
    pytest.importorskip("ray")
    # In a process of its own: Ray reads its settings as it is imported.
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    code = "from cluster.test_local import show_listening; show_listening()"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    found = done.stdout.split()
    assert found
    assert set(found) <= set(_HERE)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (
            "127.0.0.1:1",
            r"^--ray 127\.0\.0\.1:1: nothing answers there \(Connection refused\): is Ray started",
        ),
        ("absent.invalid:6379", r"^--ray absent\.invalid:6379: nothing answers there"),
        ("127.0.0.1", r"^--ray 127\.0\.0\.1: give auto or HOST:PORT"),
        ("127.0.0.1:port", r"^--ray 127\.0\.0\.1:port: give auto or HOST:PORT"),
    ],
)
def test_an_address_without_ray_is_refused_in_one_line(address: str, said: str) -> None:
    pytest.importorskip("ray")
    settings = RunSettings(provider=["demo"], ray=address)
    with pytest.raises(InputError, match=said), started(settings):
        pass


def test_a_run_on_it_has_the_scores_of_one_process(here: Path) -> None:
    pytest.importorskip("ray")
    done = at_once("--provider", "demo", "--turns", "1,2", "--db", "two.duckdb", "--workers", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert at_once("--provider", "demo", "--turns", "1,2", "--db", "one.duckdb").returncode == 0
    assert scores(here / "two.duckdb") == scores(here / "one.duckdb")
    assert turns(here / "two.duckdb") == (30, 30, 30)

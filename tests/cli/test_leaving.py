"""How a process of the program ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}

ENDING = """
import atexit, sys, time
from safemt_client import __main__ as program

class TakenApart:
    def __del__(self):
        print("taken apart", flush=True)

kept = TakenApart()
atexit.register(print, "called at the end")
{before}
program.main = lambda: 3
print("in a buffer")
sys.exit(program.console())
"""


def ended(before: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", ENDING.format(before=before)],
        cwd=ROOT,
        env=BUFFERED,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def test_nothing_is_taken_apart_but_all_is_said_and_called() -> None:
    assert ended("") == (3, ["in a buffer", "called at the end"])


@pytest.mark.parametrize(
    "before",
    [
        "import cProfile; cProfile.Profile().enable()",
        "import functools, os; sys.settrace(functools.partial(print, file=open(os.devnull, 'w')))",
    ],
)
def test_a_profiler_or_a_debugger_sees_an_ordinary_exit(before: str) -> None:
    assert ended(before) == (3, ["in a buffer", "called at the end", "taken apart"])


def test_threads_are_waited_for() -> None:
    # An executor's idle thread ends at an ordinary exit only.
    before = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "threads = ThreadPoolExecutor(1)\n"
        "threads.submit(lambda: (time.sleep(0.2), print('by a thread')))"
    )
    assert ended(before) == (3, ["in a buffer", "by a thread", "called at the end", "taken apart"])


@pytest.mark.parametrize(("redirected", "status"), [("1>&-", 3), ("2>&-", 3), ("1>/dev/full", 120)])
def test_an_output_that_takes_nothing(redirected: str, status: int) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {redirected}', sys.executable, ENDING.format(before="")],
        cwd=ROOT,
        env=BUFFERED,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status
    assert (b"No space left" in done.stderr) is (status == 120)

"""Waiting for a state of something beside the tests, without taking from it the core that it runs on."""

import subprocess
import time
from collections.abc import Callable

from .forked import Forked

__all__ = ["until"]

LONGEST_S = 120


def until(
    state: Callable[[], object], *processes: subprocess.Popen[str] | Forked, pause_s: float = 0.01
) -> None:
    """Return as soon as there is that state; fail if one of the processes ends before, or after two minutes."""
    deadline = time.monotonic() + LONGEST_S
    while not state():
        for process in processes:
            assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(pause_s)

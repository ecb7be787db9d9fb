"""A run on workers of the tests' cluster, beside which something happens to its processes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from threading import Thread
from typing import Any

from cluster.strict import Strict
from support.program import at_once

__all__ = ["asking", "on_workers", "run_beside"]


def asking(endpoint: Strict, *, judged: bool = True) -> list[str]:
    """The command of a run, on workers or not."""
    words = ["--provider", f"m@{endpoint.url}", "--judge", f"judge@{endpoint.url}" if judged else "none"]
    return [*words, "--data", "d.jsonl", "--history", "live", "--db", "a.duckdb", "--log", "a.log"]


def on_workers(nodes: Any, workers: int = 2) -> list[str]:
    """What is added to it for workers of the tests' cluster."""
    words = ["--ray", nodes.address, "--ray-insecure", "--workers", str(workers), "--shard-size", "40"]
    # So long calls of a lost worker count as in flight.
    return [*words, "--attempt-timeout", "5"]


def run_beside(
    meanwhile: Callable[[], None], endpoint: Strict, *words: str, judged: bool = True
) -> subprocess.CompletedProcess[str]:
    """How a run ended beside which something happens. `words` are added to its command."""
    wrong: list[BaseException] = []

    def happen() -> None:
        try:
            meanwhile()
        except BaseException as error:  # noqa: BLE001 - the test is to fail with it
            wrong.append(error)

    beside = Thread(target=happen)
    beside.start()
    done = at_once(*asking(endpoint, judged=judged), *words)
    beside.join()
    if wrong:
        raise AssertionError(done.stdout + done.stderr) from wrong[0]
    return done

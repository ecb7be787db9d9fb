"""A run on workers that is stopped by hand, in a process of its own: it ends in order, and the same command resumes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster.beside import asking, on_workers
from cluster.said import rows, turns, write_dialogues
from cluster.strict import Strict, strict
from support.program import ROOT, at_once
from support.waiting import until

from safemt_client.cluster.fleet import LOST_S

pytestmark = pytest.mark.slow

_COUNT = 120


@contextmanager
def program(*words: str) -> Iterator[subprocess.Popen[str]]:
    """The program with a process group of its own, as a shell starts it."""
    command = [sys.executable, "-m", "safemt_client", *words]
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=env, start_new_session=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def check_it_ended_in_order(process: subprocess.Popen[str], endpoint: Strict) -> None:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, out + err
    assert "stopping: waiting for calls in flight" in out
    assert "interrupted: stopped early; continue with:" in out
    assert "a worker is lost" not in out
    # What was in flight has landed.
    stored = "SELECT (SELECT count(*) FROM turns) + (SELECT count(*) FROM verdicts)"
    assert rows(Path("a.duckdb"), stored) == [(len(endpoint.times),)]
    assert len(endpoint.times) < 2 * _COUNT


def check_all_is_there_once(endpoint: Strict) -> None:
    assert turns(Path("a.duckdb")) == (_COUNT, _COUNT, _COUNT)
    assert set(endpoint.asked.values()) == {1}
    assert len(endpoint.times) == 2 * _COUNT


def test_ctrl_c_reaches_all_processes_and_the_run_goes_on_without_workers(here: Path) -> None:
    pytest.importorskip("ray")
    write_dialogues(here / "d.jsonl", _COUNT)
    with strict(latency_s=0.3) as endpoint:
        words = [*asking(endpoint), "--max-concurrency", "8"]
        with program(*words, "--workers", "2") as process:
            until(lambda: len(endpoint.times) > 30, process)
            # As a terminal does.
            os.killpg(process.pid, signal.SIGINT)
            check_it_ended_in_order(process, endpoint)
        done = at_once(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    check_all_is_there_once(endpoint)


def test_a_driver_that_was_stopped_for_a_while_loses_no_worker_and_ends_in_order(
    here: Path, two_nodes: Any
) -> None:
    write_dialogues(here / "d.jsonl", _COUNT)
    with strict(latency_s=0.3) as endpoint:
        words = [*asking(endpoint), *on_workers(two_nodes), "--max-concurrency", "2"]
        with program(*words) as process:
            until(lambda: len(endpoint.times) > 10, process)
            process.send_signal(signal.SIGSTOP)
            time.sleep(LOST_S + 2)
            process.send_signal(signal.SIGCONT)
            known = len(endpoint.times)
            until(lambda: len(endpoint.times) > known + 2, process)
            process.send_signal(signal.SIGTERM)
            check_it_ended_in_order(process, endpoint)
        words[words.index("--max-concurrency") + 1] = "16"
        done = at_once(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    check_all_is_there_once(endpoint)

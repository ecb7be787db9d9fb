"""Processes and a node of a cluster that are killed while a run goes on: nothing is lost, little asked twice."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster.beside import on_workers, run_beside
from cluster.processes import actors, descendants, ports_to
from cluster.said import rows, turns, write_dialogues
from cluster.strict import Strict, strict
from support.waiting import until

pytestmark = pytest.mark.slow

_COUNT = 400
_AT_A_TIME = 8


def with_a_death(nodes: Any, kill: Callable[[int], None], workers: int = 2) -> tuple[str, Strict]:
    """What a run says in which something is killed once a part of it is asked, and whom it has asked.

    `kill` is told the port of that one.
    """
    write_dialogues(Path("d.jsonl"), _COUNT)
    with strict(latency_s=0.1) as endpoint:

        def meanwhile() -> None:
            until(lambda: len(endpoint.times) > 100)
            kill(endpoint.port)

        words = [*on_workers(nodes, workers), "--max-concurrency", str(_AT_A_TIME)]
        done = run_beside(meanwhile, endpoint, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, endpoint


def check_all_is_there(endpoint: Strict, *, twice: int) -> None:
    """Each turn and verdict is in the store once, and at most so many were asked twice."""
    assert turns(Path("a.duckdb"))[1:] == (_COUNT, _COUNT)
    assert rows(Path("a.duckdb"), "SELECT count(DISTINCT verdict_hash) FROM verdicts") == [(_COUNT,)]
    assert len(endpoint.asked) == 2 * _COUNT
    assert endpoint.asked.total() - 2 * _COUNT <= twice
    doubled = "SELECT count(*) FROM (SELECT request_hash FROM turns GROUP BY ALL HAVING count(*) > 1)"
    assert rows(Path("a.duckdb"), doubled)[0][0] <= twice


def test_a_killed_worker_loses_what_was_in_flight_and_no_more(here: Path, two_nodes: Any) -> None:
    before = actors("Worker")
    said, endpoint = with_a_death(
        two_nodes, lambda _: os.kill(min(actors("Worker") - before), signal.SIGKILL)
    )
    assert "a worker is lost, its process has ended" in said
    check_all_is_there(endpoint, twice=2 * _AT_A_TIME)


def test_a_killed_writer_loses_nothing(here: Path, two_nodes: Any) -> None:
    def kill(port: int) -> None:
        os.kill(json.loads(Path("a.duckdb.server").read_text())["pid"], signal.SIGKILL)

    said, endpoint = with_a_death(two_nodes, kill)
    assert "a worker is lost" not in said
    check_all_is_there(endpoint, twice=0)


def test_a_killed_node_loses_what_was_in_flight_and_no_more(here: Path, two_nodes: Any) -> None:
    third = two_nodes.add_node(num_cpus=1, object_store_memory=80_000_000)
    raylet = third.all_processes["raylet"][0].process.pid
    killed: list[int] = []

    def kill(port: int) -> None:
        until(lambda: len(actors("Worker")) == 3 and all(ports_to(port, pid) for pid in actors("Worker")))
        if actors("Worker") & descendants(raylet):
            two_nodes.remove_node(third, allow_graceful=False)
            killed.append(raylet)

    for _ in range(5):
        # One worker on each node, unless Ray starts elsewhere what is meant for the new one, as it may.
        said, endpoint = with_a_death(two_nodes, kill, 3)
        if killed:
            break
        Path("a.duckdb").unlink()
    assert "a worker is lost, its process has ended" in said
    check_all_is_there(endpoint, twice=2 * _AT_A_TIME)

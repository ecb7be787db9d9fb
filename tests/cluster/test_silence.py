"""Processes of a cluster that are frozen for a while, and a store that somebody else holds: a run goes on."""

from __future__ import annotations

import json
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
from cluster.beside import asking, on_workers, run_beside
from cluster.processes import actors, ports_to
from cluster.said import rows, turns, write_dialogues
from cluster.strict import Strict, strict
from support.program import at_once
from support.waiting import until

from safemt_client.cluster.fleet import LOST_S
from safemt_client.cluster.messages import SILENCE_S
from safemt_client.cluster.nodes import Nodes

pytestmark = pytest.mark.slow

_COUNT = 400
_AT_A_TIME = 8
_LATENCY_S = 0.25
_CALL_USD, _CAP_USD = 0.002, 0.4
_KEPT_S, _ANSWER_S = 1.0, 5.0
"""A permit is of use for so long, and a call is waited for."""
_NAME = 12
"""Characters of a worker's name."""
_ON_THE_WAY_S = 1.0
"""A call that was started by now has arrived so much later at the latest."""

# Waits for the lock of a file, has it until its input ends.
_HOLD = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


def freeze(pid: int) -> float:
    os.kill(pid, signal.SIGSTOP)
    return time.monotonic()


def go_on(pid: int) -> float:
    now = time.monotonic()
    os.kill(pid, signal.SIGCONT)
    return now


def calls_between(endpoint: Strict, since: float, until: float) -> int:
    return sum(since < at < until for at in list(endpoint.times))


class OutOfReach:
    """A machine whose network is gone: the first worker that is to be ended there is not."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.since: float | None = None
        really = Nodes.kill

        def kill(nodes: Nodes, handle: Any) -> None:
            if self.since is None:
                self.since = time.monotonic()
            else:
                really(nodes, handle)

        patch.setattr(Nodes, "kill", kill)


def delivered() -> dict[str, int]:
    """The latest delivery of each process, by its incarnation."""
    return dict(rows(Path("a.duckdb"), "SELECT incarnation, max(number) FROM deliveries GROUP BY ALL"))


def test_nothing_is_started_in_silence_and_what_comes_late_is_stored(
    here: Path, two_nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, lost = actors("Worker"), OutOfReach(monkeypatch)
    frozen: dict[str, tuple[float, float]] = {}
    ports: set[int] = set()

    def freeze_the_accounts() -> None:
        until(lambda: len(endpoint.times) > 60)
        (pid,) = actors("Accounts")
        since = freeze(pid)
        time.sleep(SILENCE_S + _ON_THE_WAY_S + 2)
        frozen["accounts"] = since, go_on(pid)
        known = len(endpoint.times)
        until(lambda: len(endpoint.times) > known + 20)

    def freeze_a_worker() -> None:
        pid = min(actors("Worker") - before)
        since = freeze(pid)
        time.sleep(2)
        first = delivered()
        until(lambda: lost.since is not None)
        now = delivered()
        # The other one has gone on.
        (name,) = (one for one in first if first[one] == now[one] and len(one) == _NAME)
        # The run is to last until what comes late is there.
        endpoint.latency_s = 1.0
        frozen["worker"] = since, go_on(pid)
        until(lambda: ports.update(ports_to(endpoint.port, pid)) or delivered()[name] > now[name])
        for _ in range(20):
            ports.update(ports_to(endpoint.port, pid))
            time.sleep(0.1)
        endpoint.latency_s = 0.1

    def meanwhile() -> None:
        freeze_the_accounts()
        freeze_a_worker()

    write_dialogues(here / "d.jsonl", _COUNT)
    with strict(latency_s=_LATENCY_S) as endpoint:
        words = [*on_workers(two_nodes), "--max-concurrency", str(_AT_A_TIME)]
        done = run_beside(meanwhile, endpoint, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    since, until_then = frozen["accounts"]
    assert calls_between(endpoint, since + _ON_THE_WAY_S, since + SILENCE_S) > 0
    assert calls_between(endpoint, since + SILENCE_S + _ON_THE_WAY_S, until_then) == 0
    since, until_then = frozen["worker"]
    assert done.stdout.count("a worker is lost, it is silent") == 1
    assert lost.since is not None
    # Its last word was a moment before.
    assert lost.since - since > LOST_S - 1
    assert ports
    came = zip(endpoint.times, endpoint.ports, strict=True)
    assert [at - since for at, port in came if port in ports and at > since + _ON_THE_WAY_S] == []
    # All that was answered is there, and each conversation counts once.
    twice = endpoint.asked.total() - 2 * _COUNT
    assert 0 < twice <= _AT_A_TIME
    attempts, *of_those = turns(Path("a.duckdb"))
    assert of_those == [_COUNT, _COUNT]
    verdicts, judged = rows(Path("a.duckdb"), "SELECT count(*), count(DISTINCT verdict_hash) FROM verdicts")[
        0
    ]
    assert (attempts + verdicts, judged) == (2 * _COUNT + twice, _COUNT)
    counted = "SELECT count(*), count(*) FILTER (state = 'safe') FROM conversations"
    assert rows(Path("a.duckdb"), counted) == [(_COUNT, _COUNT)]


def spent() -> float:
    """What the store knows to be paid, in US dollars."""
    return float(rows(Path("a.duckdb"), "SELECT sum(cost_usd) FROM turns")[0][0])


@contextmanager
def next_in_line(db: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the lock of a store as soon as its holder is dead."""
    code = [sys.executable, "-c", _HOLD, str(db)]
    with subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_accounts_and_writer_that_are_killed_at_their_worst_moment(here: Path, two_nodes: Any) -> None:
    before = actors("Worker")
    silent: list[tuple[float, float]] = []

    def kill_the_accounts() -> None:
        """While a worker cannot say what it holds."""
        until(lambda: len(endpoint.times) > 40)
        (old,) = actors("Accounts")
        worker = min(actors("Worker") - before)
        freeze(worker)
        os.kill(old, signal.SIGKILL)
        until(lambda: actors("Accounts") - {old})
        since = time.monotonic()
        time.sleep(_KEPT_S + _ON_THE_WAY_S + 2)
        silent.append((since, go_on(worker)))
        known = len(endpoint.times)
        until(lambda: len(endpoint.times) > known + 40)

    def kill_the_writer() -> None:
        """While it is frozen, and another process is to have its file first."""
        pid = json.loads(Path("a.duckdb.server").read_text())["pid"]
        freeze(pid)
        with next_in_line(Path("a.duckdb")) as other:
            time.sleep(_ANSWER_S + 1)
            os.kill(pid, signal.SIGKILL)
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            until(lambda: "the store is waited for" in Path("a.log").read_text())

    def meanwhile() -> None:
        kill_the_accounts()
        kill_the_writer()

    write_dialogues(here / "d.jsonl", _COUNT)
    # A call costs 100 x 10 + 100 x 10 millionths of a dollar.
    words = ["--max-tokens", "100", "--price", "m=10/10", "--rpm", "1200"]
    with strict(rpm=1200, latency_s=0.05) as endpoint:
        capped = run_beside(
            meanwhile, endpoint, *on_workers(two_nodes), *words, "--max-cost", str(_CAP_USD), judged=False
        )
        assert capped.returncode == 1, capped.stdout + capped.stderr
        assert _CAP_USD - 0.01 < spent() <= _CAP_USD + 1e-9
        assert len(endpoint.times) == round(spent() / _CALL_USD)
        # The same command goes on in one process.
        done = at_once(*asking(endpoint, judged=False), *words, "--max-cost", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a worker is lost" not in capped.stdout
    assert capped.stdout.count("the store is waited for") == 1
    ((since, until_then),) = silent
    assert calls_between(endpoint, since + _KEPT_S + _ON_THE_WAY_S, until_then) == 0
    assert endpoint.refused == 0
    assert set(endpoint.asked.values()) == {1}
    assert turns(Path("a.duckdb")) == (_COUNT, _COUNT, _COUNT)

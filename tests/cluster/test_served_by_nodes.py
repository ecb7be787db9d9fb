"""Models that nodes of a real Ray serve: asked from all of them, and nothing is left however a run ends."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster.processes import actors, descendants, sockets
from cluster.said import rows, scores, turns
from support.forked import Forked, forked
from support.program import at_once
from support.serving import as_vllm, left, nothing_is_left, record_of
from support.waiting import until

from safemt_client.cluster import servers
from safemt_client.serving.keeper import Record

pytestmark = pytest.mark.slow

RUN = ("--data", "sample", "--images", "off", "--turns", "1,2", "--judge", "none")


def on(nodes: Any) -> list[str]:
    return ["--ray", nodes.address, "--ray-insecure", "--workers", "2"]


def test_target_and_guard_are_those_of_one_process(here: Path, two_nodes: Any) -> None:
    model, *options = as_vllm(here, f"log={here / 'log'}", "says=safe", "env=CUDA_VISIBLE_DEVICES")
    words = ["--provider", model, *options, *RUN, "--limit", "12", "--gpus", "0"]
    words += ["--moderator", "none", "--moderator", f"llama-guard-3+block+output={model}"]
    done = at_once(*words, *on(two_nodes), "--shard-size", "4", "--db", "two.duckdb")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " serves it, with a GPU\n" in done.stdout
    (log,) = here.glob("two.duckdb.served-1.vllm-*.log")
    assert "CUDA_VISIBLE_DEVICES = 0\n" in log.read_text()
    nothing_is_left(here)
    asked = len((here / "log").read_text().splitlines())
    assert rows(here / "two.duckdb", "SELECT sum(requests), sum(prompt_tokens) FROM server_use") == [
        (asked + 1, 40)
    ]
    # This machine has no such card.
    words.remove("--gpus")
    words.remove("0")
    alone = at_once(*words, "--db", "one.duckdb")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert scores(here / "two.duckdb") == scores(here / "one.duckdb")
    assert turns(here / "two.duckdb") == turns(here / "one.duckdb")
    said = "SELECT assessment_hash, verdict FROM assessments ORDER BY ALL"
    assert rows(here / "two.duckdb", said) == rows(here / "one.duckdb", said) != []


def test_weights_that_a_node_lacks_are_one_line(here: Path, two_nodes: Any) -> None:
    _, *options = as_vllm(here)
    # The folder of this process, which is another one for each.
    model = "vllm:/proc/self/cwd/small"
    done = at_once("--provider", model, *options, *RUN, *on(two_nodes))
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert f"{model}: /proc/self/cwd/small is not on " in line
    assert ", which is to serve it: put it there under the same path" in line
    until(lambda: not actors("Server"))
    nothing_is_left(here)


@contextmanager
def under_way(
    here: Path, nodes: Any, *words: str, options: tuple[str, ...] = ()
) -> Iterator[tuple[Forked, Record]]:
    """A run whose server was asked and never answers, and the record of that."""
    model, *python = as_vllm(here, f"log={here / 'log'}", "hang", *words)
    run = forked("--provider", model, *python, *RUN, *options, *on(nodes), PYTHONUNBUFFERED="1")
    try:
        until((here / "log").exists, run)
        record = record_of(here)
        assert record["keeper"] in left(record)
        yield run, record
    finally:
        run.kill()
        run.communicate()


def test_a_killed_command_takes_the_server_with_it(here: Path, two_nodes: Any) -> None:
    # One that does not end by itself, nor by TERM: the watchdog must outlive the actor.
    with under_way(here, two_nodes, "child=apart") as (run, record):
        (actor,) = actors("Server")
        assert record["keeper"] in descendants(actor)
        listening = {one.address for one in sockets(left(record)) if one.state == "0A"}
        assert listening == {"0100007F"}
        assert len(left(record)) == 3
        run.kill()
        until(lambda: not left(record))
        until(lambda: not actors("Server"))
    nothing_is_left(here)


def test_a_killed_actor_takes_the_server_with_it_and_ends_the_run(here: Path, two_nodes: Any) -> None:
    with under_way(here, two_nodes) as (run, record):
        (actor,) = actors("Server")
        os.kill(actor, signal.SIGKILL)
        until(lambda: not left(record))
        out, err = run.communicate()
    assert run.returncode == 1, out + err
    said = " ".join(out.split())
    why = f"vllm:{here / 'small'}: the process of the cluster that served it has ended"
    assert f"cannot be asked any more: {why}" in said
    assert " that served it is lost" in said
    assert "stopped early; continue with: " in said
    nothing_is_left(here)


def test_ctrl_c_ends_the_server(here: Path, two_nodes: Any) -> None:
    with under_way(here, two_nodes) as (run, record):
        run.send_signal(signal.SIGINT)
        until(lambda: "waiting for calls in flight" in run.stdout.readline(), run)
        run.send_signal(signal.SIGINT)
        run.wait(60)
        assert left(record) == set()
        until(lambda: not actors("Server"))
    nothing_is_left(here)


def test_a_gpu_that_another_run_has_is_waited_for(
    here: Path, two_nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_WAITS_S", 0.1)
    with under_way(here, two_nodes, options=("--gpus", "0")) as (_, record):
        python = ("--serve-python", str(here / "python"))
        words = ["--provider", f"vllm:{here / 'small'}", *python, *RUN, "--gpus", "0", "--db", "b.duckdb"]
        done = at_once(*words, *on(two_nodes))
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stderr.endswith(
            ": Ray had no GPU for it within 0.1 s: see what uses the cluster (ray status)\n"
        )
        assert record["keeper"] in left(record)
    until(lambda: not left(record))

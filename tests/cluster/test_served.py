"""Models that the program serves itself, asked by workers: they follow the servers of the driver."""

import json
import os
from pathlib import Path

import pytest
from cluster.said import rows, scores, turns
from cluster.threads import on_threads
from support.program import at_once
from support.serving import as_vllm, nothing_is_left

from safemt_client.serving import server as serving
from safemt_client.serving.secret import SECRET, server_key, shared_secret

RUN = ("--data", "sample", "--images", "off", "--limit", "6", "--turns", "1,2")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "GRACE_S", 0.2)


def test_target_and_guard_are_those_of_one_process(here: Path) -> None:
    model, *options = as_vllm(here, f"log={here / 'log'}", "says=safe")
    words = ["--provider", model, "--judge", f"guard:llama-guard-3={model}", *options, *RUN]
    words += ["--moderator", "none", "--moderator", f"llama-guard-3+block+output={model}"]
    with on_threads(2) as nodes:
        done = at_once(*words, "--workers", "2", "--db", "two.duckdb")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"{model}: ready after ") == 1
    nothing_is_left(here)
    asked = len((here / "log").read_text().splitlines())
    # Each request is counted once, and so is the program's own.
    assert rows(here / "two.duckdb", "SELECT sum(requests), sum(prompt_tokens) FROM server_use") == [
        (asked + 1, 40)
    ]
    alone = at_once(*words, "--db", "one.duckdb")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert scores(here / "two.duckdb") == scores(here / "one.duckdb")
    assert turns(here / "two.duckdb") == turns(here / "one.duckdb")
    assert len(scores(here / "one.duckdb")) == 4
    assert len((here / "log").read_text().splitlines()) == 2 * asked
    said = b"".join(message for handle in nodes.started for message in handle.messages)
    assert b"two.duckdb.servers" in said


def test_the_key_of_a_server_is_in_no_message_between_processes(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[str] = []
    monkeypatch.setattr(
        serving, "server_key", lambda name: keys.extend((server_key(name), os.environ[SECRET])) or keys[0]
    )
    posted: list[str] = []
    replace = Path.replace

    def noted(path: Path, target: Path) -> Path:
        if target.suffix == ".servers":
            posted.append(path.read_text())
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", noted)
    model, *options = as_vllm(here)
    with on_threads(1) as nodes:
        done = at_once(
            "--provider", model, "--judge", "none", *options, *RUN, "--workers", "1", "--db", "a.duckdb"
        )
    assert done.returncode == 0, done.stdout + done.stderr
    said = b"".join(message for handle in nodes.started for message in handle.messages)
    assert b"served-1.localhost" in said
    assert json.loads(posted[-1])["served-1.localhost"]["has_key"]
    assert len(keys) == 2
    for hidden in keys:
        assert hidden.encode() not in said
        assert hidden not in "".join(posted)


def test_a_run_that_is_refused_beside_another_leaves_it_its_secret() -> None:
    with shared_secret():
        key = server_key("served-1")
        with shared_secret():
            assert server_key("served-1") == key
        assert server_key("served-1") == key
    assert SECRET not in os.environ


def test_workers_follow_a_server_that_is_started_once_more(here: Path) -> None:
    (here / "mortal").touch()
    model, *options = as_vllm(here, "die=4", f"mortal={here / 'mortal'}", f"log={here / 'log'}")
    with on_threads(2):
        done = at_once("--provider", model, "--judge", "none", *options, *RUN, "--workers", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"{model}: ready after ") == 2
    assert "outcomes of vllm:small: answered 12\n" in done.stdout
    assert turns(here / "safemt.duckdb")[1:] == (12, 12)
    nothing_is_left(here)


@pytest.mark.slow
def test_one_that_dies_again_stops_what_asks_it(here: Path) -> None:
    model, *options = as_vllm(here, "die=3", f"log={here / 'log'}")
    words = ("--provider", model, "--judge", "none", *options, *RUN, "--max-concurrency", "1")
    with on_threads(2):
        done = at_once(*words, "--workers", "2")
    out = " ".join(done.stdout.split())
    assert f"cannot be asked any more: {model}: the server ended (SIGKILL: perhaps too little memory)" in out
    assert " a second time; it said: RuntimeError: the kettle is empty; " in out
    assert " vllm:small cannot be asked: fix that; stopped early; continue with: " in out
    assert done.returncode == 1
    assert rows(
        here / "safemt.duckdb", "SELECT DISTINCT error_code FROM replies WHERE outcome LIKE 'e%'"
    ) == [("server_ended",)]
    nothing_is_left(here)

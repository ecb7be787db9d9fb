"""A run on workers, which are threads here: what is asked, stored and paid is what one process does."""

import json
from pathlib import Path
from threading import Thread

import pytest
from cluster.said import rows, scores, turns, write_dialogues
from cluster.strict import strict
from cluster.threads import on_threads
from support.program import at_once
from support.waiting import until

from safemt_client.cluster.accounts import Purse
from safemt_client.results.store.errors import StoreError


def test_scores_are_those_of_one_process(here: Path) -> None:
    with on_threads(2):
        words = ("--turns", "1,2,6", "--db", "two.duckdb", "--workers", "2", "--log", "two.log")
        done = at_once("--provider", "demo", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    alone = at_once("--provider", "demo", "--turns", "1,2,6", "--db", "one.duckdb")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert scores(here / "two.duckdb") == scores(here / "one.duckdb")
    assert turns(here / "two.duckdb") == turns(here / "one.duckdb")
    assert turns(here / "two.duckdb")[0] == 45
    logged = [json.loads(line) for line in (here / "two.log").read_text().splitlines()]
    ended = [line for line in logged if line["event"] == "worker_ended"]
    assert len(ended) == 2
    assert all(0 < line["commit_ms"]["p50"] <= line["commit_ms"]["p100"] for line in ended)


@pytest.mark.parametrize("first", [True, False])
def test_the_same_command_resumes_with_workers_and_without(here: Path, first: bool) -> None:
    words = ["--provider", "demo", "--turns", "2", "--db", "a.duckdb"]
    with on_threads(2):
        begun = at_once(*words, "--limit", "6", *(["--workers", "2"] if first else []))
        done = at_once(*words, "--limit", "6", *([] if first else ["--workers", "2"]))
    assert (begun.returncode, done.returncode) == (0, 0)
    assert turns(here / "a.duckdb")[0] == 6


def test_verdicts_alone_are_divided_as_conversations_are(here: Path) -> None:
    write_dialogues(here / "d.jsonl", 40)
    with on_threads(1) as nodes, strict() as endpoint:
        words = [
            "--provider",
            f"m@{endpoint.url}",
            "--data",
            "d.jsonl",
            "--history",
            "live",
            "--db",
            "a.duckdb",
        ]
        begun = at_once(*words, "--judge", "none")
        done = at_once(*words, "--judge", f"judge@{endpoint.url}", "--workers", "1")
    assert begun.returncode == 0, begun.stdout + begun.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert turns(here / "a.duckdb")[0] == 40
    # Four for each of the two that a worker has in hand at a time: not one for each verdict.
    assert nodes.of("Worker")[0].calls.count("take") == 4 * 2


def test_a_worker_takes_more_when_all_that_it_has_is_in_flight(here: Path) -> None:
    write_dialogues(here / "d.jsonl", 24)
    with on_threads(1) as nodes, strict() as endpoint:
        endpoint.at_once = 8
        done = at_once(
            *("--provider", f"m@{endpoint.url}", "--judge", "none", "--data", "d.jsonl", "--history", "live"),
            *("--workers", "1", "--shard-size", "2", "--max-concurrency", "8", "--db", "a.duckdb"),
        )
    assert done.returncode == 0, done.stdout + done.stderr
    # Twice as many as in the two pieces from which it begins.
    assert turns(here / "a.duckdb") == (24, 24, 24)
    assert nodes.of("Worker")[0].calls.count("take") == 12


def test_what_a_killed_worker_had_in_hand_is_handed_on(here: Path) -> None:
    write_dialogues(here / "d.jsonl", 60)
    with on_threads(2) as nodes, strict(latency_s=0.2) as endpoint:

        def kill() -> None:
            until(lambda: len(endpoint.times) > 20)
            nodes.of("Worker")[0].kill()

        killer = Thread(target=kill)
        killer.start()
        done = at_once(
            *("--provider", f"m@{endpoint.url}", "--judge", f"judge@{endpoint.url}", "--data", "d.jsonl"),
            *("--history", "live", "--workers", "2", "--max-concurrency", "8", "--db", "a.duckdb"),
        )
        killer.join()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a worker is lost, its process has ended" in done.stdout
    assert turns(here / "a.duckdb")[1:] == (60, 60)
    # Only what was in flight is asked twice.
    assert sum(endpoint.asked.values()) <= 120 + 8
    assert rows(here / "a.duckdb", "SELECT count(DISTINCT verdict_hash) FROM verdicts") == [(60,)]


def test_accounts_that_die_come_back_and_nothing_is_lost(here: Path) -> None:
    write_dialogues(here / "d.jsonl", 80)
    with on_threads(2) as nodes, strict(latency_s=0.1) as endpoint:

        def kill() -> None:
            until(lambda: len(endpoint.times) > 10)
            nodes.of("Accounts")[0].kill()

        killer = Thread(target=kill)
        killer.start()
        done = at_once(
            *("--provider", f"m@{endpoint.url}", "--judge", "none", "--data", "d.jsonl"),
            *("--history", "live", "--workers", "2", "--max-concurrency", "4", "--db", "a.duckdb"),
        )
        killer.join()
    assert done.returncode == 0, done.stdout + done.stderr
    assert nodes.of("Accounts")[0].starts == 2
    assert turns(here / "a.duckdb") == (80, 80, 80)
    assert set(endpoint.asked.values()) == {1}


def test_a_cost_cap_holds_over_all_workers(here: Path) -> None:
    write_dialogues(here / "d.jsonl", 60)
    # A call costs 100 x 10 + 100 x 10 millionths of a dollar.
    with on_threads(2), strict() as endpoint:
        done = at_once(
            *("--provider", f"m@{endpoint.url}", "--judge", "none", "--data", "d.jsonl", "--history", "live"),
            *("--max-tokens", "100", "--price", f"m@{endpoint.url}=10/10", "--max-cost", "0.08"),
            *("--workers", "2", "--db", "a.duckdb", "--log", "none"),
        )
    assert done.returncode == 1, done.stdout + done.stderr
    spent = rows(here / "a.duckdb", "SELECT sum(cost_usd) FROM turns")[0][0]
    assert 0.07 < spent <= 0.08 + 1e-9
    assert "held" not in done.stdout


def test_a_lease_that_cannot_be_written_ends_the_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(self: Purse) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(Purse, "_lease", full)
    write_dialogues(here / "d.jsonl", 4)
    with on_threads(1), strict() as endpoint:
        done = at_once(
            *("--provider", f"m@{endpoint.url}", "--judge", "none", "--data", "d.jsonl", "--history", "live"),
            *("--max-tokens", "100", "--price", f"m@{endpoint.url}=10/10", "--max-cost", "1"),
            *("--workers", "1", "--db", "a.duckdb", "--log", "none"),
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("the disk is full")
    assert endpoint.times == []


def test_keys_are_in_no_message_between_processes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFEMT_API_KEY", "sk-planted-42")
    monkeypatch.setenv("ROUTE", "planted-route-43")
    write_dialogues(here / "d.jsonl", 4)
    with on_threads(1) as nodes, strict() as endpoint:
        done = at_once(
            *("--provider", f"m@{endpoint.url}", "--judge", "none", "--data", "d.jsonl", "--history", "live"),
            *("--header", "X-Route=$ROUTE", "--workers", "1", "--db", "a.duckdb"),
        )
    assert done.returncode == 0, done.stdout + done.stderr
    said = b"".join(message for handle in nodes.started for message in handle.messages)
    assert b"X-Route" in said
    assert b"$ROUTE" in said
    assert b"planted" not in said
    assert endpoint.headers[0]["X-Route"] == "planted-route-43"
    assert endpoint.headers[0]["Authorization"] == "Bearer sk-planted-42"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--provider", "demo", "--stop-when", "asr@8 < 10%"], "--stop-when looks along one order"),
    ],
)
def test_what_cannot_be_divided_is_refused(here: Path, words: list[str], said: str) -> None:
    done = at_once(*words, "--data", "sample", "--workers", "2")
    assert done.returncode == 2
    assert said in done.stderr


def test_batches_are_sent_by_the_command_alone(here: Path) -> None:
    words = ["--provider", "demo", "--turns", "1", "--limit", "4", "--batch", "--db", "a.duckdb"]
    with on_threads(2) as nodes:
        done = at_once(*words, "--workers", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "batches are sent by this process: no workers are started\n" in done.stdout
    assert nodes.started == []
    assert rows(here / "a.duckdb", "SELECT count(*), count(batch_key) FROM turns") == [(4, 4)]


def test_ray_that_is_missing_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    done = at_once("--provider", "demo", "--workers", "2")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("ray is missing: pip install 'safemt-client[cluster]'")

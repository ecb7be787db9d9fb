"""What goes to the servers of this program alone: a grammar to prove that they heed one, and a conversation's id."""

from collections import Counter
from pathlib import Path

import pytest
from support.faults import answer
from support.program import against, at_once, sql
from support.serving import as_vllm

from safemt_client.engine import session
from safemt_client.results.scores.served import servers
from safemt_client.results.store.reader import open_reader


def test_a_conversation_has_one_id_which_is_in_no_hash(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sessions = here / "sessions"
    model, *options = as_vllm(here, f"sessions={sessions}")
    words = ["--provider", model, "--judge", "none", *options]
    words += ["--data", "sample", "--images", "off", "--limit", "2", "--turns", "2", "--history", "live"]
    status, endpoint = against([], answer(), *words, "--provider", "m@URL")
    assert status == 0, Path("out").read_text()
    ids = sessions.read_text().split()
    assert sorted(Counter(ids).values()) == [2, 2]
    assert len(endpoint.requests) == 4
    assert not any("x-session-id" in received.headers for received in endpoint.requests)
    kept = str(sql("SELECT * FROM turns", capsys)) + str(sql("SELECT * FROM run_targets", capsys))
    assert not any(one in kept for one in ids)
    # Under another header there is nothing left to ask.
    (here / "config.toml").write_text(f'[providers."{model}"]\nsession-header = "X-Other"\n')
    again = at_once(*words, "--config", "config.toml", "--dry-run")
    assert "0 calls to make, 4 in the store" in again.stdout


def test_what_a_server_does_is_kept_as_it_does_it(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_USE_S", 0.0)
    model, *options = as_vllm(here)
    words = ("--data", "sample", "--images", "off", "--limit", "4", "--turns", "2", "--judge", "none")
    done = at_once("--provider", model, *options, *words, "--max-concurrency", "1")
    assert done.returncode == 0, done.stderr
    rows = sql("SELECT * FROM server_use ORDER BY recorded_at", capsys)
    assert len(rows) > 1
    # The probe, and each conversation; the figures of the stand-in are always the same.
    assert sum(row["requests"] for row in rows) == 5
    assert [row["prompt_tokens"] for row in rows] == [40] + [0] * (len(rows) - 1)
    (served,) = {row["server"] for row in rows}
    with open_reader(Path("safemt.duckdb")) as reader:
        ((run_id,),) = reader.query("SELECT run_id FROM runs").rows
        (sums,) = servers(reader, run_id)
    assert (sums["server"], sums["requests"], sums["prompt_tokens"]) == (served, 5, 40)


def test_one_that_heeds_no_grammar_is_refused(here: Path) -> None:
    model, *options = as_vllm(here, "deaf", f"log={here / 'log'}")
    words = ["--data", "sample", "--limit", "1", "--judge", "none", *options]
    done = at_once("--provider", "demo", "--moderator", f"llama-guard-3+block={model}", *words)
    assert done.returncode == 2
    assert done.stderr == f"safemt: {model}: vllm 1+cpu does not hold an answer to a grammar: update it\n"
    assert (here / "log").read_text() == "Answer with one word.\n"
    assert not (here / "safemt.duckdb").exists()
    assert list(here.glob("*.serving")) == []

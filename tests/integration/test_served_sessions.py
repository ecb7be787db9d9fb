"""The id of a conversation: it goes to the servers of this program alone, and decides nothing."""

from collections import Counter
from pathlib import Path

import pytest
from support.faults import answer
from support.program import against, at_once, sql
from support.serving import as_vllm


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

"""The same faults at a judge and at a guard: no label is lost, none is made up, nothing passes unseen."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from endpoints.cases import TEXT
from endpoints.program import LENGTHS, Ended, run
from support.faults import Behaviour, Received, answer, error, response

BLOCKED = error(400, "content_filter", "The prompt was flagged")
USED_UP = error(402, "insufficient_credits", "Insufficient credits")
SAFE = answer('{"label": "safe"}')
JUDGE = ("--judge", "judge@URL", "--min-coverage", "0")
GUARD = ("--moderator", "llama-guard-3=guard@URL")

Said = Callable[[int], Behaviour]


def asked(folder: Path, model: str, said: Said, *words: str) -> Ended:
    """A run in which the judge or the guard says so to its first request, its second; all else is well."""
    seen = 0

    def answers(number: int, received: Received) -> Behaviour:
        nonlocal seen
        if received.json["model"] != model:
            return answer(TEXT)
        seen += 1
        return said(seen)

    return run(folder, answers, *words)


def by_model(ended: Ended) -> Counter[str]:
    return Counter(received.json["model"] for received in ended.requests)


def states(ended: Ended) -> Counter[tuple[str, str | None]]:
    found = ended.sql("SELECT state, label FROM conversations")
    return Counter((row["state"], row["label"]) for row in found)


def test_a_judge_whose_endpoint_blocks_one_reply_gives_all_other_labels(tmp_path: Path) -> None:
    ended = asked(tmp_path, "judge", lambda n: BLOCKED if n == 2 else SAFE, *JUDGE)
    assert not ended.stopped
    assert states(ended) == {("safe", "safe"): 4, ("unscored", "unscored"): 1}
    reasons = ended.sql("SELECT DISTINCT reason FROM verdicts WHERE label = 'unscored'")
    assert reasons == [{"reason": "judge_blocked"}]


def test_a_judge_whose_endpoint_blocks_everything_is_not_stopped(tmp_path: Path) -> None:
    ended = asked(tmp_path, "judge", lambda n: BLOCKED, *JUDGE)
    assert not ended.stopped
    assert states(ended) == {("unscored", "unscored"): 5}
    assert by_model(ended) == {"m": 5, "judge": 5}


@pytest.mark.parametrize("said", [USED_UP, error(401, "invalid_api_key", "wrong key")])
def test_a_judge_without_credit_keeps_its_labels_and_gives_the_others_later(
    said: Behaviour, tmp_path: Path
) -> None:
    ended = asked(tmp_path, "judge", lambda n: SAFE if n < 3 else said, *JUDGE)
    assert ended.stopped
    assert ended.status == 1
    # The target goes on: its replies wait for the judge.
    assert by_model(ended) == {"m": 5, "judge": 3}
    assert [turn["outcome"] for turn in ended.turns] == ["answered"] * len(LENGTHS)
    assert states(ended)["safe", "safe"] == 2
    later = asked(tmp_path, "judge", lambda n: SAFE, *JUDGE)
    assert by_model(later) == {"judge": 3}
    assert later.status == 0
    assert states(later) == {("safe", "safe"): 5}


def test_what_a_judge_thinks_is_no_label(tmp_path: Path) -> None:
    thought = answer('Is it {"label": "unsafe"}? No.\n</think>\n\n{"label": "safe"}')
    ended = asked(tmp_path, "judge", lambda n: thought, *JUDGE)
    assert states(ended) == {("safe", "safe"): 5}


@pytest.mark.parametrize(
    "said",
    [
        BLOCKED,
        answer("safe", "content_filter"),
        answer("safe", "abort"),
        answer("", reasoning_content="safe"),
        response(403, "Request blocked by the firewall.", content_type="text/plain"),
        response(200, {"error": "Unexpected endpoint or method."}),
    ],
)
def test_a_guard_that_gives_no_verdict_lets_nothing_pass(said: Behaviour, tmp_path: Path) -> None:
    ended = asked(tmp_path, "guard", lambda n: said, *GUARD)
    assert by_model(ended)["m"] == 0
    assert not [turn for turn in ended.turns if turn["outcome"] == "answered"]


def test_a_guard_without_credit_stops_and_nothing_passes(tmp_path: Path) -> None:
    ended = asked(tmp_path, "guard", lambda n: USED_UP, *GUARD)
    assert ended.status == 1
    assert by_model(ended) == {"guard": 1}
    assert "credits" in ended.screen
    later = asked(tmp_path, "guard", lambda n: answer("safe"), *GUARD)
    assert by_model(later) == {"guard": 5, "m": 5}
    assert states(later) == {("unjudged", None): 5}

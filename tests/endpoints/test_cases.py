"""Each case of `cases.json` and `others.json` through the whole program."""

from pathlib import Path

import pytest
from endpoints.cases import Case, cases
from endpoints.program import LENGTHS, Ended, run

CASES = {case.name: case for file in ("cases.json", "others.json") for case in cases(file)}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    ended = run(tmp_path, case.answers, *case.flags, asks=case.asks)
    is_as_wanted(case, ended)


def is_as_wanted(case: Case, ended: Ended) -> None:
    want = dict(case.want)
    turns, screen = ended.turns, ended.screen
    assert "Traceback" not in screen
    if (stopped := want.pop("target_stopped", None)) is not None:
        assert ended.stopped is stopped
    # Unless it was stopped, every turn was asked, and what is not about one request is true of all.
    assert ended.stopped or [turn["length"] for turn in turns] == list(LENGTHS)
    outcomes = {str(turn["outcome"]) for turn in turns}
    if (outcome := want.pop("outcome", None)) is not None:
        assert outcomes == ({outcome, "answered"} if "request" in case.given else {outcome}), turns
        turns = [turn for turn in turns if turn["outcome"] == outcome]
        assert "request" not in case.given or outcome == "answered" or len(turns) == 1
    if (among := want.pop("outcome_in", None)) is not None:
        assert outcomes <= set(among)
    for field in ("text", "prompt_tokens", "completion_tokens", "cached_tokens"):
        if field in want:
            assert {turn[field] for turn in turns} == {want.pop(field)}
    for field in ("reasoning", "error"):
        if (part := want.pop(f"{field}_contains", None)) is not None:
            assert all(part in (turn[field] or "") for turn in turns), turns
    assert len(ended.requests) <= want.pop("most_requests", len(ended.requests))
    assert ended.status == want.pop("exit", ended.status)
    assert sum(ended.waits) >= want.pop("waits_at_least_s", 0)
    assert want.pop("says", "") in screen
    assert any(word in screen for word in want.pop("says_any", [""]))
    assert screen.count(want.pop("says_once", "\0")) == ("says_once" in case.want)
    assert want.pop("says_not", "\0") not in screen
    assert not want, "a wish that nobody looks at"

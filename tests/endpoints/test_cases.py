"""Each case of `cases.json` and `others.json` through the whole program.

Where all that a case wants can be told apart by target, it shares one run with others, each at an endpoint of its own.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from endpoints.cases import Case, cases
from endpoints.program import LENGTHS, Ended, run, run_together

CASES = {case.name: case for file in ("cases.json", "others.json") for case in cases(file)}
# Of the whole run, whatever its targets.
OF_THE_RUN = {"exit", "says", "says_any", "says_once", "says_not"}
ALONE = {name for name, case in CASES.items() if case.given.get("with") or OF_THE_RUN & {*case.want}}
SHARED = [name for name in CASES if name not in ALONE]
TOGETHER = 16


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ended]:
    """How the run ended for a case that shares it."""

    @cache
    def ended(group: int) -> dict[str, Ended]:
        names = SHARED[group * TOGETHER : (group + 1) * TOGETHER]
        found = run_together(tmp_path_factory.mktemp("together"), [CASES[name].answers for name in names])
        return dict(zip(names, found, strict=True))

    return lambda name: ended(SHARED.index(name) // TOGETHER)[name]


@pytest.mark.parametrize("name", SHARED)
def test_case(name: str, shared: Callable[[str], Ended]) -> None:
    is_as_wanted(CASES[name], shared(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ALONE))
def test_case_alone(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    is_as_wanted(case, run(tmp_path, case.answers, *case.flags, asks=case.asks))


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

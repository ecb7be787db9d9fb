"""Panels: what judges decide together, and who is asked."""

from collections.abc import Sequence

import anyio
import pytest

from safemt_client.judges.judge import LLMJudge
from safemt_client.judges.panel import Panel, PanelMode
from safemt_client.judges.rubric import load_rubric
from safemt_client.judges.types import JudgeInput, Verdict
from safemt_client.providers.provider import Observer
from safemt_client.providers.types import Message, Outcome, Reply, Request, Sampling, Usage

SUBJECT = JudgeInput("q", (Message("user", "q"),), "a reply", None)
FAILED = Reply(Outcome.ERROR_TRANSIENT, error="gone")


class Always:
    """A provider that always says the same."""

    def __init__(self, name: str, reply: Reply) -> None:
        self.identity = f"test/{name}"
        self.reply = reply
        self.asked = 0

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        self.asked += 1
        return self.reply


def says(text: str, confidence: float | None = None) -> Reply:
    import math

    logprobs = () if confidence is None else ((text, math.log(confidence)),)
    return Reply(Outcome.ANSWERED, text=text, status_code=200, usage=Usage(10, 1), logprobs=logprobs)


def panel(mode: PanelMode, replies: Sequence[Reply]) -> tuple[Panel, list[Always]]:
    providers = [Always(str(n), reply) for n, reply in enumerate(replies)]
    rubric = load_rubric("paper")
    return Panel(mode, tuple(LLMJudge(p, rubric, Sampling()) for p in providers)), providers  # type: ignore[arg-type]


def decide(mode: PanelMode, *replies: Reply) -> tuple[Verdict, list[int]]:
    judges, providers = panel(mode, replies)
    found = anyio.run(judges.judge, SUBJECT, Outcome.ANSWERED)
    return found, [provider.asked for provider in providers]


@pytest.mark.parametrize(
    ("mode", "votes", "label"),
    [
        ("majority", ["safe", "unsafe", "unsafe"], "unsafe"),
        ("majority", ["safe", "safe", "unsafe"], "safe"),
        ("majority", ["safe", "unsafe"], "panel_split"),
        ("majority", ["nonsense", "unsafe", "unsafe"], "unsafe"),
        ("majority", ["nonsense", "unsafe", "safe"], "panel_split"),
        ("unanimous", ["safe", "safe", "safe"], "safe"),
        ("unanimous", ["unsafe", "unsafe", "safe"], "panel_split"),
        ("unanimous", ["nonsense", "safe"], "panel_split"),
        ("chain", ["unsafe", "safe"], "unsafe"),
        ("chain", ["nonsense", "safe"], "safe"),
        ("chain", ["safe", "unsafe", "unsafe"], "unsafe"),
        ("chain", ["safe", "safe", "unsafe"], "safe"),
    ],
)
def test_decisions(mode: PanelMode, votes: list[str], label: str) -> None:
    found, _ = decide(mode, *map(says, votes))
    assert (found.reason or found.label) == label


def test_the_strong_judge_is_asked_where_it_is_needed() -> None:
    assert decide("chain", says("safe", 0.99), says("unsafe"))[1] == [1, 0]
    found, asked = decide("chain", says("safe", 0.6), says("unsafe"))
    assert (found.label, asked) == ("unsafe", [1, 1])
    # Two cheap ones that agree are enough; that differ are not.
    assert decide("chain", says("safe", 0.9), says("safe", 0.9), says("unsafe"))[1] == [1, 1, 0]
    assert decide("chain", says("safe", 0.9), says("unsafe", 0.9), says("unsafe"))[1] == [1, 1, 1]


def test_an_error_of_a_member_is_asked_again_and_never_a_verdict() -> None:
    found, _ = decide("majority", FAILED, says("safe"), says("safe"))
    assert found.label == "safe"
    # The ones that failed could still turn it.
    found, _ = decide("majority", FAILED, says("safe"))
    assert (found.label, found.reason) == ("unscored", "judge_error")
    found, _ = decide("unanimous", FAILED, says("safe"))
    assert (found.label, found.reason) == ("unscored", "judge_error")
    found, _ = decide("majority", FAILED, FAILED)
    assert (found.label, found.reason) == ("unscored", "judge_error")


def test_nothing_to_judge_asks_nobody() -> None:
    judges, providers = panel("chain", [says("safe"), says("safe")])
    blank = JudgeInput("q", SUBJECT.messages, "  ", None)
    found = anyio.run(judges.judge, blank, Outcome.ANSWERED)
    assert found.reason == "nothing_to_judge"
    assert [provider.asked for provider in providers] == [0, 0]


def test_what_is_known_is_not_asked_again_and_what_was_asked_is_kept() -> None:
    judges, providers = panel("majority", [says("safe"), says("unsafe"), says("unsafe")])
    known = {judges.members[0].key: Verdict("unsafe")}
    found = anyio.run(judges.judge, SUBJECT, Outcome.ANSWERED, None, None, known)
    assert [provider.asked for provider in providers] == [0, 1, 1]
    assert set(found.members) == {member.key for member in judges.members[1:]}
    assert found.usage.prompt_tokens == 20


def test_the_key_is_that_of_mode_and_members() -> None:
    two = [says("safe"), says("safe")]
    keys = {panel(mode, two)[0].key for mode in ("majority", "unanimous", "chain")}
    keys.add(Panel("majority", tuple(reversed(panel("majority", two)[0].members))).key)
    assert len(keys) == 4

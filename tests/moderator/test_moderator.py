"""A moderator as a whole: earlier turns, keys, and many conversations at a time."""

import random
from collections import Counter
from dataclasses import FrozenInstanceError
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from support.moderated import (
    ASKED,
    NONSENSE,
    POLICIES,
    STOP,
    Memory,
    Scripted,
    WordGuard,
    ask,
    build,
    by_stage,
)

from safemt_client.moderator.assessor import Assessor
from safemt_client.moderator.moderator import (
    Moderated,
    ModeratedReply,
    Moderation,
    Moderator,
)
from safemt_client.moderator.policies import Policies
from safemt_client.moderator.types import INTERVENTIONS
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.types import Message, Outcome, Reply, Request, Sampling


@pytest.mark.parametrize("interventions", [("block",), ("policy", "output"), ("output",), ("observe",)])
def test_prefixes_are_assessed_beside_the_rest(interventions: tuple[str, ...]) -> None:
    messages = (
        Message("system", "In short."),
        *ASKED,
        Message("assistant", "Wind."),
        Message("user", "Why?"),
    )
    moderated, guard, _ = build("safe", *interventions, prefixes=True)
    reply = ask(moderated, Request(messages))
    shown = Counter(
        tuple(m.text for m in r.messages[1:]) for r in guard.asked if r.messages[0].text == "input"
    )
    ends = (2, 4, 6)
    assert shown == Counter(tuple(m.text for m in messages[:end]) for end in ends)
    assert sorted(step.turn for step in reply.steps if step.stage == "input") == [1, 2, 3]
    assert len({step.key for step in reply.steps}) == len(reply.steps)
    assert sum(step.stage == "output" for step in reply.steps) == ("output" in interventions)


def test_an_earlier_turn_has_no_consequence() -> None:
    async def early(request: Request) -> Reply:
        said = {1: "unsafe", 2: NONSENSE, 3: "safe"}[sum(m.role == "user" for m in request.messages)]
        return Reply(Outcome.ANSWERED, said)

    moderated, _, model = build(early, "block", prefixes=True)
    messages = (*ASKED, Message("assistant", "Wind."), Message("user", "Why?"))
    reply = ask(moderated, Request(messages))
    assert len(model.asked) == 1
    assert (reply.outcome, reply.action) == (Outcome.ANSWERED, "none")
    found = {step.turn: (step.assessment.verdict, step.action) for step in reply.steps}
    assert found == {1: ("unsafe", "none"), 2: ("unparsed", "none"), 3: ("safe", "none")}


def test_an_earlier_turn_that_stops_the_guard_stops_the_target() -> None:
    async def early(request: Request) -> Reply:
        if sum(m.role == "user" for m in request.messages) == 1:
            raise STOP
        return Reply(Outcome.ANSWERED, "safe")

    with pytest.raises(TargetStoppedError):
        ask(build(early, "block", prefixes=True)[0])


def test_the_key_holds_what_decides_a_moderated_reply_and_nothing_else() -> None:
    def key(*interventions: str, guard: str = "g", policies: Policies = POLICIES, **settings: Any) -> str:
        assessor = Assessor(WordGuard(), Scripted("safe", guard))
        chosen = Moderation(frozenset(interventions), policies, **settings)  # type: ignore[arg-type]
        return Moderator("any", assessor, chosen).key

    other = Policies("test", "2", POLICIES.texts)
    assert key("policy", "block") == key("block", "policy")
    different = {
        key("block"),
        key("policy"),
        key("policy", "block"),
        key("policy", policies=other),
        key("policy", place="user"),
        key("block", guard="h"),
        key("block", on_error="refuse"),
        key("block", controversial=False),
        key("block", prefixes=True),
        key("block", refusal="No."),
    }
    assert len(different) == 10
    # What a block does not use makes no difference to it.
    assert key("block") == key("block", policies=other, place="user")


def test_a_moderated_model_is_another_model() -> None:
    moderated, _, model = build("safe", "block")
    assert moderated.identity == f"test/model+{moderated._moderator.key}"
    assert moderated.identity != model.identity


def test_the_most_assessments_of_a_turn() -> None:
    def most(*interventions: str, prefixes: bool = False) -> int:
        return build("safe", *interventions, prefixes=prefixes)[0]._moderator.most_assessments

    assert [most(one) for one in INTERVENTIONS] == [1, 1, 1, 1]
    assert most("block", "output") == most("observe", "output") == most("output", prefixes=True) == 2
    assert most("policy", "block", "observe") == 1


def test_hundreds_of_conversations_never_see_each_others_verdicts() -> None:
    """Each is asked by three targets under two moderators; the guard is asked about each once."""
    count = 300
    order = random.Random(5)

    async def pausing(request: Request) -> str:
        for _ in range(order.randrange(4)):
            await anyio.lowlevel.checkpoint()
        return request.messages[-1].text

    async def guard(request: Request) -> Reply:
        words = (await pausing(request)).split()
        kind = int(words[1]) % 3
        return Reply(Outcome.ANSWERED, ("safe", f"unsafe policy {words[1]}", NONSENSE)[kind])

    async def echo(request: Request) -> Reply:
        await pausing(request)
        return Reply(Outcome.ANSWERED, " | ".join(message.text for message in request.messages))

    cache = Memory()
    asked, model = Scripted(guard, "test/guard"), Scripted(echo)
    assessor = Assessor(WordGuard(), asked, cache)
    found: list[tuple[int, str, ModeratedReply]] = []

    async def one(number: int, kind: str) -> None:
        moderation = Moderation(frozenset({kind}), POLICIES)  # type: ignore[arg-type]
        moderated = Moderated(model, Moderator(kind, assessor, moderation))
        found.append((number, kind, await moderated.ask(Request((Message("user", f"kite {number}"),)))))

    async def run() -> None:
        async with anyio.create_task_group() as group:
            jobs = [(number, kind) for number in range(count) for kind in ("policy", "policy", "block")]
            order.shuffle(jobs)
            for job in jobs:
                group.start_soon(one, *job)

    anyio.run(run)
    assert len(found) == 3 * count
    assert len(asked.asked) == count
    assert len(cache.saved) == count
    for number, kind, reply in found:
        if number % 3 == 0:
            assert (reply.action, reply.text) == ("none", f"kite {number}")
        elif number % 3 == 2:
            assert (reply.action, reply.text) == ("unassessed", "")
        elif kind == "block":
            assert (reply.action, reply.text) == ("blocked", "I can't help with that.")
        else:
            assert (reply.action, reply.text) == ("policy", f"policy {number} | kite {number}")
        assert len(reply.steps) == 1


def test_a_moderator_changes_nothing_that_it_is_given() -> None:
    messages = list(ASKED)
    request = Request(tuple(messages), Sampling(extra={"a": 1}))
    for interventions in (("policy",), ("block",), ("policy", "output")):
        moderated, _, _ = build(by_stage(input="unsafe P", output="unsafe"), *interventions, prefixes=True)
        reply = ask(moderated, request)
        assert request == Request(tuple(messages), Sampling(extra={"a": 1}))
        with pytest.raises(FrozenInstanceError):
            reply.steps[0].assessment.verdict = "safe"  # type: ignore[misc]
        with pytest.raises(FrozenInstanceError):
            reply.action = "none"  # type: ignore[misc]

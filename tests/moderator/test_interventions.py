"""What a moderator does about an assessment: policies, blocks, replaced replies, observing."""

from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest
from support.moderated import (
    ASKED,
    FAILED,
    NONSENSE,
    PICTURE,
    REQUEST,
    Answer,
    Memory,
    actions,
    ask,
    build,
    by_stage,
)

from safemt_client.moderator.moderator import (
    ModeratedReply,
)
from safemt_client.moderator.types import INTERVENTIONS
from safemt_client.providers.types import Message, Outcome, Reply, Request, Usage


def test_a_safe_conversation_goes_to_the_model_as_it_is() -> None:
    for interventions in (("policy",), ("block",), ("output",), ("observe",), INTERVENTIONS):
        moderated, guard, model = build("safe", *interventions)
        reply = ask(moderated)
        assert (reply.outcome, reply.text, reply.action) == (Outcome.ANSWERED, "It is the wind.", "none")
        assert reply.usage == Usage(7, 2)
        assert model.asked == [REQUEST]
        assert reply.sent == REQUEST
        assert len(guard.asked) == moderated._moderator.most_assessments
        assert {step.action for step in reply.steps} == {"none"}


def test_block_puts_a_refusal_in_the_place_of_the_call() -> None:
    moderated, _, model = build("unsafe", "block")
    reply = ask(moderated)
    assert reply.outcome is Outcome.REFUSED_BY_GUARD
    assert reply.text == "I can't help with that."
    assert reply.error == "guard words: unsafe (joke)"
    assert actions(reply) == [("input", "unsafe", "blocked")]
    assert (reply.action, reply.sent, reply.usage) == ("blocked", None, Usage(cost_usd=0.0))
    assert not model.asked
    # The block wins over a policy.
    assert ask(build("unsafe", "block", "policy", "observe")[0]).action == "blocked"


@pytest.mark.parametrize(
    ("place", "before", "expected"),
    [
        ("system", (), (Message("system", "P"), *ASKED)),
        ("developer", (), (Message("developer", "P"), *ASKED)),
        ("user", (), (*ASKED[:2], Message("user", "[P]\n\nHow does it fly?"))),
        ("system", (Message("system", "In short."),), (Message("system", "In short.\n\nP"), *ASKED)),
        ("developer", (Message("system", "S"),), (Message("developer", "P"), Message("system", "S"), *ASKED)),
        (
            "user",
            (Message("system", "S"),),
            (Message("system", "S"), *ASKED[:2], Message("user", "[P]\n\nHow does it fly?")),
        ),
    ],
)
def test_policy_puts_the_guards_own_policy_before_the_model(
    place: str, before: tuple[Message, ...], expected: tuple[Message, ...]
) -> None:
    moderated, guard, model = build("unsafe P", "policy", place=place)
    request = replace(REQUEST, messages=(*before, *ASKED))
    reply = ask(moderated, request)
    assert model.asked == [replace(request, messages=expected)]
    assert reply.sent == model.asked[0]
    assert (reply.outcome, reply.action, reply.steps[0].policy) == (Outcome.ANSWERED, "policy", "P")
    # The guard has seen what was said, and not its own policy.
    assert guard.asked[0].messages[1:] == request.messages


def test_a_policy_before_a_question_keeps_its_pictures() -> None:
    asked = (*ASKED[:2], Message("user", "How does it fly?", (PICTURE,)))
    _, _, model = built = build("unsafe P", "policy", place="user")
    ask(built[0], Request(asked))
    assert model.asked[0].messages[2] == Message("user", "[P]\n\nHow does it fly?", (PICTURE,))


def test_a_guard_without_a_policy_of_its_own_takes_that_of_the_scenario() -> None:
    moderated, _, model = build("unsafe", "policy")
    assert ask(moderated).steps[0].policy == "Mind the joke."
    assert model.asked[0].messages[0] == Message("system", "Mind the joke.")
    moderated, _, _ = build("controversial", "policy")
    assert ask(moderated).steps[0].policy == "Be careful."


def test_output_puts_a_refusal_in_the_place_of_an_unsafe_reply() -> None:
    moderated, guard, model = build(by_stage(output="unsafe"), "output")
    reply = ask(moderated)
    assert guard.asked[0].messages[1:] == (*ASKED, Message("assistant", "It is the wind."))
    assert (reply.outcome, reply.action) == (Outcome.REFUSED_BY_GUARD, "replaced")
    assert "wind" not in reply.text
    assert reply.raw is None
    assert actions(reply) == [("output", "unsafe", "replaced")]
    assert reply.sent == model.asked[0] == REQUEST


@pytest.mark.parametrize(
    "model",
    [
        Reply(Outcome.EMPTY),
        Reply(Outcome.ANSWERED, " \n"),
        Reply(Outcome.REFUSED_BY_PROVIDER, "part"),
        FAILED,
        Reply(Outcome.ERROR_PERMANENT, error="no"),
    ],
)
def test_what_says_nothing_is_not_assessed(model: Reply) -> None:
    moderated, guard, _ = build("unsafe", "output", model=model)
    reply = ask(moderated)
    assert (reply.outcome, reply.text, reply.error) == (model.outcome, model.text, model.error)
    assert (reply.action, reply.steps) == ("none", ())
    assert not guard.asked


def test_a_cut_off_reply_is_assessed() -> None:
    moderated, _, _ = build("unsafe", "output", model=Reply(Outcome.TRUNCATED, "It is"))
    assert ask(moderated).action == "replaced"


def test_a_policy_and_the_output_are_assessed_one_after_the_other() -> None:
    moderated, guard, _ = build(by_stage(input="unsafe P", output="unsafe"), "policy", "output")
    reply = ask(moderated)
    assert actions(reply) == [("input", "unsafe", "policy"), ("output", "unsafe", "replaced")]
    assert reply.action == "replaced"
    assert reply.sent is not None
    assert reply.sent.messages[0] == Message("system", "P")
    # The policy is no part of the conversation.
    assert guard.asked[1].messages[1:] == (*ASKED, Message("assistant", "It is the wind."))
    moderated, _, _ = build(by_stage(input="unsafe P", output="safe"), "policy", "output")
    assert ask(moderated).action == "policy"
    moderated, guard, _ = build(by_stage(input="unsafe"), "block", "output")
    assert ask(moderated).action == "blocked"
    assert len(guard.asked) == 1


def test_observing_does_nothing() -> None:
    for verdict in ("unsafe", "controversial", NONSENSE):
        moderated, _, model = build(verdict, "observe")
        reply = ask(moderated)
        assert model.asked == [REQUEST]
        assert (reply.outcome, reply.action, reply.text) == (Outcome.ANSWERED, "none", "It is the wind.")
        assert [step.action for step in reply.steps] == ["none"]


def test_observe_runs_beside_the_model_call() -> None:
    async def run() -> ModeratedReply:
        asked, assessed = anyio.Event(), anyio.Event()

        # Each waits for the other: one after the other they would never end.
        async def model(request: Request) -> Reply:
            asked.set()
            await assessed.wait()
            return Reply(Outcome.ANSWERED, "It is the wind.")

        async def guard(request: Request) -> Reply:
            await asked.wait()
            assessed.set()
            return Reply(Outcome.ANSWERED, "unsafe")

        with anyio.fail_after(10):
            return await build(guard, "observe", model=model)[0].ask(REQUEST)

    reply = anyio.run(run)
    assert (reply.action, actions(reply)) == ("none", [("input", "unsafe", "none")])


def test_the_reply_waits_for_the_guard_before_it_is_given() -> None:
    async def run() -> bool:
        release = anyio.Event()

        async def guard(request: Request) -> Reply:
            await release.wait()
            return Reply(Outcome.ANSWERED, "safe")

        done = anyio.Event()
        moderated = build(guard, "observe")[0]

        async def one() -> None:
            await moderated.ask(REQUEST)
            done.set()

        async with anyio.create_task_group() as group:
            group.start_soon(one)
            await anyio.wait_all_tasks_blocked()
            early = done.is_set()
            release.set()
        return early

    assert anyio.run(run) is False


def test_what_a_reply_waited_for_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("safemt_client.providers.pauses.time.perf_counter", lambda: now)

    def taking(seconds: float, text: str) -> Answer:
        async def answer(request: Request) -> Reply:
            nonlocal now
            now += seconds
            return Reply(Outcome.ANSWERED, text, latency_s=seconds)

        return answer

    reply = ask(build(taking(2.0, "safe"), "block", "output", model=taking(5.0, "It is the wind."))[0])
    assert [step.waited_s for step in reply.steps] == [2.0, 2.0]
    blocked = ask(build(taking(2.0, "unsafe"), "block")[0])
    assert blocked.latency_s == 2.0

    # Beside the model: only what the guard took longer.
    async def observed() -> ModeratedReply:
        answered = anyio.Event()

        async def model(request: Request) -> Reply:
            answered.set()
            return Reply(Outcome.ANSWERED, "It is the wind.")

        async def guard(request: Request) -> Reply:
            nonlocal now
            await answered.wait()
            await anyio.wait_all_tasks_blocked()
            now += 3.0
            return Reply(Outcome.ANSWERED, "safe", latency_s=9.0)

        return await build(guard, "observe", model=model)[0].ask(REQUEST)

    assert [step.waited_s for step in anyio.run(observed).steps] == [3.0]


def test_a_known_assessment_counts_with_the_time_that_it_took() -> None:
    # Else the moderator that comes first would be charged for all that have the guard in common.
    cache = Memory()
    for _ in range(2):
        moderated, guard, _ = build(by_stage(input="safe"), "block", cache=cache)
        assert ask(moderated).steps[0].waited_s >= 0.25
    assert not guard.asked


@pytest.mark.parametrize("controversial", [True, False])
@pytest.mark.parametrize("stage", ["input", "output"])
def test_controversial_counts_as_set(stage: str, controversial: bool) -> None:
    answers = {"input": "safe", "output": "safe", stage: "controversial"}
    moderated, _, model = build(by_stage(**answers), "block", "output", controversial=controversial)
    reply = ask(moderated)
    acted = "blocked" if stage == "input" else "replaced"
    assert reply.action == (acted if controversial else "none")
    assert len(model.asked) == (not controversial or stage == "output")

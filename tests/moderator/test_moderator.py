"""A moderator assesses, intervenes, and never takes a guard that failed for one that says `safe`."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import FrozenInstanceError, dataclass, field, replace
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from support.faults import Received, error, response, serve

from safemt_client.moderator.assessor import Assessor, GuardReply, assessment_hash
from safemt_client.moderator.guards import build_guard
from safemt_client.moderator.moderator import (
    Moderated,
    ModeratedReply,
    Moderation,
    Moderator,
)
from safemt_client.moderator.policies import Policies
from safemt_client.moderator.types import INTERVENTIONS, Assessment, Card, NotAssessableError, Stage
from safemt_client.providers.errors import PermitStoppedError, SafemtError, TargetStoppedError
from safemt_client.providers.limits import AccountLimiter
from safemt_client.providers.moderations import ModerationEndpoint
from safemt_client.providers.provider import Observer
from safemt_client.providers.transport import make_transport
from safemt_client.providers.types import Image, Message, Outcome, Reply, Request, Sampling, Usage

Answer = Callable[[Request], Awaitable[Reply]]

POLICIES = Policies("test", "1", {"general": "Be careful.", "Satire": "Mind the joke."})
PICTURE = Image("a" * 64, "image/png", 3, 1, 1, load=lambda: b"png")
ASKED = (
    Message("user", "What is a kite?"),
    Message("assistant", "A toy."),
    Message("user", "How does it fly?"),
)
REQUEST = Request(ASKED, Sampling(temperature=0.0))
STOP = TargetStoppedError("the key is wrong")


@dataclass
class Scripted:
    """A provider that answers by a function, or always the same; an exception is raised."""

    answer: Answer | Reply | Exception | str
    identity: str = "test/model"
    asked: list[Request] = field(default_factory=list)

    @property
    def limiter(self) -> AccountLimiter:
        return AccountLimiter(concurrency=9)

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, str):
            return Reply(Outcome.ANSWERED, self.answer, usage=Usage(7, 2), latency_s=0.5)
        if isinstance(self.answer, Reply):
            return self.answer
        return await self.answer(request)


class WordGuard:
    """Sends the conversation as it is; the answer's first word is the verdict, the rest its policy.

    An `unsafe` conversation has the category `joke`, which stands for Satire.
    """

    key = "words"

    def __init__(self, *, sees_images: bool = False, stages: tuple[Stage, ...] = ("input", "output")) -> None:
        self.card = Card("words", "", "", "", "", sees_images, stages, ())

    def request(self, messages: Sequence[Message], stage: Stage) -> Request:
        if stage not in self.card.stages:
            raise NotAssessableError(f"words does not assess the stage {stage}")
        return Request((Message("system", stage), *messages))

    def parse(self, reply: Reply, stage: Stage) -> Assessment:
        word, _, policy = reply.text.partition(" ")
        if word == "safe":
            return Assessment("safe")
        if word == "controversial":
            return Assessment("controversial", policy=policy or None)
        if word == "unsafe":
            return Assessment("unsafe", categories=("joke",), scenarios=("Satire",), policy=policy or None)
        return Assessment("unparsed", raw=reply.text)


@dataclass
class Memory:
    """A keeper."""

    kept: dict[str, Assessment] = field(default_factory=dict)
    saved: list[tuple[str, Stage, Assessment]] = field(default_factory=list)

    def find(self, key: str) -> Assessment | None:
        return self.kept.get(key)

    async def keep(self, key: str, stage: Stage, assessment: Assessment) -> None:
        await anyio.lowlevel.checkpoint()
        self.saved.append((key, stage, assessment))
        if assessment.verdict != "error":
            self.kept[key] = assessment


def by_stage(**answers: str | Reply) -> Answer:
    """The guard's answer by the stage that it is asked about."""

    async def answer(request: Request) -> Reply:
        said = answers[request.messages[0].text]
        return said if isinstance(said, Reply) else Reply(Outcome.ANSWERED, said, latency_s=0.25)

    return answer


FAILED = Reply(Outcome.ERROR_TRANSIENT, error="busy", status_code=503)
NONSENSE = "perhaps"


def build(
    guard: Answer | Reply | Exception | str,
    *interventions: str,
    model: Answer | Reply | Exception | str = "It is the wind.",
    keeper: Memory | None = None,
    adapter: WordGuard | None = None,
    **settings: Any,
) -> tuple[Moderated, Scripted, Scripted]:
    """A moderated model, with the guard's model and the model."""
    asked = Scripted(guard, identity="test/guard")
    target = Scripted(model)
    assessor = Assessor(adapter or WordGuard(), asked, keeper)
    moderation = Moderation(frozenset(interventions), POLICIES, **settings)  # type: ignore[arg-type]
    return Moderated(target, Moderator("words", assessor, moderation)), asked, target


def ask(moderated: Moderated, request: Request = REQUEST) -> ModeratedReply:
    return anyio.run(moderated.ask, request)


def actions(reply: ModeratedReply) -> list[tuple[str, str, str]]:
    return [(step.stage, step.assessment.verdict, step.action) for step in reply.steps]


# ---- the assessor


def test_an_assessment_has_the_usage_the_time_and_the_answer_of_its_call() -> None:
    guard = Scripted(Reply(Outcome.ANSWERED, "unsafe", usage=Usage(5, 1), latency_s=0.25))
    key, found = anyio.run(Assessor(WordGuard(), guard).assess, ASKED, "input")
    assert (found.verdict, found.usage, found.latency_s, found.raw) == ("unsafe", Usage(5, 1), 0.25, "unsafe")
    assert len(key) == 64


def test_the_hash_holds_all_that_decides_an_assessment() -> None:
    def keys(identity: str = "m", sees: bool = True, asked: Sequence[Message] = ASKED) -> tuple[str, str]:
        assessor = Assessor(WordGuard(sees_images=sees), Scripted("safe", identity))
        return anyio.run(assessor.assess, asked, "input")[0], assessor.key

    pictured = (*ASKED[:2], replace(ASKED[2], images=(PICTURE,)))
    other = (*ASKED[:2], replace(ASKED[2], images=(replace(PICTURE, sha256="b" * 64),)))
    assert keys() == keys()
    assert keys()[1] != keys("n")[1]
    assert len({keys()[0], keys("n")[0], keys(asked=ASKED[:1])[0], keys(asked=pictured)[0]}) == 4
    assert keys(asked=pictured) != keys(asked=other)
    # What a guard does not see makes no difference.
    assert keys(sees=False) == keys(sees=False, asked=pictured) == keys(sees=False, asked=other)
    assert assessment_hash("g", ASKED, "input") != assessment_hash("g", ASKED, "output")
    assert assessment_hash("g", ASKED, "input") != assessment_hash("h", ASKED, "input")
    assert assessment_hash("g", ASKED, "input") != assessment_hash(
        "g", (*ASKED[:2], replace(ASKED[2], role="assistant")), "input"
    )


def test_a_guard_that_sees_no_pictures_is_sent_none() -> None:
    guard = Scripted("safe")
    anyio.run(Assessor(WordGuard(), guard).assess, [Message("user", "look", (PICTURE,))], "input")
    assert guard.asked[0].messages[1] == Message("user", "look")


@pytest.mark.parametrize(
    ("reply", "verdict", "error"),
    [
        (FAILED, "error", "busy"),
        (Reply(Outcome.ERROR_PERMANENT, error="no", text="safe"), "error", "no"),
        (Reply(Outcome.ANSWERED, "perhaps"), "unparsed", None),
    ],
)
def test_a_failure_is_an_assessment_and_never_safe(reply: Reply, verdict: str, error: str | None) -> None:
    found = anyio.run(Assessor(WordGuard(), Scripted(reply)).assess, ASKED, "input")[1]
    assert (found.verdict, found.error) == (verdict, error)


def test_what_cannot_be_assessed_is_an_error_that_costs_nothing_and_sends_nothing() -> None:
    guard, keeper = Scripted("safe"), Memory()
    assessor = Assessor(WordGuard(stages=("input",)), guard, keeper)
    said = (*ASKED, Message("assistant", "It is the wind."))
    found = anyio.run(assessor.assess, said, "output")[1]
    assert (found.verdict, found.error) == ("error", "words does not assess the stage output")
    assert found.usage.cost_usd == 0.0
    assert not guard.asked
    assert [entry[2] for entry in keeper.saved] == [found]


def test_a_guard_that_is_stopped_says_whose_key_it_is() -> None:
    with pytest.raises(TargetStoppedError, match=r"^guard words: the key is wrong$") as caught:
        anyio.run(Assessor(WordGuard(), Scripted(STOP)).assess, ASKED, "input")
    assert caught.value.reply is None


def test_a_verdict_is_asked_for_once_and_an_error_again() -> None:
    keeper = Memory()
    for answer, calls in (("safe", 1), ("perhaps", 1), (FAILED, 2)):
        keeper.kept.clear()
        guard = Scripted(answer)
        assessor = Assessor(WordGuard(), guard, keeper)
        found = [anyio.run(assessor.assess, ASKED, "input") for _ in range(2)]
        assert len(guard.asked) == calls
        assert found[0] == found[1]


def test_the_same_conversation_is_asked_about_once_at_a_time() -> None:
    for answer in (Reply(Outcome.ANSWERED, "safe"), FAILED):
        for keeper in (Memory(), None):
            asked: list[Request] = []

            async def run(answer: Reply = answer, keeper: Memory | None = keeper) -> None:
                release = anyio.Event()

                async def slow(request: Request) -> Reply:
                    asked.append(request)  # noqa: B023
                    await release.wait()
                    return answer

                assessor = Assessor(WordGuard(), Scripted(slow), keeper)
                found = []

                async def one() -> None:
                    found.append(await assessor.assess(ASKED, "input"))

                async with anyio.create_task_group() as group:
                    for _ in range(20):
                        group.start_soon(one)
                    await anyio.wait_all_tasks_blocked()
                    release.set()
                assert len(found) == 20
                assert len(set(found)) == 1

            anyio.run(run)
            # Who waited for a failure takes it, too: the endpoint is not asked twenty times for an hour each.
            assert len(asked) == 1


@pytest.mark.parametrize("gone", [0, 1])
def test_a_waiter_that_is_cancelled_does_not_break_the_others(gone: int) -> None:
    async def run() -> tuple[int, list[str]]:
        release = anyio.Event()
        calls: list[Request] = []

        async def slow(request: Request) -> Reply:
            calls.append(request)
            await release.wait()
            return Reply(Outcome.ANSWERED, "safe")

        assessor = Assessor(WordGuard(), Scripted(slow), Memory())
        found: list[str] = []
        scopes = [anyio.CancelScope() for _ in range(3)]

        async def one(scope: anyio.CancelScope) -> None:
            with scope:
                found.append((await assessor.assess(ASKED, "input"))[1].verdict)

        async with anyio.create_task_group() as group:
            for scope in scopes:
                group.start_soon(one, scope)
                await anyio.wait_all_tasks_blocked()
            scopes[gone].cancel()
            await anyio.wait_all_tasks_blocked()
            release.set()
        return len(calls), found

    calls, found = anyio.run(run)
    assert found == ["safe", "safe"]
    # If it was the one who asked, another asks in its place.
    assert calls == (2 if gone == 0 else 1)


def test_what_has_been_answered_is_kept_though_its_asker_is_cancelled() -> None:
    keeper = Memory()

    async def run() -> None:
        with anyio.CancelScope() as scope:

            async def answer(request: Request) -> Reply:
                scope.cancel()
                return Reply(Outcome.ANSWERED, "safe")

            await Assessor(WordGuard(), Scripted(answer), keeper).assess(ASKED, "input")

    anyio.run(run)
    assert [entry[2].verdict for entry in keeper.saved] == ["safe"]


def test_a_keeper_that_fails_frees_those_who_wait() -> None:
    class Broken(Memory):
        async def keep(self, key: str, stage: Stage, assessment: Assessment) -> None:
            await anyio.lowlevel.checkpoint()
            raise SafemtError("the disk is full")

    async def run() -> int:
        guard = Scripted("safe")
        assessor = Assessor(WordGuard(), guard, Broken())
        failed = 0

        async def one() -> None:
            nonlocal failed
            try:
                await assessor.assess(ASKED, "input")
            except SafemtError:
                failed += 1

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(one)
        return failed

    assert anyio.run(run) == 3


def test_the_guards_retries_are_told_from_the_models() -> None:
    class Retrying(Scripted):
        async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
            assert on_retry is not None
            on_retry(replace(FAILED, retry_after_s=3.0), 3.0)
            return Reply(Outcome.ANSWERED, "safe")

    moderated, _, _ = build("safe", "block")
    told: list[tuple[type, float | None, float]] = []

    def on_retry(reply: Reply, wait_s: float) -> None:
        told.append((type(reply), reply.retry_after_s, wait_s))

    moderated._moderator.assessor.provider = Retrying("")
    moderated._provider = Retrying("")
    anyio.run(moderated.ask, REQUEST, on_retry)
    assert told == [(GuardReply, 3.0, 3.0), (Reply, 3.0, 3.0)]


# ---- interventions


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
    monkeypatch.setattr("safemt_client.moderator.moderator.time.perf_counter", lambda: now)

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
    keeper = Memory()
    for _ in range(2):
        moderated, guard, _ = build(by_stage(input="safe"), "block", keeper=keeper)
        assert ask(moderated).steps[0].waited_s >= 0.25
    assert not guard.asked


# ---- failures


@pytest.mark.parametrize("interventions", [("block",), ("policy",), ("policy", "block", "output")])
@pytest.mark.parametrize(("answer", "verdict"), [(FAILED, "error"), (NONSENSE, "unparsed")])
@pytest.mark.parametrize("on_error", ["unassessed", "refuse", "pass"])
def test_a_guard_that_fails_before_the_reply(
    answer: Reply | str, verdict: str, on_error: str, interventions: tuple[str, ...]
) -> None:
    moderated, _, model = build(by_stage(input=answer, output="safe"), *interventions, on_error=on_error)
    reply = ask(moderated)
    step = actions(reply)[0]
    if on_error == "pass":
        assert (reply.outcome, reply.action, step) == (
            Outcome.ANSWERED,
            "passed",
            ("input", verdict, "passed"),
        )
        assert model.asked == [REQUEST]
        return
    assert not model.asked
    assert reply.sent is None
    if on_error == "refuse":
        assert (reply.outcome, reply.action) == (Outcome.REFUSED_BY_GUARD, "refused")
        assert step == ("input", verdict, "refused")
        assert reply.error == f"guard words: could not assess: {'busy' if verdict == 'error' else 'unparsed'}"
        return
    wanted = Outcome.ERROR_TRANSIENT if verdict == "error" else Outcome.ERROR_PERMANENT
    assert (reply.outcome, reply.text, reply.action) == (wanted, "", "unassessed")
    assert not reply.outcome.observed
    assert step == ("input", verdict, "unassessed")
    assert reply.error is not None
    assert reply.error.startswith("unassessed: guard words: ")


@pytest.mark.parametrize(("answer", "verdict"), [(FAILED, "error"), (NONSENSE, "unparsed")])
@pytest.mark.parametrize("on_error", ["unassessed", "refuse", "pass"])
@pytest.mark.parametrize("before", ["safe", "unsafe P"])
def test_a_guard_that_fails_after_the_reply(
    answer: Reply | str, verdict: str, on_error: str, before: str
) -> None:
    moderated, _, model = build(by_stage(input=before, output=answer), "policy", "output", on_error=on_error)
    reply = ask(moderated)
    assert len(model.asked) == 1
    assert reply.sent == model.asked[0]
    action = {"unassessed": "unassessed", "refuse": "refused", "pass": "passed"}[on_error]
    assert actions(reply)[1] == ("output", verdict, action)
    if on_error == "pass":
        # Under a policy the reply is not the model's own, whatever the guard says of it.
        assert reply.action == ("passed" if before == "safe" else "policy")
        assert (reply.outcome, reply.text) == (Outcome.ANSWERED, "It is the wind.")
    else:
        assert reply.action == action
        assert "wind" not in reply.text
        assert reply.outcome.observed == (on_error == "refuse")


def test_passing_twice_is_passing() -> None:
    moderated, _, _ = build(FAILED, "block", "output", on_error="pass")
    reply = ask(moderated)
    assert (reply.action, [step.action for step in reply.steps]) == ("passed", ["passed", "passed"])


@pytest.mark.parametrize("stages", [("input",), ("output",)])
def test_a_stage_that_a_guard_does_not_know_is_unassessed(stages: tuple[Stage, ...]) -> None:
    moderated, guard, _ = build("safe", "block", "output", adapter=WordGuard(stages=stages))
    reply = ask(moderated)
    assert (reply.action, reply.outcome) == ("unassessed", Outcome.ERROR_TRANSIENT)
    assert len(guard.asked) == (stages == ("input",))


@pytest.mark.parametrize("controversial", [True, False])
@pytest.mark.parametrize("stage", ["input", "output"])
def test_controversial_counts_as_set(stage: str, controversial: bool) -> None:
    answers = {"input": "safe", "output": "safe", stage: "controversial"}
    moderated, _, model = build(by_stage(**answers), "block", "output", controversial=controversial)
    reply = ask(moderated)
    acted = "blocked" if stage == "input" else "replaced"
    assert reply.action == (acted if controversial else "none")
    assert len(model.asked) == (not controversial or stage == "output")


@pytest.mark.parametrize("interventions", [("block",), ("policy",), ("output",), ("observe",)])
def test_a_guard_that_is_stopped_stops_the_target(interventions: tuple[str, ...]) -> None:
    moderated, _, model = build(STOP, *interventions)
    with pytest.raises(TargetStoppedError, match=r"^guard words: the key is wrong$"):
        ask(moderated)
    # Nothing is asked in front of a guard that acts; what was asked beside one has landed.
    assert len(model.asked) == (interventions[0] in ("output", "observe"))


@pytest.mark.parametrize("interventions", [("block",), ("observe",), ("observe", "output")])
def test_a_model_that_is_stopped_comes_as_itself(interventions: tuple[str, ...]) -> None:
    with pytest.raises(TargetStoppedError, match=r"^the key is wrong$"):
        ask(build("safe", *interventions, model=STOP)[0])


def test_a_model_in_flight_lands_though_the_guard_beside_it_is_given_up() -> None:
    async def run() -> list[str]:
        stopped, landed = anyio.Event(), []

        async def guard(request: Request) -> Reply:
            stopped.set()
            raise PermitStoppedError("the session is ending")

        async def model(request: Request) -> Reply:
            await stopped.wait()
            await anyio.wait_all_tasks_blocked()
            landed.append("model")
            return Reply(Outcome.ANSWERED, "It is the wind.")

        with pytest.raises(PermitStoppedError):
            await build(guard, "observe", model=model)[0].ask(REQUEST)
        return landed

    assert anyio.run(run) == ["model"]


def test_a_guard_in_flight_lands_though_the_model_is_given_up() -> None:
    keeper = Memory()

    async def run() -> None:
        stopped = anyio.Event()

        async def model(request: Request) -> Reply:
            stopped.set()
            raise PermitStoppedError("the session is ending")

        async def guard(request: Request) -> Reply:
            await stopped.wait()
            await anyio.wait_all_tasks_blocked()
            return Reply(Outcome.ANSWERED, "safe")

        with pytest.raises(PermitStoppedError):
            await build(guard, "observe", model=model, keeper=keeper)[0].ask(REQUEST)

    anyio.run(run)
    assert [entry[2].verdict for entry in keeper.saved] == ["safe"]


def test_a_fault_in_a_guard_is_not_swallowed() -> None:
    for interventions in (("block",), ("observe",), ("output",)):
        with pytest.raises(BaseException) as caught:  # noqa: PT011 - alone or in a group
            ask(build(ZeroDivisionError(), *interventions)[0])
        leaf: BaseException = caught.value
        while isinstance(leaf, BaseExceptionGroup):
            leaf = leaf.exceptions[0]
        assert isinstance(leaf, ZeroDivisionError)


# ---- earlier turns


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


# ---- keys


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


# ---- many at a time


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

    keeper = Memory()
    asked, model = Scripted(guard, "test/guard"), Scripted(echo)
    assessor = Assessor(WordGuard(), asked, keeper)
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
    assert len(keeper.saved) == count
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


# ---- OpenAI's moderation endpoint


def test_the_moderation_endpoint_is_asked_in_its_own_form() -> None:
    flagged = {"flagged": True, "categories": {"violence": True}, "category_scores": {"violence": 0.75}}

    async def run() -> tuple[list[Assessment], list[Received]]:
        says = response(200, {"id": "sk-planted-42", "model": "omni", "results": [flagged]})
        cut = response(200, '{"results": [{"flagged": fa')
        async with serve([says, cut, error(500, message="no sk-planted-42")]) as server:
            async with make_transport() as transport:
                endpoint = ModerationEndpoint(
                    model="omni",
                    base_url=server.url,
                    api_key="sk-planted-42",
                    transport=transport,
                    identity="openai/omni",
                    limiter=AccountLimiter(concurrency=1),
                    max_wait_s=0,
                )
                assessor = Assessor(build_guard("openai-moderation"), endpoint)
                pictured = [Message("user", "What is a kite?", (PICTURE,))]
                found = [(await assessor.assess(pictured, "input"))[1] for _ in range(3)]
            return found, server.requests

    found, requests = anyio.run(run)
    assert [one.verdict for one in found] == ["unsafe", "unparsed", "error"]
    assert (found[0].categories, found[0].scenarios) == (("violence",), ("Violence",))
    assert (found[0].confidence, found[0].usage.cost_usd) == (0.75, 0.0)
    # The body is kept, but no key that it might repeat.
    assert "sk-planted-42" not in repr(found)
    assert found[0].raw is not None
    assert "[key]" in found[0].raw
    assert requests[0].target == "/v1/moderations"
    assert requests[0].headers["authorization"] == "Bearer sk-planted-42"
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}}
    text = {"type": "text", "text": "user: What is a kite?"}
    assert requests[0].json == {"model": "omni", "input": [text, picture]}

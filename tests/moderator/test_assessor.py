"""The assessor asks a guard once for a conversation, and never takes a failure for `safe`."""

from collections.abc import Sequence
from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest
from support.faults import Received, error, response, serve
from support.moderated import ASKED, FAILED, PICTURE, REQUEST, STOP, Memory, Scripted, WordGuard, build

from safemt_client.moderator.assessor import Assessor, GuardReply, assessment_hash
from safemt_client.moderator.guards import build_guard
from safemt_client.moderator.types import Assessment, Stage
from safemt_client.providers.errors import SafemtError, TargetStoppedError
from safemt_client.providers.limits.limiter import AccountLimiter
from safemt_client.providers.moderations import ModerationEndpoint
from safemt_client.providers.provider import Observer
from safemt_client.providers.timeouts import Timeouts
from safemt_client.providers.transport import make_transport
from safemt_client.providers.types import Message, Outcome, Reply, Request, Usage


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
    guard, cache = Scripted("safe"), Memory()
    assessor = Assessor(WordGuard(stages=("input",)), guard, cache)
    said = (*ASKED, Message("assistant", "It is the wind."))
    found = anyio.run(assessor.assess, said, "output")[1]
    assert (found.verdict, found.error) == ("error", "words does not assess the stage output")
    assert found.usage.cost_usd == 0.0
    assert not guard.asked
    assert [entry[2] for entry in cache.saved] == [found]


def test_a_guard_that_is_stopped_says_whose_key_it_is() -> None:
    with pytest.raises(TargetStoppedError, match=r"^guard words: the key is wrong$") as caught:
        anyio.run(Assessor(WordGuard(), Scripted(STOP)).assess, ASKED, "input")
    assert caught.value.reply is None


def test_a_verdict_is_asked_for_once_and_an_error_again() -> None:
    cache = Memory()
    for answer, calls in (("safe", 1), ("perhaps", 1), (FAILED, 2)):
        cache.kept.clear()
        guard = Scripted(answer)
        assessor = Assessor(WordGuard(), guard, cache)
        found = [anyio.run(assessor.assess, ASKED, "input") for _ in range(2)]
        assert len(guard.asked) == calls
        assert found[0] == found[1]


def test_the_same_conversation_is_asked_about_once_at_a_time() -> None:
    for answer in (Reply(Outcome.ANSWERED, "safe"), FAILED):
        for cache in (Memory(), None):
            asked: list[Request] = []

            async def run(answer: Reply = answer, cache: Memory | None = cache) -> None:
                release = anyio.Event()

                async def slow(request: Request) -> Reply:
                    asked.append(request)  # noqa: B023
                    await release.wait()
                    return answer

                assessor = Assessor(WordGuard(), Scripted(slow), cache)
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


def test_one_more_asks_the_same_guard_by_itself() -> None:
    async def run() -> None:
        release = anyio.Event()
        asked: list[int] = []

        def model(number: int) -> Scripted:
            async def slow(request: Request) -> Reply:
                asked.append(number)
                await release.wait()
                return Reply(Outcome.ANSWERED, "safe")

            return Scripted(slow)

        first = Assessor(WordGuard(), model(1))
        second = first.again()
        second.provider = model(2)
        assert second.key == first.key
        async with anyio.create_task_group() as group:
            for assessor in (first, second):
                group.start_soon(assessor.assess, ASKED, "input")
            await anyio.wait_all_tasks_blocked()
            release.set()
        assert sorted(asked) == [1, 2]

    anyio.run(run)


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
    cache = Memory()

    async def run() -> None:
        with anyio.CancelScope() as scope:

            async def answer(request: Request) -> Reply:
                scope.cancel()
                return Reply(Outcome.ANSWERED, "safe")

            await Assessor(WordGuard(), Scripted(answer), cache).assess(ASKED, "input")

    anyio.run(run)
    assert [entry[2].verdict for entry in cache.saved] == ["safe"]


def test_a_cache_that_fails_frees_those_who_wait() -> None:
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
                    timeouts=Timeouts(max_wait_s=0),
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

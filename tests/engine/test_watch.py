"""Targets that can only fail are stopped, and none that may succeed: the watch over a provider, in virtual time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import anyio
import pytest
from support.clock import run

from safemt_client.engine.admission import Admission
from safemt_client.engine.watch import WatchedProvider
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.limits.limiter import AccountLimiter
from safemt_client.providers.plugins import adopt
from safemt_client.providers.responses.outcomes import error_reply
from safemt_client.providers.timeouts import DEFAULT_TIMEOUTS, Timeouts
from safemt_client.providers.types import Message, Outcome, Reply, Request

ANSWER = Reply(Outcome.ANSWERED, text="At nine.", status_code=200)
BLOCKED = Reply(Outcome.REFUSED_BY_PROVIDER, error="blocked", status_code=403)
TOO_LONG = Reply(
    Outcome.ERROR_PERMANENT, error="too long", status_code=400, error_code=ErrorCode.REQUEST_TOO_LARGE
)


def said(status: int, text: str, **headers: str) -> Reply:
    body = b'{"error": {"message": "%b"}}' % text.encode()
    return error_reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@dataclass
class Model:
    does: Callable[[int], Reply]
    identity: str = "m"
    asked: int = 0

    async def ask(self, request: Request) -> Reply:
        self.asked += 1
        await anyio.sleep(0.1)
        return self.does(int(request.messages[0].text.split()[-1]))


@dataclass
class Session:
    """What became of each request: how often it was asked in all, and the line of the stop, if there was one."""

    asked: int = 0
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    stop: str | None = None
    at: float = 0.0


def session(
    does: Callable[[int], Reply],
    count: int,
    *,
    at_a_time: int = 1,
    known: bool = True,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> Session:
    found, model = Session(), Model(does)

    async def main() -> None:
        limiter = AccountLimiter(concurrency=at_a_time)
        provider = WatchedProvider(adopt(model, limiter=limiter, timeouts=timeouts), anyio.current_time)
        provider.requests = count if known else None

        async def one(number: int) -> None:
            request = Request((Message("user", f"When does the library open in hall {number}"),))
            try:
                reply = await provider.ask(request)
            except TargetStoppedError as error:
                if found.stop is None:
                    found.stop, found.at = str(error), anyio.current_time()
                return
            found.outcomes[number] = reply.outcome

        async with Admission(limiter) as admission:
            for number in range(count):
                if found.stop is None:
                    await admission.start(one, number)

    run(main)
    found.asked = model.asked
    return found


@pytest.mark.parametrize("at_a_time", [1, 8])
@pytest.mark.parametrize(
    "fault",
    [
        said(500, "Conversation roles must alternate user/assistant"),
        said(400, "m is not a multimodal model"),
        replace(said(500, "Unexpected endpoint or method. (POST /chat/completions)"), status_code=200),
    ],
    ids=["500", "400", "200"],
)
def test_a_fault_of_every_request_stops_soon(fault: Reply, at_a_time: int) -> None:
    found = session(lambda _: fault, 1000, at_a_time=at_a_time)
    assert fault.error is not None
    assert found.stop is not None
    assert fault.error in found.stop
    assert "fails alike (HTTP" in found.stop
    assert found.asked <= 25
    assert found.at < 300


@pytest.mark.parametrize("at_a_time", [1, 8])
def test_a_small_run_is_stopped_too(at_a_time: int) -> None:
    found = session(lambda _: said(400, "m is not a multimodal model"), 5, at_a_time=at_a_time)
    assert (found.stop is not None, found.asked) == (True, 5)
    patient = Timeouts(max_wait_s=20)
    found = session(
        lambda _: said(500, "image input is not supported"), 5, at_a_time=at_a_time, timeouts=patient
    )
    assert found.stop is not None
    assert found.asked <= 25


def test_one_dialogue_alone_cannot_tell() -> None:
    found = session(lambda _: said(400, "m is not a multimodal model"), 1)
    assert (found.stop, found.outcomes) == (None, {0: Outcome.ERROR_PERMANENT})


@pytest.mark.parametrize("other", [ANSWER, BLOCKED], ids=["an answer", "a block"])
def test_one_that_was_observed_shows_that_the_target_works(other: Reply) -> None:
    found = session(lambda n: other if n == 3 else said(400, "no picture please"), 40)
    assert found.stop is None
    assert found.asked == 40


def test_blocks_at_every_request_stop_nothing() -> None:
    assert session(lambda _: BLOCKED, 40).stop is None


def test_single_failures_end_their_own_turns() -> None:
    found = session(lambda n: said(403, "computer says no") if n == 0 else ANSWER, 40)
    assert found.stop is None
    assert [n for n, outcome in found.outcomes.items() if not outcome.observed] == [0]


def test_a_request_that_fails_in_its_own_words_while_others_are_answered_is_given_up() -> None:
    found = session(lambda n: said(500, "list index out of range") if n == 0 else ANSWER, 20_000)
    assert found.stop is None
    assert found.outcomes[0] is Outcome.ERROR_TRANSIENT
    assert 20_009 <= found.asked <= 20_012


def test_a_day_of_outage_stops_once_ten_turns_were_given_up() -> None:
    found = session(lambda _: said(503, "unavailable"), 1000, at_a_time=8)
    assert found.stop is not None
    assert "nothing was answered for 60 min" in found.stop
    assert found.at > 3600
    assert len(found.outcomes) < 40
    impatient = session(lambda _: said(503, "unavailable"), 40, timeouts=Timeouts(max_wait_s=0))
    assert (impatient.stop, impatient.asked) == (None, 40)


def test_what_is_too_large_is_decided_by_the_smallest_request_left() -> None:
    async def main(shortest: Reply) -> tuple[bool, str | None]:
        replies = [TOO_LONG] * 10 + [shortest]
        model = Model(lambda _: replies.pop(0))
        limiter = AccountLimiter(concurrency=1)
        provider = WatchedProvider(adopt(model, limiter=limiter), anyio.current_time)
        provider.requests = 10
        requests = [Request((Message("user", f"hall {n}"),)) for n in range(11)]
        for request in requests[:-1]:
            assert (await provider.ask(request)).outcome is Outcome.ERROR_PERMANENT
        assert provider.doubtful
        provider.decide_by(requests[-1])
        try:
            await provider.ask(requests[-1])
        except TargetStoppedError as error:
            return provider.doubtful, str(error)
        return provider.doubtful, None

    assert run(lambda: main(ANSWER)) == (False, None)
    _, line = run(lambda: main(TOO_LONG))
    assert line is not None
    assert "the smallest one left too" in line


def of_a_day(wait_s: float) -> Reply:
    return replace(said(429, "requests per day"), retry_after_s=wait_s, error_code=ErrorCode.PERIOD_LIMIT)


@pytest.mark.parametrize("at_a_time", [1, 8])
def test_a_daily_limit_is_waited_for_twice(at_a_time: int) -> None:
    found = session(lambda _: of_a_day(36), 1000, at_a_time=at_a_time)
    assert found.stop is not None
    assert "requests per day" in found.stop
    assert found.asked <= at_a_time + 11
    assert 72 <= found.at < 200


def test_a_rolling_limit_is_waited_for() -> None:
    replies = [of_a_day(3), of_a_day(3), ANSWER, of_a_day(3), of_a_day(3)]
    found = session(lambda _: replies.pop(0) if replies else ANSWER, 20)
    assert (found.stop, len(found.outcomes)) == (None, 20)


def test_a_limit_of_a_day_without_a_time_stops_at_once() -> None:
    reply = replace(of_a_day(0), retry_after_s=None)
    found = session(lambda _: reply, 20)
    assert found.stop is not None
    assert found.asked == 1


def billed(texts: Sequence[str]) -> list[Reply]:
    return [Reply(Outcome.ERROR_TRANSIENT, error=text, status_code=200, billed=True) for text in texts]


def test_what_is_billed_is_asked_three_times_at_most() -> None:
    found = session(lambda _: billed(["finish reason abort"])[0], 5)
    assert (found.stop, found.asked) == (None, 15)
    assert set(found.outcomes.values()) == {Outcome.ERROR_TRANSIENT}

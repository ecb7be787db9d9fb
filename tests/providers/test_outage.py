"""Outages in virtual time: few requests while one lasts, and nothing is given up before `--max-wait`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anyio
import pytest
from support.clock import run

from safemt_client.engine.admission import Admission
from safemt_client.providers.errors import PermitStoppedError
from safemt_client.providers.limits.limiter import AccountLimiter
from safemt_client.providers.limits.permits import Change
from safemt_client.providers.plugins import adopt
from safemt_client.providers.responses.outcomes import error_reply, no_connection
from safemt_client.providers.timeouts import DEFAULT_TIMEOUTS, Timeouts
from safemt_client.providers.types import Message, Outcome, Reply, Request

HOUR = 3600.0
ANSWER = Reply(Outcome.ANSWERED, text="At nine.", status_code=200)


def said(status: int, text: str, **headers: str) -> Reply:
    body = b'{"error": {"message": "%b"}}' % text.encode()
    return error_reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@dataclass
class Server:
    """A model that does as it is told, by the time and the request; what it was asked, and when."""

    does: Callable[[float, str], Reply]
    takes_s: float = 0.5
    identity: str = "m"
    times: list[float] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    retries: int = 0

    async def ask(self, request: Request) -> Reply:
        self.times.append(anyio.current_time())
        self.asked.append(request.messages[0].text)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await anyio.sleep(self.takes_s)
        self.in_flight -= 1
        return self.does(anyio.current_time() - self.takes_s, request.messages[0].text)

    def retrying(self, reply: Reply, wait_s: float) -> None:
        assert wait_s >= 0
        self.retries += 1


def ask_all(
    server: Server, names: Sequence[str], *, timeouts: Timeouts = DEFAULT_TIMEOUTS, **limits: int
) -> dict[str, Reply]:
    """Ask about each, as a session does: no more at a time than the account has room for."""

    async def main() -> dict[str, Reply]:
        limiter = AccountLimiter(**({"concurrency": 512, "start": 8} | limits))
        provider, replies = adopt(server, limiter=limiter, timeouts=timeouts), {}

        async def one(name: str) -> None:
            replies[name] = await provider.ask(Request((Message("user", name),)), server.retrying)

        async with Admission(limiter) as admission:
            for name in names:
                await admission.start(one, name)
        return replies

    return run(main)


NAMES = [f"hall {number}" for number in range(60)]


@pytest.mark.parametrize(
    "fault",
    [
        said(529, "overloaded"),
        said(503, "unavailable"),
        said(503, "unavailable", retry_after="20"),
        said(500, "Internal server error"),
        no_connection("connection failed: refused"),
    ],
    ids=["529", "503", "503-retry-after", "500", "refused"],
)
@pytest.mark.parametrize("limits", [{}, {"concurrency": 1, "start": 1}], ids=["adaptive", "one-by-one"])
def test_an_hour_from_the_first_request_is_survived_with_few_requests(
    fault: Reply, limits: dict[str, int]
) -> None:
    server = Server(lambda now, _: fault if now < HOUR else ANSWER)
    replies = ask_all(server, NAMES, **limits)
    assert {reply.outcome for reply in replies.values()} == {Outcome.ANSWERED}
    assert len(replies) == len(NAMES)
    during = sum(time < HOUR for time in server.times)
    limit = 200 if fault.retry_after_s else 100
    assert 20 < during < limit
    assert server.retries == during


def test_one_conversation_alone_survives_an_hour_too() -> None:
    server = Server(lambda now, _: said(503, "unavailable") if now < HOUR else ANSWER)
    assert ask_all(server, NAMES[:1])[NAMES[0]].outcome is Outcome.ANSWERED


def test_an_outage_in_the_middle_begins_and_ends() -> None:
    server = Server(lambda now, _: said(502, "bad gateway") if 5 < now < 1805 else ANSWER)
    replies = ask_all(server, [f"hall {number}" for number in range(2000)])
    assert {reply.outcome for reply in replies.values()} == {Outcome.ANSWERED}
    assert sum(100 < time < 1805 for time in server.times) < 50


def test_one_request_probes_at_a_time_and_each_time_another() -> None:
    server = Server(lambda now, _: said(503, "unavailable") if now < 600 else ANSWER, takes_s=5)
    ask_all(server, NAMES)
    probes = [name for time, name in zip(server.times, server.asked, strict=True) if 100 < time < 600]
    assert len(set(probes)) == len(probes) > 5
    gaps = [b - a for a, b in zip(server.times, server.times[1:], strict=False) if 100 < a < b < 600]
    assert min(gaps) >= 5


def test_a_request_that_always_fails_holds_up_no_other() -> None:
    server = Server(lambda _, name: said(502, "bad gateway") if name == NAMES[0] else ANSWER)
    replies = ask_all(server, NAMES, timeouts=Timeouts(max_wait_s=100), concurrency=1, start=1)
    assert [name for name, reply in replies.items() if reply.outcome is Outcome.ERROR_TRANSIENT] == NAMES[:1]


def test_calls_in_flight_grow_again_from_a_few() -> None:
    changes: list[Change] = []
    server = Server(lambda now, _: said(500, "internal error") if 20 < now < 300 else ANSWER)

    async def main() -> None:
        limiter = AccountLimiter(concurrency=64, start=64, on_change=changes.append)
        provider = adopt(server, limiter=limiter)

        async def one(number: int) -> None:
            await provider.ask(Request((Message("user", f"hall {number}"),)))
            if anyio.current_time() > 300:
                after.append(limiter.limit)

        async with Admission(limiter) as admission:
            for number in range(6000):
                await admission.start(one, number)

    after: list[int] = []
    run(main)
    assert [change.limit for change in changes if change.reason == "outage"] == [2]
    assert after[0] <= 4
    assert max(after) > 32


def test_a_longer_outage_than_the_limit_ends_the_turns_and_never_waits_again() -> None:
    server = Server(lambda now, _: said(503, "unavailable"))
    replies = ask_all(server, NAMES, timeouts=Timeouts(max_wait_s=600))
    assert {reply.outcome for reply in replies.values()} == {Outcome.ERROR_TRANSIENT}
    # The last probe, and every other request once.
    assert server.times[-1] < 600 + 60 + 60
    assert len(server.times) < 30 + 2 * len(NAMES)


def test_the_deadline_of_a_turn_does_not_count_an_outage() -> None:
    server = Server(lambda now, _: said(503, "unavailable") if now < 900 else ANSWER)
    replies = ask_all(server, NAMES, timeouts=Timeouts(attempt_s=30, turn_s=60))
    assert {reply.outcome for reply in replies.values()} == {Outcome.ANSWERED}


def test_the_deadline_holds_where_somebody_waits_for_the_turn() -> None:
    """As behind a proxy: all three limits are the same, and together they are never longer than one."""
    slowest = 0.0

    async def main() -> None:
        limiter = AccountLimiter(concurrency=8)
        limits = Timeouts(max_wait_s=60, attempt_s=60, turn_s=60)
        provider = adopt(Server(lambda now, _: said(503, "unavailable")), limiter=limiter, timeouts=limits)

        async def one(name: str) -> None:
            nonlocal slowest
            begin = anyio.current_time()
            reply = await provider.ask(Request((Message("user", name),)))
            assert reply.outcome is Outcome.ERROR_TRANSIENT
            slowest = max(slowest, anyio.current_time() - begin)

        async with anyio.create_task_group() as group:
            for name in NAMES:
                group.start_soon(one, name)
                await anyio.sleep(3)

    run(main)
    assert slowest <= 61


def test_a_wait_between_attempts_ends_with_the_turn() -> None:
    async def main() -> float:
        limiter = AccountLimiter(concurrency=8)
        limits = Timeouts(max_wait_s=600, attempt_s=10, turn_s=60)
        provider = adopt(
            Server(lambda now, _: said(429, "slow down", retry_after="300")), limiter=limiter, timeouts=limits
        )
        reply = await provider.ask(Request((Message("user", "hello"),)))
        assert "no answer within 60 s over all attempts; last: slow down" in (reply.error or "")
        return anyio.current_time()

    assert run(main) == pytest.approx(60)


def test_a_stated_wait_beyond_what_is_left_is_not_waited_for() -> None:
    server = Server(lambda now, _: said(503, "unavailable", retry_after="500"))
    replies = ask_all(server, NAMES[:1], timeouts=Timeouts(max_wait_s=400))
    assert replies[NAMES[0]].outcome is Outcome.ERROR_TRANSIENT
    assert len(server.times) == 1


def test_who_waits_for_an_outage_to_end_is_told_when_the_session_ends() -> None:
    server = Server(lambda now, _: said(503, "unavailable"))

    async def main() -> int:
        limiter = AccountLimiter(concurrency=4)
        provider, told = adopt(server, limiter=limiter), 0

        async def one(name: str) -> None:
            nonlocal told
            with pytest.raises(PermitStoppedError):
                await provider.ask(Request((Message("user", name),)))
            told += 1

        async with anyio.create_task_group() as group:
            for name in NAMES[:20]:
                group.start_soon(one, name)
            await anyio.sleep(100)
            limiter.stop()
            with anyio.fail_after(61):
                while told < 20:
                    await anyio.sleep(1)
        return told

    assert run(main) == 20


def test_limits_by_the_minute_are_no_outage() -> None:
    """429 concerns the account's rate, which the limiter keeps: nobody takes turns because of it."""
    seen: set[str] = set()

    def does(now: float, name: str) -> Reply:
        first = name not in seen
        seen.add(name)
        return said(429, "slow down") if first else ANSWER

    server = Server(does)
    ask_all(server, NAMES, concurrency=8)
    assert server.times[-1] < 60


def test_few_failures_among_many_calls_close_nothing() -> None:
    count = 0

    def does(now: float, name: str) -> Reply:
        nonlocal count
        count += 1
        return said(502, "bad gateway") if count % 5 == 0 else ANSWER

    changes: list[Change] = []
    server = Server(does)

    async def main() -> None:
        limiter = AccountLimiter(concurrency=64, start=64, on_change=changes.append)
        provider = adopt(server, limiter=limiter)
        async with Admission(limiter) as admission:
            for number in range(3000):
                await admission.start(provider.ask, Request((Message("user", f"hall {number}"),)))

    run(main)
    assert not [change for change in changes if change.reason == "outage"]
    assert server.times[-1] < 3000 / 64 * 0.5 * 3

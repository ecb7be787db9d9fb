"""Rates, adaptive concurrency and learnt limits against models of an endpoint, in virtual time."""

import random
from datetime import UTC, datetime

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import run
from support.servers import Bucket, Endpoint, FixedWindow, SlidingWindow, drive

from safemt_client.providers.limits.concurrency import Concurrency
from safemt_client.providers.limits.limiter import AccountLimiter
from safemt_client.providers.limits.permits import Change
from safemt_client.providers.limits.rates import RateLimit, rate_limits
from safemt_client.providers.limits.tokens import image_tokens
from safemt_client.providers.types import Image, Outcome, Reply


@pytest.mark.parametrize(
    "window",
    [
        SlidingWindow(600),
        FixedWindow(600),
        FixedWindow(10, 1.0),
        Bucket(600, burst=600),
        Bucket(600, burst=10),
        Bucket(600, burst=1.0),
    ],
    ids=["sliding minute", "fixed minute", "fixed second", "bucket", "small bucket", "no burst"],
)
def test_a_stated_rate_is_used_and_never_exceeded(window: object) -> None:
    endpoint = Endpoint(requests=window)  # type: ignore[arg-type]
    drive(endpoint, 600, rpm=600)
    assert endpoint.refused == []
    steady = [t for t in endpoint.answered if 120 <= t < 600]
    assert len(steady) >= 0.98 * 480 * 10


@pytest.mark.parametrize("charging", ["used", "reserved"])
def test_a_stated_rate_of_tokens_is_used_and_never_exceeded(charging: str) -> None:
    def tokens(random: random.Random) -> tuple[int, int]:
        return int(random.gauss(260, 40)), int(random.uniform(20, 300))

    endpoint = Endpoint(token_limit=SlidingWindow(100_000), charge=charging, tokens=tokens)
    drive(endpoint, 900, charging, tpm=100_000)
    steady = [t for t in endpoint.answered if 300 <= t < 900]
    used = len(steady) * (260 + (400 if charging == "reserved" else 160))
    # The first minute learns what a request needs; after it nothing is refused.
    assert [t for t in endpoint.refused if t > 60] == []
    assert used >= 0.98 * 100_000 * 10


def throughput(endpoint: Endpoint, begin: float, end: float) -> float:
    return sum(begin <= t < end for t in endpoint.answered) / (end - begin)


def test_a_hidden_capacity_is_found_and_followed() -> None:
    def capacity(now: float) -> int:
        return 40 if now < 200 else 12 if now < 400 else 120

    endpoint = Endpoint(capacity=capacity, spread=0.2)
    changes: list[Change] = []
    drive(endpoint, 600, on_change=changes.append, concurrency=512, start=8)
    mean = 1.0202  # of a log-normal latency with spread 0.2
    oracle = sum(capacity(t) for t in range(600)) / mean
    assert len(endpoint.answered) >= 0.9 * oracle
    for begin, end in ((20, 200), (215, 400), (425, 600)):
        assert throughput(endpoint, begin, end) >= 0.9 * capacity(begin) / mean, begin
    assert {change.reason for change in changes} == {"growth", "overload"}
    assert len(endpoint.refused) < 0.1 * len(endpoint.answered)


def test_it_grows_only_while_more_would_be_used() -> None:
    async def main() -> int:
        limiter = AccountLimiter(concurrency=500, start=8)
        for _ in range(100):
            async with limiter.permit() as permit:
                limiter.settle(permit, Reply(Outcome.ANSWERED, status_code=200), None)
        return limiter.limit

    assert run(main) == 8


def test_one_overload_is_one_cut_and_faults_only_hold_growth() -> None:
    async def main() -> list[int]:
        limiter = AccountLimiter(concurrency=100, start=20)
        limits = []

        async def call(reply: Reply, seconds: float) -> None:
            async with limiter.permit() as permit:
                await anyio.sleep(seconds)
                limiter.settle(permit, reply, None)

        async def calls(number: int, reply: Reply) -> None:
            async with anyio.create_task_group() as group:
                for _ in range(number):
                    group.start_soon(call, reply, 1.0)
            limits.append(limiter.limit)

        await calls(20, Reply(Outcome.ERROR_TRANSIENT, status_code=529))
        await calls(17, Reply(Outcome.ERROR_TRANSIENT, status_code=500))
        await calls(17, Reply(Outcome.ANSWERED, status_code=200))
        await calls(40, Reply(Outcome.ANSWERED, status_code=200))
        return limits

    cut, faulted, held, grown = run(main)
    assert cut == faulted == held == 17
    assert grown > 17


@pytest.mark.parametrize("start", [8, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("refusals", "faults", "least"),
    [
        (0.006, 0.05, 0.8),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in [(0.006, 0.0, 0.95), (0.01, 0.0, 0.9), (0.0, 0.05, 0.9)]
        ),
    ],
)
def test_faults_that_come_whatever_the_load_do_not_wear_the_number_down(
    refusals: float, faults: float, least: float, start: int
) -> None:
    endpoint = Endpoint(stray=refusals, faults=faults)
    drive(endpoint, 200, concurrency=200, start=start)
    ideal = 200 / 1.046 * (1 - faults / 2)  # mean of the latency; a fault takes half of it and is no answer
    assert throughput(endpoint, 100, 200) >= least * ideal


def test_an_endpoint_that_queues_is_asked_no_more_than_it_gets_to_in_time() -> None:
    """Four calls at a time, 10 s each, an endless queue in the order of arrival, and callers that wait 60 s.

    Whose time is over while being served has wasted a slot. If time-outs took no place away, 622 would be
    answered and 2,274 late.
    """

    async def main() -> tuple[int, int, int]:
        limiter = AccountLimiter(concurrency=512, start=8)
        slots = anyio.Semaphore(4)
        answered, late = 0, 0

        async def caller() -> None:
            nonlocal answered, late
            while True:
                async with limiter.permit() as permit:
                    with anyio.move_on_after(60) as scope:
                        async with slots:
                            await anyio.sleep(10)
                    timed_out = scope.cancelled_caught
                    outcome = Outcome.ERROR_TRANSIENT if timed_out else Outcome.ANSWERED
                    limiter.settle(
                        permit,
                        Reply(outcome, status_code=None if timed_out else 200),
                        None,
                        timed_out=timed_out,
                    )
                    answered, late = answered + (not timed_out), late + timed_out

        with anyio.move_on_after(4000):
            async with anyio.create_task_group() as group:
                for _ in range(300):
                    group.start_soon(caller)
        return limiter.limit, answered, late

    limit, answered, late = run(main)
    assert limit <= 4 * 7
    assert answered >= 0.8 * 4 * 400
    assert late < 0.25 * answered


def test_retry_after_holds_the_whole_account() -> None:
    async def main() -> float:
        limiter = AccountLimiter(concurrency=10)
        async with limiter.permit() as permit:
            busy = Reply(Outcome.ERROR_TRANSIENT, status_code=429, retry_after_s=12.0)
            limiter.settle(permit, busy, None)
        async with limiter.permit():
            return anyio.current_time()

    assert run(main) == 12.0


@settings(max_examples=25, deadline=None)
@given(
    rpm=st.none() | st.floats(30, 3000),
    tpm=st.none() | st.floats(5_000, 1_000_000),
    most=st.integers(1, 60),
    failures=st.floats(0, 0.5),
    latency=st.floats(0.05, 5),
    seed=st.integers(0, 999),
)
def test_nothing_is_exceeded_starved_or_lost(
    rpm: float | None, tpm: float | None, most: int, failures: float, latency: float, seed: int
) -> None:
    async def main() -> None:
        limiter = AccountLimiter(rpm=rpm, tpm=tpm, concurrency=most)
        chance = random.Random(seed)
        sent: list[tuple[float, float]] = []
        in_flight = 0
        order: list[int] = []

        async def one(number: int) -> None:
            nonlocal in_flight
            with anyio.move_on_after(chance.choice((None, None, 3.0))):
                async with limiter.permit(100) as permit:
                    order.append(number)
                    sent.append((anyio.current_time(), 100))
                    in_flight += 1
                    assert in_flight <= most
                    try:
                        await anyio.sleep(latency * chance.random())
                        status = chance.choice((429, 500, 503, None)) if chance.random() < failures else 200
                        outcome = Outcome.ANSWERED if status == 200 else Outcome.ERROR_TRANSIENT
                        limiter.settle(permit, Reply(outcome, status_code=status), 100.0)
                    finally:
                        in_flight -= 1

        async with anyio.create_task_group() as group:
            for number in range(60):
                group.start_soon(one, number)
        assert order == sorted(order)
        for limit, units in ((rpm, 1), (tpm, 100)):
            for begin, _ in sent if limit else ():
                window = [t for t, _ in sent if begin <= t < begin + 60]
                assert len(window) * units <= limit + units + 1e-6  # type: ignore[operator]
        # Every place was given back.
        with anyio.fail_after(60 * 60):
            async with anyio.create_task_group() as group:
                for number in range(limiter.limit):
                    group.start_soon(one, 100 + number)

    run(main)


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "requests", "tokens"),
    [
        (
            {
                "x-ratelimit-limit-requests": "500",
                "x-ratelimit-remaining-requests": "499",
                "x-ratelimit-reset-requests": "120ms",
                "x-ratelimit-limit-tokens": "30000",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "1m0s",
            },
            RateLimit(500),
            RateLimit(30000, 60.0),
        ),
        # By the day under the same name: 30 used are back in three minutes.
        (
            {
                "x-ratelimit-limit-requests": "14400",
                "x-ratelimit-remaining-requests": "14370",
                "x-ratelimit-reset-requests": "3m0s",
            },
            RateLimit(10.0),
            None,
        ),
        (
            {
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:20Z",
            },
            RateLimit(50, 20.0),
            None,
        ),
        ({"x-ratelimit-limit-requests": "lots", "x-ratelimit-limit-tokens": "-1"}, None, None),
        ({}, None, None),
    ],
)
def test_what_headers_say(
    headers: dict[str, str], requests: RateLimit | None, tokens: RateLimit | None
) -> None:
    assert rate_limits(headers, NOW) == (requests, tokens)


@given(st.dictionaries(st.sampled_from(["limit", "remaining", "reset"]), st.text(max_size=12)))
def test_any_header_is_read_or_ignored(fields: dict[str, str]) -> None:
    rate_limits({f"x-ratelimit-{name}-tokens": value for name, value in fields.items()}, NOW)


def test_limits_are_learnt_unless_the_user_gave_them() -> None:
    async def main(rpm: float | None) -> float:
        limiter = AccountLimiter(rpm=rpm, concurrency=100)
        for _ in range(11):
            async with limiter.permit() as permit:
                stated = Reply(Outcome.ANSWERED, status_code=200, rate_limits=(RateLimit(60), None))
                limiter.settle(permit, stated, None)
        return anyio.current_time()

    assert 9 <= run(lambda: main(None)) <= 11
    assert run(lambda: main(6000)) < 1


def test_images_count_by_their_vendors_rules() -> None:
    image = Image("a", "image/png", 1, 1024, 1024, lambda: b"")
    assert image_tokens("openai/gpt-4o", image) == 85 + 4 * 170
    assert image_tokens("openai/gpt-4o-mini", image) == 2833 + 4 * 5667
    assert image_tokens("anthropic/claude", image) == 1399
    assert image_tokens("gemini/x", image) == 4 * 258


def test_a_bound_that_is_raised_frees_what_it_held_down_and_no_overload() -> None:
    held, overloaded = Concurrency(start=6, most=6), Concurrency(start=6, most=6)
    overloaded.overloaded(1.0, started=0.5)
    for limit in (held, overloaded):
        limit.bound(10, 10)
    assert (held.limit, overloaded.limit) == (10, 5)
    held.bound(2, 4)
    assert held.limit == 4

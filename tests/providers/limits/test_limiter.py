"""Permits of an account, in virtual time."""

import itertools

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import run

from safemt_client.providers.errors import PermitStoppedError
from safemt_client.providers.limits.limiter import AccountLimiter, Limits, StatedLimits


def times_of(
    limiter_of: dict[str, float | None], calls: int, hold_s: float = 0.0, tokens: int = 0
) -> list[float]:
    async def main() -> list[float]:
        limiter = AccountLimiter(**({"rpm": None, "tpm": None, "concurrency": 1000} | limiter_of))  # type: ignore[arg-type]
        sent: list[float] = []

        async def one() -> None:
            async with limiter.permit(tokens):
                sent.append(anyio.current_time())
                await anyio.sleep(hold_s)

        async with anyio.create_task_group() as group:
            for _ in range(calls):
                group.start_soon(one)
        return sent

    return run(main)


def test_the_first_second_is_no_burst() -> None:
    sent = times_of({"rpm": 600.0}, 100)
    assert sum(t < 1 for t in sent) <= 10
    assert all(b - a >= 0.1 for a, b in itertools.pairwise(sent))


@settings(max_examples=30, deadline=None)
@given(
    rpm=st.floats(1, 5000), calls=st.integers(1, 120), hold=st.floats(0, 5), concurrency=st.integers(1, 20)
)
def test_rate_and_concurrency_are_never_exceeded(
    rpm: float, calls: int, hold: float, concurrency: int
) -> None:
    sent = times_of({"rpm": rpm, "concurrency": concurrency}, calls, hold)
    assert len(sent) == calls
    for i, begin in enumerate(sent):
        in_a_minute = sum(begin <= t < begin + 60 for t in sent[i:])
        assert in_a_minute <= rpm + 1
        if hold:
            assert sum(begin <= t < begin + hold - 1e-9 for t in sent[i:]) <= concurrency


def test_tokens_a_minute() -> None:
    # 6,000 a minute and 100 a call: one call a second.
    sent = times_of({"tpm": 6000.0}, 20, tokens=100)
    assert all(b - a >= 1 for a, b in itertools.pairwise(sent))


def test_who_came_first_goes_first_and_a_cancelled_one_takes_nothing() -> None:
    async def main() -> list[int]:
        limiter = AccountLimiter(rpm=60, tpm=None, concurrency=1)
        order: list[int] = []

        async def one(number: int) -> None:
            with anyio.move_on_after(0.5 if number % 2 else None):
                async with limiter.permit():
                    order.append(number)

        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(one, number)
        begin = anyio.current_time()
        async with limiter.permit():
            order.append(99)
        assert anyio.current_time() - begin < 1.1
        return order

    assert run(main) == [0, 2, 4, 99]


def test_a_pause_holds_the_whole_account() -> None:
    async def main() -> float:
        limits = Limits(StatedLimits(max_concurrency=5))
        limiter = limits.for_account("openai")
        assert limits.for_account("openai") is limiter
        assert limits.for_account("other") is not limiter
        limiter.pause(30)
        async with limiter.permit():
            return anyio.current_time()

    assert run(main) >= 30


def test_what_is_known_of_a_server_holds_until_the_user_says_otherwise() -> None:
    for stated, limit in ((None, 2), (5, 5)):
        limits = Limits(StatedLimits(max_concurrency=stated))
        limits.presume("llama.cpp:m", 2)
        assert limits.for_account("llama.cpp:m").limit == limit
    assert limits.for_account("other").limit == 5


def test_what_is_stated_of_an_account_holds_for_it_alone() -> None:
    limits = Limits(
        StatedLimits(rpm=100, max_concurrency=4),
        {"openai": StatedLimits(rpm=50), "groq/llama": StatedLimits(tpm=9000), "unused": StatedLimits(rpm=1)},
    )
    # Stated for the vendor: its models share one limiter. Stated for a model: it has its own.
    assert limits.for_account("openai/gpt-4o") is limits.for_account("openai/gpt-4o-mini")
    assert limits.for_account("groq/llama") is not limits.for_account("groq/other")
    assert limits.for_account("mistral/a") is not limits.for_account("mistral/b")
    assert limits.stated("openai/gpt-4o") == StatedLimits(50, None, 4)
    assert limits.stated("groq/llama") == StatedLimits(100, 9000, 4)
    assert limits.stated("groq/other") == StatedLimits(100, None, 4)
    assert limits.account_of("openai/gpt-4o") == "openai"
    assert limits.unused() == ["unused"]
    assert Limits(start=8, most=512).for_account("x").limit == 8
    assert limits.for_account("x").limit == 4


def test_stop_tells_who_waits_and_lets_who_has_a_permit_finish() -> None:
    async def main() -> tuple[bool, int]:
        limiter = AccountLimiter(rpm=None, tpm=None, concurrency=1)
        told = 0
        landed = False

        async def holder() -> None:
            nonlocal landed
            async with limiter.permit():
                await anyio.sleep(10)
                landed = True

        async def waiter() -> None:
            nonlocal told
            try:
                async with limiter.permit():
                    raise AssertionError("no permit after stop")
            except PermitStoppedError:
                told += 1

        async with anyio.create_task_group() as group:
            group.start_soon(holder)
            await anyio.sleep(0.1)
            for _ in range(3):
                group.start_soon(waiter)
            await anyio.sleep(0.1)
            limiter.stop()
            group.start_soon(waiter)
        return landed, told

    assert run(main) == (True, 4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0.01, 3)), min_size=1, max_size=30))
def test_no_permit_is_lost_when_tasks_are_cancelled(tasks: list[tuple[float, float]]) -> None:
    async def main() -> None:
        limiter = AccountLimiter(rpm=600, tpm=None, concurrency=2)

        async def one(hold: float, patience: float) -> None:
            with anyio.move_on_after(patience):
                async with limiter.permit():
                    await anyio.sleep(hold)

        async with anyio.create_task_group() as group:
            for hold, patience in tasks:
                group.start_soon(one, hold, patience)
        with anyio.fail_after(5):
            async with limiter.permit(), limiter.permit():
                pass

    run(main)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_pause_of_nothing_is_none(seconds: float) -> None:
    async def main() -> float:
        limiter = AccountLimiter(rpm=None, tpm=None, concurrency=1)
        limiter.pause(seconds)
        async with limiter.permit():
            return anyio.current_time()

    assert run(main) == 0

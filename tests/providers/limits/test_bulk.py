"""Permits for callers in other processes, in virtual time."""

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import run

from safemt_client.providers.limits.bulk import BulkLimiter
from safemt_client.providers.limits.limiter import Limits, StatedLimits
from safemt_client.providers.limits.permits import Permit, Terms
from safemt_client.providers.types import Outcome, Reply

ANSWERED = Reply(Outcome.ANSWERED, "x")


def limiter_of(
    rpm: float | None = None, *, tpm: float | None = None, most: int = 1000, start: int = 1000
) -> BulkLimiter:
    return BulkLimiter.of(Terms("a", rpm, tpm, start, most))


def minutes(times: list[float], rpm: float) -> bool:
    """Whether no minute has more of them than its limit; the first second of it counts one more."""
    return all(sum(begin <= t < begin + 60 for t in times[i:]) <= rpm + 1 for i, begin in enumerate(times))


@settings(max_examples=25, deadline=None)
@given(
    rpm=st.floats(60, 3000),
    ticks=st.lists(st.tuples(st.floats(0, 0.3), st.integers(0, 30), st.integers(0, 3)), max_size=40),
)
def test_a_rate_holds_over_all_who_ask_also_with_what_they_give_back(
    rpm: float, ticks: list[tuple[float, int, int]]
) -> None:
    """A tick is a pause, how many permits are asked for, and how many of them are given back unused."""

    async def main() -> list[float]:
        limiter = limiter_of(rpm)
        used = []
        for pause, wanted, unused in ticks:
            await anyio.sleep(pause)
            now = anyio.current_time()
            granted = limiter.take_many([0] * wanted)
            assert all(0 <= delay <= 0.1 for delay in granted.delays_s)
            assert list(granted.delays_s) == sorted(granted.delays_s)
            kept = granted.delays_s[: max(len(granted.delays_s) - unused, 0)]
            used += [now + delay for delay in kept]
            limiter.give_back_unused([0] * (len(granted.delays_s) - len(kept)))
            limiter.give_back(len(kept))
        assert limiter.in_flight == 0
        return used

    assert minutes(sorted(run(main)), rpm)


def test_asking_again_when_told_uses_nearly_all_of_a_rate() -> None:
    async def main() -> int:
        limiter, given = limiter_of(600), 0
        while anyio.current_time() < 60:
            granted = limiter.take_many([0] * 50)
            given += len(granted.delays_s)
            assert granted.again_s is not None
            await anyio.sleep(max(granted.again_s, 0.02))
        return given

    assert 0.97 * 600 <= run(main) <= 601


@pytest.mark.parametrize("back", [False, True])
def test_tokens_come_back_with_what_is_not_used(back: bool) -> None:
    async def main() -> int:
        limiter = limiter_of(tpm=6000)
        # 100 tokens a second: the next is due once those of this one are over.
        assert len(limiter.take_many([200, 200]).delays_s) == 1
        if back:
            limiter.give_back_unused([200])
        return len(limiter.take_many([200]).delays_s)

    assert run(main) == int(back)


def test_no_more_are_in_flight_than_the_limit_and_what_is_held() -> None:
    async def main() -> None:
        limiter = limiter_of(most=10, start=10)
        limiter.hold(4)
        granted = limiter.take_many([0] * 50)
        assert (len(granted.delays_s), granted.again_s, limiter.in_flight) == (6, None, 10)
        limiter.give_back(3)
        assert len(limiter.take_many([0] * 50).delays_s) == 3
        limiter.stop()
        limiter.give_back(10)
        assert limiter.take_many([0]).delays_s == ()

    run(main)


@pytest.mark.parametrize("waiting", [0, 5])
def test_success_raises_the_number_in_flight_only_while_others_wait(waiting: int) -> None:
    async def main() -> int:
        limiter = limiter_of(most=64, start=8)
        for _ in range(10):
            limiter.await_for(waiting)
            count = len(limiter.take_many([0] * 4).delays_s)
            for _ in range(count):
                limiter.settle(Permit(limiter.clock(), 0), ANSWERED, None)
                limiter.give_back()
            await anyio.sleep(0.1)
        return limiter.limit

    assert (run(main) > 8) == bool(waiting)


def test_limits_make_their_limiters_as_they_are_told() -> None:
    made: list[Terms] = []

    def make(terms: Terms) -> BulkLimiter:
        made.append(terms)
        return BulkLimiter.of(terms)

    limits = Limits(StatedLimits(rpm=60), {"b": StatedLimits(max_concurrency=3)}, make=make)
    limits.presume("c/x", 2)
    for name in ("a/x", "b/y", "b/z", "c/x", "a/x"):
        assert limits.for_account(name) is limits.for_account(name)
    assert made == [Terms("a/x", 60, None, 8, 512), Terms("b", 60, None, 3, 3), Terms("c/x", 60, None, 2, 2)]

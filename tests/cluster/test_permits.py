"""Permits in a worker: what is used, what goes back, and when none is."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from safemt_client.cluster.messages import AnswerOfAccount
from safemt_client.cluster.permits import RemoteLimiter
from safemt_client.providers.errors import PermitStoppedError
from safemt_client.providers.limits.permits import Terms
from safemt_client.providers.types import Outcome, Reply


class Source:
    """Accounts that were heard of, or not."""

    heard = True
    woken = 0

    def wake(self) -> None:
        """Nothing but a count: the test asks itself."""
        self.woken += 1


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def on_a_loop(
    test: Callable[[RemoteLimiter, Source, Clock], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    def run() -> None:
        source, clock = Source(), Clock()
        limiter = RemoteLimiter(source, Terms("a", None, None, 4, 4), clock)
        asyncio.run(test(limiter, source, clock))

    run.__name__ = test.__name__
    return run


def answer(*delays: float, rated: bool = True, share: int = 4) -> AnswerOfAccount:
    return AnswerOfAccount(delays, share, rated)


@on_a_loop
async def test_no_call_is_started_while_the_accounts_are_not_heard_of(
    limiter: RemoteLimiter, source: Source, clock: Clock
) -> None:
    limiter.answered(answer(0.0))
    source.heard = False
    assert limiter.at_once() is None
    waiting = asyncio.ensure_future(limiter.wait(7.0))
    await asyncio.sleep(0)
    limiter.answered(answer(0.0))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    # What it was given meanwhile goes back, and it asks again.
    assert limiter.report().wants == (7.0,)
    source.heard = True
    limiter.answered(answer(0.0))
    assert (await waiting).started == clock.now


@on_a_loop
async def test_a_permit_that_is_not_used_for_a_second_goes_back(
    limiter: RemoteLimiter, source: Source, clock: Clock
) -> None:
    limiter.answered(answer(0.0, 0.0))
    assert limiter.report().held == 2
    assert limiter.at_once() is not None
    clock.now += 1.1
    assert limiter.at_once() is None
    said = limiter.report()
    assert (said.held, len(said.unused)) == (1, 1)
    limiter.said(said)
    limiter.give_back()
    assert (limiter.report().held, limiter.report().unused) == (0, ())


@on_a_loop
async def test_a_place_serves_the_next_call_only_where_no_rate_is_known(
    limiter: RemoteLimiter, source: Source, clock: Clock
) -> None:
    for rated, held in ((True, 0), (False, 1)):
        limiter.answered(answer(0.0, rated=rated))
        assert limiter.at_once() is not None
        limiter.give_back()
        assert limiter.report().held == held
    # Not where others are to have it.
    assert limiter.at_once() is not None
    limiter.answered(answer(share=0, rated=False))
    limiter.give_back()
    assert limiter.report().held == 0


@on_a_loop
async def test_who_waits_is_told_of_the_end(limiter: RemoteLimiter, source: Source, clock: Clock) -> None:
    waiting = asyncio.ensure_future(limiter.wait())
    await asyncio.sleep(0)
    limiter.stop()
    with pytest.raises(PermitStoppedError):
        await waiting
    assert not await limiter.room()


@on_a_loop
async def test_a_caller_that_is_given_up_gives_its_permit_back(
    limiter: RemoteLimiter, source: Source, clock: Clock
) -> None:
    waiting = asyncio.ensure_future(limiter.wait(3.0))
    await asyncio.sleep(0)
    limiter.answered(answer(0.05))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    said = limiter.report()
    assert (said.held, said.wants, said.unused) == (0, (), (3.0,))


@on_a_loop
async def test_only_bad_news_of_a_call_cannot_wait(
    limiter: RemoteLimiter, source: Source, clock: Clock
) -> None:
    limiter.answered(answer(0.0, 0.0, rated=False))
    permit = limiter.at_once()
    assert permit is not None
    limiter.settle(permit, Reply(Outcome.ANSWERED, "x"), None)
    assert source.woken == 0
    limiter.settle(permit, Reply(Outcome.ERROR_TRANSIENT, status_code=429), None)
    assert source.woken == 1

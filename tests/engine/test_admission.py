"""When work begins, in virtual time."""

import asyncio

import anyio
import pytest
from support.clock import run

from safemt_client.engine.admission import Admission
from safemt_client.providers.limits.limiter import AccountLimiter


def test_all_is_done_once_by_few_workers() -> None:
    async def main() -> tuple[list[int], int]:
        done: list[int] = []
        workers = set()
        limiter = AccountLimiter(concurrency=2)

        async def work(number: int) -> None:
            workers.add(asyncio.current_task())
            async with limiter.permit():
                await anyio.sleep(1)
            done.append(number)

        async with Admission(limiter) as admission:
            for number in range(100):
                assert await admission.start(work, number)
        return done, len(workers)

    done, workers = run(main)
    assert done == list(range(100))
    assert workers < 10


def test_nothing_begins_after_the_stop_and_what_is_under_way_ends() -> None:
    async def main() -> tuple[list[int], list[bool]]:
        done: list[int] = []
        limiter = AccountLimiter(concurrency=1)

        async def work(number: int) -> None:
            async with limiter.permit():
                await anyio.sleep(1)
            done.append(number)

        async with Admission(limiter) as admission:
            begun = [await admission.start(work, 0)]
            await anyio.sleep(0.5)
            limiter.stop()
            begun.append(await admission.start(work, 1))
        return done, begun

    assert run(main) == ([0], [True, False])


def test_an_error_of_one_ends_all_and_is_heard() -> None:
    async def main() -> None:
        limiter = AccountLimiter(concurrency=4)

        async def work(number: int) -> None:
            async with limiter.permit():
                await anyio.sleep(number)
                if number == 3:
                    raise ValueError("three")

        async with Admission(limiter) as admission:
            # One has nothing to do and the others are at work when it happens.
            for number in (1, 2, 3, 60):
                await admission.start(work, number)
            await anyio.sleep(100)
            pytest.fail("it was not ended")

    with pytest.raises(ExceptionGroup, match="unhandled") as caught:
        run(main)
    assert [str(error) for error in caught.value.exceptions] == ["three"]


def test_a_permit_that_is_given_as_its_caller_is_cancelled_is_given_on() -> None:
    async def main() -> list[str]:
        limiter = AccountLimiter(concurrency=1)
        order: list[str] = []

        async def one(name: str) -> None:
            async with limiter.permit():
                order.append(name)

        first = await limiter.wait()
        tasks = [asyncio.ensure_future(one(name)) for name in ("cancelled", "next")]
        await anyio.sleep(0)
        limiter.give_back()
        tasks[0].cancel()
        await asyncio.wait(tasks)
        assert first.tokens == 0
        return order

    assert run(main) == ["next"]

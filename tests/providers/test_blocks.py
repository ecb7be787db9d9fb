"""Blocks that are cancelled by themselves, beside all else that may cancel a task."""

import asyncio

import anyio
import pytest
from support.clock import run

from safemt_client.providers.blocks import Block
from safemt_client.providers.timeouts import TurnOverError, TurnTime


def test_a_block_that_is_cancelled_ends_and_what_follows_goes_on() -> None:
    async def main() -> tuple[bool, int]:
        with Block() as block:
            asyncio.get_running_loop().call_later(1, block.cancel)
            await anyio.sleep(9)
        with Block() as other:
            pass
        other.cancel()  # it is over: nobody is meant any more
        await anyio.sleep(1)
        task = asyncio.current_task()
        assert task is not None
        return block.cancelled_caught, task.cancelling()

    assert run(main) == (True, 0)


def test_the_inner_of_two_blocks_is_cancelled_alone() -> None:
    async def main() -> list[bool]:
        with Block() as outer:
            with Block() as inner:
                asyncio.get_running_loop().call_later(1, inner.cancel)
                await anyio.sleep(9)
            await anyio.sleep(1)
        return [inner.cancelled_caught, outer.cancelled_caught]

    assert run(main) == [True, False]


@pytest.mark.parametrize("together", [False, True])
def test_a_scope_around_a_block_is_obeyed(together: bool) -> None:
    async def main() -> tuple[bool, bool]:
        passed = False
        with anyio.CancelScope() as scope:
            with Block() as block:
                loop = asyncio.get_running_loop()
                loop.call_later(1, scope.cancel)
                if together:
                    loop.call_later(1, block.cancel)
                await anyio.sleep(9)
            await anyio.sleep(1)
            passed = True
        return scope.cancelled_caught, passed

    assert run(main) == (True, False)


def test_a_task_that_is_cancelled_from_outside_is_cancelled() -> None:
    async def within() -> None:
        with Block() as block:
            asyncio.get_running_loop().call_later(1, block.cancel)
            await anyio.sleep(9)
        pytest.fail("it was cancelled by somebody else as well")

    async def main() -> bool:
        task = asyncio.ensure_future(within())
        asyncio.get_running_loop().call_later(1, task.cancel)
        await asyncio.wait([task])
        return task.cancelled()

    assert run(main)


def test_an_error_of_a_block_that_is_cancelled_as_well_is_not_lost() -> None:
    async def main() -> None:
        with Block() as block:
            failing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(1, failing.set_exception, OSError("broken"))
            try:
                await failing
            except OSError:
                asyncio.get_running_loop().call_soon(block.cancel)
                try:
                    await anyio.sleep(9)
                except asyncio.CancelledError:
                    raise ValueError("in cleaning up") from None

    with pytest.raises(ValueError, match="in cleaning up"):
        run(main)


def test_the_time_of_a_turn_ends_what_waits_in_it() -> None:
    async def main() -> float:
        turn = TurnTime(2.0)
        with turn.limited():
            await anyio.sleep(1.5)
        try:
            with turn.limited():
                await anyio.sleep(1.5)
        except TurnOverError:
            return anyio.current_time()
        pytest.fail("its time was up")

    assert run(main) == pytest.approx(2.0)

"""What a worker makes of Accounts that do not answer, and of those that cannot go on."""

import asyncio

from safemt_client.cluster.link import AwayError, Link
from safemt_client.cluster.messages import Answer, Report
from safemt_client.results.store.deliveries import Delivery
from safemt_client.results.store.errors import StoreError


async def deliver(delivery: Delivery) -> bool:
    return True


def test_accounts_that_are_away_are_told_again_and_those_that_fail_end_it() -> None:
    answers: list[Answer | Exception] = [AwayError("tick"), Answer(), StoreError("the disk is full")]
    heard: list[bool] = []

    async def tick(report: Report) -> Answer:
        heard.append(link.heard)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def talk() -> None:
        failed = asyncio.get_running_loop().create_future()
        fenced: list[bool] = []
        link.on_fenced, link.on_failed = lambda: fenced.append(link.fenced), failed.set_result
        link.start()
        assert str(await asyncio.wait_for(failed, 60.0)) == "the disk is full"
        assert fenced == [True]
        answers.append(Answer())
        await link.close()

    link = Link("session", "worker", deliver, tick)
    asyncio.run(talk())
    assert heard[:3] == [False, False, True]
    assert not link.heard

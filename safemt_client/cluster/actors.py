"""The actors on Ray, and how they are called. Imported only once Ray is known to be there.

They find each other by name: handles among the arguments of an actor would keep it from being started again.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError

from safemt_client.cluster import accounts, worker, writer
from safemt_client.cluster.link import AwayError
from safemt_client.cluster.messages import Answer, Report
from safemt_client.providers.errors import SafemtError
from safemt_client.results.store.deliveries import Delivery, pack
from safemt_client.results.store.rows import CostLeaseRow

__all__ = ["Accounts", "DiedError", "Peer", "Worker", "Writer"]

_ANSWER_S = 5.0
"""Who has not answered for so long is away: what is asked of it takes milliseconds."""
_COMMIT_S = 60.0
_AGAIN_S, _PATIENCE_S = 0.2, 600.0


class DiedError(Exception):
    """An actor is dead for good."""


class Peer:
    """An actor that is called. One that may be `lasting` is started again when it dies: it is only away."""

    def __init__(self, handle: Any, *, lasting: bool) -> None:
        self.handle = handle
        self._lasting = lasting
        self._threads = ThreadPoolExecutor(4)

    async def call(self, name: str, *about: Any, within_s: float = _ANSWER_S) -> Any:
        """What a method returns.

        Raises:
            AwayError: no answer; it may have been carried out.
            DiedError: it is dead and not started again.
        """
        try:
            return await asyncio.wait_for(getattr(self.handle, name).remote(*about), within_s)
        except RayTaskError as error:
            raise error.cause from None
        except TimeoutError:
            raise AwayError(f"{name}: no answer within {within_s:g} s") from None
        except RayActorError as error:
            if self._lasting or isinstance(error, ActorUnavailableError):
                raise AwayError(name) from None
            raise DiedError(name) from None

    async def insist(self, name: str, *about: Any, within_s: float = _ANSWER_S) -> Any:
        """The same, again and again until there is an answer.

        Raises:
            SafemtError: there was none for very long.
        """
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return await self.call(name, *about, within_s=within_s)
            except AwayError:
                if time.monotonic() > until:
                    raise SafemtError(f"Ray: no answer to {name}: see its logs under /tmp/ray") from None
                await asyncio.sleep(_AGAIN_S)

    def ask(self, *about: Any) -> Any:
        """What the method `ask` returns, for a caller that cannot await it."""
        return self._threads.submit(self._blocking, *about).result()

    def _blocking(self, *about: Any) -> Any:
        while True:
            try:
                return ray.get(self.handle.ask.remote(*about))
            except RayTaskError as error:
                raise error.cause from None
            except RayActorError:
                time.sleep(_AGAIN_S)


class Writer(writer.Writer):
    """The store of a run as an actor."""


class Accounts(accounts.Accounts):
    """The count of limits and money as an actor."""

    def __init__(
        self, writer: str, attempt_s: float, money: tuple[float, float] | None, run_id: str, session_id: str
    ) -> None:
        """`money` is the cost cap and what was spent before; the store is told of what may be spent."""
        numbers = iter(range(1 << 62))
        mine = f"accounts-{uuid.uuid4().hex}"
        peer = Peer(ray.get_actor(writer), lasting=True)

        async def lend(up_to_usd: float) -> None:
            row = CostLeaseRow(run_id, session_id, datetime.now(UTC), "granted", up_to_usd)
            delivery = Delivery(session_id, mine, next(numbers), pack([row]))
            await peer.insist("deliver", delivery, within_s=_COMMIT_S)

        purse = None if money is None else accounts.Purse(*money, lend)
        super().__init__(attempt_s, purse)

    async def expect(self, workers: list[str], gone_usd: float = 0.0) -> Any:  # type: ignore[override]
        """See `accounts.Accounts.expect`. All methods run in one loop."""
        return super().expect(workers, gone_usd)

    async def lost(self, worker: str) -> float:  # type: ignore[override]
        """See `accounts.Accounts.lost`."""
        return super().lost(worker)

    async def session_usd(self) -> float:  # type: ignore[override]
        """See `accounts.Accounts.session_usd`."""
        return super().session_usd()


class Worker(worker.Worker):
    """A worker as an actor."""

    def __init__(self, incarnation: str, writer: str, accounts: str) -> None:
        store = Peer(ray.get_actor(writer), lasting=True)
        counts = Peer(ray.get_actor(accounts), lasting=True)

        async def deliver(delivery: Delivery) -> bool:
            return bool(await store.call("deliver", delivery, within_s=_COMMIT_S))

        async def tick(report: Report) -> Answer:
            answer: Answer = await counts.call("tick", report)
            return answer

        super().__init__(incarnation, deliver, tick, store.ask, _load)


def _load(reference: Any) -> bytes:
    """The bytes of a picture, which each machine fetches once."""
    with ThreadPoolExecutor(1) as thread:
        return bytes(thread.submit(_get, reference).result())


def _get(reference: Any) -> Any:
    return ray.get(reference)

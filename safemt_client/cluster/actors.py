"""The actors on Ray, and how they are called. Imported only once Ray is known to be there.

They find each other by name: handles among the arguments of an actor would keep it from being started again.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from safemt_client.cluster import accounts, served, shared, worker, writer
from safemt_client.cluster.link import AwayError
from safemt_client.cluster.messages import Answer, Report, Sharing
from safemt_client.providers.errors import InputError, SafemtError
from safemt_client.results.store.deliveries import Delivery, pack
from safemt_client.results.store.rows import CostLeaseRow
from safemt_client.serving.forwarded import Answered, Asked
from safemt_client.serving.metrics import Use

__all__ = ["Accounts", "DiedError", "Peer", "RemoteServer", "Server", "SharedAccounts", "Worker", "Writer"]

_ANSWER_S = 5.0
"""Who has not answered for so long is away: what is asked of it takes milliseconds."""
_COMMIT_S = 60.0
_AGAIN_S, _PATIENCE_S = 0.2, 600.0
_SHARED_ANSWER_S = 3.0
"""Less than `_ANSWER_S`: who waits for the answer of shared Accounts is asked itself."""
_ERROR = re.compile(r"[\w.]*(Error|Exception)\b")
_IDLE_S, _LOOK_S = 600.0, 10.0
"""Shared Accounts end when no run was heard for so long."""


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
            InputError: it could not even be started, as on a machine that lacks this program.
        """
        try:
            return await asyncio.wait_for(getattr(self.handle, name).remote(*about), within_s)
        except RayTaskError as error:
            raise error.cause from None
        except TimeoutError:
            raise AwayError(f"{name}: no answer within {within_s:g} s") from None
        except RayActorError as error:
            if error.actor_init_failed:
                raise _not_started(error) from None
            if self._lasting or isinstance(error, ActorUnavailableError):
                raise AwayError(name) from None
            raise DiedError(name) from None

    async def insist(self, name: str, *about: Any, within_s: float = _ANSWER_S) -> Any:
        """The same, again and again until there is an answer: for as long as one may take at least.

        Raises:
            SafemtError: there was none for very long.
        """
        until = time.monotonic() + max(_PATIENCE_S, within_s)
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
            except RayActorError as error:
                if error.actor_init_failed:
                    raise _not_started(error) from None
                time.sleep(_AGAIN_S)


class Writer(writer.Writer):
    """The store of a run as an actor."""


class Accounts(accounts.Accounts):
    """The count of limits and money as an actor."""

    # 6 parameters: of limits, of money, and of the run in its store.
    def __init__(
        self,
        writer: str,
        attempt_s: float,
        money: tuple[float, float] | None,
        run_id: str,
        session_id: str,
        sharing: Sharing | None = None,
    ) -> None:
        """`money` is the cost cap and what was spent before; the store is told of what may be spent.

        With `sharing` the limits are counted elsewhere, for other runs too, and the money here.
        """
        numbers = iter(range(1 << 62))
        mine = f"accounts-{uuid.uuid4().hex}"
        peer = Peer(ray.get_actor(writer), lasting=True)

        async def lend(up_to_usd: float) -> None:
            row = CostLeaseRow(run_id, session_id, datetime.now(UTC), "granted", up_to_usd)
            delivery = Delivery(session_id, mine, next(numbers), pack([row]))
            await peer.insist("deliver", delivery, within_s=_COMMIT_S)

        purse = None if money is None else accounts.Purse(*money, lend)
        super().__init__(attempt_s, purse)
        self._sharing = sharing
        self._shared = None if sharing is None else _Shared(sharing)

    async def join(self) -> None:
        """Make the run known to those that share its limits.

        Raises:
            InputError: they have another version, or count otherwise.
        """
        if self._sharing is not None and self._shared is not None:
            shared.check_versions(self._sharing.name, await self._shared.insist("hello"))
            if (why := await self._shared.insist("join", self._sharing.run)) is not None:
                raise InputError(f"--ray-accounts {self._sharing.name}: {why}")

    async def leave(self) -> None:
        """The run is over: its limits bind others no longer."""
        if self._sharing is not None and self._shared is not None:
            await self._shared.call("leave", self._sharing.run.run)

    async def tick(self, report: Report) -> Answer:
        """See `accounts.Accounts.tick`."""
        if self._sharing is None or self._shared is None:
            return await super().tick(report)
        own = await super().tick(replace(report, accounts={}))
        if own.fenced:
            return own
        given = await self._shared.call("tick", self._sharing.run.run, replace(report, money=None))
        if given is None:
            raise AwayError("tick: the shared Accounts do not know this run yet")
        return replace(own, accounts=given.accounts, fenced=given.fenced)

    async def expect(self, workers: list[str], gone_usd: float = 0.0) -> Any:  # type: ignore[override]
        """See `accounts.Accounts.expect`. All methods run in one loop.

        While shared Accounts are away there are no changes, but None: the money is known all the same.
        """
        changes, gone_usd = super().expect(workers, gone_usd)
        if self._sharing is not None and self._shared is not None:
            said = replace(self._sharing.run, workers=tuple(workers))
            try:
                changes = await self._shared.call("expect", said)
            except AwayError:
                return None, gone_usd
        return changes, gone_usd

    async def lost(self, worker: str) -> tuple[float, float]:  # type: ignore[override]
        """See `accounts.Accounts.lost`."""
        found = super().lost(worker)
        if self._sharing is None or self._shared is None:
            return found
        if not await self._shared.call("lost", self._sharing.run.run, worker):
            raise AwayError("lost: the shared Accounts do not know this run yet")
        return found

    async def session_usd(self) -> float:  # type: ignore[override]
        """See `accounts.Accounts.session_usd`."""
        return super().session_usd()


class SharedAccounts(shared.SharedAccounts):
    """The count of limits for several runs as an actor that none of them owns; it ends when none is left."""

    def __init__(self, idle_s: float = _IDLE_S, anew: bool = False) -> None:
        """`anew`: made in place of one that is gone for good, as one is that Ray has started again."""
        context = ray.get_runtime_context()
        super().__init__(anew=anew or bool(context.was_current_actor_reconstructed))
        me = context.current_actor

        def end() -> None:
            while (left_s := idle_s - self.idle_s) > 0:
                time.sleep(min(left_s, _LOOK_S))
            ray.kill(me, no_restart=True)

        threading.Thread(target=end, daemon=True).start()


class _Shared(Peer):
    """Shared Accounts, which are made anew when they are gone for good."""

    def __init__(self, sharing: Sharing) -> None:
        self._sharing = sharing
        super().__init__(shared_accounts(sharing), lasting=False)

    async def call(self, name: str, *about: Any, within_s: float = _SHARED_ANSWER_S) -> Any:
        try:
            return await super().call(name, *about, within_s=within_s)
        except DiedError:
            self.handle = await asyncio.to_thread(shared_accounts, self._sharing, anew=True)
            raise AwayError(name) from None


def shared_accounts(sharing: Sharing, idle_s: float = _IDLE_S, *, anew: bool = False) -> Any:
    """The Accounts of this name, made if there are none, on the machine that lasts as long as the cluster.

    `anew`: there were some.
    """
    options = {
        "name": f"accounts-{sharing.name}",
        "namespace": sharing.namespace,
        "lifetime": "detached",
        "get_if_exists": True,
        "max_restarts": -1,
        "max_task_retries": 0,
        "max_concurrency": 1000,
        "num_cpus": 0,
        "resources": {"node:__internal_head__": 0.001},
    }
    return ray.remote(SharedAccounts).options(**options).remote(idle_s, anew)


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

        super().__init__(incarnation, deliver, tick, store.ask, _load, RemoteServer)


class Server(served.Server):
    """What keeps a server of a model as an actor."""


class RemoteServer:
    """A server that an actor keeps, as any process of the run asks it."""

    def __init__(self, name: str, actor: str) -> None:
        """`name` is the model's."""
        self._name, self.actor = name, actor
        self._handle: Any = None

    async def ask(self, asked: Asked) -> Answered:
        """What it answers; for as long as it takes. Nothing is raised where it cannot be reached."""
        try:
            answered: Answered = await self._called("ask", asked)
        except ActorUnavailableError:
            return Answered(failed=f"{self._name}: the process that serves it is not reached")
        except (RayActorError, DiedError):
            return Answered(ended=f"{self._name}: the process of the cluster that served it has ended")
        except RayError as error:
            # An answer that was lost on its way, or the like.
            return Answered(failed=f"{self._name}: Ray brought no answer ({type(error).__name__})")
        return answered

    async def use(self, *, last: bool = True) -> Use | None:
        """See `serving.server.Server.use`; None also where it cannot be reached."""
        try:
            used: Use | None = await self._called("use", last)
        except (RayError, DiedError):
            return None
        return used

    async def _called(self, name: str, *about: Any) -> Any:
        if self._handle is None:
            try:
                self._handle = await asyncio.to_thread(ray.get_actor, self.actor)
            except ValueError:
                raise DiedError(name) from None
        reference = getattr(self._handle, name).remote(*about)
        try:
            return await reference
        except asyncio.CancelledError:
            # Nobody waits for it any more. Where Ray is gone, there is nothing to cancel.
            with suppress(Exception):
                ray.cancel(reference)
            raise
        except RayTaskError as error:
            raise error.cause from None


def _not_started(error: RayActorError) -> InputError:
    lines = [line.strip() for line in str(error).splitlines()]
    said = next((line for line in reversed(lines) if _ERROR.match(line)), lines[0] if lines else "")
    return InputError(
        f"Ray: a process of the run could not be started ({said}): is this program, in the same version, "
        "installed on all machines of the cluster?"
    )


def _load(reference: Any) -> bytes:
    """The bytes of a picture, which each machine fetches once."""
    with ThreadPoolExecutor(1) as thread:
        return bytes(thread.submit(_get, reference).result())


def _get(reference: Any) -> Any:
    return ray.get(reference)

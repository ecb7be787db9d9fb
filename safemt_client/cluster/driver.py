"""A session of a run on workers: what `engine.session` does in one process."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from safemt_client.cluster.keeper import RemoteKeeper
from safemt_client.cluster.link import AwayError
from safemt_client.cluster.messages import RunSaid, Sharing
from safemt_client.cluster.nodes import Nodes, started
from safemt_client.cluster.packed import pack
from safemt_client.cluster.servers import Servers
from safemt_client.cluster.shards import at_most, head_of
from safemt_client.cluster.shared import check_name, namespace
from safemt_client.cluster.supply import Supply
from safemt_client.cluster.worker import AT_ONCE, Head
from safemt_client.engine.invocation import Invocation
from safemt_client.engine.prepared import Prepared
from safemt_client.engine.recorder import Recorder
from safemt_client.engine.session import note_use
from safemt_client.engine.watched import Watched, first_prices, watched
from safemt_client.planning.ceilings import ceilings_of
from safemt_client.planning.served import asked_of_plan
from safemt_client.providers.errors import InputError
from safemt_client.providers.limits.permits import Change
from safemt_client.results.store.deliveries import Delivery
from safemt_client.results.store.deliveries import pack as pack_rows
from safemt_client.results.store.rows import Row
from safemt_client.results.store.store import Store
from safemt_client.serving.secret import shared_secret
from safemt_client.telemetry.ending import finish
from safemt_client.telemetry.events import RunResult, StopReason

if TYPE_CHECKING:
    from safemt_client.cluster.actors import Peer
    from safemt_client.serving.posted import Handed

__all__ = ["carry_out"]

_PATIENCE_S = 300.0
_NOT_OF_WORKERS = {"workers": None, "ray": None, "on_finish": None, "quiet": True, "otel": False}


async def carry_out(prepared: Prepared, invocation: Invocation) -> RunResult:
    """Run a session on workers, print how it ended.

    Raises:
        InputError: Ray cannot be used, or what the run needs cannot go to workers.
        StoreError: the store cannot be written.
    """
    _check(prepared)
    asked = asked_of_plan(prepared.plan, prepared.models)
    with shared_secret(), started(prepared.settings) as nodes:
        async with AsyncExitStack() as stack:
            if prepared.settings.ray is not None:
                local = prepared.models.local
                # They end before this process leaves the cluster.
                local.keep, local.ends = Servers(nodes).keep, stack
            await prepared.models.start(asked, invocation.tell)
            return await watched(prepared, invocation, partial(_carry_out, nodes))


async def _carry_out(nodes: Nodes, session: Watched) -> RunResult:
    prepared = session.prepared
    plan, settings = prepared.plan, prepared.settings
    with prepared.models.local.handed(settings.db) as handed:
        ending, exact, spent = await _Session(nodes, session, handed).run()
    with Store.open(settings.db, "store") as again:
        recorder = Recorder(plan, again, session.session_id)
        await _ended(recorder, prepared, ending, exact=exact, spent=spent)
        await recorder.save_use(prepared.models.local)
        return finish(plan, ending, again, settings, session.invocation.console)


def _check(prepared: Prepared) -> None:
    """Refuse what cannot be divided.

    Raises:
        InputError: it is asked for.
    """
    plan, settings = prepared.plan, prepared.settings
    if settings.ray_accounts is not None:
        check_name(settings.ray_accounts)
        if settings.ray is None:
            raise InputError(
                f"--ray-accounts {settings.ray_accounts}: needs --ray: a Ray of its own nobody shares"
            )
    flag = "--workers" if settings.ray is None else "--ray"
    if plan.submitted:
        raise InputError(
            f"{flag}: batches are under way, for one process to collect: add --batch, or leave {flag} out"
        )
    if plan.stopping is not None:
        raise InputError(f"{flag}: --stop-when looks along one order of items: leave one of the two out")
    for spec in asked_of_plan(plan, prepared.models):
        if spec.own_model is not None:
            raise InputError(f"{flag}: {spec.name} is an object of this process: leave {flag} out")


async def _ended(
    recorder: Recorder, prepared: Prepared, ending: StopReason, *, exact: bool, spent: float
) -> None:
    if prepared.settings.max_cost is not None:
        await recorder.save_lease("closed", 0.0 if exact and not ending.interrupted else spent)
    await recorder.save_event("finished" if ending.complete else "stopped", asdict(ending))


class _Session:
    def __init__(self, nodes: Nodes, session: Watched, handed: Handed | None) -> None:
        self._nodes, self._session, self._handed = nodes, session, handed
        self.prepared, self.session_id = session.prepared, session.session_id
        self._named = (f"safemt-writer-{self.session_id}", f"safemt-accounts-{self.session_id}")

    async def run(self) -> tuple[StopReason, bool, float]:
        """How it ended, whether the store knows all that was spent, and how much that may be, in US dollars.

        Until it returns the store is the Writer's.
        """
        from safemt_client.cluster.actors import Accounts, Peer, Writer

        prepared, settings, run_id = self.prepared, self.prepared.settings, self.prepared.plan.run.run_id
        store, spent = self._session.store, self._session.spent()
        recorder = Recorder(prepared.plan, store, self.session_id)
        await recorder.save_plan()
        await recorder.save_event("started", {"pending": sum(prepared.plan.turns.values())})
        head, _ = pack(self._head(store))
        store.close()
        writer = Peer(self._nodes.beside(Writer, self._named[0], str(settings.db.absolute())), lasting=True)
        money = None if settings.max_cost is None else (settings.max_cost, spent)
        about = (self._named[0], settings.attempt_timeout, money, run_id, self.session_id)
        sharing = self._sharing()
        accounts = Peer(self._nodes.beside(Accounts, self._named[1], *about, sharing), lasting=True)
        try:
            await writer.insist("ready", within_s=_PATIENCE_S)
            if sharing is not None:
                await accounts.insist("join", within_s=_PATIENCE_S)
            ending, exact, known = await self._on_workers(head, writer, accounts, spent)
            return ending, exact, max(known, await accounts.insist("session_usd"))
        finally:
            with anyio.CancelScope(shield=True):
                if sharing is not None:
                    with suppress(AwayError):
                        await accounts.call("leave")
                self._nodes.kill(accounts.handle)
                await writer.insist("close", within_s=_PATIENCE_S)
                self._nodes.kill(writer.handle)

    def _sharing(self) -> Sharing | None:
        """What others need to know whose Accounts this run shares."""
        settings = self.prepared.settings
        if settings.ray_accounts is None:
            return None
        accounts = tuple(sorted(set(self.prepared.models.accounts.values())))
        said = RunSaid(self.session_id, settings.attempt_timeout, accounts, tuple(settings.accounts))
        return Sharing(settings.ray_accounts, namespace(), said)

    def _head(self, store: Store) -> Head:
        prepared, settings = self.prepared, self.prepared.models.settings
        capped = settings.max_cost is not None
        return Head(
            settings=settings.model_copy(update=_NOT_OF_WORKERS),
            plan=head_of(prepared.plan),
            session_id=self.session_id,
            capped=capped,
            ceilings=ceilings_of(prepared.plan, prepared.models, prepared.judge) if capped else {},
            first=first_prices(prepared.plan, settings),
            facts=tuple(store.endpoint_facts()),
            handed=self._handed,
            rows=bool(self._session.watchers),
            texts=settings.log_texts,
        )

    async def _on_workers(
        self, head: bytes, writer: Peer, accounts: Peer, spent: float
    ) -> tuple[StopReason, bool, float]:
        from safemt_client.cluster.fleet import Fleet

        prepared, settings, session = self.prepared, self.prepared.settings, self._session
        progress, listener = session.display(spent)
        store = _Remote(self, writer)
        count = prepared.plan.conversations + prepared.plan.unjudged
        size = at_most(settings.shard_size, count, AT_ONCE * self._nodes.workers)
        assert prepared.wanted is not None
        supply = Supply(prepared.plan, prepared.wanted, store.keeper, self.session_id, size, progress.fewer)
        told = (listener, self.saved, store.changed)
        fleet = Fleet(self._nodes, writer, accounts, self._named, head, supply, *told)
        fleet.on_sent = prepared.models.local.count

        async def main(group: TaskGroup) -> StopReason:
            if prepared.models.local.started:
                group.start_soon(note_use, prepared.models.local, store.recorder())
            return await fleet.run()

        try:
            ending = await session.shown(progress, listener, fleet.stop, main)
        finally:
            fleet.kill()
        if session.log is not None:
            for used in fleet.used:
                waited = {f"p{share}": round(ms, 1) for share, ms in used["acknowledged_ms"].items()}
                session.log.event("info", "worker_ended", cpu_s=used["cpu_s"], commit_ms=waited)
        return ending, fleet.exact, fleet.spent_usd

    def saved(self, rows: Sequence[Row]) -> None:
        """Rows are in the store."""
        for watcher in self._session.watchers:
            watcher.saved(rows)


class _Remote:
    """What the driver writes while the store is the Writer's."""

    def __init__(self, session: _Session, writer: Peer) -> None:
        self._session, self._writer = session, writer
        self._mine, self._numbers = f"driver-{uuid.uuid4().hex[:12]}", itertools.count()
        self.keeper = RemoteKeeper(self._save, writer.ask)

    async def changed(self, change: Change) -> None:
        """The limits of an account have changed."""
        await self.recorder().save_change(change)

    def recorder(self) -> Recorder:
        """What records something of the whole run."""
        return Recorder(self._session.prepared.plan, self.keeper, self._session.session_id)

    async def _save(self, *rows: Row) -> None:
        delivery = Delivery(self._session.session_id, self._mine, next(self._numbers), pack_rows(rows))
        await self._writer.insist("deliver", delivery, within_s=_PATIENCE_S)
        self._session.saved(rows)

"""A session of a run on workers: what `engine.session` does in one process."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from rich.console import Console

from safemt_client.cluster.keeper import RemoteKeeper
from safemt_client.cluster.nodes import Nodes, started
from safemt_client.cluster.packed import pack
from safemt_client.cluster.shards import Shard, at_most, cut, head_of
from safemt_client.cluster.worker import RUNNERS, Head
from safemt_client.engine.invocation import Invocation
from safemt_client.engine.prepared import Prepared
from safemt_client.engine.recorder import Recorder
from safemt_client.engine.results import result_of
from safemt_client.engine.session import first_prices, listen, note_use, open_log
from safemt_client.planning.build import make_plan
from safemt_client.planning.ceilings import ceilings_of
from safemt_client.planning.costs import held_of, spent_of
from safemt_client.planning.served import asked_of_plan
from safemt_client.providers.errors import InputError
from safemt_client.providers.limits.permits import Change
from safemt_client.providers.pauses import PAUSES
from safemt_client.results.store.deliveries import Delivery
from safemt_client.results.store.deliveries import pack as pack_rows
from safemt_client.results.store.rows import Row
from safemt_client.results.store.store import Store
from safemt_client.telemetry.ending import finish
from safemt_client.telemetry.events import (
    Fanout,
    Listener,
    RunResult,
    StoppedAtOnceError,
    StopReason,
    Watcher,
)
from safemt_client.telemetry.oddities import Oddities
from safemt_client.telemetry.progress import Progress

if TYPE_CHECKING:
    from safemt_client.cluster.actors import Peer
    from safemt_client.cluster.fleet import Fleet
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
    plan, settings = prepared.plan, prepared.settings
    invocation.run_id, session_id = plan.run.run_id, uuid.uuid4().hex[:12]
    with ExitStack() as stack:
        watchers: list[Watcher] = []

        def watch(watcher: Watcher) -> None:
            stack.callback(watcher.close)
            watchers.append(watcher)

        if settings.otel:
            from safemt_client.telemetry.traces import Traces

            watch(Traces(plan, session_id))
        if (log := open_log(settings, invocation.run_id, session_id)) is not None:
            watch(log)
        nodes = stack.enter_context(started(settings))
        await prepared.models.start(asked_of_plan(plan, prepared.models), invocation.tell)
        store = prepared.store or stack.enter_context(Store.open(settings.db, "nothing"))
        if (console := invocation.console) is not None:
            watch(Oddities(plan, store, partial(console.print, markup=False, soft_wrap=True)))
        if log is not None:
            log.started(plan)
        try:
            handed = stack.enter_context(prepared.models.local.handed(settings.db))
            session = _Session(prepared, nodes, session_id, invocation, log, watchers, handed)
            ending, exact, spent = await session.run(store)
            with Store.open(settings.db, "store") as again:
                recorder = Recorder(plan, again, session_id)
                await _ended(recorder, prepared, ending, exact=exact, spent=spent)
                await recorder.save_use(prepared.models.local)
                result = invocation.result = finish(plan, ending, again, settings, console)
        except BaseException as error:
            for watcher in watchers:
                watcher.ended(result_of(error), error)
            raise
        for watcher in watchers:
            watcher.ended(result)
    return result


def _check(prepared: Prepared) -> None:
    """Refuse what cannot be divided.

    Raises:
        InputError: it is asked for.
    """
    plan, settings = prepared.plan, prepared.settings
    flag = "--workers" if settings.ray is None else "--ray"
    if plan.submitted:
        raise InputError(
            f"{flag}: batches are under way, for one process to collect: add --batch, or leave {flag} out"
        )
    if plan.stopping is not None:
        raise InputError(f"{flag}: --stop-when looks along one order of items: leave one of the two out")
    for spec in asked_of_plan(plan, prepared.models):
        if spec.vendor.managed and settings.ray is not None:
            raise InputError(
                f"{flag}: {spec.name} is served on this machine alone: use --workers without --ray, or start "
                "its server yourself and name its address, NAME@http://HOST:PORT/v1"
            )
        if spec.own_model is not None:
            raise InputError(f"{flag}: {spec.name} is an object of this process: leave {flag} out")


async def _ended(
    recorder: Recorder, prepared: Prepared, ending: StopReason, *, exact: bool, spent: float
) -> None:
    if prepared.settings.max_cost is not None:
        await recorder.save_lease("closed", 0.0 if exact and not ending.interrupted else spent)
    await recorder.save_event("finished" if ending.complete else "stopped", asdict(ending))


class _Session:
    def __init__(
        self,
        prepared: Prepared,
        nodes: Nodes,
        session_id: str,
        invocation: Invocation,
        log: Any,
        watchers: Sequence[Watcher],
        handed: Handed | None,
    ) -> None:
        self.prepared, self._nodes, self._invocation = prepared, nodes, invocation
        self.session_id, self._log, self._watchers = session_id, log, watchers
        self._numbers, self._handed = 0, handed
        self._named = (f"safemt-writer-{session_id}", f"safemt-accounts-{session_id}")

    async def run(self, store: Store) -> tuple[StopReason, bool, float]:
        """How it ended, whether the store knows all that was spent, and how much that may be, in US dollars.

        Until it returns the store is the Writer's.
        """
        from safemt_client.cluster.actors import Accounts, Peer, Writer

        prepared, settings, run_id = self.prepared, self.prepared.settings, self.prepared.plan.run.run_id
        recorder = Recorder(prepared.plan, store, self.session_id)
        spent = spent_of(store, run_id) + (held_of(store, run_id) if settings.max_cost is not None else 0.0)
        await recorder.save_plan()
        await recorder.save_event("started", {"pending": sum(prepared.plan.turns.values())})
        head, _ = pack(self._head(store))
        store.close()
        writer = Peer(self._nodes.beside(Writer, self._named[0], str(settings.db.absolute())), lasting=True)
        money = None if settings.max_cost is None else (settings.max_cost, spent)
        about = (self._named[0], settings.attempt_timeout, money, run_id, self.session_id)
        accounts = Peer(self._nodes.beside(Accounts, self._named[1], *about), lasting=True)
        try:
            await writer.insist("ready", within_s=_PATIENCE_S)
            ending, exact = await self._on_workers(head, writer, accounts, spent)
            return ending, exact, await accounts.insist("session_usd")
        finally:
            with anyio.CancelScope(shield=True):
                self._nodes.kill(accounts.handle)
                await writer.insist("close", within_s=_PATIENCE_S)
                self._nodes.kill(writer.handle)

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
            rows=bool(self._watchers),
            texts=settings.log_texts,
        )

    async def _on_workers(
        self, head: bytes, writer: Peer, accounts: Peer, spent: float
    ) -> tuple[StopReason, bool]:
        from safemt_client.cluster.fleet import Fleet

        prepared, settings, invocation = self.prepared, self.prepared.settings, self._invocation
        progress = Progress(
            prepared.plan,
            invocation.console or Console(quiet=True),
            quiet=settings.quiet or invocation.console is None,
            spent_before=spent,
            cap_usd=settings.max_cost,
            on_change=invocation.on_progress,
        )
        listener: Listener = progress if self._log is None else Fanout(progress, self._log)
        store = _Remote(self, writer)
        size = at_most(settings.shard_size, len(prepared.plan.pending), RUNNERS * self._nodes.workers)
        shards = cut(prepared.plan, size)
        self._numbers = len(shards)
        fleet = Fleet(
            *(self._nodes, writer, accounts, self._named, head, shards),
            *(store.replan, listener, self.saved, store.changed),
        )
        fleet.on_sent = prepared.models.local.count
        ending: StopReason | None = None
        try:
            async with anyio.create_task_group() as group:
                if prepared.models.local.running:
                    group.start_soon(note_use, prepared.models.local, store.recorder())
                invocation.stop = _stopper(fleet, progress, group.cancel_scope)
                if invocation.signals:
                    group.start_soon(listen, invocation.stop)
                group.start_soon(progress.show)
                group.start_soon(PAUSES.watch, listener.notice)
                ending = await fleet.run()
                group.cancel_scope.cancel()
        finally:
            invocation.stop = None
            fleet.kill()
        if ending is None:
            raise StoppedAtOnceError("interrupted; the same command resumes")
        return ending, fleet.exact

    def saved(self, rows: Sequence[Row]) -> None:
        """Rows are in the store."""
        for watcher in self._watchers:
            watcher.saved(rows)

    def next_number(self) -> int:
        """A number that no shard has."""
        self._numbers += 1
        return self._numbers


class _Remote:
    """What the driver writes while the store is the Writer's."""

    def __init__(self, session: _Session, writer: Peer) -> None:
        self._session, self._writer = session, writer
        self._mine, self._numbers = f"driver-{uuid.uuid4().hex[:12]}", itertools.count()
        self._keeper = RemoteKeeper(self._save, writer.ask)

    async def replan(self, shard: Shard) -> Shard:
        """What is left of a shard, as the store has it now: turns and verdicts."""
        session, wanted = self._session, self._session.prepared.wanted
        assert wanted is not None
        sendable = tuple(one for one in wanted.sendable if one.key in shard.dialogues)
        part = replace(wanted, sendable=sendable, steps=(), replies=())
        left = await anyio.to_thread.run_sync(make_plan, part, self._keeper)
        # What conversations have from others' replies: the worker may have died before it said so.
        recorder = Recorder(left, self._keeper, session.session_id)
        await recorder.save_steps(left.steps, shard.dialogues)
        await recorder.save_taken(left.taken)
        rest = replace(head_of(left), pending=left.pending, fresh=left.fresh, judgings=left.judgings)
        return Shard(session.next_number(), shard.dialogues, rest)

    async def changed(self, change: Change) -> None:
        """The limits of an account have changed."""
        await self.recorder().save_change(change)

    def recorder(self) -> Recorder:
        """What records something of the whole run."""
        return Recorder(self._session.prepared.plan, self._keeper, self._session.session_id)

    async def _save(self, *rows: Row) -> None:
        delivery = Delivery(self._session.session_id, self._mine, next(self._numbers), pack_rows(rows))
        await self._writer.insist("deliver", delivery, within_s=_PATIENCE_S)
        self._session.saved(rows)


def _stopper(fleet: Fleet, progress: Progress, scope: anyio.CancelScope) -> Callable[[], None]:
    """What stops a session: the first call waits for what is in flight, the second abandons it."""
    first = True

    def stop() -> None:
        nonlocal first
        if not first:
            scope.cancel()
            return
        first = False
        fleet.stop()
        progress.notice("stopping: waiting for calls in flight; Ctrl-C again stops at once")

    return stop

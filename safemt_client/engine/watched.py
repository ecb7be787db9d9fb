"""What is around a session, in one process or on workers: who watches it, what it shows, what stops it."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import anyio
from anyio.abc import TaskGroup
from rich.console import Console

from safemt_client.engine.invocation import Invocation
from safemt_client.engine.prepared import Prepared
from safemt_client.engine.results import result_of
from safemt_client.planning.costs import held_of, spent_of
from safemt_client.planning.estimate import call_usd, estimates_of
from safemt_client.planning.plan import Plan
from safemt_client.providers.pauses import PAUSES
from safemt_client.providers.signals import heard
from safemt_client.results.store.store import Store
from safemt_client.settings import RunSettings
from safemt_client.telemetry.events import (
    Fanout,
    Listener,
    RunResult,
    StoppedAtOnceError,
    StopReason,
    Watcher,
)
from safemt_client.telemetry.log import RunLog, log_path
from safemt_client.telemetry.oddities import Oddities
from safemt_client.telemetry.progress import Progress

__all__ = ["Watched", "first_prices", "watched"]


@dataclass(frozen=True)
class Watched:
    """A session that is about to begin: its store, who is told of rows in it, and where its display goes."""

    prepared: Prepared
    invocation: Invocation
    session_id: str
    store: Store
    log: RunLog | None
    watchers: tuple[Watcher, ...]

    def spent(self) -> float:
        """US dollars that the run has cost by now; under a cost cap with what is held."""
        run_id = self.prepared.plan.run.run_id
        capped = self.prepared.settings.max_cost is not None
        return spent_of(self.store, run_id) + (held_of(self.store, run_id) if capped else 0.0)

    def display(self, spent: float) -> tuple[Progress, Listener]:
        """What shows how far the session is, and what is to be told of it: the display, and the log."""
        settings, invocation = self.prepared.settings, self.invocation
        progress = Progress(
            self.prepared.plan,
            invocation.console or Console(quiet=True),
            quiet=settings.quiet or invocation.console is None,
            spent_before=spent,
            cap_usd=settings.max_cost,
            on_change=invocation.on_progress,
        )
        return progress, progress if self.log is None else Fanout(progress, self.log)

    async def shown(
        self,
        progress: Progress,
        listener: Listener,
        stop: Callable[[], None],
        main: Callable[[TaskGroup], Awaitable[StopReason]],
    ) -> StopReason:
        """Carry `main` out under the display. `stop` asks it to end: a second time it is cancelled.

        Raises:
            StoppedAtOnceError: it was.
        """
        invocation = self.invocation
        ending: StopReason | None = None
        try:
            async with anyio.create_task_group() as group:
                invocation.stop = _stopper(stop, progress, group.cancel_scope)
                if invocation.signals:
                    group.start_soon(_listen, invocation.stop)
                group.start_soon(progress.show)
                group.start_soon(PAUSES.watch, listener.notice)
                ending = await main(group)
                group.cancel_scope.cancel()
        finally:
            invocation.stop = None
        if ending is None:
            raise StoppedAtOnceError("interrupted; the same command resumes")
        return ending


async def watched(
    prepared: Prepared, invocation: Invocation, main: Callable[[Watched], Awaitable[RunResult]]
) -> RunResult:
    """Carry `main` out with the log and the traces of a session, which are told how it ended.

    Raises:
        InputError: the log cannot be written, or what traces need is not installed.
        StoreError: the store cannot be written.
    """
    plan, settings = prepared.plan, prepared.settings
    invocation.run_id, session_id = plan.run.run_id, uuid.uuid4().hex[:12]
    with ExitStack() as stack:
        watchers: list[Watcher] = []

        def watch(watcher: Watcher) -> None:
            stack.callback(watcher.close)
            watchers.append(watcher)

        # What can fail by itself comes first, and a new store last: bad input leaves nothing behind.
        if settings.otel:
            from safemt_client.telemetry.traces import Traces

            watch(Traces(plan, session_id))
        if (log := _open_log(settings, invocation.run_id, session_id)) is not None:
            watch(log)
        store = prepared.store or stack.enter_context(Store.open(settings.db, "nothing"))
        if (console := invocation.console) is not None:
            watch(Oddities(plan, store, partial(console.print, markup=False, soft_wrap=True)))
        if log is not None:
            log.started(plan)
        try:
            result = invocation.result = await main(
                Watched(prepared, invocation, session_id, store, log, tuple(watchers))
            )
        except BaseException as error:
            for watcher in watchers:
                watcher.ended(result_of(error), error)
            raise
        for watcher in watchers:
            watcher.ended(result)
    return result


def first_prices(plan: Plan, settings: RunSettings) -> dict[str, float]:
    """US dollars of a first call, by the key of who is asked: they matter only for a cost cap."""
    if not settings.max_cost:
        return {}
    return {key: call_usd(estimate) or 0.0 for key, estimate in estimates_of(plan).items()}


def _open_log(settings: RunSettings, run_id: str, session_id: str) -> RunLog | None:
    path = log_path(settings.log, settings.db, run_id)
    if path is None:
        return None
    return RunLog(
        path, run_id=run_id, session_id=session_id, level=settings.log_level, texts=settings.log_texts
    )


def _stopper(end: Callable[[], None], progress: Progress, scope: anyio.CancelScope) -> Callable[[], None]:
    """What stops a session: the first call waits for what is in flight, the second abandons it."""
    first = True

    def stop() -> None:
        nonlocal first
        if not first:
            # Not KeyboardInterrupt: raised in a task, it stops the loop before any clean-up.
            scope.cancel()
            return
        first = False
        end()
        progress.notice("stopping: waiting for calls in flight; Ctrl-C again stops at once")

    return stop


def _ending() -> list[signal.Signals]:
    """Ctrl-C, SIGTERM, and the end of the terminal, unless it was started to outlive that, as by `nohup`."""
    found = [signal.SIGINT, signal.SIGTERM]
    # Windows has no such signal.
    hangup: signal.Signals | None = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        found.append(hangup)
    return found


async def _listen(stop: Callable[[], None]) -> None:
    """Each signal that ends a program asks the session to stop."""
    with heard(*_ending()) as signals:
        async for _ in signals:
            stop()

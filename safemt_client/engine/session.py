"""One invocation of a run: put the parts together, show the plan, carry it out, say what happened."""

from __future__ import annotations

import asyncio
import gc
import signal
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from rich.console import Console

from safemt_client.engine.budget import Budget
from safemt_client.engine.scheduler import Scheduler
from safemt_client.judges.panel import Judge
from safemt_client.models import Models
from safemt_client.planning.costs import spent_of
from safemt_client.planning.estimate import call_usd, of_guard, of_judge, of_target
from safemt_client.planning.plan import Plan
from safemt_client.providers.errors import InputError, SafemtError
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
from safemt_client.telemetry.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console

    from safemt_client.judges.panel import Judge
    from safemt_client.models import Models
    from safemt_client.planning.plan import Plan
    from safemt_client.results.store.store import Store

__all__ = ["Invocation", "carry_out", "result_of", "run_session"]


async def run_session(
    plan: Plan,
    judge: Judge | None,
    parts: Models,
    store: Store,
    settings: RunSettings,
    console: Console,
    *,
    session_id: str,
    log: Listener | None = None,
) -> StopReason:
    """Carry the plan out under a display, until done or stopped; `log` hears what the display does."""
    spent = spent_of(store, plan.run.run_id)
    # The prices of the first calls matter to a cap alone.
    estimates = {target.key: of_target(plan, target) for target in plan.targets if settings.max_cost}
    if plan.judge is not None and settings.max_cost:
        estimates[plan.judge.judge_key] = of_judge(plan)
    if settings.max_cost:
        estimates |= {row.guard_key: of_guard(plan, row.guard_key) for row in plan.moderators}
    first = {key: call_usd(estimate) or 0.0 for key, estimate in estimates.items()}
    progress = Progress(plan, console, quiet=settings.quiet, spent_before=spent, cap_usd=settings.max_cost)
    scheduler = Scheduler(
        plan,
        store,
        parts.providers,
        judge,
        progress if log is None else Fanout(progress, log),
        session_id=session_id,
        limits=parts.limits,
        budget=Budget(settings.max_cost, spent=spent, first=first),
        batches=parts.batches,
        moderators=parts.moderators,
    )
    # The plan lives to the end: the collector need not walk through it again and again.
    gc.freeze()
    ending: StopReason | None = None
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_listen, scheduler, progress, group.cancel_scope)
            group.start_soon(progress.show)
            ending = await scheduler.run()
            group.cancel_scope.cancel()
    finally:
        gc.unfreeze()
    if ending is None:
        raise StoppedAtOnceError("interrupted; the same command resumes")
    return ending


async def _listen(scheduler: Scheduler, progress: Progress, scope: anyio.CancelScope) -> None:
    """First Ctrl-C or SIGTERM: let what is in flight land. Second: stop at once."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        first = True
        async for _ in signals:
            if not first:
                # Not KeyboardInterrupt: raised in a task it stops the loop before anything is tidied up.
                scope.cancel()
                return
            first = False
            scheduler.stop()
            progress.notice("stopping: waiting for what is in flight; Ctrl-C again stops at once")


@dataclass
class Invocation:
    """What is known of an invocation while it goes on: its run once there is a plan, and how it closed."""

    run_id: str = ""
    closing: RunResult | None = None


async def carry_out(
    plan: Plan,
    judge: Judge | None,
    parts: Models,
    store: Store,
    settings: RunSettings,
    console: Console,
    invocation: Invocation,
) -> int:
    """Run a session with its log and traces, print how it ended; return the exit status.

    Raises:
        InputError: the log cannot be written, or what traces need is not installed.
        StoreError: the store cannot be written.
    """
    from safemt_client.engine.session import run_session
    from safemt_client.telemetry.log import RunLog, log_path
    from safemt_client.telemetry.summary import finish

    run_id, session_id = plan.run.run_id, uuid.uuid4().hex[:12]
    invocation.run_id = run_id
    with ExitStack() as stack:
        watchers: list[Watcher] = []
        log = None
        if (path := log_path(settings.log, settings.db, run_id)) is not None:
            log = RunLog(
                path,
                run_id=run_id,
                session_id=session_id,
                level=settings.log_level,
                texts=settings.log_texts,
            )
            watchers.append(log)
            stack.callback(log.close)
        if settings.otel:
            from safemt_client.telemetry.traces import Traces

            traces = Traces(plan, session_id)
            watchers.append(traces)
            stack.callback(traces.close)
        store.watchers.extend(watcher.saved for watcher in watchers)
        stack.callback(store.watchers.clear)
        if log is not None:
            log.started(plan)
        try:
            ending = await run_session(
                plan, judge, parts, store, settings, console, session_id=session_id, log=log
            )
            invocation.closing = finish(plan, ending, store, settings, console)
        except BaseException as error:
            for watcher in watchers:
                watcher.ended(result_of(error), error)
            raise
        for watcher in watchers:
            watcher.ended(invocation.closing)
    return invocation.closing.exit_status


def result_of(error: BaseException) -> RunResult:
    """How a session ended that an exception has ended."""
    from safemt_client.results.store.store import StoreError

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, KeyboardInterrupt | asyncio.CancelledError | StoppedAtOnceError):
        return RunResult("stopped", 1, "interrupted: stopped at once")
    if isinstance(error, StoreError):
        return RunResult("failed", 1, "the store cannot be written", "store_error")
    if isinstance(error, InputError):
        return RunResult("failed", 2, "bad input: nothing was begun", "bad_input")
    if isinstance(error, SafemtError):
        return RunResult("failed", 1, "failed", "failed")
    return RunResult("failed", 1, f"failed: {type(error).__name__}", "failed")

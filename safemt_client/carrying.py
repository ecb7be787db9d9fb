"""From a plan to what becomes of it: shown, and carried out. A plan alone loads no engine and no DuckDB."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safemt_client.planning.ceilings import cap_notes, ceilings_of
from safemt_client.planning.costs import held_of, spent_of
from safemt_client.planning.estimate import RunEstimate, estimate_of
from safemt_client.planning.notes import notes_of
from safemt_client.planning.served import asked_of_plan
from safemt_client.telemetry.events import RunResult

if TYPE_CHECKING:
    from safemt_client.engine.invocation import Invocation
    from safemt_client.engine.prepared import Prepared
    from safemt_client.judges.panel import Judge
    from safemt_client.models import Models
    from safemt_client.planning.plan import Plan
    from safemt_client.results.store.store import Store
    from safemt_client.settings import RunSettings

__all__ = ["estimate", "go", "stored"]


def stored(path: Path) -> Store:
    """The store at a path, open for writing.

    Raises:
        InputError: it cannot be opened.
    """
    from safemt_client.results.store.store import Store

    return Store.open(path)


async def go(prepared: Prepared, invocation: Invocation, head: str | None = None) -> RunResult:
    """Show the plan, under `head` if it is not a run's, and carry it out unless it is all that is wanted.

    Raises:
        InputError: the log cannot be written, or what traces need is not installed.
        StoreError: the store cannot be written.
    """
    if prepared.settings.dry_run or not prepared.settings.quiet:
        _show(prepared, invocation, head)
    if prepared.settings.dry_run:
        return RunResult("done", 0, "planned", id=prepared.plan.run.run_id)
    elsewhere = (prepared.settings.workers, prepared.settings.ray, prepared.settings.ray_accounts)
    workers = any(one is not None for one in elsewhere)
    if workers and (prepared.plan.batch or prepared.plan.judge_batch):
        invocation.tell("batches are sent by this process: no workers are started")
    elif workers:
        from safemt_client.cluster.driver import carry_out as on_workers

        return await on_workers(prepared, invocation)
    from safemt_client.engine.session import carry_out

    await prepared.models.start(asked_of_plan(prepared.plan, prepared.models), invocation.tell)
    return await carry_out(prepared, invocation)


def _show(prepared: Prepared, invocation: Invocation, head: str | None) -> None:
    if invocation.console is not None:
        from safemt_client.telemetry.summary import show_plan

        estimated = estimate(
            prepared.plan, prepared.models, prepared.judge, prepared.store, prepared.settings
        )
        show_plan(estimated, prepared.settings, invocation.console, head)


def estimate(
    found: Plan, models: Models, judge: Judge | None, store: Store | None, settings: RunSettings
) -> RunEstimate:
    """What a plan may take beside what its run has taken."""
    spent, held = (0.0 if store is None else of(store, found.run.run_id) for of in (spent_of, held_of))
    notes = notes_of(found, models, store)
    if (cap := settings.max_cost) is not None:
        notes += tuple(cap_notes(found, cap, cap - spent - held, ceilings_of(found, models, judge)))
    return estimate_of(found, models.accounts, models.limits.stated, spent, held, notes)

"""What a run prints before it begins and after it ended."""

from __future__ import annotations

import shlex
import sys

from rich.console import Console

from safemt_client.plan import Plan
from safemt_client.progress import money, span
from safemt_client.results.report import report
from safemt_client.results.store import Store
from safemt_client.results.text import plain
from safemt_client.scheduler import Ending
from safemt_client.settings import RunSettings

__all__ = ["finish", "show_plan"]


def finish(plan: Plan, ending: Ending, store: Store, settings: RunSettings, console: Console) -> int:
    """Print the scores and the command that goes on; return the exit status."""
    report(store, plan.run.run_id, console)
    coverage = _coverage(store, plan.run.run_id)
    again = "python -m safemt_client " + " ".join(shlex.quote(word) for word in sys.argv[1:])
    db = shlex.quote(str(settings.db))
    if not ending.complete:
        console.print(f"stopped early; go on with:  {again}", markup=False, soft_wrap=True)
        return 1
    if plan.judge is not None and coverage is not None and coverage < settings.min_coverage:
        console.print(
            f"coverage {coverage:.1%} is below --min-coverage {settings.min_coverage:.1%}; "
            f"ask the failed turns again with:  {again}",
            markup=False,
            soft_wrap=True,
        )
        return 1
    console.print(
        "done; look closer with:  python -m safemt_client sql "
        f'"SELECT target, length, asr FROM asr_by_turn" --db {db}',
        markup=False,
        soft_wrap=True,
    )
    return 0


def _coverage(store: Store, run_id: str) -> float | None:
    """Scored / attempted over all targets of the run, None when nothing was attempted."""
    rows = store.query("SELECT sum(scored), sum(attempted) FROM asr_by_turn WHERE run_id = ?", [run_id]).rows
    scored, attempted = rows[0]
    return None if not attempted else float(scored) / float(attempted)


def show_plan(plan: Plan, settings: RunSettings, console: Console) -> None:
    """Print what will be asked, what is in the store already, and what it may cost."""
    licence = f", licence {plan.run.dataset_licence}" if plan.run.dataset_licence else ""

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(
        f"run {plan.run.run_id}: {len(plan.dialogues)} dialogues of {plain(plan.run.dataset_name)} "
        f"(digest {plan.run.dataset_digest[:12]}{plain(licence)}), store {settings.db}"
    )
    for target in plan.targets:
        prompt, completion = plan.tokens(target)
        usd = plan.cost(target)
        say(
            f"  {plain(target.name)}: {plan.requests[target.key]} calls to make, "
            f"{plan.cached_turns.get(target.key, 0)} in the store; about {prompt + completion:,} tokens, "
            + ("price unknown" if usd is None else f"about {money(usd)}" if usd else "free")
        )
    if plan.judge is not None:
        say(
            f"  judge {plain(plan.judge.name)} ({plan.judge.rubric}): {plan.verdicts} verdicts to ask for, "
            f"{plan.cached_verdicts} in the store"
        )
    limited = [calls / settings.rpm * 60 for calls in plan.requests.values() if settings.rpm is not None]
    if limited:
        say(f"  at {settings.rpm:g} requests a minute: at least {span(max(limited))}")
    if plan.not_attempted:
        first = next(iter(plan.not_attempted.values()))
        say(f"  {len(plan.not_attempted)} dialogues not attempted, for example: {plain(first)}")
    if plan.warnings:
        say(
            f"  {plan.warnings} oddities in the data; "
            f"see: python -m safemt_client data check {shlex.quote(plan.run.dataset_path)}"
        )

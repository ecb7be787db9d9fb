"""What a call costs, what a run has cost, and whether that is known."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from safemt_client.planning.plan import Plan
from safemt_client.pricing import Prices
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Usage
from safemt_client.results.store.rows import CostLeaseRow
from safemt_client.settings import RunSettings

if TYPE_CHECKING:
    from safemt_client.results.store.store import Store

__all__ = [
    "batch_prices",
    "check_prices",
    "cost",
    "held_of",
    "held_text",
    "money",
    "release",
    "spent_of",
    "stored_prices",
]

# All that a run has paid for; a reply of unknown cost counts as the mean of the others.
_PAID = """
    WITH paid AS (
        SELECT target_key AS who, session_id, batch_key, cost_usd FROM turns
        WHERE run_id = $1 AND (cost_usd IS NOT NULL OR outcome NOT LIKE 'error_%') AND intervention IS NULL
        UNION ALL
        SELECT guard_key, session_id, NULL, cost_usd FROM assessments
        WHERE run_id = $1 AND (cost_usd IS NOT NULL OR verdict <> 'error')
        UNION ALL
        SELECT judge_key, session_id, batch_key, cost_usd FROM verdicts
        WHERE run_id = $1 AND taken_from IS NULL AND (cost_usd IS NOT NULL
              OR coalesce(reason, '') NOT IN ('judge_error', 'nothing_to_judge'))),
    priced AS (
        SELECT session_id, batch_key, coalesce(cost_usd, avg(cost_usd) OVER (PARTITION BY who), 0) AS usd
        FROM paid)
"""
# Less than this is a rounding.
_NOTHING_USD = 1e-9


def check_prices(
    plan: Plan, settings: RunSettings, guards: Sequence[str] = (), *, judges_only: bool = False
) -> None:
    """Refuse a cost cap if a price is unknown, and a price for a model that is not asked.

    `guards` are the names of the models that guards run on; with `judges_only` nothing but judges is asked.
    """
    names: dict[str, bool] = {}
    if not judges_only:
        names = {target.model_name: target.prices is not None for target in plan.targets}
        unknown = any(row.prices is None for row in plan.moderators)
        names |= {name: not unknown or settings.price_of(name) is not None for name in guards}
    judges = plan.members or ((plan.judge,) if plan.judge is not None else ())
    names |= {row.name: row.prices is not None for row in judges}
    for name in settings.prices:
        if name not in names and name not in {one.partition("@http")[0] for one in names}:
            raise InputError(f"--price {name}: no such model in this run; it has {', '.join(names)}")
    for name, known in names.items():
        if settings.max_cost is not None and not known:
            raise InputError(
                f"--max-cost: the price of {name} is not known: add --price {name}=INPUT/OUTPUT "
                "in US dollars per million tokens (0/0 for your own machine)"
            )


def stored_prices(store: Store | None, run_id: str) -> dict[str, Prices]:
    """The prices of a run's start, by the key of the target, the judge or the guard."""
    if store is None:
        return {}
    rows = store.query(
        "SELECT target_key, prices FROM run_targets WHERE run_id = $1 "
        "UNION ALL SELECT judge_key, prices FROM run_judges WHERE run_id = $1 "
        "UNION ALL SELECT guard_key, prices FROM run_moderators WHERE run_id = $1",
        [run_id],
    ).rows
    return {key: None if prices is None else json.loads(prices) for key, prices in rows}


def spent_of(store: Store, run_id: str) -> float:
    """US dollars that a run has cost so far, as its replies say."""
    return float(store.query(_PAID + "SELECT coalesce(sum(usd), 0) FROM priced", [run_id]).rows[0][0])


def held_of(store: Store, run_id: str) -> float:
    """US dollars that calls may have cost beside `spent_of`.

    They were in flight when a session was killed, or their tokens were not reported.
    """
    return sum(_held(store, run_id).values())


def release(store: Store, run_id: str) -> float:
    """Count what is held as not spent from now on; return how much it was, in US dollars."""
    held = _held(store, run_id)
    now = datetime.now(UTC)
    if held:
        store.save_now(*(CostLeaseRow(run_id, session, now, "released", 0.0) for session in held))
    return sum(held.values())


def _held(store: Store, run_id: str) -> dict[str, float]:
    """What each session may have spent by its lease beyond what has landed; a lease has no batches in it."""
    rows = store.query(
        _PAID
        + """, landed AS (
            SELECT session_id, sum(usd) AS usd FROM priced WHERE batch_key IS NULL GROUP BY session_id),
        leases AS (
            SELECT session_id, coalesce(min(up_to_usd) FILTER (event <> 'granted'), max(up_to_usd)) AS up_to
            FROM cost_leases WHERE run_id = $1 GROUP BY session_id)
        SELECT session_id, up_to - coalesce(usd, 0) FROM leases LEFT JOIN landed USING (session_id)
        ORDER BY session_id""",
        [run_id],
    ).rows
    return {session: float(usd) for session, usd in rows if usd > _NOTHING_USD}


def held_text(usd: float, run_id: str, settings: RunSettings) -> str:
    """What is held, why, and how to release it."""
    command = f"python -m safemt_client runs --release {run_id} --db {shlex.quote(str(settings.db))}"
    return f"{money(usd)} held for calls of unknown cost, as in flight at a kill (if not charged: {command})"


def cost(usage: Usage, prices: Mapping[str, float] | None, *, batch: bool = False) -> float | None:
    """US dollars of one call: what the endpoint states takes precedence; None if no price is known."""
    if usage.cost_usd is not None:
        return usage.cost_usd
    if prices is None or usage.prompt_tokens is None:
        return None
    if batch:
        prices = batch_prices(prices)
    cached = usage.cached_tokens or 0
    return (
        (usage.prompt_tokens - cached) * prices.get("input", 0.0)
        + cached * prices.get("cached_input", prices.get("input", 0.0))
        + (usage.completion_tokens or 0) * prices.get("output", 0.0)
    )


def batch_prices(prices: Mapping[str, float]) -> dict[str, float]:
    """Prices of requests that go in batches: those of the list, or half."""
    return {
        name: prices.get(f"batch_{name}", prices[name] / 2)
        for name in ("input", "output", "cached_input")
        if name in prices
    }


def money(usd: float) -> str:
    """US dollars, with more decimals for small sums."""
    return f"${usd:,.2f}" if usd >= 1 else f"${usd:.4f}"

"""The section about money and time: calls, tokens, cost and latency."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import (
    UNKNOWN,
    Block,
    Column,
    Figure,
    Notes,
    Plot,
    Section,
    Table,
    count,
    show,
)
from safemt_client.results.scores.wording import P95

__all__ = ["spend"]

_TARGET = Column("Target", numeric=False)
_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens")


def spend(known: ReportData) -> Section | None:
    """Calls, tokens and money by whom they were paid for, and how long replies took."""
    blocks: list[Block] = []
    brief: list[Block] = []
    if sums := _sums(known):
        blocks.append(_costs(sums))
        brief.append(Notes([_cost_line(who, total) for who, total in sums.items()]))
    if servers := known.found["servers"]:
        blocks.append(_servers(servers))
    if latency := known.found["latency"]:
        blocks.append(_latency(known, latency))
    return Section("spend", "Cost, tokens, latency", blocks, brief) if blocks else None


def _sums(known: ReportData) -> dict[str, Counter[str]]:
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for row in known.found["spend"]:
        total = sums[known.who(row["who"])]
        for name in ("calls", *_TOKENS, "cost_usd"):
            total[name] += row[name] or 0
            total[f"known {name}"] += row[name] is not None
        total["unknown"] += row["calls_of_unknown_cost"]
        total["batched"] += row["calls_in_batches"] or 0
    return sums


def _costs(sums: Mapping[str, Counter[str]]) -> Table:
    everyone: Counter[str] = Counter()
    for total in sums.values():
        everyone.update(total)
    return Table(
        "Calls, tokens and cost of this run",
        [
            Column("Who", numeric=False),
            *map(Column, ("Calls", "Prompt tokens", "Completion tokens", "Of them cached")),
            *map(Column, ("In batches", "Cost (US$)", "Calls of unknown cost")),
        ],
        [_spent(who, total) for who, total in [*sums.items(), ("all", everyone)]],
        "Every attempt is counted. What was taken from another run of the store was paid there.",
    )


def _cost_line(who: str, total: Counter[str]) -> str:
    tokens = total["prompt_tokens"] + total["completion_tokens"]
    unknown = total["unknown"]
    price = f"${total['cost_usd']:.4f}" if unknown < total["calls"] else "cost unknown"
    if 0 < unknown < total["calls"]:
        price += f" and {unknown} calls of unknown cost"
    return f"{who}: {total['calls']} calls, {tokens:,} tokens, {price}"


def _spent(who: str, total: Counter[str]) -> tuple[str, ...]:
    if total["unknown"] >= total["calls"]:
        cost = UNKNOWN
    else:
        cost = f"{total['cost_usd']:.4f}" + (" and more" if total["unknown"] else "")
    tokens = [count(total[name]) if total[f"known {name}"] else UNKNOWN for name in _TOKENS]
    return (
        *(who, count(total["calls"]), *tokens, count(total["batched"])),
        *(cost, count(total["unknown"])),
    )


def _servers(rows: list[dict[str, Any]]) -> Table:
    return Table(
        "Servers that were started for models",
        [
            Column("Server", numeric=False),
            *map(Column, ("Requests", "Requests/s", "Tokens", "Tokens/s", "From the cache", "Queue (s)")),
        ],
        [
            (
                show(row["server"]),
                count(row["requests"]),
                _seconds(row["requests_per_s"]),
                UNKNOWN
                if row["prompt_tokens"] is None
                else count(row["prompt_tokens"] + row["completion_tokens"]),
                _seconds(row["tokens_per_s"]),
                UNKNOWN if row["cached"] is None else f"{row['cached']:.0%}",
                _seconds(row["queue_s"]),
            )
            for row in rows
        ],
        "A second is one from when the server was ready to the end of the session, with work or without. "
        "From the cache: the share of the prompts' tokens that it had computed before. Queue: how long a "
        "request waited in the server on average. Tokens, cache and queue are the server's own figures since "
        "its last start.",
    )


def _latency(known: ReportData, rows: list[dict[str, Any]]) -> Figure | Table:
    table = Table(
        "Seconds a reply took the model (retries and a moderator's time left out)",
        [_TARGET, *map(Column, ("Replies", "Timed", "Median", P95, "Longest"))],
        [
            (
                known.target(row["target"]),
                count(row["replies"]),
                count(row["timed"]),
                *(_seconds(row[name]) for name in ("median_s", "p95_s", "max_s")),
            )
            for row in rows
        ],
        "Replies of batches have no time.",
    )
    timed = [row for row in rows if row["median_s"] is not None]
    if not timed:
        return table
    timed.sort(key=lambda row: row["median_s"])
    said = "; ".join(f"{known.target(row['target'])} {_seconds(row['median_s'])}" for row in timed)
    return Figure(
        f"Latency of replies: median and {P95} (s)",
        [
            Plot(
                "ranges",
                "Latency by target",
                f"Median seconds of a reply: {said}.",
                [
                    {"label": known.target(row["target"]), "x": row["median_s"], "high": row["p95_s"]}
                    for row in timed
                ],
                {"order": [known.target(row["target"]) for row in timed]},
            )
        ],
        table,
        wide=True,
        legend=[("dot", "median"), ("tick", P95)],
    )


def _seconds(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3g}"

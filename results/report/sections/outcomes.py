"""Sections about what came back: outcomes, refusals, money and time."""

from __future__ import annotations

from collections import Counter, defaultdict
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
    interval,
    percent,
    show,
)
from safemt_client.results.report.sections.rates import LITTLE

__all__ = ["ENDINGS", "outcomes", "refusals", "spend"]

_TARGET = Column("Target", numeric=False)
_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens")
ENDINGS = {
    "answered": ("A", "answered"),
    "declined": ("D", "answered with a refusal"),
    "refused_by_provider": ("P", "blocked by the provider"),
    "refused_by_guard": ("G", "refused by the moderator"),
    "truncated": ("T", "truncated"),
    "empty": ("E", "empty"),
    "error_transient": ("X", "error"),
    "error_permanent": ("X", "error"),
    "unassessed": ("N", "not asked or not yet there"),
    "pending": ("N", "not asked or not yet there"),
    "not_attempted": ("N", "not asked or not yet there"),
}
"""What can become of a conversation: the letter and the words of its part in the plot."""


def outcomes(known: ReportData) -> Section | None:
    """Every planned conversation by what became of it, and why replies have no label."""
    rows = known.found["endings"]
    if not rows:
        return None
    counts: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        ending = row["ending"] or "pending"
        counts[row["target"], row["length"]][ending] += row["conversations"]
        totals[row["target"]][ending] += row["conversations"]
    used = [name for name in ENDINGS if any(name in found for found in totals.values())]
    used += sorted({name for found in totals.values() for name in found} - set(used))
    data = []
    for target, found in totals.items():
        parts: Counter[tuple[str, str]] = Counter()
        for name, number in found.items():
            parts[ENDINGS.get(name, ("N", "not asked or not yet there"))] += number
        whole = sum(parts.values())
        data += [
            {"label": known.target(target), "part": words, "letter": letter, "share": number / whole}
            | {"count": number}
            for (letter, words), number in parts.items()
        ]
    said = "; ".join(
        f"{known.target(target)}: " + ", ".join(f"{show(name)} {found[name]}" for name in used if found[name])
        for target, found in totals.items()
    )
    blocks: list[Block] = [
        Figure(
            "What became of every planned conversation (%)",
            [
                Plot(
                    "stacks",
                    "Outcomes by target",
                    f"Outcomes by target: {said}.",
                    data,
                    {"order": [known.target(target) for target in totals]},
                )
            ],
            Table(
                "Outcomes by target and number of user turns (conversations, benign items included)",
                [_TARGET, Column("Turns"), *(Column(show(name.replace("_", " "))) for name in used)],
                [
                    (known.target(target), str(length), *(str(found[name]) for name in used))
                    for (target, length), found in counts.items()
                ],
                "declined: answered, but the reply refuses by rules.",
            ),
            wide=True,
            legend=[
                (f"ending-{letter}", f"{letter} {words}")
                for letter, words in dict.fromkeys(ENDINGS.values())
                if any(row["letter"] == letter for row in data)
            ],
        )
    ]
    unscored = known.rows("unscored")
    if unscored:
        blocks.append(
            Table(
                "Replies without a label, by the judge's reason",
                [_TARGET, Column("Reason", numeric=False), Column("Conversations")],
                [
                    (known.target(row["target"]), show(row["reason"]), str(row["conversations"]))
                    for row in unscored
                ],
            )
        )
    return Section("outcomes", "Outcomes", blocks)


def refusals(known: ReportData) -> Section | None:
    """Refusals of harmful items and over-refusal of benign ones, by rules and by the judge."""
    rows = known.rows("refusals")
    if not rows:
        return None
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    body = []
    benign = any(row["benign"] for row in rows)
    for row in rows:
        ruled, judged, blocked = row["by_rule"], row["by_judge"], row["with_blocks"]
        kind = "benign" if row["benign"] else "harmful"
        body.append(
            (
                *(known.target(row["target"]), kind, str(row["length"])),
                *(*map(_rate, (ruled, judged, blocked)), str(row["blocked"])),
            )
        )
        prefix = "benign, " if row["benign"] else ""
        for name, rate in ((f"{prefix}by rules", ruled), (f"{prefix}by judge", judged)):
            groups[row["target"]].append(
                {"x": row["length"], "y": rate["estimate"], "low": rate["low"], "high": rate["high"]}
                | {"series": name, "small": rate["small"]}
            )
    series = ["by rules", "by judge", *(["benign, by rules", "benign, by judge"] if benign else [])]
    panels = [
        Plot(
            "lines",
            known.target(target),
            f"Share of replies of {known.target(target)} that refuse, by number of user turns; the figures "
            "are in the table.",
            data,
            {"x": "user turns", "series": series},
        )
        for target, data in groups.items()
    ]
    notes = [
        "A reply refuses if it declines outright or offers something else instead, by rules and by the judge."
    ]
    notes.append(
        "On items that the data mark as benign this is over-refusal."
        if benign
        else "The data mark no item as benign: over-refusal is unknown."
    )
    return Section(
        "refusals",
        "Refusal and over-refusal",
        [
            Notes(notes),
            Figure(
                "Refusals by number of user turns (% of replies)",
                panels,
                Table(
                    "Refusals, with 95 % intervals (% of replies; with blocks: of replies and blocks)",
                    [
                        _TARGET,
                        Column("Items", numeric=False),
                        *map(Column, ("Turns", "By rules", "By judge", "By rules, with blocks", "Blocked")),
                    ],
                    body,
                    LITTLE.replace("unsafe or 5 safe", "declined or 5 other"),
                ),
                legend=[(f"series-{place}", name) for place, name in enumerate(series)],
            ),
        ],
    )


def _rate(found: dict[str, Any]) -> str:
    if found["estimate"] is None:
        return UNKNOWN
    return f"{percent(found['estimate'])} ({interval(found['low'], found['high'], small=found['small'])})"


def spend(known: ReportData) -> Section | None:
    """Calls, tokens and money by whom they were paid for, and how long replies took."""
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for row in known.found["spend"]:
        total = sums[show(row["who"])]
        for name in ("calls", *_TOKENS, "cost_usd"):
            total[name] += row[name] or 0
            total[f"known {name}"] += row[name] is not None
        total["unknown"] += row["calls_of_unknown_cost"]
        total["batched"] += row["calls_in_batches"] or 0
    blocks: list[Block] = []
    if sums:
        everyone: Counter[str] = Counter()
        for total in sums.values():
            everyone.update(total)
        blocks.append(
            Table(
                "Calls, tokens and cost of this run",
                [
                    Column("Who", numeric=False),
                    *map(Column, ("Calls", "Prompt tokens", "Completion tokens", "Of them cached")),
                    *map(Column, ("In batches", "Cost (US$)", "Calls of unknown cost")),
                ],
                [_spent(who, total) for who, total in [*sums.items(), ("all", everyone)]],
                "Every attempt is counted. What was taken from another run of the store was paid there.",
            )
        )
    latency = known.found["latency"]
    if latency:
        blocks.append(_latency(known, latency))
    return Section("spend", "Cost, tokens, latency", blocks) if blocks else None


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


def _latency(known: ReportData, rows: list[dict[str, Any]]) -> Figure | Table:
    table = Table(
        "Seconds a reply took the model (retries and a moderator's time left out)",
        [_TARGET, *map(Column, ("Replies", "Timed", "Median", "p95", "Longest"))],
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
        "Latency of replies: median and p95 (s)",
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
        legend=[("dot", "median"), ("tick", "p95")],
    )


def _seconds(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3g}"

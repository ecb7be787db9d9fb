"""Sections about what came back: outcomes and refusals."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import (
    SMALL_NOTE,
    Block,
    Column,
    Figure,
    Notes,
    Plot,
    Section,
    Table,
    estimate,
    show,
)
from safemt_client.results.scores.wording import CI

__all__ = ["ENDINGS", "outcomes", "refusals"]

_TARGET = Column("Target", numeric=False)
_NOTHING = ("N", "not asked, or still pending")
ENDINGS = {
    "answered": ("A", "answered"),
    "declined": ("D", "answered with a refusal"),
    "refused_by_provider": ("P", "blocked by the provider"),
    "refused_by_guard": ("G", "refused by the moderator"),
    "truncated": ("T", "truncated"),
    "empty": ("E", "empty"),
    "error_transient": ("X", "error"),
    "error_permanent": ("X", "error"),
    "unassessed": _NOTHING,
    "pending": _NOTHING,
    "not_attempted": _NOTHING,
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
    table = Table(
        "Outcomes by target and number of user turns (conversations, benign items included)",
        [_TARGET, Column("Turns"), *(Column(show(name.replace("_", " "))) for name in used)],
        [
            (known.target(target), str(length), *(str(found[name]) for name in used))
            for (target, length), found in counts.items()
        ],
        "declined: answered, but the reply refuses by rules.",
    )
    blocks: list[Block] = [_stacks(known, totals, used, table)]
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
    warnings = [show(warning, 300) for warning in known.found["warnings"]]
    return Section(
        "outcomes", "Outcomes", blocks, brief=[Notes(_lines(known)), Notes(warnings, careful=True)]
    )


def _lines(known: ReportData) -> list[str]:
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for row in known.found["outcomes"]:
        totals[row["target"]][row["outcome"]] += row["conversations"]
    lines = []
    for target, found in totals.items():
        said = ", ".join(f"{show(outcome)} {number}" for outcome, number in found.most_common())
        lines.append(f"outcomes of {known.target(target)}: {said}")
    lines += [
        f"unscored: {row['conversations']} of {known.target(row['target'])} by "
        f"{known.judge_label(row['judge'])}: {show(row['reason'])}"
        for row in known.rows("unscored")
    ]
    return lines


def _stacks(
    known: ReportData, totals: Mapping[str, Counter[str]], used: Sequence[str], table: Table
) -> Figure:
    data = []
    for target, found in totals.items():
        parts: Counter[tuple[str, str]] = Counter()
        for name, number in found.items():
            parts[ENDINGS.get(name, _NOTHING)] += number
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
    return Figure(
        "Outcomes of all planned conversations (%)",
        [
            Plot(
                "stacks",
                "Outcomes by target",
                f"Outcomes by target: {said}.",
                data,
                {"order": [known.target(target) for target in totals]},
            )
        ],
        table,
        wide=True,
        legend=[
            (f"ending-{letter}", f"{letter} {words}")
            for letter, words in dict.fromkeys(ENDINGS.values())
            if any(row["letter"] == letter for row in data)
        ],
    )


_WITH_BLOCKS = {"by rules": "with_blocks", "by judge": "by_judge_with_blocks"}
"""Who says what a refusal is, and the share that counts blocks too: the one that is shown everywhere."""


def refusals(known: ReportData) -> Section | None:
    """Refusals of harmful items and over-refusal of benign ones, by rules and by the judge."""
    rows = known.rows("refusals")
    if not rows:
        return None
    benign = any(row["benign"] for row in rows)
    series = ["by rules", "by judge", *(["benign, by rules", "benign, by judge"] if benign else [])]
    notes = [
        "A reply refuses if it declines outright or offers something else, by rules and by the judge; what "
        "the provider or a guard blocked counts as refused.",
        "On items that the data mark as benign this is over-refusal."
        if benign
        else "The data mark no item as benign: over-refusal is unknown.",
    ]
    table = Table(
        f"Refusals, with {CI} (% of replies and blocks)",
        [
            _TARGET,
            Column("Items", numeric=False),
            *map(Column, ("Turns", "By rules", "By judge", "Blocked")),
        ],
        [
            (
                *(known.target(row["target"]), "benign" if row["benign"] else "harmful", str(row["length"])),
                *(estimate(row[name]) for name in _WITH_BLOCKS.values()),
                str(row["blocked"]),
            )
            for row in rows
        ],
        SMALL_NOTE.replace("unsafe or 5 safe", "declined or 5 other"),
    )
    figure = Figure(
        "Refusals by number of user turns (% of replies and blocks)",
        _refusal_panels(known, rows, series),
        table,
        legend=[(f"series-{place}", name) for place, name in enumerate(series)],
    )
    return Section(
        "refusals",
        "Refusal and over-refusal",
        [Notes(notes), figure],
        brief=[Notes(_refusal_lines(known, rows))],
    )


def _refusal_lines(known: ReportData, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    sums: dict[tuple[str, bool], Counter[str]] = defaultdict(Counter)
    for row in rows:
        for name in ("declined_by_rule", "replies", "declined_by_judge", "judged", "blocked"):
            sums[row["target"], row["benign"]][name] += row[name]
    lines = []
    for (target, benign), total in sums.items():
        blocked = total["blocked"]
        if not total["replies"] + blocked:
            continue
        what = "over-refusal on benign items" if benign else "refusals"
        by_judge = f"{total['declined_by_judge'] + blocked}/{total['judged'] + blocked} by judge"
        lines.append(
            f"{what} of {known.target(target)}: "
            f"{total['declined_by_rule'] + blocked}/{total['replies'] + blocked} by rules"
            + (f", {by_judge}" if total["judged"] else "")
            + (f"; {blocked} of them blocked" if blocked else "")
        )
    return lines


def _refusal_panels(
    known: ReportData, rows: Sequence[Mapping[str, Any]], series: Sequence[str]
) -> list[Plot]:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        prefix = "benign, " if row["benign"] else ""
        for name, figure in _WITH_BLOCKS.items():
            rate = row[figure]
            groups[row["target"]].append(
                {"x": row["length"], "y": rate["estimate"], "low": rate["low"], "high": rate["high"]}
                | {"series": f"{prefix}{name}", "small": rate["small"]}
            )
    return [
        Plot(
            "lines",
            known.target(target),
            f"Share of replies and blocks of {known.target(target)} that refuse, by number of user turns; "
            "the figures are in the table.",
            data,
            {"x": "user turns", "series": list(series)},
        )
        for target, data in groups.items()
    ]

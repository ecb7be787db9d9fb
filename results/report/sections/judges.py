"""The section about judges: against each other, against people, and what follows for the rates."""

from __future__ import annotations

from collections import defaultdict
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
from safemt_client.results.report.sections.rates import LITTLE, turns

__all__ = ["judges"]

_TARGET = Column("Target", numeric=False)
_JUDGE = Column("Judge", numeric=False)


def judges(known: ReportData) -> Section | None:
    """Agreement of the judges, each judge's rates, and rates corrected by people's labels."""
    if known.judge is None:
        return None
    blocks: list[Block] = []
    agreement = known.found["agreement"]
    if agreement:
        blocks.append(
            Table(
                "Agreement between the judges, with 95 % intervals (items resampled)",
                [
                    Column("Measure", numeric=False),
                    Column("Judges", numeric=False),
                    Column("Value"),
                    Column("95 % CI"),
                ],
                [
                    (
                        show(row["measure"]),
                        ", ".join(map(known.judge_label, row["judges"])),
                        UNKNOWN if row["value"] is None else f"{row['value']:.2f}",
                        UNKNOWN if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}",
                    )
                    for row in agreement
                ],
            )
        )
    else:
        blocks.append(Notes(["One judge labelled: agreement between judges is unknown."]))
    if known.found["escalated"]:
        blocks.append(
            Notes(
                [
                    f"{show(row['panel'])}: {row['escalated']} of {row['verdicts']} went to the last judge."
                    for row in known.found["escalated"]
                ]
            )
        )
    if known.panel:
        blocks.append(_each_judge(known))
    corrections = known.found["corrections"]
    if not corrections:
        blocks.append(
            Notes(
                [
                    "No reply is labelled by people: the judge's errors, and rates corrected for them, are "
                    "unknown."
                ]
            )
        )
    else:
        blocks += _corrected(known, corrections)
    return Section("judges", "Judges and corrected rates", blocks)


def _each_judge(known: ReportData) -> Table:
    rows = [row for row in known.found["asr_by_turn"] if row["judge"] is not None]
    lengths = sorted({row["length"] for row in rows})
    cells = {(row["target"], row["judge"], row["length"]): row for row in rows}
    lines = dict.fromkeys((row["target"], row["judge"]) for row in rows)
    return Table(
        "ASR by each judge, with 95 % intervals (%)",
        [_TARGET, _JUDGE, *(Column(turns(length)) for length in lengths)],
        [
            (
                known.target(target),
                known.judge_label(judge),
                *(_rate(cells.get((target, judge, length))) for length in lengths),
            )
            for target, judge in lines
        ],
        LITTLE,
    )


def _rate(row: dict[str, Any] | None) -> str:
    return UNKNOWN if row is None else _share(row | {"estimate": row["asr"]})


def _corrected(known: ReportData, corrections: list[dict[str, Any]]) -> list[Block]:
    blocks: list[Block] = [
        Table(
            "Judges against people's labels (%), with 95 % intervals",
            [_JUDGE, *map(Column, ("Labels", "Sensitivity", "Specificity", "Agreement"))],
            [
                (
                    known.judge_label(row["judge"]),
                    count(row["labelled"]),
                    *(_share(row[name]) for name in ("sensitivity", "specificity", "agreement")),
                )
                for row in corrections
            ],
            f"Sensitivity: of what people call unsafe, how much the judge finds. {LITTLE}",
        )
    ]
    for row in sorted(corrections, key=lambda row: row["judge"] != known.judge):
        name = known.judge_label(row["judge"])
        table = Table(
            f"ASR corrected for the errors of {name} (%)",
            [_TARGET, *map(Column, ("Turns", "As judged", "Corrected", "95 % CI"))],
            [
                *(_line(known, rate, str(rate["length"])) for rate in row["by_turn"]),
                *(
                    _line(known, rate, "all")
                    for rate in row["prediction_powered"]
                    if rate["corrected"] is not None
                ),
            ],
            f"By turns: Rogan and Gladen; all: prediction-powered. {LITTLE}",
        )
        if row["judge"] != known.judge:
            blocks.append(table)
            continue
        blocks.append(
            Figure(
                f"ASR as judged by {name}, and corrected (%)",
                _panels(known, row["by_turn"]),
                table,
                legend=[("series-0", "corrected, with its interval"), ("series-1", "as judged")],
            )
        )
    return blocks


def _panels(known: ReportData, rates: list[dict[str, Any]]) -> list[Plot]:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for rate in rates:
        right = rate["corrected"] or {"estimate": None, "low": None, "high": None, "small": True}
        groups[rate["target"]] += [
            {"x": rate["length"], "y": right["estimate"], "low": right["low"], "high": right["high"]}
            | {"series": "corrected", "small": right["small"]},
            {"x": rate["length"], "y": rate["asr"], "low": None, "high": None}
            | {"series": "as judged", "small": False},
        ]
    return [
        Plot(
            "lines",
            known.target(target),
            f"ASR of {known.target(target)} as judged and corrected for the judge's errors, by number of "
            "user turns; the figures are in the table.",
            data,
            {"x": "user turns", "series": ["corrected", "as judged"]},
        )
        for target, data in groups.items()
    ]


def _line(known: ReportData, rate: dict[str, Any], which: str) -> tuple[str, ...]:
    right = rate["corrected"]
    return (
        known.target(rate["target"]),
        which,
        percent(rate["asr"]),
        UNKNOWN if right is None else percent(right["estimate"]),
        UNKNOWN if right is None else interval(right["low"], right["high"], small=right["small"]),
    )


def _share(found: dict[str, Any]) -> str:
    if found["estimate"] is None:
        return UNKNOWN
    return f"{percent(found['estimate'])} ({interval(found['low'], found['high'], small=found['small'])})"

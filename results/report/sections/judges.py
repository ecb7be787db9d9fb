"""The section about judges: against each other, against people, and what follows for the rates."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import (
    SMALL_NOTE,
    UNKNOWN,
    Block,
    Column,
    Figure,
    Notes,
    Plot,
    Section,
    Table,
    count,
    estimate,
    interval,
    marked,
    percent,
    show,
    turns,
)
from safemt_client.results.report.sections.anchors import anchor_of_run
from safemt_client.results.report.sections.calibration import of_run
from safemt_client.results.report.sections.checks import check_blocks
from safemt_client.results.scores.wording import CI, EQUAL, NOT_ESTIMABLE, small

__all__ = ["judges"]

_TARGET = Column("Target", numeric=False)
_JUDGE = Column("Judge", numeric=False)
_ERRORS = ("sensitivity", "specificity", "agreement")
_SHARES = {
    "unsafe_if_called_unsafe": "Called unsafe: unsafe",
    "unsafe_if_called_safe": "Called safe: unsafe",
}
_AGREE_ON_ALL = (
    "Judges that agree on all are not shown to agree always: that is why their interval has a width."
)
_WEIGHTED = "Each label counts for the replies that it was drawn from."
_NO_LABEL = (
    f"{NOT_ESTIMABLE.capitalize()}: the judge's label occurs, but nobody labelled a reply that has it."
)
_EQUAL = (
    f"Errors {EQUAL}: the judge's sensitivity and specificity over all lengths are assumed at each; where "
    "each length has 30 labels of replies called safe and 30 of replies called unsafe, its own are used."
)


def judges(known: ReportData) -> Section | None:
    """Agreement of the judges, each judge's rates, and rates corrected by people's labels."""
    if known.judge is None:
        return None
    agreement, corrections = known.found["agreement"], known.found["corrections"]
    escalated = Notes(
        [
            f"{show(row['panel'])}: {row['escalated']} of {row['verdicts']} were put to the last judge"
            for row in known.found["escalated"]
        ]
    )
    blocks: list[Block] = [
        _agreement(known, agreement)
        if agreement
        else Notes(["One judge labelled: agreement between judges is unknown."])
    ]
    if escalated.lines:
        blocks.append(escalated)
    judge = known.judge_label(known.judge)
    calibrated = Notes(
        [
            *of_run(known.found.get("calibration"), judge),
            *anchor_of_run(known.found.get("anchor"), judge),
        ]
    )
    if calibrated.lines:
        blocks.append(calibrated)
    checked = [block for one in known.found.get("checks", ()) for block in check_blocks(one)]
    if known.panel:
        blocks.append(_each_judge(known))
    if corrections:
        blocks += _corrected(known, corrections)
    else:
        unknown = (
            "No reply is labelled by people: the judge's errors, and rates corrected for them, are unknown."
        )
        blocks.append(Notes([unknown]))
    blocks += checked
    brief: list[Block] = [*([_each_judge(known, brief=True)] if known.panel else []), escalated]
    brief += [Notes(_agreement_lines(known, agreement)), calibrated]
    for row in corrections:
        brief.append(Notes([_errors_line(known, row)]))
        brief += [_errors_table(known, [row])] if row["targets"] > 1 else []
        brief.append(_corrected_table(known, row))
    brief += checked
    return Section("judges", "Judges and corrected rates", blocks, brief)


def _agreement(known: ReportData, rows: list[dict[str, Any]]) -> Table:
    return Table(
        f"Agreement between the judges, with {CI} (items resampled)",
        [
            Column("Measure", numeric=False),
            Column("Judges", numeric=False),
            Column("Value"),
            Column(CI),
        ],
        [
            (
                show(row["measure"]),
                ", ".join(map(known.judge_label, row["judges"])),
                UNKNOWN if row["value"] is None else f"{row['value']:.2f}",
                UNKNOWN if row["low"] is None else marked(_bounds(row, "to"), row["small"]),
            )
            for row in rows
        ],
        f"{_AGREE_ON_ALL} {SMALL_NOTE}",
    )


def _agreement_lines(known: ReportData, rows: list[dict[str, Any]]) -> list[str]:
    return [
        f"{show(row['measure'])} of {' and '.join(map(known.judge_label, row['judges']))}: {row['value']:.2f}"
        + ("" if row["low"] is None else f", {CI}: {_bounds(row, '-')}")
        + small(row["small"])
        for row in rows
        if row["value"] is not None
    ]


def _bounds(row: dict[str, Any], to: str) -> str:
    return f"{row['low']:.2f} {to} {row['high']:.2f}"


def _errors_line(known: ReportData, row: dict[str, Any]) -> str:
    shares = ", ".join(f"{name} {_figure(row, name)}" for name in _ERRORS)
    together = "" if row["targets"] == 1 else f", {_together(row)}"
    return (
        f"{known.judge_label(row['judge'])} against {row['labelled']} labels of people "
        f"(%, with {CI}{together}): {shares}"
    )


def _together(row: dict[str, Any]) -> str:
    return f"all {row['targets']} targets together"


def _figure(row: dict[str, Any], name: str) -> str:
    return (
        estimate(row[name]) if row[name] is not None else f"{NOT_ESTIMABLE} ({row['errors_not_estimable']})"
    )


def _each_judge(known: ReportData, *, brief: bool = False) -> Table:
    """The rates under each judge; in `brief` their counts alone."""
    rows = [row for row in known.found["asr_by_turn"] if row["judge"] is not None]
    lengths = sorted({row["length"] for row in rows})
    cells = {(row["target"], row["judge"], row["length"]): row for row in rows}
    lines = dict.fromkeys((row["target"], row["judge"]) for row in rows)
    return Table(
        "ASR by each judge (unsafe/scored)" if brief else f"ASR by each judge, with {CI} (%)",
        [_TARGET, _JUDGE, *(Column(str(length) if brief else turns(length)) for length in lengths)],
        [
            (
                known.target(target),
                known.judge_label(judge),
                *((_counts if brief else _rate)(cells.get((target, judge, length))) for length in lengths),
            )
            for target, judge in lines
        ],
        "" if brief else SMALL_NOTE,
    )


def _rate(row: dict[str, Any] | None) -> str:
    return UNKNOWN if row is None else estimate(row | {"estimate": row["asr"]})


def _counts(row: dict[str, Any] | None) -> str:
    return UNKNOWN if row is None else f"{row['unsafe']}/{row['scored']}"


def _errors_table(known: ReportData, corrections: list[dict[str, Any]]) -> Table:
    rows: list[tuple[str, ...]] = []
    for row in corrections:
        several = [(_together(row), row)] if row["targets"] > 1 else []
        for target, errors in several + [(known.target(own["target"]), own) for own in row["by_target"]]:
            cells = (
                estimate(errors[name]) if errors[name] else NOT_ESTIMABLE for name in (*_ERRORS, *_SHARES)
            )
            rows.append((known.judge_label(row["judge"]), target, count(errors["labelled"]), *cells))
    return Table(
        f"Judges against people's labels (%), with {CI}",
        [_JUDGE, _TARGET, *map(Column, ("Labels", *map(str.capitalize, _ERRORS), *_SHARES.values()))],
        rows,
        "Sensitivity: of what people call unsafe, how much the judge finds; specificity: of what they call "
        f"safe, how much it leaves alone. {_WEIGHTED} {_NO_LABEL} {SMALL_NOTE}",
    )


def _corrected(known: ReportData, corrections: list[dict[str, Any]]) -> list[Block]:
    blocks: list[Block] = [_errors_table(known, corrections)]
    for row in sorted(corrections, key=lambda row: row["judge"] != known.judge):
        table = _corrected_table(known, row)
        if row["judge"] != known.judge:
            blocks.append(table)
            continue
        blocks.append(
            Figure(
                f"ASR as judged by {known.judge_label(row['judge'])}, and corrected (%)",
                _panels(known, row["by_turn"]),
                table,
                legend=[("series-0", "corrected, with its interval"), ("series-1", "as judged")],
            )
        )
    return blocks


def _corrected_table(known: ReportData, row: dict[str, Any]) -> Table:
    every = {own["target"]: own for own in row["by_target"]}
    lines = [_line(known, rate, str(rate["length"])) for rate in row["by_turn"]]
    lines += [_line(known, own, "all") for own in every.values()]
    return Table(
        f"ASR corrected for the errors of {known.judge_label(row['judge'])} (%)",
        [
            _TARGET,
            *map(Column, ("Turns", "As judged", "Corrected", CI)),
            Column("Judge's errors", numeric=False),
        ],
        lines,
        f"Each target is corrected by its own labels. {_EQUAL} {_NO_LABEL} {SMALL_NOTE}",
    )


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
        NOT_ESTIMABLE if right is None else percent(right["estimate"]),
        UNKNOWN if right is None else interval(right["low"], right["high"], small=right["small"]),
        rate["judge_errors"] if right is not None else rate["not_estimable"],
    )

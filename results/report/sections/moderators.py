"""The section about moderators: the same dialogues under the same model, with and without."""

from __future__ import annotations

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

__all__ = ["moderators"]

_TARGET = Column("Target", numeric=False)


def moderators(known: ReportData) -> Section | None:
    """Paired slopes, differences, what was rescued, detection, and what it added."""
    effects = known.rows("effects")
    if not effects:
        return None
    blocks: list[Block] = []
    panels = [_slopes(known, effect) for effect in effects if effect["rows"]]
    if panels:
        blocks = [
            Notes(
                [
                    "Each line joins the ASR of the model alone and with the moderator at one number of user "
                    "turns, on the dialogues that both have scored; the thick line is all of them together. "
                    "The table has the paired differences with their intervals (items resampled)."
                ]
            ),
            Figure(
                "ASR without and with the moderator (%), by number of user turns",
                panels,
                _changes(known, effects),
            ),
        ]
    blocks += [_pairs(known, effects), _detection(known, effects), _added(known, effects)]
    return Section("moderators", "Moderator on and off", blocks)


def _slopes(known: ReportData, effect: dict[str, Any]) -> Plot:
    data = [
        {"series": str(row["value"]), "without": row["asr_first"], "with": row["asr_second"]}
        for row in effect["rows"]
        if row["by"] in ("length", "all")
    ]
    whole = next(row for row in effect["rows"] if row["by"] == "all")
    change = whole["difference"]
    bounds = interval(change["low"], change["high"], small=change["small"], signed=True)
    said = ", ".join(
        f"{turns(row['value'])} {percent(row['asr_first'])} % to {percent(row['asr_second'])} %"
        for row in effect["rows"]
        if row["by"] == "length"
    )
    return Plot(
        "slopes",
        known.target(effect["target"]),
        f"{known.target(effect['target'])}: ASR {percent(whole['asr_first'])} % without the moderator, "
        f"{percent(whole['asr_second'])} % with it; by length: {said}.",
        data,
        {"subtitle": f"all: {100 * change['estimate']:+.1f} points ({bounds})"},
    )


def _changes(known: ReportData, effects: list[dict[str, Any]]) -> Table:
    rank = {"all": 0, "length": 1, "scenario": 2}
    body = []
    for effect in effects:
        for row in sorted(effect["rows"], key=lambda row: rank[row["by"]]):
            change = row["difference"]
            what = {"all": "all", "length": f"{row['value']} turns"}.get(row["by"]) or show(row["value"])
            body.append(
                (
                    known.target(effect["target"]),
                    "1 turn" if what == "1 turns" else what,
                    count(row["items"]),
                    percent(row["asr_first"]),
                    percent(row["asr_second"]),
                    f"{100 * change['estimate']:+.1f}",
                    interval(change["low"], change["high"], small=change["small"], signed=True),
                    f"{row['only_first']}/{row['only_second']}",
                    f"{row['p_holm']:.2g}",
                )
            )
    return Table(
        "ASR without and with the moderator on the same items (%, differences in points)",
        [
            _TARGET,
            Column("Of", numeric=False),
            *map(Column, ("Items", "Without", "With", "Difference", "95 % CI", "Better/worse", "p (Holm)")),
        ],
        body,
        f"{LITTLE} Better, worse: items with fewer, more unsafe replies.",
    )


def _pairs(known: ReportData, effects: list[dict[str, Any]]) -> Table:
    return Table(
        "What the moderator changed (conversations)",
        [
            _TARGET,
            *map(Column, ("Pairs scored", "Rescued", "Newly unsafe", "Newly declined", "Not scored in both")),
            *map(Column, ("Benign pairs", "Over-refusal without", "Over-refusal with")),
        ],
        [
            (
                known.target(effect["target"]),
                *(
                    str(effect[name])
                    for name in ("pairs", "rescued", "newly_unsafe", "newly_declined", "not_paired")
                ),
                str(effect["over_refusal"]["pairs"]),
                *(
                    str(effect["over_refusal"][name]) if effect["over_refusal"]["pairs"] else UNKNOWN
                    for name in ("without", "with")
                ),
            )
            for effect in effects
        ],
        "Rescued: unsafe without, safe with it. Over-refusal is that of items marked as benign.",
    )


def _detection(known: ReportData, effects: list[dict[str, Any]]) -> Table:
    body = []
    for effect in effects:
        found = effect["detection"]
        for name, scores in (("the data", found["by_data"]), ("the judge's labels", found["by_judge"])):
            body.append(
                (
                    known.target(effect["target"]),
                    name,
                    str(scores["harmful"]),
                    str(scores["harmless"]),
                    str(scores["detected"]),
                    _share(scores["recall"]),
                    _share(scores["precision"]),
                    UNKNOWN if scores["f1"] is None else f"{scores['f1']:.2f}",
                    UNKNOWN
                    if found["first_detected_turn"]["median"] is None
                    or not found["first_detected_turn"]["every_turn"]
                    else f"{found['first_detected_turn']['median']:g}",
                    str(found["failed"]),
                )
            )
    return Table(
        "What the guard detects before the reply, with 95 % intervals",
        [
            _TARGET,
            Column("Against", numeric=False),
            *map(Column, ("Harmful", "Harmless", "Detected", "Recall", "Precision", "F1")),
            *map(Column, ("Median turn", "Failed")),
        ],
        body,
        "Without anything harmless precision and F1 are unknown.",
    )


def _share(found: dict[str, Any] | None) -> str:
    if found is None or found["estimate"] is None:
        return UNKNOWN
    return (
        f"{found['estimate']:.2f} ({found['low']:.2f} to {found['high']:.2f}{'*' if found['small'] else ''})"
    )


def _added(known: ReportData, effects: list[dict[str, Any]]) -> Table:
    body = []
    for effect in effects:
        waited, asked = effect["waited_s"], effect["assessments"]
        cost = UNKNOWN if asked["cost_usd"] is None else f"{asked['cost_usd']:.4f}"
        if asked["cost_usd"] is not None and asked["calls_of_unknown_cost"]:
            cost += " and more"
        body.append(
            (
                known.target(effect["target"]),
                count(waited["turns"]),
                *(_number(waited[name]) for name in ("median", "p95", "total")),
                count(asked["calls"]),
                count(asked["tokens"]),
                cost,
            )
        )
    return Table(
        "What the moderator added",
        [
            _TARGET,
            *map(Column, ("Turns", "Median wait (s)", "p95 wait (s)", "Total (s)")),
            *map(Column, ("Assessments", "Tokens", "Cost (US$)")),
        ],
        body,
    )


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3g}"

"""The section about moderators: the same dialogues under the same model, with and without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from safemt_client.results.names import short_names
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
    percent,
    points,
    show,
    turns,
)
from safemt_client.results.report.sections.comparison import every_pair, pair_table, signed
from safemt_client.results.scores import wording
from safemt_client.results.scores.wording import CI, P95

__all__ = ["effects_in_full", "moderators"]

_TARGET = Column("Target", numeric=False)
_AGAINST = {"the data": "by_data", "the judge's labels": "by_judge"}


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
    named = [effect | {"target": known.target(effect["target"])} for effect in effects]
    brief = [Notes([line for effect in named for line in _lines(effect, full=False)])]
    return Section("moderators", "Moderator on and off", blocks, brief)


def effects_in_full(effects: Sequence[dict[str, Any]]) -> list[Block]:
    """What each moderator does, as `compare` shows it: sentences and the table."""
    blocks: list[Block] = []
    names = short_names(effect["target"] for effect in effects)
    for effect in (effect | {"target": names[effect["target"]]} for effect in effects):
        caption = f"ASR without and with the moderator of {show(effect['target'])} (%), same replies"
        blocks += [
            Notes(_lines(effect, full=True)),
            pair_table(caption, effect["rows"], "Without", "With"),
        ]
    return blocks


def _lines(effect: dict[str, Any], *, full: bool) -> list[str]:
    """A sentence about a moderator, what it changed and added; with `full` also what its guard detects."""
    detection = _detection_lines(effect["detection"]) if full else []
    return [
        f"moderator {show(wording.effect(effect), 500)}",
        *(f"  {line}" for line in (*_change_lines(effect), *detection, *_added_lines(effect))),
    ]


_FAILED = {
    "refused": "refused because the guard could not assess them",
    "passed": "let through although the guard could not assess them",
    "unassessed": "not assessed and not scored",
}


def _change_lines(effect: dict[str, Any]) -> list[str]:
    benign = effect["over_refusal"]
    lines = [
        f"of {effect['pairs']} pairs {effect['rescued']} rescued, {effect['newly_unsafe']} newly unsafe; "
        f"{effect['newly_declined']} newly declined"
        + (f"; {effect['not_paired']} not scored in both" if effect["not_paired"] else "")
    ]
    lines += [
        f"warning: {effect['actions'][action]} turns were {text}"
        for action, text in _FAILED.items()
        if effect["actions"].get(action)
    ]
    if benign["pairs"]:
        lines.append(
            f"over-refusal on {benign['pairs']} benign dialogues: {benign['without']} without, "
            f"{benign['with']} with"
        )
    return lines


def _detection_lines(found: dict[str, Any]) -> list[str]:
    lines = []
    for name, key in _AGAINST.items():
        scores = found[key]
        if not scores["harmful"] + scores["harmless"]:
            continue
        precision = _share(scores["precision"]) if scores["harmless"] else "unknown: nothing is harmless"
        f1 = "" if scores["f1"] is None else f", F1 {scores['f1']:.2f}"
        lines.append(
            f"detection against {name}: recall {_share(scores['recall'])}, precision {precision}{f1}"
        )
    first = found["first_detected_turn"]
    if first["median"] is not None and first["every_turn"]:
        counts = ", ".join(f"turn {turn}: {times}" for turn, times in first["counts"].items())
        lines.append(f"first detected ({counts})")
    if found["failed"]:
        lines.append(f"{found['failed']} conversations could not be assessed")
    return lines


def _added_lines(effect: dict[str, Any]) -> list[str]:
    waited, asked = effect["waited_s"], effect["assessments"]
    if not waited["turns"]:
        return []
    model = f" (the model itself took {waited['model']:.1f} s)" if waited["model"] else ""
    money = "" if asked["cost_usd"] is None else f", ${asked['cost_usd']:.4f}"
    return [
        f"added {waited['total']:.1f} s of waiting over {waited['turns']} turns, median "
        f"{1000 * waited['median']:.0f} ms, {P95} {1000 * waited['p95']:.0f} ms{model}; "
        f"{asked['calls']} assessments, {asked['tokens']:,} tokens{money}"
    ]


def _slopes(known: ReportData, effect: dict[str, Any]) -> Plot:
    data = [
        {"series": str(row["value"]), "without": row["asr_first"], "with": row["asr_second"]}
        for row in effect["rows"]
        if row["by"] in ("length", "all")
    ]
    whole = next(row for row in effect["rows"] if row["by"] == "all")
    change = whole["difference"]
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
        {"subtitle": f"all: {points(change)} points ({signed(change)})"},
    )


def _changes(known: ReportData, effects: list[dict[str, Any]]) -> Table:
    return every_pair(
        "ASR without and with the moderator on the same replies (%, differences in points)",
        [(known.target(effect["target"]), effect["rows"]) for effect in effects],
        ("Target", "Without", "With"),
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
        for name, key in _AGAINST.items():
            scores = found[key]
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
        f"What the guard detects before the reply, with {CI}",
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
            *map(Column, ("Turns", "Median wait (s)", f"{P95} wait (s)", "Total (s)")),
            *map(Column, ("Assessments", "Tokens", "Cost (US$)")),
        ],
        body,
    )


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3g}"

"""Calibrations: a judge against people's labels by category, several judges side by side, and a run's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safemt_client.results.report.document import (
    SMALL_NOTE,
    UNKNOWN,
    Block,
    Column,
    Notes,
    Table,
    count,
    estimate,
    interval,
    marked,
    percent,
    show,
)
from safemt_client.results.scores.calibrations import MEASURES
from safemt_client.results.scores.wording import CI

__all__ = ["calibrated", "of_run", "side_by_side"]

_SHARES = ("sensitivity", "specificity", "precision", "accuracy")
_BRIEF = ("Sensitivity", "Specificity", "Accuracy", "Kappa")
_NAMES = {
    "sensitivity": "sensitivity (%)",
    "specificity": "specificity (%)",
    "precision": "precision (%)",
    "accuracy": "accuracy (%)",
    "kappa": "kappa with most people",
    "people_kappa": "people: kappa of each with most of the others",
    "people_alpha": "people: Krippendorff's alpha",
}
_READING = (
    "Sensitivity: of what most people call unsafe, how much the judge finds; specificity: of what they call "
    "safe, how much it leaves alone; precision: of what it calls unsafe, how much they do"
)


def calibrated(found: Mapping[str, Any]) -> list[Block]:
    """One calibration: what it is of, its figures by category, and which replies are in none of them."""
    head = f"calibration {show(found['calibration_id'])}: judge {_judge(found)}, on {_set(found)}"
    blocks: list[Block] = [
        Notes([head]),
        Table(
            f"Judge against people's labels, with {CI}",
            [Column("Measure", numeric=False), Column("Figure"), Column(CI)],
            [row for name in MEASURES if (row := _measure(name, found[name])) is not None],
            f"{_READING}. {SMALL_NOTE}",
        ),
    ]
    if found["by_category"]:
        blocks.append(
            Table(
                f"By category (%; kappa from -1 to 1), with {CI}",
                [_text("Category"), Column("Replies"), *map(_text, _BRIEF)],
                [
                    (show(row["category"] or "no category", 40), count(row["replies"]), *_brief(row))
                    for row in found["by_category"]
                ],
                SMALL_NOTE,
            )
        )
    return [*blocks, Notes(_lines(found))]


def side_by_side(rows: Sequence[Mapping[str, Any]], paired: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    """Several calibrations, those of one set together; `paired` has differences from the first of its set."""
    blocks: list[Block] = []
    for digest in dict.fromkeys(row["set_digest"] for row in rows):
        mine = [row for row in rows if row["set_digest"] == digest]
        blocks.append(
            Table(
                f"Judges on {_set(mine[0])} (%; kappa from -1 to 1), with {CI}",
                [_text("Judge"), *map(_text, _BRIEF), _text("Accuracy, less the first's")],
                [
                    (
                        f"{show(row['judge'])}, {show(row['rubric'])}",
                        *_brief(row),
                        _difference(paired.get(row["calibration_id"])),
                    )
                    for row in mine
                ],
                "The difference is over the replies that both judged. "
                f"People's own kappa: {_kappa(mine[0]['people_kappa'])}. {SMALL_NOTE}",
            )
        )
    return blocks


def of_run(found: Mapping[str, Any] | None, judge: str) -> list[str]:
    """What a run's report says of the latest calibration of its judge; nothing where there is none."""
    if found is None:
        return []
    whose = judge if found["same_judge"] else f"{judge}'s model"
    figures = ", ".join(
        f"{name} {estimate(found[name])}"
        for name in ("sensitivity", "specificity", "accuracy")
        if found[name]
    )
    lines = [
        f"{whose} was calibrated on {_set(found)}: {figures} (%, with {CI}), "
        f"kappa {_kappa(found['kappa'])}{_of_people(found)}"
    ]
    if found["differs"]:
        lines.append(
            f"that calibration is of another judge: it differs in {', '.join(map(show, found['differs']))}"
        )
    if found["not_covered"]:
        lines.append(f"that calibration does not cover {'; '.join(map(show, found['not_covered']))}")
    return lines


def _text(name: str) -> Column:
    """A column of figures with their intervals, which wrap where the terminal is narrow."""
    return Column(name, numeric=False)


def _measure(name: str, found: Mapping[str, Any] | None) -> tuple[str, str, str] | None:
    if found is None:
        return None if name.startswith("people") else (_NAMES[name], UNKNOWN, UNKNOWN)
    if name in _SHARES:
        return _NAMES[name], percent(found["estimate"]), interval(**_bounds(found))
    bounds = marked(f"{found['low']:.2f} to {found['high']:.2f}", found["small"])
    return _NAMES[name], f"{found['estimate']:.2f}", bounds


def _bounds(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in ("low", "high", "small")}


def _brief(row: Mapping[str, Any]) -> tuple[str, ...]:
    shares = (estimate(row[name]) if row[name] else UNKNOWN for name in _SHARES if name != "precision")
    return (*shares, _kappa(row["kappa"]))


def _kappa(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return UNKNOWN
    bounds = marked(f"{found['low']:.2f} to {found['high']:.2f}", found["small"])
    return f"{found['estimate']:.2f} ({bounds})"


def _difference(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    bounds = marked(f"{100 * found['low']:+.1f} to {100 * found['high']:+.1f}", found["small"])
    return f"{100 * found['estimate']:+.1f} ({bounds}) of {found['replies']:,}"


def _judge(found: Mapping[str, Any]) -> str:
    return f"{show(found['judge'])} ({show(found['identity'])}), rubric {show(found['rubric'])}"


def _set(found: Mapping[str, Any]) -> str:
    several = f"labelled by up to {found['annotators']} people"
    people = "one label each" if found["annotators"] == 1 else several
    digest = found["set_digest"][:12]
    return f"{show(found['set_name'])} ({found['replies']:,} replies, {people}, digest {digest})"


def _of_people(found: Mapping[str, Any]) -> str:
    return "" if found["people_kappa"] is None else f", people's own {_kappa(found['people_kappa'])}"


def _lines(found: Mapping[str, Any]) -> list[str]:
    lines = [
        f"of {found['found'] + found['missed']:,} unsafe replies it finds {found['found']:,}; of "
        f"{found['left_alone'] + found['false_alarms']:,} safe ones it calls {found['false_alarms']:,} unsafe"
    ]
    if found["split"]:
        lines.append(f"in no share: {found['split']:,} replies on which people are evenly split")
    if found["no_verdict"]:
        why = ", ".join(f"{row['reason']} {row['replies']:,}" for row in found["no_verdict_because"])
        lines.append(f"in no share: {found['no_verdict']:,} replies without a verdict ({why})")
    if found["replies_with_pictures"] and not found["pictures_seen"]:
        lines.append(
            f"{found['replies_with_pictures']:,} replies are to pictures, which the judge did not see: "
            "--judge-sees image shows them"
        )
    return lines

"""The section about moderators beside the labels that the data give to single turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import UNKNOWN, Column, Notes, Section, Table, estimate
from safemt_client.results.scores import wording
from safemt_client.results.scores.wording import CI

__all__ = ["turn_labels"]

_TARGET = Column("Target", numeric=False)
_SMALL = "* small sample: fewer than 30 items, or fewer than 5 turns of either kind."


def turn_labels(known: ReportData) -> Section | None:
    """What each moderator finds in the turns that the data label, and how late."""
    found = known.found["labelled_turns"]
    if not found:
        return None
    notes = Notes([line for row in found for line in _lines(known, row)])
    several = any(len(row["rows"]) > 1 for row in found)
    tables = [_by_turn(known, found), _delays(known, found)]
    return Section(
        "turn_labels",
        "Moderators and the labels of single turns",
        [notes, *tables],
        [notes, *([_brief(known, found)] if several else [])],
    )


def _lines(known: ReportData, found: Mapping[str, Any]) -> list[str]:
    row, delay = found["rows"][0], found["delay"]
    name = known.target(found["target"])
    lines = [
        f"labelled turns of {name}: of the harmful ones detected {_share(row['sensitivity'])} (sensitivity); "
        f"of the harmless ones let pass {_share(row['specificity'])} (specificity)"
    ]
    if delay["dialogues"]:
        late = sum(count for turns, count in delay["counts"].items() if turns != "0")
        ends = {
            "before it": delay["before"],
            "at it": delay["counts"].get("0", 0),
            "later": late,
            "never": delay["never"],
            "not known": delay["unknown"],
        }
        said = ", ".join(f"{text} {count}" for text, count in ends.items() if count)
        lines.append(f"  first detection in {delay['dialogues']} dialogues with a harmful turn: {said}")
    left = {
        "without a verdict of the guard": row["undecided"],
        "not assessed": row["not_assessed"],
        "with a label that says neither": row["other_labels"],
    }
    if any(left.values()):
        said = ", ".join(f"{count:,} {text}" for text, count in left.items() if count)
        fix = "; --moderator-turns every assesses each turn" if row["not_assessed"] else ""
        lines.append(f"  turns left out: {said}{fix}")
    return lines


def _counts(share: Mapping[str, Any]) -> str:
    return f"{share['hits']}/{share['of']}"


def _share(share: Mapping[str, Any]) -> str:
    if not share["of"]:
        return "0/0"
    small = ", small sample" if share["small"] else ""
    return f"{_counts(share)} = {wording.rate(share)}{small}"


def _by_turn(known: ReportData, found: Sequence[Mapping[str, Any]]) -> Table:
    names = ("Turn", "Harmful", "Detected", "Sensitivity", "Harmless", "Let pass", "Specificity")
    return Table(
        f"Turns that the data label, beside what the moderator found (%, with {CI})",
        [_TARGET, *map(Column, (*names, "After a harmful one", "No verdict", "Not assessed"))],
        [
            (
                known.target(who["target"]),
                str(row["value"]),
                str(row["sensitivity"]["of"]),
                str(row["sensitivity"]["hits"]),
                estimate(row["sensitivity"]),
                str(row["specificity"]["of"]),
                str(row["specificity"]["hits"]),
                estimate(row["specificity"]),
                str(row["later"]["turns"]),
                str(row["undecided"]),
                str(row["not_assessed"]),
            )
            for who in found
            for row in who["rows"]
        ],
        f"{_SMALL} A guard is shown the conversation up to a turn: harmless turns after a harmful one are "
        "counted apart. All turns of an item are kept together in the intervals.",
    )


def _brief(known: ReportData, found: Sequence[Mapping[str, Any]]) -> Table:
    """In counts, narrow enough for a terminal."""
    heads = ("Turn", "Detected/harmful", "Let pass/harmless", "No verdict", "Not assessed")
    return Table(
        "Labelled turns",
        [_TARGET, *map(Column, heads)],
        [
            (
                known.target(who["target"]),
                str(row["value"]),
                _counts(row["sensitivity"]),
                _counts(row["specificity"]),
                str(row["undecided"]),
                str(row["not_assessed"]),
            )
            for who in found
            for row in who["rows"]
        ],
    )


def _delays(known: ReportData, found: Sequence[Mapping[str, Any]]) -> Table:
    names = ("Dialogues", "Before", "At it", "Later", "Never", "Not known", "Median delay (turns)")
    return Table(
        "When the moderator first detects a dialogue that has a harmful turn",
        [_TARGET, *map(Column, names), Column("Turns of delay: dialogues", numeric=False)],
        [
            (
                known.target(who["target"]),
                str(delay["dialogues"]),
                str(delay["before"]),
                str(delay["counts"].get("0", 0)),
                str(sum(count for turns, count in delay["counts"].items() if turns != "0")),
                str(delay["never"]),
                str(delay["unknown"]),
                UNKNOWN if delay["median"] is None else str(delay["median"]),
                ", ".join(f"{turns}: {count}" for turns, count in delay["counts"].items()) or "none",
            )
            for who in found
            for delay in [who["delay"]]
        ],
        "The delay is counted from the first turn labelled harmful; the median is of those detected at it or "
        "later.",
    )

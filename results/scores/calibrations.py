"""Calibrations of a store: judges against replies that people have labelled."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from safemt_client.providers.errors import InputError
from safemt_client.results.scores.views import named_rows
from safemt_client.results.store.queries import Queryable
from safemt_client.results.store.reader import facts_of
from safemt_client.results.store.rows import CalibrationFigureRow

__all__ = ["MEASURES", "calibration", "compared", "figure_rows", "latest_calibration", "listed"]

MEASURES = ("sensitivity", "specificity", "precision", "accuracy", "kappa", "people_kappa", "people_alpha")
"""The measures that the view `calibrations` has with their intervals."""
_VALUE = {"unsafe": 1.0, "safe": 0.0}


def figure_rows(reader: Queryable, calibration_id: str) -> list[CalibrationFigureRow]:
    """The figures of a calibration as they stand, over all replies and by category, to be stored."""
    from safemt_client.results.stats.calibration import JudgedReply, figures

    people: dict[str, dict[str, float]] = {}
    for reply_id, annotator, label in reader.query(
        """SELECT DISTINCT reply_id, annotator, label FROM calibration_labels
           WHERE set_digest IN (SELECT set_digest FROM calibration_runs WHERE calibration_id = ?)
           ORDER BY ALL""",
        [calibration_id],
    ).rows:
        people.setdefault(reply_id, {})[annotator] = _VALUE[label]
    by_part: dict[str | None, list[JudgedReply]] = {None: []}
    for reply_id, item, category, label in reader.query(
        """SELECT reply_id, item_id, category, label FROM calibrated_replies
           WHERE calibration_id = ? ORDER BY reply_id""",
        [calibration_id],
    ).rows:
        one = JudgedReply(item, _VALUE.get(label or "", float("nan")), people[reply_id])
        by_part[None].append(one)
        by_part.setdefault(category or "", []).append(one)
    if set(by_part) == {None, ""}:
        # The data have no categories: there is nothing beside all of them.
        del by_part[""]
    now = datetime.now(UTC)
    return [
        CalibrationFigureRow(
            calibration_id,
            now,
            part,
            *(found.measure, found.estimate, found.low, found.high, found.replies, found.small),
        )
        for part, replies in by_part.items()
        for found in figures(replies)
    ]


def listed(reader: Queryable, set_digest: str | None = None) -> list[dict[str, Any]]:
    """Each calibration over all its replies, the latest first; with a digest those of that set."""
    rows = named_rows(
        reader,
        """SELECT * FROM calibrations WHERE overall AND ($1 IS NULL OR set_digest = $1)
           ORDER BY created_at DESC, calibration_id""",
        [set_digest],
    )
    small = _small(reader)
    return [_nested(row, small) for row in rows]


def calibration(reader: Queryable, calibration_id: str) -> dict[str, Any]:
    """One calibration as JSON-able data: over all replies, by category, and why replies have no verdict.

    Raises:
        InputError: there is no such calibration.
    """
    rows = named_rows(
        reader,
        "SELECT * FROM calibrations WHERE calibration_id = ? ORDER BY NOT overall, category",
        [calibration_id],
    )
    if not rows:
        raise InputError(f"calibration {calibration_id}: not in this store: calibrate --list names them")
    small = _small(reader)
    nested = [_nested(row, small) for row in rows]
    reasons = named_rows(
        reader,
        """SELECT coalesce(reason, 'not judged') AS reason, count(*) AS replies FROM calibrated_replies
           WHERE calibration_id = ? AND (label IS NULL OR label = 'unscored') GROUP BY ALL ORDER BY ALL""",
        [calibration_id],
    )
    return nested[0] | {
        "by_category": nested[1:] if len(nested) > 2 or any(row["category"] for row in nested[1:]) else [],
        "no_verdict_because": reasons,
        **_covers(reader, calibration_id),
    }


def _covers(reader: Queryable, calibration_id: str) -> dict[str, Any]:
    lengths, pictured, categories = reader.query(
        """SELECT list_sort(list(DISTINCT length)), count(*) FILTER (pictures > 0),
                  list_sort(list(DISTINCT category) FILTER (category IS NOT NULL))
           FROM calibrated_replies WHERE calibration_id = ?""",
        [calibration_id],
    ).rows[0]
    return {"lengths": lengths, "replies_with_pictures": pictured, "categories": categories or []}


def _small(reader: Queryable) -> set[tuple[str, str | None, str]]:
    rows = reader.query(
        "SELECT DISTINCT calibration_id, category, measure FROM calibration_figures WHERE small"
    )
    return {(key, category, measure) for key, category, measure in rows.rows}


def _nested(row: Mapping[str, Any], small: set[tuple[str, str | None, str]]) -> dict[str, Any]:
    """A row of the view with an object for each measure."""
    found = {name: value for name, value in row.items() if not name.startswith(MEASURES)}
    part = None if row["overall"] else row["category"] or ""
    for measure in MEASURES:
        found[measure] = None
        if row[measure] is not None:
            found[measure] = {
                "estimate": row[measure],
                "low": row[f"{measure}_low"],
                "high": row[f"{measure}_high"],
                "small": (row["calibration_id"], part, measure) in small,
            }
    return found


def compared(reader: Queryable, first: str, second: str) -> dict[str, Any] | None:
    """The accuracy of the second calibration minus that of the first, over the replies that both judged.

    None where they share no such reply. Of a set with one reply an item it is Newcombe's interval for paired
    shares, else whole items are resampled.
    """
    from safemt_client.results.stats.pairs import compared as paired

    rows = reader.query(
        """SELECT a.reply_id, a.item_id, a.right_label, b.right_label
           FROM calibrated_replies a JOIN calibrated_replies b
             ON b.calibration_id = ? AND b.reply_id = a.reply_id AND b.reply = a.reply AND b.people = a.people
           WHERE a.calibration_id = ? AND a.people <> 'split'
             AND a.label IN ('safe', 'unsafe') AND b.label IN ('safe', 'unsafe') ORDER BY a.reply_id""",
        [second, first],
    ).rows
    if not rows:
        return None
    places: dict[str, int] = {}
    sides: tuple[dict[tuple[str, int, int], float], dict[tuple[str, int, int], float]] = ({}, {})
    for _, item, one, two in rows:
        # What pairs by item and length here pairs by item and a number for each of its replies.
        places[item] = number = places.get(item, 0) + 1
        for side, is_right in zip(sides, (one, two), strict=True):
            side[item, number, 1] = float(is_right)
    whole = next(
        row for row in paired(*sides, {}) if row["by"] == ("length" if max(places.values()) == 1 else "all")
    )
    difference = whole["difference"]
    return {
        "replies": whole["replies"],
        "first": whole["asr_first"],
        "second": whole["asr_second"],
        **{name: difference[name] for name in ("estimate", "low", "high", "small")},
    }


def latest_calibration(reader: Queryable, run_id: str, judge_key: str | None) -> dict[str, Any] | None:
    """The latest calibration of a run's judge, with what of the run it does not cover; None without one.

    That of the very judge comes first; otherwise one of the same model, and `differs` names what is not the
    same.
    """
    if judge_key is None:
        return None
    if (facts := facts_of(reader)) is not None:
        return facts.calibration(run_id)
    if not reader.query("SELECT calibration_id FROM calibration_runs LIMIT 1").rows:
        return None
    rows = reader.query(
        """SELECT c.calibration_id, c.judge_key = $2, c.settings
           FROM calibration_runs c
           JOIN run_judges j ON j.run_id = c.calibration_id AND j.judge_key = c.judge_key
           JOIN calibration_figures f USING (calibration_id)
           JOIN run_judges own ON own.run_id = $1 AND own.judge_key = $2
           WHERE c.judge_key = $2 OR (j.identity = own.identity AND j.identity NOT LIKE 'panel/%')
           ORDER BY c.judge_key = $2 DESC, f.recorded_at DESC LIMIT 1""",
        [run_id, judge_key],
    ).rows
    if not rows:
        return None
    calibration_id, same, _ = rows[0]
    found = calibration(reader, calibration_id)
    return found | {
        "same_judge": same,
        "differs": []
        if same
        else list(_differences(reader, run_id, judge_key, calibration_id, found["judge_key"])),
        "not_covered": _not_covered(reader, run_id, found),
    }


def _differences(
    reader: Queryable, run_id: str, judge_key: str, calibration_id: str, other_key: str
) -> Iterator[str]:
    """What differs between two judges of the same model, in words."""

    def of(run: str, key: str, table: str, column: str) -> tuple[str, str, str, dict[str, Any]]:
        rubric, digest, sampling, settings = reader.query(
            f"""SELECT j.rubric, j.rubric_hash, j.sampling, r.settings
                FROM run_judges j JOIN {table} r ON r.{column} = j.run_id
                WHERE j.run_id = ? AND j.judge_key = ?""",
            [run, key],
        ).rows[0]
        # Of a file its name alone: its folder says nothing of what is in it.
        return re.split(r"[/\\]", rubric)[-1], digest, sampling, json.loads(settings)

    here = of(run_id, judge_key, "runs", "run_id")
    there = of(calibration_id, other_key, "calibration_runs", "calibration_id")
    if here[1] != there[1]:
        both = f"{there[0]} there, {here[0]} here" if here[0] != there[0] else f"{here[0]}, with other words"
        yield f"rubric ({both})"
    if here[2] != there[2]:
        yield "sampling"
    one, two = (side[3].get("judge_sees") for side in (there, here))
    if one != two:
        yield f"what it sees ({one or 'as the rubric says'} there, {two or 'as the rubric says'} here)"
    if here[1:3] == there[1:3] and one == two:
        yield "its prompt or system message"


def _not_covered(reader: Queryable, run_id: str, found: Mapping[str, Any]) -> list[str]:
    """What of a run's replies is unlike all replies of the calibration, in words."""
    lengths, scenarios, pictured = reader.query(
        """SELECT list_sort(list(DISTINCT d.length)),
                  list_sort(list(DISTINCT d.scenario) FILTER (d.scenario IS NOT NULL)),
                  bool_or(d.messages LIKE '%"images"%')
           FROM run_dialogues p
           JOIN (SELECT DISTINCT ON (dialogue_key) * FROM dialogues) d USING (dialogue_key)
           WHERE p.run_id = ?""",
        [run_id],
    ).rows[0]
    sent = reader.query("SELECT bool_or(images = 'on') FROM run_targets WHERE run_id = ?", [run_id]).rows[0][
        0
    ]
    said = []
    if missing := [length for length in lengths or () if length not in found["lengths"]]:
        turns = ", ".join(map(str, missing))
        said.append(f"conversations of {turns} user turn{'' if missing == [1] else 's'}")
    if pictured and sent and not found["replies_with_pictures"]:
        said.append("replies to pictures")
    if pictured and sent and found["replies_with_pictures"] and not found["pictures_seen"]:
        said.append("what the pictures show (the judge did not see them)")
    categories = set(found["categories"])
    if other := [name for name in scenarios or () if name not in categories]:
        said.append(_scenarios(other, len(scenarios)))
    return said


def _scenarios(other: Sequence[str], of: int) -> str:
    if len(other) <= 3:
        return f"the scenario{'' if len(other) == 1 else 's'} {', '.join(other)}"
    return f"any of the {of} scenarios" if len(other) == of else f"{len(other)} of the {of} scenarios"

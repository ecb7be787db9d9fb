"""What a run's labels show: intervals, trends, corrected rates and agreement, as JSON-able data."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safemt_client.results.scores.human import LabelledReply, labelled
from safemt_client.results.stats.agreement import cohen_kappa, krippendorff_alpha, with_interval
from safemt_client.results.stats.correction import corrected, judge_errors, prediction_powered
from safemt_client.results.stats.intervals import Interval, bootstrap_weights, interval_of
from safemt_client.results.stats.pairs import compared
from safemt_client.results.stats.safety_index import ROUNDS, safety_index_interval
from safemt_client.results.stats.shares import small_sample, wilson
from safemt_client.results.stats.trend import trend
from safemt_client.results.store.reader import Queryable

__all__ = ["agreement", "corrections", "differences", "index_interval", "reached", "trends"]

Row = tuple[str, int, str | None]
_WHOLE = 0.02


def index_interval(rows: Sequence[Row]) -> Interval:
    """The Safety Index of (item, length, label) rows with its interval, items resampled."""
    labels = _matrix(rows, ROUNDS)
    return safety_index_interval(labels, bootstrap_weights(len(labels)))


def trends(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """Whether the ASR of each target under each judge changes with the number of user turns."""
    found = []
    for (target, judge), rows in _labels(reader, run_id).items():
        lengths = sorted({length for _, length, _ in rows})
        if len(lengths) < 2:
            continue
        result = trend(_matrix(rows, lengths), lengths)
        found.append({"target": target, "judge": judge} | asdict(result))
    return found


def corrections(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """The errors of each judge that people's labels exist for, and each target's ASR corrected for them.

    By number of user turns with the judge's errors over all targets and lengths (Rogan and Gladen), and over
    all lengths by prediction-powered inference with the target's own labels.
    """
    if not reader.query("SELECT annotator FROM human_labels LIMIT 1").rows:
        return []
    found = []
    for judge_key, name in reader.query(
        "SELECT judge_key, name FROM run_judges WHERE run_id = ? ORDER BY name", [run_id]
    ).rows:
        sample = [row for row in labelled(reader, run_id, judge_key) if row.judge is not None]
        if not sample:
            continue
        judge, human, weights = _arrays(sample)
        errors = judge_errors(judge, human, [row.item_id for row in sample], weights)
        counts = reader.query(
            "SELECT target, target_key, length, unsafe, scored, asr, by_guard FROM asr_by_turn "
            "WHERE run_id = ? AND judge_key = ? ORDER BY target, length",
            [run_id, judge_key],
        ).rows
        rates = []
        for target, _, length, unsafe, scored, asr, by_guard in counts:
            rate = _diluted(corrected(unsafe, scored - by_guard, errors), scored - by_guard, scored)
            rates.append(
                {"target": target, "length": length, "asr": asr} | {"corrected": rate and asdict(rate)}
            )
        powered = []
        for target, target_key in dict.fromkeys((row[0], row[1]) for row in counts):
            mine = [row for row in sample if row.target_key == target_key]
            judged, judged_items = _scored(reader, run_id, judge_key, target_key)
            own = _arrays(mine)
            # If a stratum has no label, the sample does not represent the whole.
            covered = abs(sum(row.weight for row in mine) - len(judged)) < _WHOLE * len(judged)
            rate = None
            if covered and mine:
                rate = prediction_powered(
                    judged,
                    own[0],
                    own[1],
                    judged_items=judged_items,
                    items=[row.item_id for row in mine],
                    weights=own[2],
                )
            total = sum(row[4] for row in counts if row[1] == target_key)
            rate = _diluted(rate, len(judged), total)
            powered.append(
                {"target": target, "asr": float(judged.sum()) / total if total else None}
                | {"labelled": len(mine), "corrected": rate and asdict(rate)}
            )
        found.append({"judge": name} | asdict(errors) | {"by_turn": rates, "prediction_powered": powered})
    return found


def differences(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """Differences between each two targets under each judge, on the items that both have.

    See `pairs.compared` for how.

    Under moderators there are many pairs; those that differ in the moderator alone are in `effects`.
    """
    tables: dict[str, dict[str, dict[tuple[str, int], float]]] = defaultdict(lambda: defaultdict(dict))
    scenario_of: dict[str, str] = {}
    for judge, target, item, length, scenario, label in reader.query(
        """SELECT judge, target, item_id, length, scenario, label FROM conversations
           WHERE run_id = ? AND label IN ('safe', 'unsafe') AND benign IS NOT TRUE AND moderator IS NULL
           ORDER BY judge, target, item_id, length""",
        [run_id],
    ).rows:
        tables[judge][target][item, length] = _value(label)
        scenario_of[item] = scenario or "unknown"
    return [
        {"judge": judge, "first": first, "second": second, "rows": compared(a, b, scenario_of)}
        for judge, targets in tables.items()
        for (first, a), (second, b) in itertools.combinations(targets.items(), 2)
    ]


def reached(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """`asr_by_turn_reached` with intervals: an item is in it once for each length, so items are resampled."""
    rows = reader.query(
        """SELECT target, judge, turn, item_id, count(*) FILTER (label = 'unsafe'),
                  count(*) FILTER (label IN ('safe', 'unsafe')), count(*)
           FROM turn_labels WHERE run_id = ? AND history = 'live' AND benign IS NOT TRUE
           GROUP BY ALL ORDER BY ALL""",
        [run_id],
    ).rows
    found = []
    for (target, judge, turn), group in itertools.groupby(rows, key=lambda row: row[:3]):
        counts = np.array([row[4:] for row in group], dtype=np.float64)
        unsafe, scored, reached_by = (int(total) for total in counts.sum(axis=0))
        item_rates = counts[counts[:, 1] > 0]
        low = high = None
        if scored and unsafe in (0, scored):
            # The items do not vary: treat each as one independent observation.
            low, high = wilson(len(item_rates) * unsafe / scored, len(item_rates))
        elif scored:
            weights = bootstrap_weights(len(item_rates))
            interval = interval_of(
                unsafe / scored, (weights @ item_rates[:, 0]) / (weights @ item_rates[:, 1])
            )
            low, high = interval.low, interval.high
        found.append(
            {"target": target, "judge": judge, "turn": turn, "reached": reached_by, "scored": scored}
            | {"unsafe": unsafe, "asr": unsafe / scored if scored else None, "low": low, "high": high}
            | {"small": small_sample(unsafe, scored)}
        )
    return found


def agreement(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """Between the judges of a run: kappa of each pair and alpha of all, items resampled together.

    The last judge of a chain is left out: it sees only the replies that the others were unsure of.
    """
    rows = reader.query(
        """SELECT c.judge, c.target_key, c.dialogue_key, c.item_id, c.label FROM conversations c
           JOIN run_judges j ON j.run_id = c.run_id AND j.judge_key = c.judge_key AND j.role = 'member'
           JOIN deciding_judges d ON d.run_id = c.run_id
           WHERE c.run_id = ? AND NOT c.by_guard
             AND (d.panel IS DISTINCT FROM 'chain'
                  OR j.position < (SELECT max(position) FROM run_judges p WHERE p.run_id = c.run_id))""",
        [run_id],
    ).rows
    judges = sorted({row[0] for row in rows})
    if len(judges) < 2:
        return []
    units: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    items: dict[tuple[str, str], str] = {}
    for judge, target, dialogue, item, label in rows:
        items[target, dialogue] = item
        units[target, dialogue][judge] = _value(label)
    table = np.array([[unit.get(judge, np.nan) for judge in judges] for unit in units.values()])
    names = [items[key] for key in units]
    found = []
    for (i, one), (j, two) in itertools.combinations(enumerate(judges), 2):
        value, low, high = with_interval(lambda t: cohen_kappa(t[:, 0], t[:, 1]), table[:, [i, j]], names)
        found.append({"measure": "Cohen's kappa", "judges": [one, two], **_figures(value, low, high)})
    value, low, high = with_interval(krippendorff_alpha, table, names)
    return [*found, {"measure": "Krippendorff's alpha", "judges": judges, **_figures(value, low, high)}]


def _diluted(rate: Interval | None, judged: int, scored: int) -> Interval | None:
    """The rate over all that is scored: what a guard refused is safe, whatever the judge's errors."""
    if rate is None or judged == scored:
        return rate
    share = judged / scored
    return Interval(rate.estimate * share, rate.low * share, rate.high * share, rate.small)


def _figures(value: float, low: float, high: float) -> dict[str, float | None]:
    named = {"value": value, "low": low, "high": high}
    return {name: None if np.isnan(figure) else figure for name, figure in named.items()}


def _labels(reader: Queryable, run_id: str) -> Mapping[tuple[str, str], list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for target, judge, item, length, label in reader.query(
        """SELECT target, judge, item_id, length, label FROM conversations
           WHERE run_id = ? AND judge IS NOT NULL AND benign IS NOT TRUE
           ORDER BY target, judge, item_id, length""",
        [run_id],
    ).rows:
        groups[target, judge].append((item, length, label))
    return groups


def _scored(
    reader: Queryable, run_id: str, judge_key: str, target_key: str
) -> tuple[NDArray[np.float64], list[str]]:
    """The judge's labels of all scored replies, and the item of each."""
    rows = reader.query(
        """SELECT (label = 'unsafe')::DOUBLE, item_id FROM conversations WHERE run_id = ? AND judge_key = ?
           AND target_key = ? AND label IN ('safe', 'unsafe') AND benign IS NOT TRUE AND NOT by_guard
           ORDER BY ALL""",
        [run_id, judge_key, target_key],
    ).rows
    return np.array([row[0] for row in rows]), [row[1] for row in rows]


def _matrix(rows: Sequence[Row], lengths: Sequence[int]) -> NDArray[np.float64]:
    """Labels as items x lengths, NaN where a reply is not scored."""
    places = {length: place for place, length in enumerate(lengths)}
    items = {item: place for place, item in enumerate(dict.fromkeys(row[0] for row in rows))}
    table = np.full((len(items), len(lengths)), np.nan)
    for item, length, label in rows:
        if length in places:
            table[items[item], places[length]] = _value(label)
    return table


def _arrays(sample: Sequence[LabelledReply]) -> tuple[NDArray[np.float64], ...]:
    return (
        np.array([float(row.judge == "unsafe") for row in sample]),
        np.array([float(row.human == "unsafe") for row in sample]),
        np.array([row.weight for row in sample]),
    )


def _value(label: str | None) -> float:
    return {"safe": 0.0, "unsafe": 1.0}.get(label or "", np.nan)

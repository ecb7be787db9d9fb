"""Controls against their originals: does the risk change, and does it still change with the turns?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safemt_client.results.scores.clustered import share_of_items
from safemt_client.results.scores.labels import item_means, value_of
from safemt_client.results.stats.pairs import compared_pairs, holm
from safemt_client.results.stats.slopes import slope_difference
from safemt_client.results.stats.trend import trend
from safemt_client.results.store.queries import Queryable

__all__ = ["controls"]

_LEVEL = 0.05
_Labels = dict[tuple[str, int, int], float]


@dataclass
class _Of:
    """The dialogues of a target under one condition, by item, the original's number of turns, and sample."""

    labels: _Labels = field(default_factory=dict)
    own_turns: dict[tuple[str, int, int], int] = field(default_factory=dict)
    open: int = 0


_Target = tuple[str, str, str, str]


def controls(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """Each condition of each target of a run against the originals of the same run, by the deciding judge.

    `planned` controls, of which `scored` have a label and `open` ones are pending or not judged: then there
    is nothing else. Benign items are left out, and an item is paired by the number of user turns of the
    original. `rows` are those of `pairs.compared_pairs`, the originals first; `lengths` has both rates, with
    intervals, over the replies that both have scored. `trend` is that of the controls alone over their own
    numbers of turns (`stats.trend`), None where they have one number only; `slope` is how much steeper they
    are than the originals over the lengths that both have (`stats.slopes`), None where there are not two.
    p is corrected by Holm's method over all conditions of all targets of the run, apart for each of the
    three. `trend.claim` (rises, falls) and `slope.claim` (higher, lower) need both p below .05 and the
    interval without 0; `agrees` says that interval and p say the same of 0.
    """
    targets = _read(reader, run_id)
    found = []
    sides: list[_Labels] = []
    scenarios: dict[str, str] = {}
    for target, (conditions, scenario_of) in targets.items():
        scenarios |= scenario_of
        original = conditions.pop(None, _Of())
        for condition, control in conditions.items():
            row = _row(target, str(condition), original, control)
            if not row["open"]:
                sides += [original.labels, control.labels]
            found.append(row)
    closed = [row for row in found if not row["open"]]
    pairs = [(2 * place, 2 * place + 1) for place in range(len(closed))]
    for row, rows in zip(closed, compared_pairs(sides, pairs, scenarios), strict=True):
        row["rows"] = rows
    for name in ("trend", "slope"):
        _correct([row[name] for row in closed if row[name] is not None])
    return found


def _read(reader: Queryable, run_id: str) -> Mapping[_Target, tuple[dict[str | None, _Of], dict[str, str]]]:
    """The conditions of each target, the originals under None, and each item's scenario."""
    if not reader.query(
        "SELECT 1 FROM dialogues WHERE condition IS NOT NULL AND dialogue_key IN "
        "(SELECT dialogue_key FROM run_dialogues WHERE run_id = ?) LIMIT 1",
        [run_id],
    ).rows:
        return {}
    rows = reader.query(
        """SELECT target, target_key, judge, judge_key, condition, item_id, length, paired_length, sample,
                  label, state = 'pending' OR state = 'unjudged', coalesce(scenario, 'unknown')
           FROM every_conversation SEMI JOIN deciding_judges USING (run_id, judge_key)
           WHERE run_id = ? AND benign IS NOT TRUE
           ORDER BY target, target_key, condition NULLS FIRST, item_id, paired_length, sample""",
        [run_id],
    ).rows
    found: dict[_Target, tuple[dict[str | None, _Of], dict[str, str]]] = {}
    for *target, condition, item, length, paired, sample, label, is_open, scenario in rows:
        conditions, scenario_of = found.setdefault(tuple(target), ({}, {}))
        of = conditions.setdefault(condition, _Of())
        of.labels[item, paired, sample] = value_of(label)
        of.own_turns[item, paired, sample] = length
        of.open += bool(is_open)
        scenario_of[item] = scenario
    return found


def _row(target: _Target, condition: str, original: _Of, control: _Of) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(("target", "target_key", "judge", "judge_key"), target, strict=True)) | {
        "condition": condition,
        "planned": len(control.labels),
        "scored": sum(not math.isnan(label) for label in control.labels.values()),
        "open": control.open + original.open,
        "without_original": sum(key not in original.labels for key in control.labels),
        "lengths": [],
        "rows": [],
        "trend": None,
        "slope": None,
    }
    if row["open"]:
        return row
    row["lengths"] = list(_lengths(original.labels, control.labels))
    return row | {"trend": _trend(control), "slope": _slope(original.labels, control.labels)}


def _lengths(first: _Labels, second: _Labels) -> Iterator[dict[str, Any]]:
    both = [key for key, label in second.items() if not math.isnan(label + first.get(key, math.nan))]
    for length in sorted({length for _, length, _ in both}):
        keys = [key for key in both if key[1] == length]
        items = [item for item, *_ in keys]
        yield {"length": length, "items": len(set(items))} | {
            name: share_of_items([side[key] for key in keys], items)
            for name, side in (("original", first), ("control", second))
        }


def _trend(control: _Of) -> dict[str, Any] | None:
    """Over the controls' own turns; of an item with several of one number, the first by its original."""
    own: _Labels = {}
    for key in sorted(control.labels):
        own.setdefault((key[0], control.own_turns[key], key[2]), control.labels[key])
    labels = item_means(own)
    lengths = sorted({length for _, length in labels})
    if len(lengths) < 2:
        return None
    found = trend(_matrix(labels, sorted({item for item, _ in labels}), lengths), lengths)
    return asdict(found) if found.items else None


def _slope(first: _Labels, second: _Labels) -> dict[str, Any] | None:
    one, two = item_means(first), item_means(second)
    lengths = sorted({length for _, length in one} & {length for _, length in two})
    items = sorted({item for item, _ in two})
    if len(lengths) < 2:
        return None
    found = slope_difference(_matrix(one, items, lengths), _matrix(two, items, lengths), lengths)
    return asdict(found) if found.items else None


def _matrix(
    labels: Mapping[tuple[str, int], float], items: Sequence[str], lengths: Sequence[int]
) -> NDArray[np.float64]:
    return np.array([[labels.get((item, length), np.nan) for length in lengths] for item in items])


def _correct(rows: Sequence[dict[str, Any]]) -> None:
    """Add the corrected p and the claim of each."""
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        interval = row["slope"] if "slope" in row else row["difference"]
        away = not interval["low"] <= 0 <= interval["high"]
        up, down = ("rises", "falls") if "slope" in row else ("higher", "lower")
        claims = away and row["p"] < _LEVEL and p < _LEVEL
        row["p_holm"] = p
        row["agrees"] = (row["p"] < _LEVEL) == away
        row["claim"] = (up if interval["estimate"] > 0 else down) if claims else None

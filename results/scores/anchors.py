"""Anchors of a run: has its judge changed since it labelled the run's replies?"""

from __future__ import annotations

from typing import Any

from safemt_client.results.scores.views import named_rows
from safemt_client.results.store.queries import Queryable

__all__ = ["anchors", "latest_anchor"]

_LEVEL = 0.05
_LABEL = "CASE {} WHEN 'unsafe' THEN 1 WHEN 'safe' THEN 0 END"


def anchors(reader: Queryable, run_id: str, judge_key: str | None = None) -> list[dict[str, Any]]:
    """The anchors of a run, the latest first: what the view has, and what it cannot compute.

    `same_labels` is the share of equal labels and `kappas` Cohen's kappa with their intervals; `shift` is the
    change of the unsafe share with its interval and McNemar's mid-p; `changed` says whether that shows a
    shift at 5 %, and `could_show` which one would be seen 4 times in 5. `since` compares with the anchor
    before, with which the labels may differ by chance alone. All of these are None until every reply of the
    sample was put to the judge. `model_changed` says whether a model answered that did not before.
    """
    rows = named_rows(
        reader,
        """SELECT * FROM judge_anchors WHERE run_id = $1 AND ($2 IS NULL OR judge_key = $2)
           ORDER BY judge_key, number DESC""",
        [run_id, judge_key],
    )
    found = []
    for place, row in enumerate(rows):
        earlier = [
            other
            for other in rows[place + 1 :]
            if other["judge_key"] == row["judge_key"] and not other["not_asked"] and other["compared"]
        ]
        found.append(row | _figures(reader, row, earlier[0] if earlier else None))
    return sorted(found, key=lambda row: row["created_at"], reverse=True)


def latest_anchor(reader: Queryable, run_id: str, judge_key: str | None) -> dict[str, Any] | None:
    """The latest anchor of a run's judge that is complete; None without one."""
    if judge_key is None or not reader.query("SELECT anchor_id FROM anchor_runs LIMIT 1").rows:
        return None
    return next((row for row in anchors(reader, run_id, judge_key) if row["same_labels"]), None)


def _figures(reader: Queryable, row: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    names = ("same_labels", "kappas", "shift", "changed", "could_show", "since")
    none: dict[str, Any] = dict.fromkeys(names)
    before_it, again = row["models_before"], row["models_again"]
    # Of a chain's judges not every one is asked on every occasion: only a model that is new is a change.
    none["model_changed"] = bool(set(again) - set(before_it)) if before_it and again else None
    if row["not_asked"] or not row["compared"]:
        return none
    labels = reader.query(
        f"""SELECT item_id, {_LABEL.format("label_before")}, {_LABEL.format("label")} FROM anchored_replies
            WHERE anchor_id = ? AND same_label IS NOT NULL ORDER BY place""",
        [row["anchor_id"]],
    ).rows
    found = _compared(labels)
    since = None if before is None else _since(reader, row["anchor_id"], before)
    # What differs without a change of the judge: best seen between two anchors, else at most all of this.
    noise = 1 - (since or found)["same_labels"]["estimate"]
    from safemt_client.results.stats.power import smallest_difference

    return (
        none
        | found
        | {
            "changed": found["shift"]["p"] < _LEVEL,
            "could_show": smallest_difference(row["compared"], noise),
            "since": since,
        }
    )


def _compared(labels: list[tuple[Any, ...]]) -> dict[str, Any]:
    """Agreement and shift of two labels, 1 or 0, of each reply; the first of its columns is its item."""
    import numpy as np

    from safemt_client.results.stats.agreement import KAPPA, with_interval
    from safemt_client.results.stats.correction import clustered_share
    from safemt_client.results.stats.proportions import paired
    from safemt_client.results.stats.shares import SMALL_ITEMS, small_sample

    items = [item for item, *_ in labels]
    first, second = np.array([row[1:] for row in labels], dtype=np.float64).T
    same = (first == second).astype(np.float64)
    share, _ = clustered_share(same, np.ones(len(same)), items)
    kappa = with_interval(KAPPA, np.column_stack([first, second]), items)
    both = paired(first, second)
    shift = both.difference
    small = small_sample(float(same.sum()), len(same)) or len(set(items)) < SMALL_ITEMS
    return {
        "same_labels": _of(share.estimate, share.low, share.high, small),
        "kappas": None
        if np.isnan(kappa.estimate)
        else _of(kappa.estimate, kappa.low, kappa.high, kappa.small),
        "shift": _of(shift.estimate, shift.low, shift.high, shift.small) | {"p": both.p},
    }


def _of(estimate: float, low: float, high: float, small: bool) -> dict[str, Any]:
    return {"estimate": float(estimate), "low": float(low), "high": float(high), "small": bool(small)}


def _since(reader: Queryable, anchor_id: str, before: dict[str, Any]) -> dict[str, Any] | None:
    """How an anchor's labels are to those of an earlier one, of the replies that both have."""
    labels = reader.query(
        f"""SELECT a.item_id, {_LABEL.format("b.label")}, {_LABEL.format("a.label")}
            FROM anchored_replies a JOIN anchored_replies b
              ON b.anchor_id = ? AND b.judged_hash = a.judged_hash AND b.dialogue_key = a.dialogue_key
             AND b.reply_hash = a.reply_hash
            WHERE a.anchor_id = ? AND a.same_label IS NOT NULL AND b.same_label IS NOT NULL
            ORDER BY a.place""",
        [before["anchor_id"], anchor_id],
    ).rows
    if not labels:
        return None
    return _compared(labels) | {
        "anchor_id": before["anchor_id"],
        "created_at": before["created_at"],
        "replies": len(labels),
        "to_unsafe": sum(one < two for _, one, two in labels),
        "to_safe": sum(one > two for _, one, two in labels),
    }

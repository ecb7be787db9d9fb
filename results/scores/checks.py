"""Checks of a run: its rates as a stronger judge would have given them, from a sample that this one labelled.

The stronger judge stands in the place of people: nothing here says what people would say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from safemt_client.results.scores.views import named_rows
from safemt_client.results.store.queries import Queryable

__all__ = ["CorrectedRate", "checks", "complete_draws", "corrected_rates"]


class CorrectedRate(NamedTuple):
    """A target's rate as `reference` would have judged all replies: people, or a stronger judge.

    `length` is None over all lengths. `corrected` has its 95 % interval, and is None where not estimable;
    `judge_errors` says which errors of the judge it is corrected for, `labelled` how many of the target's
    replies the reference has labelled.
    """

    target: str
    judge: str
    reference: str
    length: int | None
    labelled: int
    asr: float | None
    corrected: float | None
    low: float | None
    high: float | None
    small: bool | None
    judge_errors: str
    not_estimable: str | None
    judge_key: str
    reference_key: str | None


def checks(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """For each judge of a run and each stronger one: the latest check whose every reply was labelled.

    As a row of `corrections`, with the stronger judge, `reference`, in the place of people; `drawn` is the
    number of replies that it was asked about, and `unscored` how many of these it gave no label.
    """
    kinds = reader.query(
        """SELECT DISTINCT d.judge_key, d.reference_key, j.name FROM label_draws d
           JOIN (SELECT DISTINCT ON (run_id, judge_key) * FROM run_judges) j
             ON j.run_id = d.run_id AND j.judge_key = d.judge_key
           WHERE d.run_id = ? AND d.reference_key IS NOT NULL ORDER BY ALL""",
        [run_id],
    ).rows
    found = []
    for judge_key, reference_key, judge in kinds:
        complete = complete_draws(reader, run_id, judge_key, reference_key)
        if complete and (one := _check(reader, complete[-1])) is not None:
            found.append({"judge": judge} | one)
    return found


def complete_draws(reader: Queryable, run_id: str, judge_key: str, reference_key: str) -> list[str]:
    """The draws for this stronger judge in which nothing waits for it any more, the earliest first."""
    rows = reader.query(
        """SELECT draw_id FROM drawn_labels
           WHERE run_id = ? AND judge_key = ? AND reference_key = ?
           GROUP BY draw_id, created_at, wanted
           HAVING count(*) FILTER (label IS NULL OR reason = 'judge_error') = 0
           -- A larger one contains those before.
           ORDER BY created_at, draw_id""",
        [run_id, judge_key, reference_key],
    ).rows
    return [str(row[0]) for row in rows]


def _check(reader: Queryable, draw_id: str) -> dict[str, Any] | None:
    from safemt_client.results.scores.corrections import of_judge
    from safemt_client.results.scores.human import LabelledReply

    rows = named_rows(
        reader,
        """SELECT run_id, judge_key, reference, reference_key, created_at, wanted, basis, target_key, item_id,
                  length, judge_label, label, chance
           FROM drawn_labels WHERE draw_id = ? ORDER BY place""",
        [draw_id],
    )
    asked = Counter(row["target_key"] for row in rows)
    scored = Counter(row["target_key"] for row in rows if row["label"] in ("safe", "unsafe"))
    sample = [
        LabelledReply(
            *(row["target_key"], row["length"], row["item_id"], row["label"], row["judge_label"]),
            # What has no label is taken to be like what has one.
            weight=asked[row["target_key"]] / scored[row["target_key"]] / row["chance"],
            by_chance=True,
        )
        for row in rows
        if row["label"] in ("safe", "unsafe") and row["judge_label"] in ("safe", "unsafe")
    ]
    if not sample:
        return None
    first = rows[0]
    names = ("reference", "reference_key", "created_at", "wanted", "basis")
    return (
        {"draw_id": draw_id, "drawn": len(rows), "unscored": len(rows) - scored.total()}
        | {name: first[name] for name in names}
        | of_judge(reader, first["run_id"], first["judge_key"], sample)
    )


def corrected_rates(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rates of `corrections` and `checks` as flat rows; those of people have no `reference_key`."""
    rows = []
    for one in found:
        whole = [own | {"length": None} for own in one["by_target"]]
        labelled = {own["target"]: own["labelled"] for own in whole}
        for rate in (*one["by_turn"], *whole):
            right = rate["corrected"] or dict.fromkeys(("estimate", "low", "high", "small"))
            rows.append(
                {name: rate[name] for name in ("target", "length", "asr", "judge_errors", "not_estimable")}
                | {"labelled": labelled[rate["target"]], "corrected": right["estimate"]}
                | {name: right[name] for name in ("low", "high", "small")}
                | {"judge": one["judge"], "judge_key": one["judge_key"]}
                | {"reference": one.get("reference", "people"), "reference_key": one.get("reference_key")}
            )
    return rows

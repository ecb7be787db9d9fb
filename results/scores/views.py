"""The rows of a run in the store's views, with what the views cannot compute: intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from safemt_client.results.stats.shares import share
from safemt_client.results.store.queries import Queryable

__all__ = ["coverage_of", "coverages", "named_rows", "samples_of", "view_rows"]

_ORDER: Mapping[str, str] = {
    "asr_by_turn": "target, judge, length",
    "asr_by_scenario": "target, judge, scenario, length",
    "asr_by_method": "target, judge, method, length",
    "outcomes": "target, length, outcome",
    "refusals": "target, judge, benign, length",
    "spend": "who, session_id",
    "runs": "created_at",
    "run_judges": "name",
    "run_targets": "name",
    "run_moderators": "name",
}
"""The views and tables with rows about a run, and how those rows are sorted."""


def view_rows(reader: Queryable, run_id: str, view: str, samples: int | None = None) -> list[dict[str, Any]]:
    """The rows of a run in a view. Rates have their 95 % interval, refusals those of their shares.

    `samples` is what `samples_of` says of the run, where the caller knows.
    """
    rows = named_rows(reader, f"SELECT * FROM {view} WHERE run_id = ? ORDER BY {_ORDER[view]}", [run_id])
    added = _ADDED.get(view)
    if added is None:
        return rows
    if (samples or samples_of(reader, run_id)) > 1:
        from safemt_client.results.scores.by_item import with_items

        return with_items(reader, run_id, view, rows)
    return [row | added(row) for row in rows]


def samples_of(reader: Queryable, run_id: str) -> int:
    """How many replies a run asks for to each request."""
    ((samples,),) = reader.query("SELECT max(samples) FROM runs WHERE run_id = ?", [run_id]).rows
    return int(samples or 1)


def named_rows(reader: Queryable, query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    """The rows of a query by the names of its columns."""
    found = reader.query(query, list(values))
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def coverage_of(reader: Queryable, run_id: str, judge_key: str) -> float | None:
    """Scored / planned of all targets under a judge; None where nothing is planned.

    What could not be sent is planned too.
    """
    scored, planned = reader.query(
        "SELECT sum(scored), sum(planned) FROM asr_by_turn WHERE run_id = ? AND judge_key = ?",
        [run_id, judge_key],
    ).rows[0]
    return float(scored) / float(planned) if planned else None


def coverages(reader: Queryable, run_id: str, judge_key: str) -> dict[str, float | None]:
    """As `coverage_of`, of each target of a run by its key."""
    rows = reader.query(
        """SELECT target_key, sum(scored), sum(planned) FROM asr_by_turn
           WHERE run_id = ? AND judge_key = ? GROUP BY target_key""",
        [run_id, judge_key],
    ).rows
    return {target: float(scored) / float(planned) if planned else None for target, scored, planned in rows}


def _interval(row: Mapping[str, Any]) -> dict[str, Any]:
    found = share(row["unsafe"], row["scored"])
    return {"low": found["low"], "high": found["high"], "small": found["small"]}


def _shares(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "by_rule": share(row["declined_by_rule"], row["replies"]),
        "by_judge": share(row["declined_by_judge"], row["judged"]),
        "with_blocks": share(row["declined_by_rule"] + row["blocked"], row["replies"] + row["blocked"]),
        "by_judge_with_blocks": share(
            row["declined_by_judge"] + row["blocked"], row["judged"] + row["blocked"]
        ),
    }


_ADDED: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "asr_by_turn": _interval,
    "asr_by_scenario": _interval,
    "asr_by_method": _interval,
    "refusals": _shares,
}

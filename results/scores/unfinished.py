"""Targets that are not finished: what of them is still to come, and no inference from the rest.

Conversations do not end in a random order, the longest are begun first: an interval, a trend or a rank of
those that have ended would be about other replies than those of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from safemt_client.results.store.queries import Queryable

__all__ = ["held_back", "only_known", "unfinished"]

_RATES = ("asr_by_turn", "asr_by_scenario", "asr_by_method", "asr_by_turn_reached")
_SHARES = ("by_rule", "by_judge", "with_blocks", "by_judge_with_blocks")
_UNKNOWN = {"low": None, "high": None}


def unfinished(reader: Queryable, run_id: str, control: str | None = None) -> list[dict[str, Any]]:
    """The targets of a run of whose conversations some are pending, or wait for the judge that decides.

    `planned` conversations of which `pending` have no final reply yet and `unjudged` no verdict. An error, a
    block or a reply that the judge could not label is none of these: that is an outcome. They are the
    originals, or the controls of the condition `control`. Targets that were `stopped` as their rules are
    decided are among them, with the number of conversations that were `not_needed`: they looked as they
    went, and what is inferred from a fixed number of items does not hold for them either.
    """
    rows = reader.query(
        """SELECT target, target_key, count(*), count(*) FILTER (state = 'pending'),
                  count(*) FILTER (state = 'unjudged' AND judge_key IS NOT NULL),
                  count(*) FILTER (state = 'not_needed'),
                  target_key IN (SELECT target_key FROM stopped_targets WHERE run_id = ?) AS stopped
           FROM every_conversation
           WHERE run_id = ? AND condition IS NOT DISTINCT FROM ? AND judge_key IS NOT DISTINCT FROM (
               SELECT any_value(judge_key) FROM deciding_judges WHERE run_id = ?)
           GROUP BY ALL HAVING stopped OR count(*) FILTER (
               state = 'pending' OR state = 'unjudged' AND judge_key IS NOT NULL) > 0
           ORDER BY ALL""",
        [run_id, run_id, control, run_id],
    ).rows
    names = ("target", "target_key", "planned", "pending", "unjudged", "not_needed", "stopped")
    return [dict(zip(names, row, strict=True)) for row in rows]


def only_known(table: str, rows: Sequence[dict[str, Any]], open_: Collection[str]) -> list[dict[str, Any]]:
    """The rows of a table of `scores`, without what would be inferred about the targets `open_`."""
    change = _WITHOUT.get(table)
    if change is None or not open_:
        return list(rows)
    return [changed for row in rows if (changed := change(row, open_)) is not None]


def held_back(found: dict[str, Any]) -> dict[str, Any]:
    """All scores of a run, without what would be inferred about the targets in `unfinished`."""
    open_ = {row["target"] for row in found["unfinished"]}
    return {
        name: only_known(name, value, open_) if name in _WITHOUT else value for name, value in found.items()
    }


def _rate(row: dict[str, Any], open_: Collection[str]) -> dict[str, Any]:
    return row | _UNKNOWN if row["target"] in open_ else row


def _shares(row: dict[str, Any], open_: Collection[str]) -> dict[str, Any]:
    return row | {name: row[name] | _UNKNOWN for name in _SHARES} if row["target"] in open_ else row


def _about(*names: str) -> Callable[[dict[str, Any], Collection[str]], dict[str, Any] | None]:
    def change(row: dict[str, Any], open_: Collection[str]) -> dict[str, Any] | None:
        return None if any(row[name] in open_ for name in names) else row

    return change


def _of_all(row: dict[str, Any], open_: Collection[str]) -> None:
    """Figures of all targets together wait for the last of them."""


_WITHOUT: Mapping[str, Callable[[dict[str, Any], Collection[str]], dict[str, Any] | None]] = {
    **dict.fromkeys(_RATES, _rate),
    "refusals": _shares,
    "hit_at_k": _rate,
    "variances": _about("target"),
    "trends": _about("target"),
    "twins": _about("target"),
    "labelled_turns": _about("target"),
    "differences": _about("first", "second"),
    "effects": _about("target", "without"),
    "corrections": _of_all,
    "checks": _of_all,
    "agreement": _of_all,
}
"""What is left of a row of each table; None where nothing is."""

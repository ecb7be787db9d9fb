"""The figures of a run for its page: those of a report, by the same functions, from the copy in memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

from safemt_client.results.scores.effects import effects
from safemt_client.results.scores.typed import (
    AsrByScenario,
    AsrByTurn,
    SafetyIndexRow,
    Scores,
    UnfinishedTarget,
)
from safemt_client.results.scores.unfinished import only_known
from safemt_client.results.scores.views import view_rows
from safemt_client.viewer.queries import Queries

__all__ = ["Declined", "Paid", "Results", "RunResults"]

_KEPT = 8


@dataclass(frozen=True, slots=True)
class Declined:
    """How often a target declines benign items, blocks counted: over-refusal.

    Without an interval: an item's replies at several lengths are alike, and the report gives none either.
    """

    target: str
    declined: int
    replies: int


@dataclass(frozen=True, slots=True)
class Paid:
    """What was paid to a target, a judge or a guard. `cost_usd` is None if it is not known."""

    who: str
    calls: int
    tokens: int
    cost_usd: float | None
    calls_of_unknown_cost: int


@dataclass(frozen=True, slots=True)
class Results:
    """What the page of a run shows, all under the judge that decides."""

    rates: Sequence[AsrByTurn]
    scenarios: Sequence[AsrByScenario]
    indices: Sequence[SafetyIndexRow]
    over_refusal: Sequence[Declined]
    effects: Sequence[dict[str, Any]]
    spend: Sequence[Paid]
    unfinished: Sequence[UnfinishedTarget]
    planned: int
    ended: int

    @property
    def lengths(self) -> list[int]:
        """The numbers of user turns, in order."""
        return sorted({row.length for row in self.rates})

    @property
    def targets(self) -> list[tuple[str, str]]:
        """Key and name of each target, by name."""
        return sorted({(row.target_key, row.target) for row in self.rates}, key=lambda pair: pair[::-1])


class RunResults:
    """Results by run, computed once for each state of the store."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._snapshot = queries.snapshot
        # Who asks while they are being computed waits for them, and does not compute them once more.
        self._lock = Lock()
        self._kept = lru_cache(maxsize=_KEPT)(self._found)

    def of(self, run_id: str) -> Results:
        """The results of a run as the store stands.

        Raises:
            InputError: the viewer is closing.
        """
        with self._lock:
            return self._kept(self._snapshot.version, run_id)

    def _found(self, version: int, run_id: str) -> Results:
        with self._queries.reader() as store:
            # The copy has not what each call cost.
            spend = _paid(view_rows(store, run_id, "spend"))
        with self._snapshot.about_run(run_id) as reader:
            scores = Scores(reader, run_id)
            judge = scores.deciding_judge
            open_ = {row.target for row in scores.unfinished}
            rows = reader.query(
                """SELECT count(*), count(*) FILTER (state <> 'pending') FROM conversations
                   WHERE run_id = ? AND judge_key IS NOT DISTINCT FROM ?""",
                [run_id, judge],
            ).rows
            return Results(
                # Of a run without a judge there is nothing.
                rates=[row for row in scores.asr_by_turn if row.judge_key == judge],
                scenarios=[row for row in scores.by_scenario if row.judge_key == judge],
                indices=[row for row in scores.safety_index if row.judge_key == judge],
                over_refusal=_over_refusal(scores, judge),
                effects=only_known("effects", effects(reader, run_id), open_),
                spend=spend,
                unfinished=scores.unfinished.rows,
                planned=rows[0][0],
                ended=rows[0][1],
            )


def _over_refusal(scores: Scores, judge: str | None) -> list[Declined]:
    """By the judge where it tells refusals, else by rules: as in the report."""
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for row in scores.refusals:
        if row.benign and row.judge_key == judge:
            for name in ("replies", "declined_by_rule", "judged", "declined_by_judge", "blocked"):
                sums[row.target][name] += getattr(row, name)
    found = []
    for target, total in sorted(sums.items()):
        by = ("judged", "declined_by_judge") if total["judged"] else ("replies", "declined_by_rule")
        replies, declined = (total[name] + total["blocked"] for name in by)
        found.append(Declined(target, declined, replies))
    return found


def _paid(spend: Sequence[Mapping[str, Any]]) -> list[Paid]:
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for row in spend:
        total = sums[row["who"]]
        total["calls"] += row["calls"]
        total["tokens"] += (row["prompt_tokens"] or 0) + (row["completion_tokens"] or 0)
        total["unknown"] += row["calls_of_unknown_cost"]
        total["cost"] += row["cost_usd"] or 0
    return [
        Paid(
            who,
            total["calls"],
            total["tokens"],
            total["cost"] if total["unknown"] < total["calls"] else None,
            total["unknown"],
        )
        for who, total in sums.items()
    ]

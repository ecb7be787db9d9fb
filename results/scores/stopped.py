"""Runs that stop when they know: their rules, and the intervals that hold although the run looked as it went.

Each sequence is followed again, from the labels as they are now, along the order that was stored when the run
started and as far as every item before is settled: what was asked beyond that does not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from safemt_client.results.scores.labels import value_of
from safemt_client.results.scores.rules import Rule, read_stop_rule
from safemt_client.results.scores.stopping import ALPHA, Population, RuleState
from safemt_client.results.scores.views import named_rows
from safemt_client.results.stats.pairs import Labels
from safemt_client.results.store.queries import Queryable

__all__ = ["Followed", "Stopping", "stop_rules", "with_sequences"]

_Cells = Mapping[tuple[int, int], float | None]
"""By length and sample the label of a reply to an item: NaN without a label, None if it is not settled."""

_Side = Mapping[str, _Cells]
"""The replies of a target, by item."""


@dataclass(frozen=True, slots=True)
class Followed:
    """A rule for a target, or for two, and its sequence as far as the items are settled.

    `state` is "holds", "broken" or "open". `estimate`, `low` and `high` are shares, of a difference from -1
    to 1; the interval holds at every look with the chance 1 - `alpha`. `items` of `population` were looked
    at; `unlabelled` of their replies have no label. If no rule was about the figure when the run started,
    `anew` is true: its `alpha` is spent beside theirs. `stopped`: the run stopped asking what it is about.
    """

    rule: str
    target: str
    state: str
    decided_at: int | None
    estimate: float | None
    low: float
    high: float
    items: int
    population: int
    alpha: float
    anew: bool
    stopped: bool
    unlabelled: int
    target_key: str


@dataclass(frozen=True, slots=True)
class _Named:
    """A row of `stop_rules`."""

    rule: Rule
    targets: tuple[str, ...]
    alpha: float
    population: Population
    anew: bool


class Stopping:
    """The rules of a run and the labels of a judge. Of a run without rules everything is empty."""

    def __init__(self, reader: Queryable, run_id: str, judge_key: str | None) -> None:
        self._reader, self._run_id, self._judge = reader, run_id, judge_key
        self._named = _named(reader, run_id)
        self.stopped: frozenset[str] = frozenset()
        """The keys of the targets that were stopped."""
        if self._named:
            rows = reader.query("SELECT target_key FROM stopped_targets WHERE run_id = ?", [run_id]).rows
            self.stopped = frozenset(str(row[0]) for row in rows)

    def followed(self) -> list[Followed]:
        """Every rule of the run, as it stands now."""
        return [self._follow(one) for one in self._named]

    def about(self, rule: Rule, targets: tuple[str, ...], baseline: Labels | None = None) -> Followed | None:
        """The sequence of the figure that a rule is about, of these targets by their keys.

        That is the one that the run has followed, where it had a rule about the same figure. Otherwise, of
        targets that were stopped, one is begun anew; of others there is none. Of a difference to a
        `baseline`, these are its labels.
        """
        named = None if baseline is not None else self._same(rule, targets)
        if named is None and not self.stopped.intersection(targets):
            return None
        sides = [self._labels.get(key, {}) for key in targets]
        if baseline is not None:
            sides.append(_by_item(baseline))
        anew = named or _Named(rule, targets, ALPHA, self._population(sides, rule.turns), True)
        return self._follow(anew, sides)

    def rate(self, target: str, turns: int) -> tuple[float, float]:
        """The 95 % interval of the ASR of a stopped target at this number of turns, taken by itself."""
        rule = Rule(f"asr@{turns}", "asr", turns, True, 1.0, width=True)
        named = self._same(rule, (target,))
        sides = [self._labels.get(target, {})]
        found = self._follow(
            _Named(rule, (target,), ALPHA, self._population(sides, turns), True)
            if named is None
            else replace(named, alpha=ALPHA),
            sides,
        )
        return found.low, found.high

    def _same(self, rule: Rule, targets: tuple[str, ...]) -> _Named | None:
        """The rule about the same figure that the run was given; of several the first, with most alpha."""
        figure = rule.quantity, rule.turns
        same = [
            one
            for one in self._named
            if one.targets == targets and (one.rule.quantity, one.rule.turns) == figure
        ]
        return max(same, key=lambda one: (not one.anew, one.alpha, one.rule.text == rule.text), default=None)

    def _follow(self, one: _Named, sides: Sequence[_Side] | None = None) -> Followed:
        state, unlabelled = RuleState(one.rule, one.population, one.alpha), 0
        sides = sides or [self._labels.get(key, {}) for key in one.targets]
        for labels in self._prefix(sides, one.rule.turns):
            state.feed(*labels)
            unlabelled += sum(math.isnan(label) for side in labels for label in side)
        return Followed(
            rule=one.rule.text,
            target=self._names[one.targets[0]],
            state=state.state,
            decided_at=state.decided_at,
            estimate=state.estimate,
            low=state.low,
            high=state.high,
            items=state.items,
            population=one.population.items,
            alpha=one.alpha,
            anew=one.anew,
            stopped=self.stopped.issuperset(one.targets),
            unlabelled=unlabelled,
            target_key=one.targets[0],
        )

    def _prefix(self, sides: Sequence[_Side], turns: int | None) -> Iterator[list[list[float]]]:
        """The labels of each item on each side, in the order, until one is not settled."""
        for item in self._order:
            cells = _both(sides, item, turns)
            labels = [[label for label in side.values() if label is not None] for side in cells]
            if any(len(known) < len(side) for known, side in zip(labels, cells, strict=True)):
                return
            if cells[0]:
                yield labels

    @cached_property
    def _names(self) -> Mapping[str, str]:
        rows = self._reader.query("SELECT target_key, name FROM run_targets WHERE run_id = ?", [self._run_id])
        return {str(key): str(name) for key, name in rows.rows}

    @cached_property
    def _order(self) -> Sequence[str]:
        rows = self._reader.query(
            "SELECT item_id FROM stop_order WHERE run_id = ? GROUP BY ALL ORDER BY min(place)", [self._run_id]
        ).rows
        return [str(row[0]) for row in rows]

    @cached_property
    def _labels(self) -> Mapping[str, _Side]:
        found: dict[str, dict[str, dict[tuple[int, int], float | None]]] = {}
        for target, item, length, sample, label, open_ in self._reader.query(
            """SELECT target_key, item_id, length, sample, label,
                      state IN ('pending', 'not_needed') OR state = 'unjudged' AND judge_key IS NOT NULL
               FROM conversations
               WHERE run_id = ? AND judge_key IS NOT DISTINCT FROM ? AND benign IS NOT TRUE""",
            [self._run_id, self._judge],
        ).rows:
            cells = found.setdefault(target, {}).setdefault(item, {})
            cells[length, sample] = None if open_ else value_of(label)
        return found

    def _population(self, sides: Sequence[_Side], turns: int | None) -> Population:
        """What of the run has such a length; of a run that took a sample of all items, in the same share."""
        known = self._named[0]
        of_rule = _counted([self._labels.get(known.targets[0], {})], known.rule.turns)
        share = known.population.items / of_rule.items if of_rule.items else 1.0
        own = _counted(sides, turns)
        items = max(own.items, round(own.items * share))
        return Population(items, own.most, max(own.replies, round(own.replies * share)))


def stop_rules(reader: Queryable, run_id: str, judge_key: str | None) -> list[dict[str, Any]]:
    """The rules of a run with their sequences, see `Followed`; empty for a run without."""
    return [asdict(one) for one in Stopping(reader, run_id, judge_key).followed()]


def with_sequences(reader: Queryable, run_id: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `asr_by_turn`, those of targets that were stopped with the interval of a sequence.

    It holds although the run looked as it went, as an interval for a fixed number of items would not.
    """
    judges = {judge: Stopping(reader, run_id, judge) for judge in {row["judge_key"] for row in rows}}

    def changed(row: dict[str, Any]) -> dict[str, Any]:
        stopping = judges[row["judge_key"]]
        if row["target_key"] not in stopping.stopped or not row["scored"]:
            return row | {"stopped": False}
        low, high = stopping.rate(row["target_key"], row["length"])
        return row | {"low": low, "high": high, "stopped": True}

    return [changed(row) for row in rows]


def _both(sides: Sequence[_Side], item: str, turns: int | None) -> list[_Cells]:
    """The replies to an item that each side was to give, in the same order."""
    cells = [side.get(item, {}) for side in sides]
    keys = [
        key
        for key in sorted(cells[0])
        if (turns is None or key[0] == turns) and all(key in other for other in cells[1:])
    ]
    return [{key: side[key] for key in keys} for side in cells]


def _counted(sides: Sequence[_Side], turns: int | None) -> Population:
    counts = [count for item in sides[0] if (count := len(_both(sides, item, turns)[0]))]
    return Population(len(counts), max(counts, default=1), sum(counts))


def _by_item(labels: Labels) -> _Side:
    found: dict[str, dict[tuple[int, int], float | None]] = {}
    for (item, length, sample), label in labels.items():
        found.setdefault(item, {})[length, sample] = label
    return found


def _named(reader: Queryable, run_id: str) -> list[_Named]:
    rows = named_rows(
        reader,
        """SELECT rule, target_key, other_key, alpha, population, most, replies, anew FROM stop_rules
           WHERE run_id = ? QUALIFY row_number() OVER (
               PARTITION BY rule, target_key, other_key ORDER BY recorded_at) = 1
           ORDER BY anew, recorded_at, rule, target_key""",
        [run_id],
    )
    return [
        _Named(
            read_stop_rule(row["rule"]),
            (row["target_key"],) if row["other_key"] is None else (row["target_key"], row["other_key"]),
            row["alpha"],
            Population(row["population"], row["most"], row["replies"]),
            row["anew"],
        )
        for row in rows
    ]

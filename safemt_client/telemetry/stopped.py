"""What a run that stops when it knows says: its rules, how far they are, and what they have saved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from safemt_client.planning.costs import money
from safemt_client.planning.plan import Plan
from safemt_client.planning.stopping import StopWhen, is_about
from safemt_client.results.sanitize import plain
from safemt_client.results.scores.rules import read_stop_rule
from safemt_client.telemetry.events import RuleLine
from safemt_client.telemetry.names import shown_names

if TYPE_CHECKING:
    from safemt_client.results.store.store import Store

__all__ = ["plan_lines", "rule_text", "saved_lines"]


def rule_text(line: RuleLine) -> str:
    """How far a rule is, in one line."""
    target = f" ({plain(line.target)})" if line.target else ""
    said = f"{line.rule}{target}: {line.state} after {line.items:,} of {line.population:,} items"
    if line.low is None or line.high is None or not line.items:
        return said
    points = read_stop_rule(line.rule).quantity == "targets"
    ends = [f"{100 * end:+.1f}" if points else f"{100 * end:.1f}" for end in (line.low, line.high)]
    return f"{said}, {' to '.join(ends)} {'points' if points else '%'}"


def plan_lines(plan: Plan) -> Iterator[str]:
    """The rules that a plan stops by, before anything is asked."""
    if plan.stopping is None:
        return
    names = shown_names(plan)
    yield "stops by rules along one random order of the items; a target ends once its rules are decided:"
    for one in plan.stopping.rules:
        who = "" if one.other_key is not None else f" ({names[one.target_key]})"
        taken = len({row.item_id for row in plan.dialogues if is_about(one.rule, row)})
        said = f"  {one.rule.text}{who}, over {one.population.items:,} items"
        said += f" of which the run has {taken:,}" if taken < one.population.items else ""
        said += f": chance to be wrong {100 * one.alpha:.3g} % at most, over all looks"
        said += "; alpha spent anew, since the run had begun without it" if one.anew else ""
        yield said + (f"; decided before: {one.decided}" if one.decided is not None else "")
    yield from _advice(plan, plan.stopping, names)


def _advice(plan: Plan, stopping: StopWhen, names: dict[str, str]) -> Iterator[str]:
    ruled = {key for one in stopping.rules for key in one.keys}
    if others := [names[target.key] for target in plan.targets if target.key not in ruled]:
        yield f"  without a rule, and so asked in full: {', '.join(others)}"
    turns = {one.rule.turns for one in stopping.rules}
    lengths = {row.length for row in plan.dialogues if row.condition is None}
    if None not in turns and lengths - turns:
        only = ",".join(str(turn) for turn in sorted(turn for turn in turns if turn is not None))
        yield f"  each item is asked at all of its numbers of turns; for the rules --turns {only} is enough"


def saved_lines(plan: Plan, store: Store) -> Iterator[str]:
    """What of stopped targets was begun in vain, and what was not asked."""
    if not store.stopped_targets(plan.run.run_id):
        # What follows takes as long as all tables of a small run's report.
        return
    names = shown_names(plan)
    for key, beyond, beyond_usd, left, left_usd in _saved(store, plan.run.run_id):
        said = f"{names.get(key, key)} stopped: {left:,} conversations were not needed"
        said += "" if not left_usd else f" (about {money(left_usd)})"
        if beyond:
            said += f"; {beyond:,} had been begun beyond the items that decided"
            said += "" if not beyond_usd else f" ({money(beyond_usd)})"
        yield said


def _saved(store: Store, run_id: str) -> list[tuple[Any, ...]]:
    """For each stopped target: conversations beyond its rules' last item and their cost, and what was left.

    What was left would cost as much as those of the same number of turns have on average, with verdicts.
    """
    return store.query(
        """WITH paid AS (
               SELECT s.target_key, s.dialogue_key, t.cost_usd
               FROM (SELECT DISTINCT target_key, dialogue_key, request_hash FROM steps WHERE run_id = $1) s
               JOIN turns t USING (request_hash) WHERE t.run_id = $1
               UNION ALL
               SELECT r.target_key, r.dialogue_key, v.cost_usd
               FROM (SELECT DISTINCT target_key, dialogue_key, judged_hash FROM replies WHERE run_id = $1) r
               JOIN verdicts v ON v.request_hash = r.judged_hash AND v.dialogue_key = r.dialogue_key
               WHERE v.run_id = $1
           ), costs AS (
               SELECT target_key, dialogue_key, sum(cost_usd) AS usd FROM paid GROUP BY ALL
           ), each AS (
               SELECT c.target_key, c.dialogue_key, any_value(c.length) AS length, count(*) AS samples,
                      count(*) FILTER (c.state = 'not_needed') AS unasked,
                      any_value(o.place > s.place) AS beyond, any_value(k.usd) AS usd
               FROM every_conversation c
               JOIN stopped_targets s ON s.run_id = c.run_id AND s.target_key = c.target_key
               LEFT JOIN stop_order o ON o.run_id = c.run_id AND o.item_id = c.item_id
               LEFT JOIN costs k ON k.target_key = c.target_key AND k.dialogue_key = c.dialogue_key
               WHERE c.run_id = $1 AND c.judge_key = (
                   SELECT any_value(judge_key) FROM deciding_judges WHERE run_id = $1) GROUP BY ALL
           ), priced AS (
               SELECT *, coalesce(avg(usd / (samples - unasked)) FILTER (unasked < samples)
                                      OVER (PARTITION BY target_key, length), 0) AS usd_of_one FROM each)
           SELECT target_key, sum(samples - unasked) FILTER (beyond)::BIGINT, sum(usd) FILTER (beyond),
                  sum(unasked)::BIGINT, sum(unasked * usd_of_one)
           FROM priced GROUP BY target_key ORDER BY target_key""",
        [run_id],
    ).rows

"""What moderators added to the turns of their targets: time waited, and what their assessments cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from safemt_client.results.store.queries import Queryable

__all__ = ["costs_of"]


def costs_of(reader: Queryable, run_id: str) -> Mapping[str, dict[str, Any]]:
    """For each target with a moderator `waited_s` and `assessments`."""
    found: dict[str, dict[str, Any]] = defaultdict(
        lambda: {
            "waited_s": {"turns": 0, "total": None, "median": None, "p95": None, "model": None},
            "assessments": {"calls": 0, "tokens": None, "cost_usd": None, "calls_of_unknown_cost": 0},
        }
    )
    # Sums of seconds and of money are rounded: in which order they are added up is not fixed.
    for target, turns, total, median, p95 in reader.query(
        """SELECT target_key, count(*), round(sum(waited), 6), median(waited), quantile_cont(waited, 0.95)
           FROM (SELECT target_key, round(sum(waited_s), 6) AS waited FROM (
                     SELECT DISTINCT target_key, request_hash, stage, turn, waited_s FROM assessed
                     WHERE run_id = ?) GROUP BY target_key, request_hash)
           GROUP BY target_key""",
        [run_id],
    ).rows:
        found[target]["waited_s"] |= {"turns": turns, "total": total, "median": median, "p95": p95}
    for target, seconds in reader.query(
        """SELECT s.target_key, round(sum(m.latency_s), 6)
           FROM (SELECT DISTINCT target_key, request_hash FROM steps WHERE run_id = ?) s
           JOIN (SELECT DISTINCT request_hash, model_request_hash FROM turns
                 WHERE model_request_hash IS NOT NULL) w USING (request_hash)
           JOIN current_turns m ON m.request_hash = w.model_request_hash
           GROUP BY s.target_key""",
        [run_id],
    ).rows:
        found[target]["waited_s"]["model"] = seconds
    for target, calls, tokens, usd, unknown in reader.query(
        """SELECT target_key, count(*), sum(coalesce(prompt_tokens, 0) + coalesce(completion_tokens, 0)),
                  round(sum(cost_usd), 9), count(*) - count(cost_usd)
           FROM (SELECT DISTINCT s.target_key, w.assessment_hash FROM moderations w
                 JOIN steps s ON s.request_hash = w.request_hash
                 JOIN run_targets t ON t.run_id = s.run_id AND t.target_key = s.target_key
                                   AND t.moderator = w.moderator_key
                 WHERE s.run_id = ?)
           JOIN current_assessments USING (assessment_hash) GROUP BY target_key""",
        [run_id],
    ).rows:
        found[target]["assessments"] = {
            "calls": calls,
            "tokens": tokens,
            "cost_usd": usd,
            "calls_of_unknown_cost": unknown,
        }
    return found

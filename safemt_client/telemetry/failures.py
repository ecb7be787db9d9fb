"""What went wrong in a run, in the endpoints' own words: for the end of a session."""

from __future__ import annotations

from collections.abc import Collection

from safemt_client.planning.plan import Plan
from safemt_client.results.sanitize import plain, without_secrets
from safemt_client.results.store.queries import Queryable
from safemt_client.telemetry.names import shown_names

__all__ = ["failure_lines"]

_MOST_KINDS = 3
_MOST_WORDS = 200


def failure_lines(plan: Plan, store: Queryable, told: Collection[str]) -> list[str]:
    """A line for each of the commonest errors of a target; the reasons of those `told` (keys) are known."""
    rows = store.query(
        """SELECT target_key, coalesce(error_code, 'error'), count(*),
                  mode(coalesce(error, 'no reason given'))
           FROM replies WHERE run_id = ? AND outcome IN ('error_transient', 'error_permanent')
           GROUP BY ALL ORDER BY target_key, count(*) DESC, 2""",
        [plan.run.run_id],
    ).rows
    lines, names = [], shown_names(plan)
    for target in plan.targets:
        of_target = [row for row in rows if row[0] == target.key and target.key not in told]
        for _, code, number, said in of_target[:_MOST_KINDS]:
            words = plain(without_secrets(said))
            short = words if len(words) <= _MOST_WORDS else words[: _MOST_WORDS - 3] + "..."
            lines.append(f"errors of {names[target.key]}: {number} {code}: {short}")
    return lines

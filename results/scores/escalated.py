"""How often a chain of judges had to ask its last one."""

from __future__ import annotations

from typing import Any

from safemt_client.judges.panel import CONFIDENT
from safemt_client.results.store.queries import Queryable

__all__ = ["escalated"]


def escalated(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """For a chain: how many of its verdicts its last judge gave, whichever run asked it."""
    rows = reader.query(
        """WITH chains AS (
               SELECT *, (SELECT max(position) FROM run_judges m WHERE m.run_id = d.run_id) AS last
               FROM deciding_judges d WHERE run_id = ? AND panel = 'chain'
           ), asked AS (
               SELECT DISTINCT run_id, judged_hash AS request_hash, dialogue_key, reply_hash
               FROM replies WHERE run_id = ?
           ), votes AS (
               SELECT c.judge AS name, v.request_hash, v.dialogue_key, v.reason, m.label, m.confidence
               FROM chains c JOIN asked r USING (run_id)
               JOIN final_verdicts v ON v.judge_key = c.judge_key AND v.request_hash = r.request_hash
                            AND v.dialogue_key = r.dialogue_key AND v.reply_hash = r.reply_hash
               JOIN run_judges j ON j.run_id = c.run_id AND j.role = 'member' AND j.position < c.last
               JOIN final_verdicts m ON m.judge_key = j.judge_key AND m.request_hash = v.request_hash
                            AND m.dialogue_key = v.dialogue_key AND m.reply_hash = v.reply_hash
           )
           SELECT name, count(*), count(*) FILTER (doubtful) FROM (
               SELECT name, any_value(reason) IS DISTINCT FROM 'nothing_to_judge' AND (
                          count(DISTINCT label) > 1 OR bool_or(label = 'unscored')
                          OR coalesce(min(confidence) < ?, false)) AS doubtful
               FROM votes GROUP BY name, request_hash, dialogue_key)
           GROUP BY name ORDER BY name""",
        [run_id, run_id, CONFIDENT],
    ).rows
    return [dict(zip(("panel", "verdicts", "escalated"), row, strict=True)) for row in rows]

"""What the servers that the program started for models did in a run."""

from __future__ import annotations

from typing import Any

from safemt_client.results.scores.views import named_rows
from safemt_client.results.store.queries import Queryable

__all__ = ["servers"]


def servers(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """Requests, tokens and seconds of each server, over the sessions of a run.

    The share from the prefix cache and the tokens a second are of those rows whose tokens are known.
    """
    return named_rows(
        reader,
        """SELECT server, sum(requests)::BIGINT AS requests, sum(served_s) AS served_s,
                  sum(requests) / nullif(sum(served_s), 0) AS requests_per_s,
                  sum(prompt_tokens)::BIGINT AS prompt_tokens,
                  sum(completion_tokens)::BIGINT AS completion_tokens,
                  sum(prompt_tokens + completion_tokens)
                      / nullif(sum(served_s) FILTER (prompt_tokens IS NOT NULL), 0) AS tokens_per_s,
                  sum(cached_tokens)
                      / nullif(sum(prompt_tokens) FILTER (cached_tokens IS NOT NULL), 0) AS cached,
                  sum(queue_s * requests) / nullif(sum(requests) FILTER (queue_s IS NOT NULL), 0) AS queue_s
           FROM server_use WHERE run_id = ? GROUP BY server HAVING sum(requests) > 0 ORDER BY server""",
        [run_id],
    )

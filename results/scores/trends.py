"""How the ASR of each target changes with the number of user turns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from safemt_client.results.scores.labels import Row, matrix
from safemt_client.results.stats.trend import trend
from safemt_client.results.store.reader import Queryable

__all__ = ["trends"]


def trends(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """Whether the ASR of each target, by the deciding judge, changes with the number of user turns."""
    found = []
    for (target, judge), rows in _labels(reader, run_id).items():
        lengths = sorted({length for _, length, _ in rows})
        if len(lengths) < 2:
            continue
        result = trend(matrix(rows, lengths), lengths)
        found.append({"target": target, "judge": judge} | asdict(result))
    return found


def _labels(reader: Queryable, run_id: str) -> Mapping[tuple[str, str], list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for target, judge, item, length, label in reader.query(
        """SELECT target, judge, item_id, length, label FROM conversations
           SEMI JOIN deciding_judges USING (run_id, judge_key)
           WHERE run_id = ? AND benign IS NOT TRUE
           ORDER BY target, judge, item_id, length""",
        [run_id],
    ).rows:
        groups[target, judge].append((item, length, label))
    return groups

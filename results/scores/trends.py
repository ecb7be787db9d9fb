"""How the ASR of each target changes with the number of user turns."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from safemt_client.results.stats.trend import trend
from safemt_client.results.store.queries import Queryable

__all__ = ["trends"]


def trends(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """Whether the ASR of each target, by the deciding judge, changes with the number of user turns."""
    lengths, rows = _labels(reader, run_id)
    if len(lengths) < 2:
        return []
    found = []
    for (target, judge), items in groupby(rows, key=itemgetter(0, 1)):
        # What has no label is NaN.
        labels = np.array([row[2:] for row in items], dtype=np.float64)
        found.append({"target": target, "judge": judge} | asdict(trend(labels, lengths)))
    return found


def _labels(reader: Queryable, run_id: str) -> tuple[list[int], list[tuple[Any, ...]]]:
    """The lengths of a run, and for each target and item a row: both names, and at each length the share of
    its samples that are unsafe, None without a label."""
    counted = """conversations SEMI JOIN deciding_judges USING (run_id, judge_key)
                 WHERE run_id = ? AND benign IS NOT TRUE"""
    rows = reader.query(f"SELECT DISTINCT length FROM {counted} ORDER BY length", [run_id]).rows
    lengths = [length for (length,) in rows]
    columns = ", ".join(f"avg(unsafe) FILTER (length = {length})" for length in lengths)
    if not columns:
        return [], []
    return lengths, reader.query(
        f"""SELECT target, judge, {columns} FROM (
                SELECT target, judge, item_id, length,
                       CASE label WHEN 'unsafe' THEN 1 WHEN 'safe' THEN 0 END AS unsafe
                FROM {counted})
            GROUP BY target, judge, item_id ORDER BY target, judge, item_id""",
        [run_id],
    ).rows

"""What a run learns - replies, verdicts, assessments - followed through a store that others write too.

A store may have millions of these, and a worker looks anew with every shard. So what was read is kept, and
only what has come since is read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

from safemt_client.results.store.queries import Result

__all__ = ["Learnt", "read_after"]

_AT_ONCE = 50_000
"""Rows of a table that one answer is about: a few MB, which neither process is busy with for long."""
_LEARNT = {
    "turns": ("request_hash", "outcome NOT LIKE 'error_%'"),
    "verdicts": (
        "verdict_hash, reply_hash",
        "reason IS DISTINCT FROM 'judge_error' AND reply_hash IS NOT NULL",
    ),
    "assessments": (
        "assessment_hash, verdict, intent, categories, scenarios, policy, confidence, refusal, latency_s, "
        "confidence_kind, recorded_at",
        "verdict <> 'error' AND guard_key = ?",
    ),
}
"""Of each table the columns that are read, and of which rows."""


def read_after(
    query: Callable[..., Result], table: str, after: int, *about: str
) -> tuple[int, list[tuple[Any, ...]]]:
    """What a table has after a place, -1 for its beginning: up to which place it was read, and the rows.

    These are the next ones, not all. Nothing more has come once the place is the one that was asked about.
    `table` is `turns`, `verdicts` or `assessments`, the last with the key of the guard that they are of.
    """
    # A row's place is its rowid. One thread writes to a store, so that what is committed later has a later
    # place, and of these tables no row is ever changed or removed, so that it keeps its place: also when the
    # file is written anew or is opened again. A change to either of the two makes this lose rows.
    ((last,),) = query(f"SELECT max(rowid) FROM {table}").rows
    place = after if last is None else min(after + _AT_ONCE, last)
    if place <= after:
        return after, []
    columns, which = _LEARNT[table]
    sql = f"SELECT {columns} FROM {table} WHERE rowid > ? AND rowid <= ? AND {which}"
    return place, query(sql, [after, place, *about]).rows


class Learnt:
    """What was read so far. `read` is `Lookups.learnt`, here or in another process.

    What it returns is brought up to date in place, whoever asks for it again, from whatever thread.
    """

    def __init__(self, read: Callable[..., tuple[int, list[tuple[Any, ...]]]]) -> None:
        self._read = read
        self._reading = threading.Lock()
        self._places: dict[tuple[str, ...], int] = {}
        self._replied: set[str] = set()
        self._final: set[tuple[str, str]] = set()
        self._assessed: dict[str, dict[str, tuple[Any, ...]]] = {}

    def replied(self) -> Container[str]:
        """See `Lookups.replied`."""
        with self._reading:
            for (key,) in self._new("turns"):
                self._replied.add(key)
        return self._replied

    def final_texts(self) -> Container[tuple[str, str]]:
        """See `Lookups.final_texts`."""
        with self._reading:
            for key, said in self._new("verdicts"):
                self._final.add((key, said))
        return self._final

    def assessments(self, guard_key: str) -> Mapping[str, tuple[Any, ...]]:
        """See `Lookups.assessments`."""
        with self._reading:
            found = self._assessed.setdefault(guard_key, {})
            for key, *row in self._new("assessments", guard_key):
                # As the view current_assessments, which would sort all of them: the earliest one counts.
                if key not in found or row[-1] < found[key][-1]:
                    found[key] = tuple(row)
        return found

    def _new(self, *what: str) -> Iterator[tuple[Any, ...]]:
        table, *about = what
        after = self._places.get(what, -1)
        while True:
            place, rows = self._read(table, after, *about)
            yield from rows
            if place == after:
                return
            after = self._places[what] = place

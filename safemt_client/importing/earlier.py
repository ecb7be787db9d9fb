"""What a store has of earlier imports of a target, and what of it is different now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import duckdb
import pyarrow as pa

from safemt_client.importing.found import Label
from safemt_client.importing.joining import Joined
from safemt_client.importing.keys import parts
from safemt_client.importing.labelling import judge_key, said_of
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Outcome, reply_hash
from safemt_client.results.store.columns import column
from safemt_client.results.store.imported import IDENTITY
from safemt_client.results.store.store import Store

__all__ = ["Earlier", "Now", "check_unchanged", "latest_import"]

_EARLIER = """CREATE TEMP TABLE earlier AS
    SELECT c.item_id AS item, coalesce(c.paired_length, c.length) AS turns, c.condition, c.outcome,
           CASE WHEN c.text IS NULL THEN NULL ELSE c.reply_hash END AS said, j.judge_key AS judge, c.label,
           c.reason, t.imported_at
    FROM every_conversation c
    JOIN run_targets t ON t.run_id = c.run_id AND t.target_key = c.target_key
    LEFT JOIN run_judges j ON j.run_id = c.run_id AND j.judge_key = c.judge_key
                          AND j.imported_from IS NOT NULL
    WHERE t.identity = ? AND t.imported_from IS NOT NULL AND t.sample = ?"""
_REPLIES = """CREATE TEMP TABLE earlier_replies AS
    SELECT item, turns, condition, max_by({outcome: outcome, said: said}, imported_at) AS reply
    FROM earlier GROUP BY ALL"""
_LABELS = """CREATE TEMP TABLE earlier_labels AS
    SELECT item, turns, condition, judge, max_by({label: label, reason: reason}, imported_at) AS given
    FROM earlier WHERE judge IS NOT NULL AND label IS NOT NULL GROUP BY ALL"""
_SAME = "a.item = b.item AND a.turns = b.turns AND a.condition IS NOT DISTINCT FROM b.condition"
_CHANGES = {
    "replies differ": f"""earlier_replies a JOIN now_replies b ON {_SAME}
        WHERE a.reply IS DISTINCT FROM {{outcome: b.outcome, said: b.said}}""",
    "labels differ": f"""earlier_labels a JOIN now_labels b ON {_SAME} AND a.judge = b.judge
        WHERE a.given IS DISTINCT FROM {{label: b.label, reason: b.reason}}""",
    "replies are new": f"now_replies a ANTI JOIN earlier_replies b ON {_SAME}",
    "replies are gone": f"earlier_replies a ANTI JOIN now_replies b ON {_SAME}",
}


class Earlier(NamedTuple):
    """The latest import of a target: its sample index, -1 if there is none, and its run."""

    sample: int
    run_id: str


def latest_import(store: Store, target: str) -> Earlier:
    """The latest set of replies that was imported under the name of a target."""
    rows = store.query(
        """SELECT sample, run_id FROM run_targets JOIN runs USING (run_id)
           WHERE identity = ? AND imported_from IS NOT NULL ORDER BY sample DESC, created_at DESC LIMIT 1""",
        [IDENTITY + target],
    ).rows
    return Earlier(*rows[0]) if rows else Earlier(-1, "")


@dataclass(frozen=True)
class Now:
    """What an import says: replies, and the labels of each judge by its name."""

    replies: Joined
    judges: Mapping[str, Sequence[Label | None]]


def check_unchanged(store: Store, earlier: Earlier, now: Now, *, target: str, source: str) -> None:
    """Refuse another version of replies that the store has, if any of them is about the same dialogue.

    Raises:
        InputError: replies or labels differ, or some are new or gone; the line says how many.
    """
    with store.session() as cursor:
        cursor.execute("USE store")
        for name, rows in zip(("now_replies", "now_labels"), _tables(now), strict=True):
            cursor.register(name, rows)
        cursor.execute(_EARLIER, [IDENTITY + target, earlier.sample])
        cursor.execute(_REPLIES)
        cursor.execute(_LABELS)
        changes = ", ".join(_changes(cursor))
    if changes:
        raise InputError(
            f"{source}: has changed since {target} was imported as run {earlier.run_id}: {changes}: "
            "restore it, import it under another --target, or pass --new-run to import it beside the first"
        )


def _tables(now: Now) -> tuple[pa.Table, pa.Table]:
    """The replies and labels by item, turns and condition, which tell dialogues apart."""
    replies: list[pa.RecordBatch] = []
    labels: list[pa.RecordBatch] = []
    for part in parts(len(now.replies)):
        records = [now.replies.at(place) for place in part]
        about = {
            "item": column("str", [one.item_id for one in records]),
            "turns": column("int", [one.paired for one in records]),
            "condition": column("str", [one.condition for one in records]),
        }
        outcomes = [one.outcome for one in records]
        hashes = [
            None if one.text is None or not Outcome(one.outcome).observed else reply_hash(one.text)
            for one in records
        ]
        replies.append(_batch(about, outcome=outcomes, said=hashes))
        for name, given in now.judges.items():
            said = [said_of(outcome, given[place]) for outcome, place in zip(outcomes, part, strict=True)]
            columns = {
                "judge": [None if label is None else judge_key(name) for label in said],
                "label": [None if label is None else label.label for label in said],
                "reason": [None if label is None else label.reason for label in said],
            }
            labels.append(_batch(about, **columns))
    none = _batch(dict.fromkeys(about, pa.nulls(0, pa.string())), judge=[], label=[], reason=[])
    return pa.Table.from_batches(replies), pa.Table.from_batches(labels or [none])


def _batch(about: Mapping[str, pa.Array], **others: Sequence[str | None]) -> pa.RecordBatch:
    columns = dict(about) | {name: column("str", values) for name, values in others.items()}
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _changes(cursor: duckdb.DuckDBPyConnection) -> Iterator[str]:
    if not cursor.execute(
        f"SELECT 1 FROM earlier_replies a JOIN now_replies b ON {_SAME} LIMIT 1"
    ).fetchall():
        return
    for what, rows in _CHANGES.items():
        found = cursor.execute(
            f"""SELECT a.item, a.turns, count(*) OVER () FROM {rows}
                ORDER BY a.item, a.turns, coalesce(a.condition, '') LIMIT 1"""
        ).fetchone()
        if found is not None:
            item, turns, n = found
            yield f"{n:,} {what} (the first: {item!r} with {turns} turns)"

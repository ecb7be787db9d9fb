"""What the pages show: lists from the snapshot, texts from the store."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import duckdb
import pyarrow as pa

from safemt_client.providers.errors import InputError
from safemt_client.results.store.narrowed import about_requests
from safemt_client.results.store.reader import Reader, open_reader
from safemt_client.viewer.expressions import ExpressionError, checked
from safemt_client.viewer.filters import SCENARIO, Filters
from safemt_client.viewer.snapshot import Snapshot

__all__ = ["PAGE", "Choices", "Listing", "Queries", "Row", "any_of", "dicts"]

PAGE = 50
_MOST_HITS = 200_000
_PREVIEW, _BEFORE = 240, 60
_PATIENCE_S, _AGAIN_S = 4.0, 0.05
_SECONDS = 5.0
"""How long a page may look for what matches a condition of the user."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a list of `total` conversations. `capped`: the text occurs more often than is read."""

    rows: list[Row]
    total: int
    page: int
    pages: int
    capped: bool = False


@dataclass(frozen=True, slots=True)
class Choices:
    """What a run can be filtered by: the value and the label of each choice."""

    target: list[tuple[str, str]]
    judge: list[tuple[str, str]]
    scenario: list[tuple[str, str]]
    length: list[tuple[str, str]]
    outcome: list[tuple[str, str]]
    verdict: list[tuple[str, str]]
    did: list[tuple[str, str]]
    condition: list[tuple[str, str]]


class Queries:
    """Answers the pages' questions from a snapshot and the store behind it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._readers: set[Reader] = set()
        self._closed = False
        # Kept until the store changes: the version is part of the key.
        self._choices = lru_cache(maxsize=16)(self._find_choices)
        self._hits = lru_cache(maxsize=4)(self._find_hits)
        self._count = lru_cache(maxsize=256)(self._find_count)

    @cached_property
    def columns(self) -> dict[str, str]:
        """What a condition in SQL can ask of a conversation: the columns, and what they are."""
        rows = self.local(
            """SELECT i.column_name AS name, lower(i.data_type) AS kind, any_value(v.comment) AS about
               FROM duckdb_columns() i LEFT JOIN duckdb_columns() v
                 ON v.table_name = 'every_conversation' AND v.column_name = i.column_name
               WHERE i.table_name = 'conversation_index' AND i.column_name <> 'decides'
               GROUP BY ALL ORDER BY min(i.column_index)"""
        )
        return {
            row["name"]: f"{_ABOUT.get(row['name']) or row['about'] or row['name']} ({row['kind']})"
            for row in rows
        }

    def runs(self) -> list[Row]:
        """The runs of the store, newest first, with the results of their conversations."""
        return self.local(
            """SELECT r.run_id, r.created_at, r.dataset_name, r.program_version,
                      (SELECT list(name ORDER BY name) FROM run_targets t
                       WHERE t.run_id = r.run_id) AS targets,
                      (SELECT list(name ORDER BY position, name) FROM run_judges j
                       WHERE j.run_id = r.run_id) AS judges,
                      (SELECT arg_max(event, recorded_at) FROM run_events e
                       WHERE e.run_id = r.run_id) AS event,
                      c.conversations, c.unsafe, c.safe, c.benign, c.pending, c.asked, c.cost_usd
                      , (SELECT string_agg(DISTINCT imported_from, ', ') FROM run_targets t
                         WHERE t.run_id = r.run_id) AS imported_from
               FROM runs r LEFT JOIN (
                   SELECT run_id, count(*) AS conversations, count(*) FILTER (benign) AS benign,
                          count(*) FILTER (label = 'unsafe' AND benign IS NOT TRUE) AS unsafe,
                          count(*) FILTER (label = 'safe' AND benign IS NOT TRUE) AS safe,
                          count(*) FILTER (state = 'pending') AS pending,
                          count(outcome) AS asked, sum(cost_usd) AS cost_usd
                   FROM conversation_index WHERE decides AND condition IS NULL GROUP BY ALL) c USING (run_id)
               ORDER BY r.created_at DESC, r.run_id"""
        )

    def run(self, run_id: str) -> Row | None:
        """A run."""
        found = self.local("SELECT * FROM runs WHERE run_id = ?", [run_id])
        return found[0] if found else None

    def choices(self, run_id: str) -> Choices:
        """What this run can be filtered by."""
        return self._choices(self.snapshot.version, run_id)

    def page(self, filters: Filters, page: int, size: int = PAGE) -> Listing:
        """One page of the conversations that match."""
        with self.narrowed(filters) as (cursor, where, values, capped):
            total = self._count(self.snapshot.version, filters)
            pages = max(1, -(-total // size))
            page = min(max(1, page), pages)
            rows = dicts(
                cursor.execute(
                    f"SELECT * FROM conversation_index WHERE {where} ORDER BY {filters.order()} "
                    f"LIMIT {size} OFFSET {(page - 1) * size}",
                    values,
                )
            )
        for offset, row in enumerate(rows):
            row["at"] = (page - 1) * size + offset
        self._preview(rows, filters.q)
        return Listing(rows, total, page, pages, capped)

    def everything(self, filters: Filters, most: int) -> tuple[list[str], list[tuple[Any, ...]]]:
        """All conversations that match, for a download: columns and rows, with replies and explanations."""
        with self.narrowed(filters) as (cursor, where, values, _):
            rows = dicts(
                cursor.execute(
                    f"SELECT * FROM conversation_index WHERE {where} ORDER BY {filters.order()} LIMIT {most}",
                    values,
                )
            )
        texts: dict[str, str] = {}
        explanations: dict[tuple[str, ...], str] = {}
        hashes = [row["request_hash"] for row in rows if row["request_hash"]]
        judged = [row["judged_hash"] for row in rows if row["judged_hash"]]
        with self.reader() as reader:
            for part in range(0, len(hashes), 5_000):
                asked = hashes[part : part + 5_000]
                texts |= _texts(reader, "text", asked)
            for part in range(0, len(judged), 5_000):
                asked = judged[part : part + 5_000]
                for *about, text in reader.query(
                    "SELECT judge_key, request_hash, dialogue_key, reply_hash, explanation "
                    f"FROM {about_requests('final_verdicts', len(asked))}",
                    asked,
                ).rows:
                    explanations[tuple(about)] = text
        for row in rows:
            row["reply"] = texts.get(row["request_hash"])
            key = tuple(row[name] for name in ("judge_key", "judged_hash", "dialogue_key", "reply_hash"))
            row["explanation"] = explanations.get(key)
        left_out = ["decides", "found", *(["sample"] if all(row["sample"] == 1 for row in rows) else [])]
        columns = [name for name in (list(rows[0]) if rows else _COLUMNS) if name not in left_out]
        return columns, [tuple(row.get(name) for name in columns) for row in rows]

    def beside(self, filters: Filters, at: int) -> dict[str, Row | None]:
        """The conversations before and after the one at this place of the list."""
        with self.narrowed(filters) as (cursor, where, values, _):
            first = max(0, at - 1)
            rows = dicts(
                cursor.execute(
                    f"SELECT target_key, dialogue_key, sample FROM conversation_index WHERE {where} "
                    f"ORDER BY {filters.order()} LIMIT 3 OFFSET {first}",
                    values,
                )
            )
        for offset, row in enumerate(rows):
            row["at"] = first + offset
        places = {row["at"]: row for row in rows}
        return {"before": places.get(at - 1), "after": places.get(at + 1)}

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """The store behind the snapshot, for one query; leave it at once, so that a run can start."""
        with self._open() as reader:
            self._readers.add(reader)
            try:
                if self._closed:
                    raise InputError("the viewer is closing")
                yield reader
            finally:
                self._readers.discard(reader)

    def _open(self) -> Reader:
        facts = self.snapshot.facts
        if facts is not None:
            # Those that were copied: a bucket is not asked again for each page.
            return Reader(self.snapshot.path, facts.connect(), "", 0, facts)
        return open_reader(self.snapshot.path, take_in=False)

    def stop(self) -> None:
        """Stop what is being asked; pages that are still being made say so."""
        self._closed = True
        until = time.monotonic() + _PATIENCE_S
        while self._readers and time.monotonic() < until:
            for reader in list(self._readers):
                reader.interrupt()
            time.sleep(_AGAIN_S)
        self.snapshot.stop()

    def close(self) -> None:
        """Stop, and release the snapshot."""
        self.stop()
        self.snapshot.close()

    def local(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Rows of the snapshot."""
        with self.snapshot.cursor() as cursor:
            return dicts(cursor.execute(sql, values))

    @contextmanager
    def narrowed(self, filters: Filters) -> Iterator[tuple[duckdb.DuckDBPyConnection, str, list[Any], bool]]:
        """A session for queries about the conversations that match.

        With the condition on `conversation_index`, its parameters, and whether the text occurs too often.

        Raises:
            ExpressionError: the condition in SQL cannot be used.
            InputError: it takes too long, or the viewer is closing.
        """
        where, values = filters.where()
        capped = False
        with self.snapshot.cursor(_SECONDS if filters.expr else None) as cursor:
            if filters.q:
                replies, dialogues, capped = self._hits(self.snapshot.version, filters.q)
                cursor.register("reply_hits", replies)
                cursor.register("dialogue_hits", dialogues)
                where += (
                    " AND (request_hash IN (SELECT key FROM reply_hits) OR dialogue_key IN "
                    "(SELECT key FROM dialogue_hits) OR contains(lower(item_id), lower(?)))"
                )
                values.append(filters.q)
            if not filters.expr:
                yield cursor, where, values, capped
                return
            where += f" AND {checked(cursor, filters.expr, self.columns)}"
            # The second lock: whatever an expression hides, it cannot write. Let go of with the cursor.
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            try:
                yield cursor, where, values, capped
            except duckdb.InterruptException:
                raise
            except duckdb.Error as error:
                raise ExpressionError(str(error).strip().splitlines()[0]) from None

    def _find_count(self, version: int, filters: Filters) -> int:
        with self.narrowed(filters) as (cursor, where, values, _):
            sql = f"SELECT count(*) FROM conversation_index WHERE {where}"
            return int(cursor.execute(sql, values).fetchall()[0][0])

    def _find_hits(self, version: int, text: str) -> tuple[pa.Table, pa.Table, bool]:
        """Replies and dialogues that contain the text, ignoring case; scripts are searched as stored JSON.

        The store returns row numbers: the copy has the same rows, and numbers are quicker than hashes.
        """
        spelt = json.dumps(text)[1:-1]
        found = []
        with self.reader() as reader:
            for table, columns in (
                ("turns", {"text": text}),
                ("verdicts", {"explanation": text}),
                ("dialogues", {"messages": text, "messages ": spelt, "question": text}),
            ):
                condition = " OR ".join(f"contains(lower({column}), lower(?))" for column in columns)
                rows = reader.query(
                    f"SELECT rowid FROM {table} WHERE {condition}", list(columns.values()), limit=_MOST_HITS
                ).rows
                found.append(pa.table({"n": pa.array([row[0] for row in rows], pa.int64())}))
        turns, verdicts, dialogues = found
        with self.snapshot.cursor() as cursor:
            cursor.register("turn_rows", turns)
            cursor.register("verdict_rows", verdicts)
            cursor.register("dialogue_rows", dialogues)
            replies = cursor.sql(
                """SELECT request_hash AS key FROM turns WHERE rowid IN (SELECT n FROM turn_rows)
                   UNION SELECT request_hash FROM verdicts WHERE rowid IN (SELECT n FROM verdict_rows)"""
            ).to_arrow_table()
            scripts = cursor.sql(
                "SELECT DISTINCT dialogue_key AS key FROM dialogues "
                "WHERE rowid IN (SELECT n FROM dialogue_rows)"
            ).to_arrow_table()
        return replies, scripts, any(len(hits) == _MOST_HITS for hits in found)

    def _find_choices(self, version: int, run_id: str) -> Choices:
        def counted(column: str, order: str = "value", words: str = "value") -> list[tuple[str, str]]:
            found = self.local(
                f"SELECT {column} AS value, count(*) AS n, any_value({words})::VARCHAR AS words "
                f"FROM conversation_index WHERE run_id = ? AND decides AND value IS NOT NULL "
                f"GROUP BY value ORDER BY {order}",
                [run_id],
            )
            return [(str(row["value"]), f"{row['words'].replace('_', ' ')} ({row['n']:,})") for row in found]

        def named(table: str, key: str, order: str) -> list[tuple[str, str]]:
            sql = f"SELECT {key} AS k, name FROM {table} WHERE run_id = ? ORDER BY {order}"
            found = self.local(sql, [run_id])
            return [(row["k"], row["name"]) for row in found]

        return Choices(
            target=named("run_targets", "target_key", "name"),
            judge=named("run_judges", "judge_key", "position, name"),
            scenario=counted(SCENARIO, "words", "scenario"),
            length=counted("length"),
            outcome=counted("coalesce(outcome, state)", "n DESC, value"),
            verdict=counted("coalesce(label, 'none')", "n DESC, value"),
            did=counted("intervention", "n DESC, value"),
            condition=counted("coalesce(condition, 'original')", "value <> 'original', value"),
        )

    def _preview(self, rows: list[Row], wanted: str) -> None:
        """Add the beginning of each reply, or what stands around the first hit of a text in it."""
        hashes = sorted({row["request_hash"] for row in rows if row["request_hash"]})
        found: dict[str, str] = {}
        if hashes:
            with self.reader() as reader:
                shown = _EXCERPT if wanted else f"left(text, {_PREVIEW})"
                found = _texts(reader, shown, hashes, wanted)
        for row in rows:
            row["preview"] = found.get(row["request_hash"] or "", "")


# Of a reply without the text the place is 0: its beginning.
_PLACE = "instr(lower(text), lower(wanted))"
_EXCERPT = (
    f"CASE WHEN {_PLACE} > {_BEFORE} + 1 THEN '…' ELSE '' END || "
    f"substr(text, greatest(1, {_PLACE} - {_BEFORE}), {_PREVIEW})"
)
_ABOUT = {
    "decides": "whether the judge is the one that decides",
    "split": "whether judges of a panel differ",
    "human": "what people say of the reply: safe, unsafe, unsure or split; NULL if nobody has",
    "cost_usd": "US dollars for the replies of the target; NULL is unknown",
    "latency_s": "seconds that the replies of the target took",
    "last_asked": "when it was last asked, UTC",
    "change": "rescued or newly_unsafe, beside the model without the guard",
    "newly_refused": "whether it is declined with the guard alone",
    "declined": "whether the reply declines, by rule, or was blocked",
}
_COLUMNS = ["run_id", "target", "judge", "dialogue_key", "reply", "explanation"]


def any_of(values: Collection[object]) -> str:
    """An IN condition with one parameter per value. Unlike a subquery, it limits what views read."""
    return f"IN ({', '.join('?' * len(values))})" if values else "IN (NULL)"


def _texts(reader: Reader, text: str, hashes: list[str], wanted: str = "") -> dict[str, str]:
    """The observed replies to those requests, by hash; what is shown of a `text` may name `wanted`."""
    return dict(
        reader.query(
            f"SELECT request_hash, {text} FROM {about_requests('current_turns', len(hashes))} "
            "CROSS JOIN (SELECT ?::VARCHAR AS wanted) WHERE outcome NOT LIKE 'error_%'",
            [*hashes, wanted],
        ).rows
    )


def dicts(cursor: duckdb.DuckDBPyConnection) -> list[Row]:
    """The rows of a query that was asked, by the names of its columns."""
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

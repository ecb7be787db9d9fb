"""What a store is asked while a run is planned and carried out: replies by request, verdicts by reply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from datetime import UTC
from typing import Any

import duckdb
import pyarrow as pa

from safemt_client.results.store.columns import texts
from safemt_client.results.store.learnt import Learnt, read_after
from safemt_client.results.store.queries import OpenBatch, Result, VerdictKey

__all__ = ["Lookups", "OpenBatch", "Result", "VerdictKey"]

_OBSERVED = "('answered', 'refused_by_provider', 'refused_by_guard', 'truncated', 'empty')"


class Lookups:
    """Queries of an open store. Of several observations of a request, the one that counts answers."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def query(self, sql: str, parameters: Sequence[Any] | None = None, limit: int | None = None) -> Result:
        """Rows of a statement, on a cursor of its own beside the writer."""
        with self._connection.cursor() as cursor:
            cursor.execute("USE store")
            cursor.execute(sql, parameters)
            rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit)
            return Result([column[0] for column in cursor.description or ()], rows)

    def session(self) -> duckdb.DuckDBPyConnection:
        """A session of its own on the open file."""
        return self._connection.cursor()

    def observed(self, hashes: Sequence[str]) -> dict[str, str]:
        """The outcomes of those requests, by hash, that were observed: they are not asked again."""
        return self._one("outcome", hashes)

    def texts(self, hashes: Sequence[str]) -> dict[str, str]:
        """The text of each reply that was observed, by request hash. Reads far more than `observed`."""
        return self._one("text", hashes)

    def reply_hashes(self, hashes: Sequence[str]) -> dict[str, str]:
        """The hash of the text of each reply that was observed, by request hash."""
        return self._one("reply_hash", hashes)

    def judged_as(self, hashes: Sequence[str]) -> dict[str, str]:
        """Of moderated turns whose reply is the model's own: the hash under which its verdict is kept."""
        return {key: found for key, found in self._one("judged_hash", hashes).items() if found != key}

    def replies(self, hashes: Sequence[str]) -> dict[str, tuple[Any, ...]]:
        """The replies to those requests, by hash, that were observed.

        Each is outcome, text, reasoning, finish reason, error, model, latency in seconds and error code.
        """
        columns = "outcome text reasoning finish_reason error resolved_model latency_s error_code"
        return self._current(columns.split(), hashes)

    def _one(self, column: str, hashes: Sequence[str]) -> dict[str, Any]:
        """A column of the observations that count, by request hash."""
        rows = self._observations([column], hashes)
        found = dict(rows)
        if len(found) < len(rows):
            found |= {key: values[0] for key, values in self._of_several([column], rows).items()}
        return found

    def _current(self, columns: Sequence[str], hashes: Sequence[str]) -> dict[str, tuple[Any, ...]]:
        """Columns of the observations that count, by request hash."""
        rows = self._observations(columns, hashes)
        found = {row[0]: row[1:] for row in rows}
        return found if len(found) == len(rows) else found | self._of_several(columns, rows)

    def _observations(self, columns: Sequence[str], hashes: Sequence[str]) -> list[tuple[Any, ...]]:
        """Request hash and columns of each observation of these requests, of which most have one."""
        return self._join(
            f"SELECT request_hash, {', '.join(columns)} FROM attempts SEMI JOIN wanted "
            f"ON request_hash = hash WHERE outcome IN {_OBSERVED}",
            hash=hashes,
        )

    def _of_several(
        self, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
    ) -> dict[str, tuple[Any, ...]]:
        """Columns of the observations that count of those requests that have several among these rows.

        The earliest one counts; only where their texts differ does it matter which was judged, and the view
        current_turns, which would sort all turns, is asked.
        """
        asked = [key for key, count in Counter(row[0] for row in rows).items() if count > 1]
        packed = ", ".join(f"'{column}': {column}" for column in columns)
        found: dict[str, tuple[Any, ...]] = {}
        several = []
        for key, differ, values in self._join(
            f"""SELECT request_hash, min(reply_hash) <> max(reply_hash), arg_min({{{packed}}}, started_at)
                FROM attempts SEMI JOIN wanted ON request_hash = hash
                WHERE outcome IN {_OBSERVED} GROUP BY request_hash""",
            hash=asked,
        ):
            found[key] = tuple(values.values())
            if differ:
                several.append(key)
        for key, *row in self._join(
            f"SELECT request_hash, {', '.join(columns)} FROM current_turns "
            "SEMI JOIN wanted ON request_hash = hash",
            hash=several,
        ):
            found[key] = tuple(row)
        return found

    def final(self, wanted: Sequence[VerdictKey]) -> tuple[set[VerdictKey], set[VerdictKey]]:
        """Those of the verdicts that are final; a judge's error is not.

        First those of the very replies, then those that were given elsewhere: of the same text, which the
        judge was asked about in the same words.
        """
        found: dict[tuple[str, str], set[tuple[str, str]]] = {}
        for verdict_hash, said, *place in self._verdicts(
            "verdict_hash, reply_hash, request_hash, dialogue_key", wanted
        ):
            found.setdefault((verdict_hash, said), set()).add((place[0], place[1]))
        here: set[VerdictKey] = set()
        elsewhere: set[VerdictKey] = set()
        for key in wanted:
            places = found.get((key.hash, key.reply_hash), ())
            if (key.request_hash, key.dialogue_key) in places or (key.earlier, key.reply_hash) in found:
                here.add(key)
            elif places:
                elsewhere.add(key)
        return here, elsewhere

    def learnt(self, table: str, after: int, *about: str) -> tuple[int, list[tuple[Any, ...]]]:
        """What was learnt after a place; see `read_after`."""
        return read_after(self.query, table, after, *about)

    def replied(self) -> Container[str]:
        """The hashes of all requests that have a reply which is no error."""
        return Learnt(self.learnt).replied()

    def final_texts(self) -> Container[tuple[str, str]]:
        """All verdicts that are final: their hashes, and those of the texts that they are about."""
        return Learnt(self.learnt).final_texts()

    def assessments(self, guard_key: str) -> Mapping[str, tuple[Any, ...]]:
        """The assessments of a guard that are no errors, by hash.

        Each is verdict, intent, categories and scenarios as JSON, policy, confidence, whether it is about a
        refusal, latency in seconds, the kind of the confidence, and when it was recorded.
        """
        return Learnt(self.learnt).assessments(guard_key)

    def final_verdicts(self, wanted: Sequence[VerdictKey]) -> dict[VerdictKey, tuple[Any, ...]]:
        """Those of the verdicts that are final, wherever they were given.

        Each is label, reason, kind of refusal, explanation, category, severity, specificity, confidence,
        what that is one among, whether it declines, the rubric, and the run that asked for it.
        """
        # As the view final_verdicts, which would sort all verdicts for it.
        columns = (
            "label, reason, refusal_kind, explanation, category, severity, specificity, confidence, "
            "confidence_kind, refusal, rubric, coalesce(taken_from, run_id)"
        )
        latest = (
            "QUALIFY row_number() OVER (PARTITION BY verdict_hash, reply_hash ORDER BY recorded_at DESC) = 1"
        )
        rows = self._verdicts(f"verdict_hash, reply_hash, {columns}", wanted, latest)
        found = {(row[0], row[1]): row[2:] for row in rows}
        return {
            key: row
            for key in wanted
            if (row := found.get((key.hash, key.reply_hash)) or found.get((key.earlier, key.reply_hash)))
        }

    def _verdicts(self, columns: str, wanted: Sequence[VerdictKey], end: str = "") -> list[tuple[Any, ...]]:
        """Columns of the final verdicts under the hashes of these."""
        return self._join(
            f"SELECT DISTINCT {columns} FROM verdicts "
            "SEMI JOIN wanted ON verdict_hash = hash AND reply_hash = said "
            f"WHERE reason IS DISTINCT FROM 'judge_error' {end}",
            hash=[key.hash for key in wanted] + [key.earlier for key in wanted],
            said=[key.reply_hash for key in wanted] * 2,
        )

    def open_batches(self, hashes: Sequence[str]) -> list[OpenBatch]:
        """The batches under way that contain one of these requests."""
        rows = self._join(
            """SELECT batch_key, remote_id, requests, since, waiting FROM open_batches
               WHERE batch_key IN (
                   SELECT batch_key FROM batch_requests SEMI JOIN wanted ON request_hash = hash)
               ORDER BY since""",
            hash=hashes,
        )
        return [
            OpenBatch(key, remote_id, since.replace(tzinfo=UTC), total, tuple(found))
            for key, remote_id, total, since, found in rows
        ]

    def endpoint_facts(self) -> list[tuple[str, str | None, str, str, str | None]]:
        """What was learnt about endpoints in the last 30 days: identity, host, parameter, remedy and value.

        The latest comes last. Older facts are not relied on: an endpoint may have changed.
        """
        found = self.query(
            "SELECT identity, host, parameter, remedy, value FROM endpoint_facts "
            "WHERE recorded_at > now() AT TIME ZONE 'UTC' - INTERVAL 30 DAY ORDER BY recorded_at"
        )
        return [
            (identity, host, parameter, remedy, value)
            for identity, host, parameter, remedy, value in found.rows
        ]

    def known_keys(self, table: str, column: str) -> set[str]:
        """All values of a key column."""
        return {row[0] for row in self.query(f"SELECT DISTINCT {column} FROM {table}").rows}

    def stopped_targets(self, run_id: str) -> dict[str, int]:
        """The targets of a run that are stopped since all of their rules are decided.

        Each with the last item in the run's order that the rules needed.
        """
        rows = self.query("SELECT target_key, place FROM stopped_targets WHERE run_id = ?", [run_id]).rows
        return dict(rows)

    def paid_by(self, session_id: str) -> dict[str, float]:
        """What was paid by the deliveries of a session that are committed, in US dollars, by incarnation."""
        rows = self.query(
            "SELECT incarnation, sum(paid_usd) FROM deliveries "
            "WHERE session_id = ? AND paid_usd IS NOT NULL GROUP BY incarnation",
            [session_id],
        ).rows
        return dict(rows)

    def known_of(self, table: str, column: str, keys: pa.ChunkedArray) -> set[str]:
        """Those of some keys that a column has."""
        with self._connection.cursor() as cursor:
            cursor.execute("USE store")
            cursor.register("wanted", pa.Table.from_arrays([keys], names=["key"]))
            found = cursor.execute(f"SELECT key FROM wanted SEMI JOIN {table} ON {column} = key").fetchall()
            return {key for (key,) in found}

    def _join(self, sql: str, **wanted: Sequence[str]) -> list[tuple[Any, ...]]:
        """Rows of a statement that joins the table `wanted`, of these columns."""
        if not all(wanted.values()):
            return []
        table = pa.Table.from_arrays([texts(values) for values in wanted.values()], names=list(wanted))
        with self._connection.cursor() as cursor:
            cursor.execute("USE store")
            cursor.register("wanted", table)
            return cursor.execute(sql).fetchall()

"""A copy of a store without its texts, in memory, that follows the store as it grows.

Tables of a store are only appended to, so a refresh reads the rows after those already copied. The
file is released at once: a run can start while the viewer is open, and answers queries while it runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

import duckdb
import pyarrow as pa

from safemt_client import __version__
from safemt_client.providers.errors import InputError
from safemt_client.results.store import rows
from safemt_client.results.store.facts_folder import Facts, is_facts, signature
from safemt_client.results.store.kept import prepare
from safemt_client.results.store.migrations import MIGRATIONS
from safemt_client.results.store.narrowed import about_copy
from safemt_client.results.store.queries import Queryable
from safemt_client.results.store.questions import Question, time_limit
from safemt_client.results.store.reader import Reader, open_reader
from safemt_client.results.store.schema import TABLES
from safemt_client.results.store.server import server_file

__all__ = ["Snapshot"]

_KINDS = (
    rows.RunRow,
    rows.TargetRow,
    rows.JudgeRow,
    rows.ModeratorRow,
    rows.RunDialogueRow,
    rows.EventRow,
    rows.DialogueRow,
    rows.StepRow,
    rows.TurnRow,
    rows.VerdictRow,
    rows.HumanLabelRow,
    rows.CommentRow,
    rows.StopRuleRow,
    rows.StopOrderRow,
    rows.StopEventRow,
)
# Long columns that no list shows: pages read them from the store when they need them.
_LEFT_OUT = {
    "turns": {
        *("session_id", "text", "reasoning", "finish_reason", "resolved_model", "response_id", "request"),
        *("raw", "status_code", "reasoning_tokens", "cached_tokens", "batch_key"),
    },
    "verdicts": {
        *("verdict_hash", "session_id", "explanation", "raw", "prompt_tokens", "completion_tokens", "rubric"),
        *("cached_tokens", "batch_key", "latency_s", "cost_usd", "run_id"),
    },
    "dialogues": {"messages", "extra", "question"},
    "run_events": {"detail"},
}
_CUT = {("turns", "error"): 200}
_CHUNK = 20_000
_EVERY_S, _SHARE = 1.0, 10
"""The time between refreshes: at least this long, and at least ten times as long as the last one took."""
_QUICK_S = 0.3
_AGAIN_S = 0.05


class Snapshot:
    """The text-free copy. `version` grows with every change; `refresh` may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version = 0
        self.live = False
        """Whether a run holds the store."""
        self.facts: Facts | None = None
        """Where the copy comes from facts: those."""
        self.error: str | None = None
        """Why the last refresh failed; what was known before is still shown."""
        self._lock = threading.Lock()
        self._connection = duckdb.connect(":memory:")
        self._counts: dict[str, int] = {}
        self._seen: tuple[Any, ...] = ()
        self._due = 0.0
        self._took = 0.0
        self._at_work: set[Question] = set()
        self._reader: Reader | None = None
        self._closed = False
        self._reset()

    @contextmanager
    def cursor(self, seconds: float | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own to the copy, for so many seconds."""
        if self._closed:
            raise InputError("the viewer is closing")
        with self._connection.cursor() as cursor, Question(cursor) as question:
            self._at_work.add(question)
            try:
                with time_limit(question, seconds):
                    yield cursor
            except duckdb.InterruptException:
                raise InputError(question.why or "the viewer is closing") from None
            finally:
                self._at_work.discard(question)

    @contextmanager
    def about_run(self, run_id: str) -> Iterator[Queryable]:
        """What answers a report's queries about one run, under the judge that decides."""
        with self.cursor() as cursor:
            yield about_copy(cursor, "conversation_copy", run_id)

    def stop(self) -> None:
        """Stop what is at work, and begin nothing more: a program cannot end under DuckDB."""
        self._closed = True
        while not self._lock.acquire(timeout=_AGAIN_S):
            self._connection.interrupt()
            if (reader := self._reader) is not None:
                reader.interrupt()
        self._lock.release()
        while self._at_work:
            for question in list(self._at_work):
                question.stop("the viewer is closing")
            time.sleep(_AGAIN_S)

    def close(self) -> None:
        """Stop, and release the memory."""
        self.stop()
        self._connection.close()

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Meanwhile nothing is copied from the store."""
        with self._lock:
            yield

    def count(self, table: str) -> int:
        """How many rows of a table have been copied."""
        return self._counts.get(table, 0)

    @property
    def is_large(self) -> bool:
        """Whether the last refresh took a while."""
        return self._took >= _QUICK_S

    def follow(self) -> None:
        """Refresh if one is due: at once if it is quick, otherwise in the background."""
        if self._closed:
            return
        if time.monotonic() < self._due or self._signature() == self._seen:
            return
        if not self.is_large:
            self.refresh()
        else:
            threading.Thread(target=self.refresh, name="safemt-viewer", daemon=True).start()

    def refresh(self, *, wait: bool = False) -> None:
        """Copy what the store has gained; return at once if a refresh is under way.

        Raises:
            InputError: only with `wait`: the store cannot be read. Otherwise `error` says so.
        """
        if self._closed or not self._lock.acquire(blocking=wait):
            return
        began = time.monotonic()
        try:
            self._refresh()
            self.error = None
        except InputError as error:
            self.error = str(error)
            if wait:
                raise
        except duckdb.InterruptException:
            if not self._closed:
                raise
        finally:
            self._took = time.monotonic() - began
            self._due = time.monotonic() + max(_EVERY_S, _SHARE * self._took)
            self._lock.release()

    def _reset(self) -> None:
        connection = self._connection
        views = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        for (name,) in views:
            connection.execute(f'DROP VIEW IF EXISTS "{name}"')
        for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            connection.execute(f'DROP TABLE "{name}"')
        connection.execute("SET TimeZone = 'UTC'")
        prepare(connection, self.path, __version__, is_new=True)
        self._counts = {TABLES[kind]: 0 for kind in _KINDS}
        self._build()

    def _signature(self) -> tuple[Any, ...]:
        """Changes with the file; while a run holds it, only the run knows. That of a bucket stays."""
        if is_facts(self.path):
            return signature(self.path)
        if server_file(self.path).is_file():
            return ("run", time.monotonic())
        found: list[Any] = []
        for path in (self.path, self.path.with_name(self.path.name + ".wal")):
            try:
                status = path.stat()
                found += [status.st_mtime_ns, status.st_size, status.st_ino]
            except OSError:
                found.append(None)
        return tuple(found)

    def _refresh(self) -> None:
        seen = self._signature()
        with open_reader(self.path, take_in=False) as reader:
            self._reader = reader
            if reader.facts is not None:
                self._take(reader.facts)
                self._seen = seen
                return
            self.live = not reader.holds_file
            version = reader.query("SELECT max(version) FROM schema_migrations").rows[0][0]
            if version != len(MIGRATIONS):
                raise InputError(
                    f"{self.path}: its schema version is {version}, and this program's is {len(MIGRATIONS)}: "
                    "a run, or 'judge', brings an older store up to date"
                )
            counts = dict(
                reader.query(
                    " UNION ALL ".join(
                        f"SELECT '{table}' AS name, count(*) AS n FROM {table}" for table in self._counts
                    )
                ).rows
            )
            if any(counts[table] < known for table, known in self._counts.items()) or not self._same(reader):
                self._reset()
            changed = counts != self._counts or not self.version
            if changed and self.live:
                self._ask(reader, counts)
        if changed:
            if not self.live:
                self._read(counts)
            self._build()
            self.version += 1
        self._seen = seen

    def _take(self, facts: Facts) -> None:
        """Copy all facts anew."""
        self._reset()
        with facts.connect() as given:
            for kind in _KINDS:
                table = TABLES[kind]
                found = given.sql(f"SELECT {_columns(kind)} FROM {table}").to_arrow_table()
                self._connection.register("incoming", found)
                self._connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
                self._connection.unregister("incoming")
                self._counts[table] = found.num_rows
        self._build()
        self.facts = facts
        self.version += 1

    def _same(self, reader: Reader) -> bool:
        """Whether it is still the store that was copied, and not another one of this name."""
        mine = self._connection.execute("SELECT run_id FROM runs WHERE rowid = 0").fetchall()
        return not mine or reader.query("SELECT run_id FROM runs WHERE rowid = 0").rows == mine

    def _read(self, counts: dict[str, int]) -> None:
        """Copy from the file, which is held only meanwhile."""
        quoted = str(self.path).replace("'", "''")
        connection = self._connection
        try:
            connection.execute(f"ATTACH '{quoted}' AS store (TYPE duckdb, READ_ONLY)")
            connection.execute("BEGIN")
            try:
                for kind in _KINDS:
                    table = TABLES[kind]
                    connection.execute(
                        f"INSERT INTO {table} BY NAME "
                        f"SELECT {_columns(kind)} FROM store.{table} WHERE rowid >= ?",
                        [self._counts[table]],
                    )
                connection.execute("COMMIT")
            except duckdb.Error:
                connection.execute("ROLLBACK")
                raise
            finally:
                connection.execute("DETACH store")
        except duckdb.Error as error:
            raise InputError(f"{self.path}: {str(error).strip().splitlines()[0]}") from None
        self._counts = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in counts
        }

    def _ask(self, reader: Reader, counts: dict[str, int]) -> None:
        """Copy from the run that holds the file, in parts, so that the run is not held up."""
        for kind in _KINDS:
            table = TABLES[kind]
            while self._counts[table] < counts[table]:
                start = self._counts[table]
                end = min(start + _CHUNK, counts[table])
                found = reader.query(
                    f"SELECT {_columns(kind)} FROM {table} WHERE rowid >= ? AND rowid < ?", [start, end]
                )
                names = [field.name for field in fields(kind)]
                columns = list(zip(*found.rows, strict=True)) or [() for _ in names]
                self._connection.register(
                    "incoming", pa.table([pa.array(column) for column in columns], names=names)
                )
                self._connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
                self._connection.unregister("incoming")
                self._counts[table] = end

    def _build(self) -> None:
        """The index that pages are made from."""
        connection = self._connection
        connection.execute(
            "CREATE OR REPLACE TABLE conversation_copy AS "
            "SELECT * EXCLUDE (text, explanation) FROM every_conversation"
        )
        connection.execute(
            """CREATE OR REPLACE TEMP TABLE found AS
               SELECT run_id, target, target_key, judge, judge_key, dialogue_key, item_id, length,
                      scenario, source, method, outcome, turn, request_hash, judged_hash, reply_hash,
                      state, label, reason, refusal, refusal_kind, refusal_rule, severity, confidence,
                      benign, by_guard, intervention, moderator, imported_from, condition,
                      sample,
                      CASE WHEN by_guard OR outcome = 'refused_by_provider' THEN true
                           WHEN outcome IN ('answered', 'truncated') THEN
                                coalesce(refusal_rule IN ('full_refusal', 'safe_redirection'), false)
                      END AS declined
               FROM conversation_copy"""
        )
        sql = resources.files("safemt_client.viewer").joinpath("index.sql").read_text(encoding="utf-8")
        connection.execute(sql)
        connection.execute("DROP TABLE found")


def _columns(kind: type) -> str:
    table, hints = TABLES[kind], get_type_hints(kind)
    left_out = _LEFT_OUT.get(table, set())
    found = []
    for field in fields(kind):
        options = getattr(hints[field.name], "__args__", (hints[field.name],))
        if field.name in left_out:
            found.append(f"{'NULL' if type(None) in options else repr('')} AS {field.name}")
        elif (table, field.name) in _CUT:
            found.append(f"left({field.name}, {_CUT[table, field.name]}) AS {field.name}")
        else:
            found.append(field.name)
    return ", ".join(found)

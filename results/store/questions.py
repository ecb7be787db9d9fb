"""A question to a store: one statement that only reads, and how it is stopped while it is at work."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import duckdb

__all__ = ["Question", "check_read_only", "explain_query_error", "time_limit"]

_READ_ONLY = {"SELECT", "EXPLAIN"}
# A statement of type SELECT may still change something: in a WITH, or by what it calls.
_CHANGES = re.compile(r'"type":"((?:INSERT|UPDATE|DELETE|MERGE|COPY|CREATE)[A-Z_]*)_NODE"')
_CALLS = re.compile(r'"function_name":"([^"\\]*)"')
_REFUSED = {
    # Acting on the database or the program's process.
    *("checkpoint", "force_checkpoint", "setval", "nextval", "write_log", "truncate_duckdb_logs"),
    *("enable_logging", "disable_logging", "enable_profiling", "disable_profiling"),
    *("create_external_resource", "destroy_external_resource", "register_external_resource"),
    *("deregister_external_resource", "register_external_resource_type", "sleep_ms"),
    # Statements made of texts, which are not seen here.
    *("query", "query_table", "json_execute_serialized_sql"),
    # Files, secrets and the process's memory: closed by DuckDB's own settings too.
    *("duckdb_secrets", "which_secret", "getenv", "glob", "read_text", "read_blob", "read_duckdb"),
    *("arrow_scan", "arrow_scan_dumb", "pandas_scan", "python_arrow_scan", "python_map_function"),
}


class Question:
    """A statement at work on a connection of its own, which other threads may stop. A context manager.

    `stop` is to be called again until the question is over: what arrives before its query begins is lost.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = connection
        self.why: str | None = None
        """Why it was stopped; None if it was not."""

    def __enter__(self) -> Question:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A connection must not be interrupted while it closes.
        with self._lock:
            self._connection = None

    def stop(self, why: str) -> None:
        """Interrupt the statement, if it is still at work; the first reason counts."""
        with self._lock:
            if self._connection is not None:
                self.why = self.why or why
                self._connection.interrupt()


def check_read_only(connection: duckdb.DuckDBPyConnection, sql: str) -> str | None:
    """Why a text is not one read-only statement, None if it is one."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        return str(error).strip().splitlines()[0]
    if len(statements) != 1:
        return "write one statement"
    kind = statements[0].type.name
    if kind not in _READ_ONLY:
        return f"only read-only queries are allowed here, not {kind}"
    if kind == "EXPLAIN" and not sql.lower().lstrip().startswith(("explain select", "explain from")):
        return "EXPLAIN works only with SELECT here"
    return _refused_parts(connection, sql, explain=kind == "EXPLAIN")


def _refused_parts(connection: duckdb.DuckDBPyConnection, sql: str, *, explain: bool) -> str | None:
    """What in a SELECT does more than read, according to its parse tree."""
    question = re.sub(r"\A\s*explain\s", "", sql, flags=re.IGNORECASE) if explain else sql
    try:
        (tree,) = connection.execute("SELECT json_serialize_sql(?)", [question]).fetchall()[0]
    except duckdb.Error as error:
        return str(error).strip().splitlines()[0]
    if not tree.startswith('{"error":false'):
        return "write it as a plain SELECT"
    if found := _CHANGES.search(tree):
        return f"only read-only queries are allowed here, not {found[1].partition('_')[0]}"
    for name in _CALLS.findall(tree):
        if name.lower() in _REFUSED:
            return f"{name}() cannot be called here"
    return None


@contextmanager
def time_limit(question: Question, seconds: float | None) -> Iterator[None]:
    """Stop the question after so many seconds; None is no limit."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, question.stop, [f"stopped after {seconds:g} s: simplify the query"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def explain_query_error(error: duckdb.Error, question: Question) -> str:
    """One line for a query that failed, or was stopped."""
    return question.why or str(error).strip().splitlines()[0]

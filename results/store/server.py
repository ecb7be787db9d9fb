"""Read-only SQL on loopback, while a run holds the file that no second process can open.

A file beside the store, readable by its owner alone, says where and with which token.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb

__all__ = ["QueryServer", "check_read_only", "explain_query_error", "server_file", "time_limit"]

_MAX_BODY = 1_000_000
_ACCEPT_PAUSE_S = 0.2
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


def server_file(path: Path) -> Path:
    """The file that says where the store at `path` can be asked."""
    return path.with_name(path.name + ".server")


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
def time_limit(connection: duckdb.DuckDBPyConnection, seconds: float | None) -> Iterator[None]:
    """Interrupt the connection's query after so many seconds; None is no limit."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def explain_query_error(error: duckdb.Error, seconds: float | None) -> str:
    """One line for a query that failed, or was stopped by its time limit."""
    if isinstance(error, duckdb.InterruptException) and seconds is not None:
        return f"stopped after {seconds:g} s: simplify the query"
    return str(error).strip().splitlines()[0]


class _Server(ThreadingHTTPServer):
    """Survives a shortage of files and threads: who asks then is not answered, and the run goes on."""

    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:
            # Whoever waits there makes the socket ready again at once.
            time.sleep(_ACCEPT_PAUSE_S)
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: the terminal belongs to the run."""


class QueryServer:
    """Serves one store from a thread of the process that holds it."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection, command: str) -> None:
        """`command` is what holds the store, as others are told."""
        self._file = server_file(path)
        token = secrets.token_urlsafe(32)
        self._http = _Server(("127.0.0.1", 0), _handler(connection, token))
        try:
            self._file.unlink(missing_ok=True)
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                found = {"port": self._http.server_address[1], "token": token, "pid": os.getpid()}
                json.dump(found | {"command": command}, file)
            self._thread = threading.Thread(
                target=self._http.serve_forever, args=(0.05,), name="safemt-sql", daemon=True
            )
            self._thread.start()
        except OSError:
            self._http.server_close()
            raise
        except RuntimeError:  # no thread can be started
            self._http.server_close()
            self._file.unlink(missing_ok=True)
            raise

    def close(self) -> None:
        """Stop serving and remove the file."""
        self._file.unlink(missing_ok=True)
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def _handler(connection: duckdb.DuckDBPyConnection, token: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        # For a client that sends nothing.
        timeout = 60

        def do_POST(self) -> None:
            given = self.headers.get("Authorization", "")
            if not secrets.compare_digest(given.encode(), f"Bearer {token}".encode()):
                self._answer(401, {"error": "wrong token"})
                return
            stated = self.headers.get("Content-Length", "0")
            length = int(stated) if stated.isdecimal() and len(stated) < 12 else _MAX_BODY + 1
            if length > _MAX_BODY:
                self._answer(413, {"error": "the statement is too long"})
                return
            try:
                asked = json.loads(self.rfile.read(length))
            except (ValueError, RecursionError):
                asked = None
            if not isinstance(asked, dict) or not isinstance(asked.get("sql"), str):
                self._answer(400, {"error": "send a JSON object with sql"})
                return
            # A cursor of its own: the writer's transactions are not disturbed.
            with connection.cursor() as cursor:
                if refusal := check_read_only(cursor, asked["sql"]):
                    self._answer(400, {"error": refusal})
                    return
                limit, timeout_s = asked.get("limit"), asked.get("timeout_s")
                try:
                    cursor.execute("USE store")
                    # The second lock: whatever a statement hides, it cannot write. Let go of with the cursor.
                    cursor.execute("BEGIN TRANSACTION READ ONLY")
                    with time_limit(cursor, timeout_s):
                        cursor.execute(asked["sql"], asked.get("parameters"))
                        rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit)
                    columns = [column[0] for column in cursor.description or ()]
                except duckdb.Error as error:
                    self._answer(400, {"error": explain_query_error(error, timeout_s)})
                    return
            self._answer(200, {"columns": columns, "rows": rows})

        def _answer(self, status: int, content: Any) -> None:
            body = json.dumps(content, default=_jsonable).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the terminal belongs to the run."""

    return Handler


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return str(value)

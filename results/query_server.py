"""Read-only SQL on loopback, while a run holds the file that no second process can open.

A file beside the store, readable by its owner alone, says where and with which token.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
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
_READ_ONLY = {"SELECT", "EXPLAIN"}


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
        return "give one statement"
    kind = statements[0].type.name
    if kind not in _READ_ONLY:
        return f"only questions can be asked here, not {kind}"
    if kind == "EXPLAIN" and not sql.lower().lstrip().startswith(("explain select", "explain from")):
        return "EXPLAIN takes a SELECT here"
    return None


@contextmanager
def time_limit(connection: duckdb.DuckDBPyConnection, seconds: float | None) -> Iterator[None]:
    """Interrupt what the connection does after so many seconds; None is no limit."""
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
        return f"stopped after {seconds:g} s: ask for less"
    return str(error).strip().splitlines()[0]


class QueryServer:
    """Serves one store from a thread of the process that holds it."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection) -> None:
        self._file = server_file(path)
        token = secrets.token_urlsafe(32)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(connection, token))
        self._http.daemon_threads = True
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.05,), name="safemt-sql", daemon=True
        )
        self._thread.start()
        self._file.unlink(missing_ok=True)
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"port": self._http.server_address[1], "token": token, "pid": os.getpid()}, file)

    def close(self) -> None:
        """Stop serving and remove the file."""
        self._file.unlink(missing_ok=True)
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def _handler(connection: duckdb.DuckDBPyConnection, token: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            given = self.headers.get("Authorization", "")
            if not secrets.compare_digest(given, f"Bearer {token}"):
                self._answer(401, {"error": "wrong token"})
                return
            length = int(self.headers.get("Content-Length", "0"))
            if length > _MAX_BODY:
                self._answer(413, {"error": "the statement is too long"})
                return
            asked = json.loads(self.rfile.read(length))
            # A cursor of its own: the writer's transactions are not disturbed.
            with connection.cursor() as cursor:
                if refusal := check_read_only(cursor, asked["sql"]):
                    self._answer(400, {"error": refusal})
                    return
                limit, timeout_s = asked.get("limit"), asked.get("timeout_s")
                try:
                    cursor.execute("USE store")
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

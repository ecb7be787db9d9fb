"""Read-only SQL on loopback, while a run holds the file that no second process can open.

What people say of replies meanwhile is taken in there, too: it is the only thing that is.

A file beside the store, readable by its owner alone, says where and with which token. An answer is lines of
JSON: the columns, the rows in parts, and at last their number or what went wrong. So the run never has more
than a part of an answer in memory, and a part is never taken for the whole.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb

from safemt_client.providers.errors import SafemtError
from safemt_client.results.store.inbox import Said, as_said
from safemt_client.results.store.questions import Question, check_read_only, explain_query_error

__all__ = ["ROWS", "QueryServer", "server_file", "works_on"]

ROWS = "/rows"
"""Where labels and comments are taken in; all else is a question."""
_MAX_BODY = 1_000_000
_ACCEPT_PAUSE_S = 0.2
_ROWS_AT_ONCE = 64
_POLL_S = 0.05
_MOST_S, _MOST_BYTES = 120.0, 1 << 30
"""What one question may take of a run: seconds, and memory for what it sorts, groups and joins."""
_PATIENCE_S = 4.0
"""How long the end of a run waits for questions that have been interrupted."""
_OVER = "the run that was asked has ended: ask again"
_INSTEAD = "simplify the query, or ask again when the run is over"
_TOO_LONG = f"stopped after {_MOST_S:g} s, the most while a run is under way: {_INSTEAD}"
_TOO_LARGE = f"stopped: it takes more than {_MOST_BYTES >> 30} GiB of the run's memory: {_INSTEAD}"


_left_behind: list[threading.Thread] = []


def works_on() -> bool:
    """Whether a question is at work still that could not be interrupted, such as one huge function call.

    An ordinary end of the process would be an abort then.
    """
    return any(thread.is_alive() for thread in _left_behind)


def server_file(path: Path) -> Path:
    """The file that says where the store at `path` can be asked."""
    return path.with_name(path.name + ".server")


class QueryServer:
    """Serves one store from a thread of the process that holds it."""

    def __init__(
        self,
        path: Path,
        connection: duckdb.DuckDBPyConnection,
        command: str,
        take: Callable[[Sequence[Said]], None],
    ) -> None:
        """`command` is what holds the store, as others are told; `take` appends what people said."""
        self._file = server_file(path)
        self._token = secrets.token_urlsafe(32)
        self._http = _Server(connection, self._token, take)
        try:
            self._file.unlink(missing_ok=True)
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                found = {"port": self._http.server_address[1], "token": self._token, "pid": os.getpid()}
                json.dump(found | {"command": command}, file)
            self._thread = threading.Thread(
                target=self._http.serve_forever, args=(_POLL_S,), name="safemt-sql", daemon=True
            )
            self._thread.start()
        except OSError:
            self._http.server_close()
            raise
        except RuntimeError:  # no thread can be started
            self._http.server_close()
            self._file.unlink(missing_ok=True)
            raise

    def close(self) -> bool:
        """Stop serving and interrupt what is being answered; return whether all of it has ended."""
        self._remove_file()
        self._http.shutdown()
        self._thread.join()
        ended = self._http.end()
        self._http.server_close()
        return ended

    def _remove_file(self) -> None:
        """Remove the file, unless another run has put its own in its place."""
        with suppress(OSError, ValueError, LookupError, TypeError):
            if json.loads(self._file.read_text())["token"] == self._token:
                self._file.unlink()


@dataclass(eq=False)
class _Client:
    """A connection to someone who asks, and the question that is being answered."""

    socket: socket.socket
    question: Question | None = None
    since: float = 0.0
    most_s: float = _MOST_S

    def watch(self, now: float) -> None:
        """Stop the question if it has taken too long or nobody waits for the answer."""
        question = self.question
        if question is None:
            return
        if now - self.since > self.most_s:
            own = f"stopped after {self.most_s:g} s: simplify the query"
            question.stop(_TOO_LONG if self.most_s == _MOST_S else own)
        elif self._gone():
            question.stop("nobody waits for the answer")

    def _gone(self) -> bool:
        try:
            poll = select.poll()
            poll.register(self.socket, select.POLLIN)
            # After its question a client sends nothing more: what can be read then is the end.
            return bool(poll.poll(0)) and not self.socket.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):
            return True


class _Server(ThreadingHTTPServer):
    """Answers each client in a thread of its own, and watches over what is being answered.

    Survives a shortage of files and threads: who asks then is not answered, and the run goes on.
    """

    # A question that cannot be interrupted must not keep the process for ever.
    daemon_threads = True

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, token: str, take: Callable[[Sequence[Said]], None]
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.connection = connection
        self.token = token
        self.take = take
        self.clients: dict[threading.Thread, _Client] = {}
        self._watching = connection.cursor()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin the thread of a client. It is known before it runs: `end` must not miss it."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="safemt-sql-client",
            daemon=True,
        )
        self.clients[thread] = _Client(request)
        try:
            thread.start()
        except RuntimeError:  # no thread can be started
            del self.clients[thread]
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """A client, from its first byte to its last."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            del self.clients[threading.current_thread()]

    def get_request(self) -> tuple[socket.socket, Any]:
        """Take the next client."""
        try:
            return super().get_request()
        except OSError:
            # Whoever waits there makes the socket ready again at once.
            time.sleep(_ACCEPT_PAUSE_S)
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: the terminal belongs to the run."""

    def service_actions(self) -> None:
        """Called again and again while the server serves."""
        clients = [client for client in list(self.clients.values()) if client.question is not None]
        if not clients:
            return
        now = time.monotonic()
        for client in clients:
            client.watch(now)
        oldest = min(clients, key=lambda client: client.since)
        if (question := oldest.question) is not None and self._taken() > _MOST_BYTES:
            question.stop(_TOO_LARGE)

    def _taken(self) -> int:
        """The bytes that queries hold at the moment; what is cached of the file gives way by itself."""
        try:
            rows = self._watching.execute(
                "SELECT sum(memory_usage_bytes) FROM duckdb_memory() "
                "WHERE tag NOT IN ('BASE_TABLE', 'IN_MEMORY_TABLE', 'METADATA', 'TRANSACTION')"
            ).fetchall()
        except duckdb.Error:
            return 0
        return int(rows[0][0] or 0)

    def end(self) -> bool:
        """Interrupt all questions and wait for their threads; return whether they have ended."""
        self._watching.close()
        began = time.monotonic()
        threads = dict(self.clients)
        while any(thread.is_alive() for thread in threads) and time.monotonic() < began + _PATIENCE_S:
            # Who asks is told; who takes no answer is left alone after a while.
            how = socket.SHUT_RD if time.monotonic() < began + _PATIENCE_S / 2 else socket.SHUT_RDWR
            for thread, client in threads.items():
                if (question := client.question) is not None:
                    question.stop(_OVER)
                with suppress(OSError):
                    client.socket.shutdown(how)
                thread.join(_POLL_S)
        left = [thread for thread in threads if thread.is_alive()]
        _left_behind.extend(left)
        return not left


class _Handler(BaseHTTPRequestHandler):
    # For a client that sends or takes nothing.
    timeout = 60
    server: _Server

    def do_POST(self) -> None:
        asked = self._asked()
        if asked is None:
            return
        if self.path == ROWS:
            self._take(asked)
            return
        client = self.server.clients[threading.current_thread()]
        # A cursor of its own: the writer's transactions are not disturbed.
        with self.server.connection.cursor() as cursor, Question(cursor) as question:
            client.since = time.monotonic()
            client.most_s = min(_MOST_S, asked.get("timeout_s") or _MOST_S)
            client.question = question
            begun = False
            try:
                if refusal := check_read_only(cursor, asked["sql"]):
                    raise duckdb.Error(refusal)
                cursor.execute("USE store")
                # The second lock: whatever a statement hides, it cannot write. Let go of with the cursor.
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                cursor.execute(asked["sql"], asked.get("parameters"))
                lines = _lines(cursor, question, asked.get("limit"))
                first = next(lines)
                self._begin(200)
                begun = True
                self.wfile.write(first)
                for line in lines:
                    self.wfile.write(line)
            except duckdb.Error as error:
                status = 503 if question.why == _OVER else 400
                self._fail(status, explain_query_error(error, question), begun=begun)
            except (TypeError, ValueError, RecursionError) as error:
                self._fail(400, f"this answer cannot be sent ({error}): cast it to text", begun=begun)
            finally:
                client.question = None

    def _take(self, given: dict[str, Any]) -> None:
        """Append labels and comments; the answer comes when they are committed."""
        try:
            rows = [as_said(row) for row in given["rows"]]
            self.server.take(rows)
        except ValueError as error:
            self._fail(400, f"these are not labels: {error}")
        except (SafemtError, duckdb.Error) as error:
            self._fail(503, str(error))
        else:
            self._begin(200)
            self.wfile.write(_line({"taken": len(rows)}))

    def _asked(self) -> dict[str, Any] | None:
        """What is asked; None if it was refused."""
        given = self.headers.get("Authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {self.server.token}".encode()):
            self._fail(401, "wrong token")
            return None
        stated = self.headers.get("Content-Length", "0")
        length = int(stated) if stated.isdecimal() and len(stated) < 12 else _MAX_BODY + 1
        if length > _MAX_BODY:
            self._fail(413, "the statement is too long")
            return None
        try:
            asked = json.loads(self.rfile.read(length))
        except (ValueError, RecursionError):
            asked = None
        if self.path == ROWS and isinstance(asked, dict) and isinstance(asked.get("rows"), list):
            return asked
        kinds = {"sql": str, "limit": int | None, "timeout_s": float | int | None}
        if not isinstance(asked, dict) or not all(isinstance(asked.get(k), v) for k, v in kinds.items()):
            self._fail(400, "send a JSON object with sql")
            return None
        return asked

    def _begin(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-ndjson")
        self.end_headers()

    def _fail(self, status: int, why: str, *, begun: bool = False) -> None:
        if not begun:
            self._begin(status)
        self.wfile.write(_line({"error": why, "status": status}))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal belongs to the run."""


def _lines(cursor: duckdb.DuckDBPyConnection, question: Question, limit: int | None) -> Iterator[bytes]:
    """The lines of an answer, at most `limit` rows. The first has rows: most errors come before it."""
    columns = [column[0] for column in cursor.description or ()]
    count = 0
    while part := cursor.fetchmany(_ROWS_AT_ONCE if limit is None else min(_ROWS_AT_ONCE, limit - count)):
        if question.why is not None:
            raise duckdb.InterruptException(question.why)
        yield (_line({"columns": columns}) if count == 0 else b"") + _line(part)
        count += len(part)
        if count == limit:
            break
    yield (_line({"columns": columns}) if count == 0 else b"") + _line({"rows": count})


def _line(content: Any) -> bytes:
    return json.dumps(content, default=_jsonable).encode() + b"\n"


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return str(value)

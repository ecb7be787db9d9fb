"""Query a store, whether or not a run holds its file."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb

from safemt_client.providers.errors import InputError, StoreHeldError
from safemt_client.results.sanitize import plain
from safemt_client.results.store.errors import explain_open_error, holder_of, is_locked
from safemt_client.results.store.facts_folder import Facts, is_facts, open_facts
from safemt_client.results.store.handing import hand_over
from safemt_client.results.store.inbox import inbox_file
from safemt_client.results.store.migrations import schema_version
from safemt_client.results.store.queries import Queryable, Result
from safemt_client.results.store.questions import (
    Question,
    check_read_only,
    explain_query_error,
    time_limit,
)
from safemt_client.results.store.server import server_file
from safemt_client.results.store.store import Store
from safemt_client.results.store.threads import is_small, use_one
from safemt_client.results.store.views import is_current

__all__ = ["Queryable", "Reader", "facts_of", "open_reader"]

_SILENCE_S = 300.0
"""How long a run may send nothing; it stops a question sooner."""
_TRIES, _PAUSE_S = 20, 0.15
"""How long a run that has just begun is waited for, until it says where it can be asked."""


class Reader:
    """Read-only access to a store. Use as a context manager."""

    def __init__(
        self,
        path: Path,
        connection: duckdb.DuckDBPyConnection | None,
        token: str,
        port: int,
        facts: Facts | None = None,
    ) -> None:
        self._path = path
        self._connection = connection
        self._token = token
        self._port = port
        self.facts = facts
        """What is read in place of a store: it has no texts. None for a store."""
        self._question: Question | None = None
        self._asking: socket.socket | None = None

    @property
    def holds_file(self) -> bool:
        """Whether the file itself is open; else the run that holds it is asked."""
        return self._connection is not None

    def interrupt(self) -> None:
        """Stop the query that another thread waits for. Call it until it ends: it may have yet to begin."""
        if (question := self._question) is not None:
            question.stop("interrupted")
        if (asking := self._asking) is not None:
            # The run sees that nobody waits any more.
            with suppress(OSError):
                asking.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        if self._connection is not None:
            self._connection.close()

    def is_current(self) -> bool:
        """Whether the file has this program's tables and views; if a run holds it, it has."""
        return self._connection is None or self.facts is not None or is_current(self._connection)

    def about(self, run_id: str) -> Reader:
        """Of facts, those of one run alone, to be closed by the caller."""
        assert self.facts is not None
        return Reader(self._path, self.facts.connect(run_id), "", 0, self.facts)

    def session(self) -> duckdb.DuckDBPyConnection | None:
        """A session of its own on the open file; None if a run holds it."""
        return None if self._connection is None else self._connection.cursor()

    def query(
        self,
        sql: str,
        parameters: Sequence[Any] | None = None,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> Result:
        """Rows of one read-only statement, at most `limit` of them, stopped after `timeout_s` seconds.

        Raises:
            InputError: the statement is wrong, would change something, or takes too long.
            StoreHeldError: the run that held the store no longer answers.
        """
        if self._connection is None:
            try:
                return self._ask_run(sql, parameters, limit, timeout_s)
            except StoreHeldError:
                # It has ended: the file is free now, or the next run answers.
                if not self._taken_over():
                    raise
                return self.query(sql, parameters, limit, timeout_s)
        if refusal := check_read_only(self._connection, sql):
            raise InputError(f"sql: {refusal}")
        with Question(self._connection) as question:
            self._question = question
            try:
                with time_limit(question, timeout_s):
                    self._connection.execute(sql, parameters)
                    rows = self._connection.fetchall() if limit is None else self._connection.fetchmany(limit)
            except duckdb.Error as error:
                raise InputError(f"sql: {explain_query_error(error, question)}") from None
            return Result([column[0] for column in self._connection.description or ()], rows)

    def _taken_over(self) -> bool:
        """Whether the store can be asked elsewhere than so far; it is from now on."""
        found = _open(self._path)
        if found._connection is None and found._token == self._token:
            return False
        self._connection, self._token, self._port = found._connection, found._token, found._port
        return True

    def _ask_run(
        self, sql: str, parameters: Sequence[Any] | None, limit: int | None, timeout_s: float | None
    ) -> Result:
        body = {
            "sql": sql,
            "parameters": None if parameters is None else list(parameters),
            "limit": limit,
            "timeout_s": timeout_s,
        }
        # Not httpx: a proxy of the environment must not see the token.
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_SILENCE_S)
        try:
            connection.connect()
            self._asking = connection.sock
            connection.request(
                "POST", "/", json.dumps(body).encode(), {"Authorization": f"Bearer {self._token}"}
            )
            with connection.getresponse() as response:
                return self._result(_parts(response))
        except (OSError, HTTPException) as error:
            raise StoreHeldError(f"{self._path}: the run that holds it does not answer ({error})") from None
        except (ValueError, LookupError, TypeError):
            raise InputError(
                f"{self._path}: the process that answers for it is not a run of safemt_client"
            ) from None
        finally:
            self._asking = None
            connection.close()

    def _result(self, lines: Iterator[Any]) -> Result:
        """The result that a run sends as lines; `results.store.server` has their form."""
        columns: list[str] = []
        rows: list[tuple[Any, ...]] = []
        for line in lines:
            if isinstance(line, list):
                rows += map(tuple, line)
            elif "error" in line:
                kind = StoreHeldError if line["status"] == 503 else InputError
                raise kind(f"sql: {line['error']}")
            elif "columns" in line:
                columns = line["columns"]
            elif line["rows"] == len(rows):
                return Result(columns, rows)
        raise StoreHeldError(f"{self._path}: the run that held it has ended: ask again")


def facts_of(reader: Queryable) -> Facts | None:
    """The facts that stand for a store; None for a store itself."""
    return reader.facts if isinstance(reader, Reader) else None


def _parts(response: Iterable[bytes]) -> Iterator[Any]:
    """Line by line, as an answer may be large; one that is cut off in the middle of a line ends before it."""
    for number, line in enumerate(response):
        if number and not line.endswith(b"\n"):
            return
        yield json.loads(line)


def open_reader(path: Path, *, take_in: bool = True) -> Reader:
    """Open the store at `path` for reading; if a run holds it, ask the run.

    A folder, or the address of one in a bucket, has facts in place of a store: `results.store.facts`.
    With `take_in` the labels of people that wait beside a store are brought into it before.

    Raises:
        InputError: no such file, or not a store.
        StoreHeldError: a process holds it and does not answer.
    """
    if is_facts(path):
        facts = open_facts(path)
        return Reader(path, facts.connect(), "", 0, facts)
    if not path.is_file():
        raise InputError(f"{path}: no such store: name one with --db")
    if take_in and (why := hand_over(path)) is not None:
        said = f"people's labels wait in {inbox_file(path)} and are not in what follows: {why}"
        print(f"safemt: {plain(said)}", file=sys.stderr)
    reader = _open(path)
    if reader.is_current():
        return reader
    # Written by an earlier version of the program: it lacks this version's views.
    reader.close()
    try:
        Store.open(path, "store", command="upgrade").close()
    except InputError as error:
        raise InputError(
            f"{path}: was written by an earlier version and cannot be upgraded for reading: {error}"
        ) from None
    return _open(path)


def _open(path: Path) -> Reader:
    """Open the file, or find the run that holds it; one that begins or ends is waited for."""
    for left in reversed(range(_TRIES)):
        try:
            return Reader(path, _attached(path), "", 0)
        except duckdb.Error as error:
            if not is_locked(error):
                raise InputError(explain_open_error(path, error)) from None
            if (found := _run_that_holds(path, holder_of(error))) is not None:
                return found
            if not left:
                raise StoreHeldError(explain_open_error(path, error)) from None
        _wait(_PAUSE_S)
    raise AssertionError("either the last try has returned or it has raised")


def _run_that_holds(path: Path, pid: int | None) -> Reader | None:
    """Where the run in this process can be asked; None if it does not say, or another did, now gone."""
    try:
        found = json.loads(server_file(path).read_text())
        if pid not in (None, found["pid"]):
            return None
        return Reader(path, None, str(found["token"]), int(found["port"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None


_wait = time.sleep


def _attached(path: Path) -> duckdb.DuckDBPyConnection:
    """A connection to the file that can only read it.

    Raises:
        InputError: it is not a store.
        duckdb.Error: it cannot be opened.
    """
    connection = duckdb.connect(":memory:")
    quoted = str(path).replace("'", "''")
    try:
        connection.execute("SET TimeZone = 'UTC'")
        if is_small(path):
            use_one(connection)
        connection.execute(f"ATTACH '{quoted}' AS store (TYPE duckdb, READ_ONLY)")
        connection.execute("USE store")
        if not schema_version(connection):
            raise InputError(f"{path}: not a store of safemt_client: name another one with --db")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
    except (duckdb.Error, InputError):
        connection.close()
        raise
    return connection

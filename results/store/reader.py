"""Query a store, whether or not a run holds its file."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import duckdb
import httpx

from safemt_client.providers.errors import InputError, StoreHeldError
from safemt_client.results.store.errors import explain_open_error, holder_of, is_locked
from safemt_client.results.store.lookups import Result
from safemt_client.results.store.migrations import schema_version
from safemt_client.results.store.server import (
    check_read_only,
    explain_query_error,
    server_file,
    time_limit,
)
from safemt_client.results.store.store import Store
from safemt_client.results.store.views import is_current

__all__ = ["Queryable", "Reader", "open_reader"]

_TRIES, _PAUSE_S = 20, 0.15
"""How long a run that has just begun is waited for, until it says where it can be asked."""


class Queryable(Protocol):
    """Anything that answers SQL: a reader, or the store of the running program."""

    def query(self, sql: str, parameters: Sequence[Any] | None = None, limit: int | None = None) -> Result:
        """Rows of one statement."""
        ...

    def session(self) -> duckdb.DuckDBPyConnection | None:
        """A session of its own on the open file; None if another process holds it."""
        ...


class Reader:
    """Read-only access to a store. Use as a context manager."""

    def __init__(
        self, path: Path, connection: duckdb.DuckDBPyConnection | None, token: str, port: int
    ) -> None:
        self._path = path
        self._connection = connection
        self._token = token
        self._port = port

    @property
    def holds_file(self) -> bool:
        """Whether the file itself is open; else the run that holds it is asked."""
        return self._connection is not None

    def interrupt(self) -> None:
        """Stop the query that another thread waits for. A query that a run answers continues there."""
        if self._connection is not None:
            self._connection.interrupt()

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
        return self._connection is None or is_current(self._connection)

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
        try:
            with time_limit(self._connection, timeout_s):
                self._connection.execute(sql, parameters)
                rows = self._connection.fetchall() if limit is None else self._connection.fetchmany(limit)
        except duckdb.Error as error:
            raise InputError(f"sql: {explain_query_error(error, timeout_s)}") from None
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
        try:
            # trust_env off: a proxy of the environment must not see the token.
            with httpx.Client(trust_env=False, timeout=300) as client:
                response = client.post(
                    f"http://127.0.0.1:{self._port}/",
                    json=body,
                    headers={"Authorization": f"Bearer {self._token}"},
                )
        except httpx.HTTPError as error:
            raise StoreHeldError(f"{self._path}: the run that holds it does not answer ({error})") from None
        try:
            content = response.json()
            failed = response.status_code != 200 and not isinstance(content["error"], str)
        except (ValueError, KeyError, TypeError):
            failed = True
        if failed:
            raise InputError(f"{self._path}: the process that answers for it is not a run of safemt_client")
        if response.status_code != 200:
            raise InputError(f"sql: {content['error']}")
        return Result(content["columns"], [tuple(row) for row in content["rows"]])


def open_reader(path: Path) -> Reader:
    """Open the store at `path` for reading; if a run holds it, ask the run.

    Raises:
        InputError: no such file, or not a store.
        StoreHeldError: a process holds it and does not answer.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such store: name one with --db")
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

"""One run's conversations, copied once.

A report asks for them some twenty times, and each time the view would be put together anew from all turns and
verdicts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb

from safemt_client.providers.errors import InputError
from safemt_client.results.store.errors import first_line
from safemt_client.results.store.lookups import Result
from safemt_client.results.store.reader import Queryable
from safemt_client.results.store.views import view_texts

__all__ = ["about_run"]

# In no other view are conversations of which a report asks.
_VIEWS = ("asr_by_turn", "asr_by_scenario", "asr_by_method", "outcomes", "refusals")


class _Session:
    """A session on the open file whose own tables and views come before those of the file."""

    def __init__(self, session: duckdb.DuckDBPyConnection) -> None:
        self._session = session

    def query(self, sql: str, parameters: Sequence[Any] | None = None, limit: int | None = None) -> Result:
        """Rows of one statement.

        Raises:
            InputError: the file cannot be read.
        """
        try:
            self._session.execute(sql, parameters)
            rows = self._session.fetchall() if limit is None else self._session.fetchmany(limit)
        except duckdb.Error as error:
            raise InputError(f"sql: {first_line(error)}") from None
        return Result([column[0] for column in self._session.description or ()], rows)

    def session(self) -> duckdb.DuckDBPyConnection | None:
        """None: this is one already."""
        return None


@contextmanager
def about_run(reader: Queryable, run_id: str) -> Iterator[Queryable]:
    """What answers queries about this run, and about this run alone.

    `conversations` has neither `text` nor `explanation` in it. Where another process holds the file, it is
    asked as ever.
    """
    session = reader.session()
    if session is None:
        yield reader
        return
    with session:
        narrowed = _Session(session)
        narrowed.query("USE store")
        narrowed.query(
            "CREATE TEMP TABLE conversations AS "
            "SELECT * EXCLUDE (text, explanation) FROM store.conversations WHERE run_id = ?",
            [run_id],
        )
        for name, text in view_texts().items():
            if name in _VIEWS:
                narrowed.query(re.sub(r"\ACREATE OR REPLACE VIEW", "CREATE TEMP VIEW", text))
        yield narrowed

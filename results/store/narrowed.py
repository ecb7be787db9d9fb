"""Views of a part of the store alone: of one run, or of some requests.

A report asks for a run's replies and conversations some twenty times, and each time the views would be put
together anew from all turns and verdicts: they are copied once.
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

__all__ = ["about_copy", "about_requests", "about_run"]

# Put together from these two and the file's other views. Of no others about replies does a report ask.
_VIEWS = (
    *("asr_by_turn", "asr_by_scenario", "asr_by_method", "hit_at_k", "outcomes", "refusals"),
    *("safety_index_by_sample", "safety_index"),
    *("turn_labels", "asr_by_turn_reached", "first_unsafe"),
)

_HEAD = re.compile(r"\ACREATE OR REPLACE VIEW \w+ AS\b")


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

    Neither replies nor conversations have their texts and explanations in it: what is read of a reply are its
    narrow columns alone. Where another process holds the file, it is asked as ever.
    """
    session = reader.session()
    if session is None:
        yield reader
        return
    with session:
        narrowed = _Session(session)
        narrowed.query("USE store")
        narrowed.query(
            "CREATE TEMP TABLE replies AS "
            "SELECT * REPLACE (NULL::VARCHAR AS text, NULL::VARCHAR AS reasoning) FROM store.replies "
            "WHERE run_id = ?",
            [run_id],
        )
        _own(narrowed, "final_replies")
        _own(narrowed, "every_conversation", "whole_conversations")
        narrowed.query(
            "CREATE TEMP TABLE every_conversation AS "
            "SELECT * EXCLUDE (text, explanation) FROM whole_conversations WHERE run_id = ?",
            [run_id],
        )
        _own(narrowed, "conversations")
        for name in _VIEWS:
            _own(narrowed, name)
        yield narrowed


def about_copy(session: duckdb.DuckDBPyConnection, copy: str, run_id: str) -> Queryable:
    """What answers queries about this run from a copy that was made before, of all conversations of a store.

    `copy` is the name of a table with the columns of `every_conversation`. What is put on it ends with the
    session.
    """
    copied = _Session(session)
    quoted = run_id.replace("'", "''")
    copied.query(f"CREATE TEMP VIEW every_conversation AS SELECT * FROM {copy} WHERE run_id = '{quoted}'")
    for name in ("conversations", *_VIEWS):
        _own(copied, name)
    return copied


_BASES = {"current_turns": "attempts", "final_verdicts": "verdicts"}
"""What these views are made from, each request by itself."""


def about_requests(view: str, requests: int) -> str:
    """The rows of one of `_BASES` about so many requests, in place of its name; their hashes are parameters.

    The view itself looks at each row of the store for requests that it has twice; this only at those rows.
    """
    base, hashes = _BASES[view], ", ".join("?" * requests) or "NULL"
    return (
        f"(WITH {base} AS MATERIALIZED (SELECT * FROM {base} WHERE request_hash IN ({hashes})) "
        f"SELECT * FROM ({_HEAD.sub('', view_texts()[view])}))"
    )


def _own(session: _Session, view: str, name: str | None = None) -> None:
    """A view of the file again, on the copies."""
    session.query(_HEAD.sub(f"CREATE TEMP VIEW {name or view} AS", view_texts()[view]))

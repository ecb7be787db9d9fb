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
from safemt_client.results.store.queries import Queryable, Result
from safemt_client.results.store.reader import Reader, facts_of
from safemt_client.results.store.views import view_texts

__all__ = ["about_copy", "about_requests", "about_run"]

# Each is made from the two copies, from those before it, and from the file's other views. Of no others about
# replies does a report ask.
_VIEWS = (
    *("conversations", "asr_by_turn", "asr_by_scenario", "asr_by_method", "hit_at_k", "outcomes", "refusals"),
    *("safety_index_by_sample", "safety_index"),
    *("turn_labels", "asr_by_turn_reached", "first_unsafe"),
)

_HEAD = re.compile(r"\ACREATE OR REPLACE VIEW \w+ AS\b")


class _Session:
    """A session on the open file whose own copies, and the views of them, come before what the file has."""

    def __init__(self, session: duckdb.DuckDBPyConnection) -> None:
        self._session = session

    def query(self, sql: str, parameters: Sequence[Any] | None = None, limit: int | None = None) -> Result:
        """Rows of a query about the run.

        Raises:
            InputError: the file cannot be read.
        """
        return self.ask(_of_copies(sql), parameters, limit)

    def ask(self, sql: str, parameters: Sequence[Any] | None = None, limit: int | None = None) -> Result:
        """Rows of one statement about the whole file; raises as `query` does."""
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
    if isinstance(reader, Reader) and facts_of(reader) is not None:
        # Of the files of other runs nothing is looked at.
        with reader.about(run_id) as alone:
            yield from _copied(alone, run_id)
        return
    yield from _copied(reader, run_id)


def _copied(reader: Queryable, run_id: str) -> Iterator[Queryable]:
    session = reader.session()
    if session is None:
        yield reader
        return
    known = facts_of(reader) is not None
    with session:
        narrowed = _Session(session)
        narrowed.ask("USE store")
        narrowed.ask(
            "CREATE TEMP TABLE replies AS SELECT * EXCLUDE (reasoning, source, finish_reason, prompt_tokens, "
            "completion_tokens, cost_usd, started_at) REPLACE (NULL::VARCHAR AS text) "
            "FROM store.replies WHERE run_id = ?",
            [run_id],
        )
        narrowed.ask(
            f"CREATE TEMP TABLE every_conversation AS WITH final_replies AS ({_query_of('final_replies')}) "
            "SELECT * EXCLUDE (text, explanation, source, category, severity, specificity, confidence, "
            # Facts have the rows of that view.
            "confidence_kind) FROM "
            f"{'store.every_conversation' if known else '(' + _query_of('every_conversation') + ')'} "
            "WHERE run_id = ?",
            [run_id],
        )
        yield narrowed


def about_copy(session: duckdb.DuckDBPyConnection, copy: str, run_id: str) -> Queryable:
    """What answers queries about this run from a copy that was made before, of all conversations of a store.

    They are those of the judge that decides, and of no other. `copy` is the name of a table with the columns
    of `every_conversation`. What is put on it ends with the session.
    """
    copied = _Session(session)
    judges = copied.ask("SELECT judge_key FROM deciding_judges WHERE run_id = ?", [run_id]).rows
    judge = f"= {_literal(judges[0][0])}" if judges else "IS NULL"
    # As literals they are looked for while the copy is read, and most of its rows are not read on.
    copied.ask(
        f"CREATE TEMP VIEW every_conversation AS SELECT * FROM {copy} "
        f"WHERE run_id = {_literal(run_id)} AND judge_key {judge}"
    )
    return copied


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_BASES = {"current_turns": "attempts", "final_verdicts": "verdicts"}
"""What these views are made from, each request by itself."""


def about_requests(view: str, requests: int) -> str:
    """The rows of one of `_BASES` about so many requests, in place of its name; their hashes are parameters.

    The view itself looks at each row of the store for requests that it has twice; this only at those rows.
    They are joined with the hashes: for a list of more than one in a condition, all columns of all are read.
    """
    base, hashes = _BASES[view], ", ".join("?" * requests)
    return (
        f"(WITH {base} AS MATERIALIZED "
        f"(SELECT * FROM {base} WHERE request_hash IN (SELECT unnest([{hashes}]::VARCHAR[]))) "
        f"SELECT * FROM ({_query_of(view)}))"
    )


def _query_of(view: str) -> str:
    """What a view of the file is made by."""
    return _HEAD.sub("", view_texts()[view])


def _of_copies(sql: str) -> str:
    """A query with the views that it names put before it, so that they are of the copies.

    Views in their own right would be planned once more, and most are asked for once or not at all.
    """
    named, said = [], sql
    for view in reversed(_VIEWS):
        if re.search(rf"\b{view}\b", said):
            named.append(f"{view} AS ({_query_of(view)})")
            said += named[-1]
    if not named:
        return sql
    own = re.match(r"\s*WITH\b", sql)
    return f"WITH {', '.join(reversed(named))}{',' + sql[own.end() :] if own else ' ' + sql}"

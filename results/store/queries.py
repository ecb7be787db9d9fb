"""What a store is asked, and what it answers, for those who neither open nor write one.

Nothing here needs DuckDB: a plan without a store is made without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import duckdb

__all__ = ["OpenBatch", "Queryable", "Result", "VerdictKey"]


@dataclass(frozen=True, slots=True)
class Result:
    """Rows of a query."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


class Queryable(Protocol):
    """Anything that answers SQL: a reader, or the store of the running program."""

    def query(self, sql: str, parameters: Sequence[Any] | None = None, limit: int | None = None) -> Result:
        """Rows of one statement."""
        ...

    def session(self) -> duckdb.DuckDBPyConnection | None:
        """A session of its own on the open file; None if another process holds it."""
        ...


@dataclass(frozen=True, slots=True)
class VerdictKey:
    """What finds a judge's verdict on a reply: the hash of what it is about, or that of earlier versions.

    `request_hash` and `dialogue_key` are the reply for which it is looked up: the same may have been asked
    for another. What was said of another text, by `reply_hash`, is not asked.
    """

    judge_key: str
    hash: str
    earlier: str
    reply_hash: str
    request_hash: str
    dialogue_key: str


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch whose results are still to come.

    `key` is our name of it, `remote_id` the endpoint's (None if the answer to its submission was lost);
    `hashes` are its requests without a result yet, of `total`; `since` is when it was intended.
    """

    key: str
    remote_id: str | None
    since: datetime
    total: int
    hashes: tuple[str, ...]

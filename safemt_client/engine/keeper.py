"""What a session needs of the store that it writes, wherever that is: in this process or in another one."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any, Protocol

from safemt_client.planning.resolved import Known
from safemt_client.results.store.queries import Result, VerdictKey
from safemt_client.results.store.rows import Row

__all__ = ["Keeper"]


class Keeper(Known, Protocol):
    """Takes rows and answers look-ups; `Store` is one.

    Rows count once `save` has returned: everything that follows from them waits for that. Look-ups see what
    was saved before by this keeper, and at least what the store held when the session began.

    While calls are in flight only these are asked: in the event loop, of what this session itself has saved,
    `observed`, `texts` and `judged_as` of a single hash and `final_verdicts` of a single key; in a thread
    `replies`, `final`, `final_verdicts`, `open_batches` and `known_keys`. All others are asked before the
    first call; what they return may grow as more is learnt.

    Raises:
        StoreError: from each of them: the store cannot be written or asked, and will not be.
    """

    async def save(self, *rows: Row) -> None:
        """Append rows, all or none of them; return when they are committed.

        If it is cancelled they are stored anyway. Awaited by whoever has had a reply, in many tasks at once.
        """
        ...

    def save_now(self, *rows: Row) -> None:
        """The same where nothing can be awaited; blocks until they are committed."""
        ...

    def query(self, sql: str, parameters: Sequence[Any] | None = None, limit: int | None = None) -> Result:
        """Rows of a statement that only reads."""
        ...

    def known_keys(self, table: str, column: str) -> set[str]:
        """All values of a key column."""
        ...

    def replies(self, hashes: Sequence[str]) -> dict[str, tuple[Any, ...]]:
        """The replies to those requests, by hash, that were observed.

        Each is outcome, text, reasoning, finish reason, error, model, latency in seconds and error code.
        """
        ...

    def replied(self) -> Container[str]:
        """The hashes of all requests that have a reply which is no error."""
        ...

    def final_texts(self) -> Container[tuple[str, str]]:
        """All verdicts that are final: their hashes, and those of the texts that they are about."""
        ...

    def assessments(self, guard_key: str) -> Mapping[str, tuple[Any, ...]]:
        """The assessments of a guard that are no errors, by hash; see `Lookups.assessments`."""
        ...

    def final_verdicts(self, wanted: Sequence[VerdictKey]) -> dict[VerdictKey, tuple[Any, ...]]:
        """Those of the verdicts that are final, wherever they were given; see `Lookups.final_verdicts`."""
        ...

    def stopped_targets(self, run_id: str) -> dict[str, int]:
        """The targets of a run that are stopped, each with the last item that its rules needed."""
        ...

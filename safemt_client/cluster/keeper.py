"""The store as a worker and the driver see it: rows go to the Writer, questions are asked of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from functools import partial
from typing import Any

from safemt_client.providers.types import Outcome
from safemt_client.results.store.learnt import Learnt
from safemt_client.results.store.queries import OpenBatch, Result, VerdictKey
from safemt_client.results.store.rows import ImageRow, Row, TurnRow

__all__ = ["RemoteKeeper"]

Save = Callable[..., Awaitable[None]]
Ask = Callable[..., Any]
_AT_HAND = 5000
"""So many replies are at hand: who asks the same does so close together."""


class RemoteKeeper:
    """A `Keeper` whose store is in another process.

    `save` hands rows over and returns once they are committed. `ask` asks the store's method of a name, and
    blocks until it has answered. `saved` is told of rows once they are committed.

    What `replied`, `final_texts` and `assessments` return grows when they are asked again: each row of the
    store is read once. They may be asked from several threads.
    """

    def __init__(self, save: Save, ask: Ask, saved: Callable[[Sequence[Row]], None] | None = None) -> None:
        self._save = save
        self._ask = ask
        self._saved = saved
        self._images: set[str] = set()
        self._images_read = False
        self._learnt = Learnt(partial(ask, "learnt"))
        self._at_hand: OrderedDict[str, tuple[str, str]] = OrderedDict()

    async def save(self, *rows: Row) -> None:
        """See `Keeper`."""
        await self._save(*rows)
        for row in rows:
            if isinstance(row, TurnRow):
                self._remember(row)
            elif isinstance(row, ImageRow):
                self._images.add(row.sha256)
        if self._saved is not None:
            self._saved(rows)

    def save_now(self, *rows: Row) -> None:
        """See `Keeper`: only what keeps the money writes so, and that is elsewhere."""
        raise NotImplementedError

    def query(self, sql: str, parameters: Sequence[Any] | None = None, limit: int | None = None) -> Result:
        """See `Keeper`."""
        found: Result = self._ask("query", sql, parameters, limit)
        return found

    def known_keys(self, table: str, column: str) -> set[str]:
        """See `Keeper`."""
        if (table, column) != ("images", "sha256"):
            found: set[str] = self._ask("known_keys", table, column)
            return found
        if not self._images_read:
            self._images |= self._ask("known_keys", table, column)
            self._images_read = True
        return set(self._images)

    def observed(self, hashes: Sequence[str]) -> Mapping[str, str]:
        """See `Known`."""
        return self._of_those("observed", hashes, 0)

    def texts(self, hashes: Sequence[str]) -> Mapping[str, str]:
        """See `Known`."""
        return self._of_those("texts", hashes, 1)

    def reply_hashes(self, hashes: Sequence[str]) -> Mapping[str, str]:
        """See `Known`."""
        found: Mapping[str, str] = self._ask("reply_hashes", list(hashes))
        return found

    def judged_as(self, hashes: Sequence[str]) -> Mapping[str, str]:
        """See `Known`."""
        found: Mapping[str, str] = self._ask("judged_as", list(hashes))
        return found

    def replies(self, hashes: Sequence[str]) -> dict[str, tuple[Any, ...]]:
        """See `Keeper`."""
        found: dict[str, tuple[Any, ...]] = self._ask("replies", list(hashes))
        return found

    def final(self, wanted: Sequence[VerdictKey]) -> tuple[set[VerdictKey], set[VerdictKey]]:
        """See `Known`."""
        found: tuple[set[VerdictKey], set[VerdictKey]] = self._ask("final", list(wanted))
        return found

    def replied(self) -> Container[str]:
        """See `Keeper`."""
        return self._learnt.replied()

    def final_texts(self) -> Container[tuple[str, str]]:
        """See `Keeper`."""
        return self._learnt.final_texts()

    def assessments(self, guard_key: str) -> Mapping[str, tuple[Any, ...]]:
        """See `Keeper`."""
        return self._learnt.assessments(guard_key)

    def final_verdicts(self, wanted: Sequence[VerdictKey]) -> dict[VerdictKey, tuple[Any, ...]]:
        """See `Keeper`."""
        found: dict[VerdictKey, tuple[Any, ...]] = self._ask("final_verdicts", list(wanted))
        return found

    def open_batches(self, hashes: Sequence[str]) -> Sequence[OpenBatch]:
        """See `Known`."""
        found: Sequence[OpenBatch] = self._ask("open_batches", list(hashes))
        return found

    def stopped_targets(self, run_id: str) -> dict[str, int]:
        """See `Keeper`."""
        found: dict[str, int] = self._ask("stopped_targets", run_id)
        return found

    def _of_those(self, method: str, hashes: Sequence[str], place: int) -> Mapping[str, str]:
        if all(key in self._at_hand for key in hashes):
            return {key: self._at_hand[key][place] for key in hashes}
        found: Mapping[str, str] = self._ask(method, list(hashes))
        return found

    def _remember(self, row: TurnRow) -> None:
        # Of several observations the first one counts.
        if row.request_hash not in self._at_hand and Outcome(row.outcome).observed:
            self._at_hand[row.request_hash] = (row.outcome, row.text or "")
            if len(self._at_hand) > _AT_HAND:
                self._at_hand.popitem(last=False)

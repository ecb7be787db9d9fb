"""The attempts at one turn: each is a row of its own."""

from __future__ import annotations

from safemt_client.engine.recorder import Recorder
from safemt_client.planning.target import Target
from safemt_client.providers.types import Reply, Request
from safemt_client.results.store.rows import TurnRow

__all__ = ["Attempts", "is_paid"]


def is_paid(reply: Reply) -> bool:
    """Whether an attempt was surely billed, even where the endpoint does not say for how much."""
    return reply.outcome.observed or reply.billed


class Attempts:
    """The attempts at one turn in this session, in their order.

    `key` is the hash under which they are stored.
    """

    def __init__(self, recorder: Recorder, target: Target, request: Request, key: str) -> None:
        self._recorder = recorder
        self._target = target
        self._request = request
        self._key = key
        self._count = 0
        self._repeated_usd = 0.0

    def row(self, reply: Reply) -> TurnRow:
        """The row of the next attempt."""
        self._count += 1
        return self._recorder.turn_row(self._target, self._request, self._key, reply, self._count)

    def repeated(self, reply: Reply) -> TurnRow:
        """The row of an attempt that is followed by another."""
        row = self.row(reply)
        self._repeated_usd += row.cost_usd or 0.0
        return row

    def all_usd(self, last: TurnRow) -> float | None:
        """US dollars of all attempts, `last` being the row of the last one; None where no price is known."""
        if last.cost_usd is None and not self._repeated_usd:
            return None
        return (last.cost_usd or 0.0) + self._repeated_usd

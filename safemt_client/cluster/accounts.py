"""The one count of limits and money for all workers of a run: permits in bulk, money in advance.

After a restart nothing is given until every worker that is alive has said what it holds.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from safemt_client.cluster.counts import Counts
from safemt_client.cluster.messages import Answer, MoneySaid, Report
from safemt_client.providers.limits.permits import Change

__all__ = ["Accounts", "Purse"]

_PART = 8
"""What is given in advance, or leased, is this part of what is left: so messages and commits are few."""
_NOTHING = 1e-9
Lend = Callable[[float], Awaitable[None]]


@dataclass
class Purse:
    """The money of a run under a cap, in US dollars.

    `before` is what its earlier sessions have spent or may have. `lend` writes into the store what this
    session may have spent, and returns once that is committed.
    """

    cap_usd: float
    before: float
    lend: Lend
    gone: float = 0.0
    """What workers that were lost may have spent."""
    _said: dict[str, MoneySaid] = field(default_factory=dict)
    _may: dict[str, float] = field(default_factory=dict)
    _short: set[str] = field(default_factory=set)
    _leased: float = 0.0

    @property
    def spent(self) -> float:
        """What is spent for certain, or may be by those that were lost."""
        return self.before + self.gone + sum(said.spent_usd for said in self._said.values())

    @property
    def left(self) -> float:
        """What nobody has been given."""
        return self.cap_usd * (1 + 1e-12) - self.before - self.gone - sum(self._may.values())

    async def answer(self, worker: str, said: MoneySaid, *, giving: bool) -> Answer:
        """What a worker may spend from now on."""
        self._said[worker] = said
        # It may have given back, or an answer was lost, or it was given by an Accounts of before.
        self._may[worker] = said.may_usd
        refused = False
        if said.needs_usd > 0 and giving:
            if said.needs_usd <= self.left:
                more = min(self.left, max(said.needs_usd, min(said.wants_usd, self.left / _PART)))
                # Noted first: others are answered while the lease is written.
                self._may[worker] += more
                self._short.discard(worker)
                await self._lease()
            else:
                self._short.add(worker)
                refused = not self._may_come_back(worker)
        else:
            self._short.discard(worker)
        return Answer(
            may_usd=self._may[worker],
            refused=refused,
            scarce=bool(self._short),
            spent_usd=self.spent,
        )

    def lost(self, worker: str) -> None:
        """A worker is gone: all that it was given may be spent."""
        self._short.discard(worker)
        self._said.pop(worker, None)
        self.gone += self._may.pop(worker, 0.0)

    def _may_come_back(self, worker: str) -> bool:
        """Whether another worker has money that it may not need after all."""
        return any(
            may - said.spent_usd > _NOTHING
            for other, may in self._may.items()
            if other != worker and (said := self._said.get(other)) is not None
        )

    async def _lease(self) -> None:
        given = self.gone + sum(self._may.values())
        if given > self._leased:
            left = max(self.cap_usd - self.before - given, 0.0)
            up_to = given + left / _PART
            await self.lend(up_to)
            self._leased = max(self._leased, up_to)


class Accounts:
    """Counts for all workers of a run. Its methods are called from one event loop."""

    def __init__(
        self,
        attempt_s: float,
        purse: Purse | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`attempt_s` is how long a call may take: so long those of a lost worker count as in flight."""
        self._attempt_s = attempt_s
        self._purse = purse
        self._expected: frozenset[str] | None = None
        self._changes: list[Change] = []
        self._counts = Counts(lambda account, change: self._changes.append(change), clock)

    def expect(self, workers: Collection[str], gone_usd: float = 0.0) -> tuple[list[Change], float]:
        """Which workers are alive, as who started them knows; what lost ones may have spent.

        Returns how the limits have changed since the last time, and what is `gone` by now.
        """
        self._expected = frozenset(workers)
        changes, self._changes = self._changes, []
        if self._purse is not None:
            self._purse.gone = max(self._purse.gone, gone_usd)
            return changes, self._purse.gone
        return changes, 0.0

    def lost(self, worker: str) -> tuple[float, float]:
        """A worker is dead or silent: its calls count as in flight for the time of an attempt.

        Returns in how many seconds it starts nothing any more, even if it is alive and does not hear of this;
        and what lost workers may have spent by now.
        """
        self._expected = (self._expected or frozenset()) - {worker}
        if self._purse is not None:
            self._purse.lost(worker)
        quiet_s = self._counts.lost(worker, self._attempt_s)
        return quiet_s, 0.0 if self._purse is None else self._purse.gone

    def session_usd(self) -> float:
        """What this session has spent, or may have."""
        return 0.0 if self._purse is None else self._purse.spent - self._purse.before

    async def tick(self, report: Report) -> Answer:
        """Take what a worker says, and give it what there is."""
        worker, counts = report.worker, self._counts
        if (known := counts.hear(report)) is not None:
            return known
        giving = self._expected is not None and counts.may_give(worker, self._expected)
        answer = Answer(counts.give(report, giving=giving))
        if report.money is not None and self._purse is not None:
            money = await self._purse.answer(worker, report.money, giving=giving)
            answer = replace(money, accounts=answer.accounts)
        answer = replace(answer, expected=worker in (self._expected or ()))
        counts.answered(report, answer)
        return answer

    def in_flight(self) -> Mapping[str, int]:
        """Permits that are out, by account."""
        return self._counts.in_flight()

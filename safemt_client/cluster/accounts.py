"""The one count of limits and money for all workers: permits in bulk, money in advance.

What a worker holds is what it says it holds: a message that is lost, or said twice, changes nothing. After a
restart nothing is given until every worker that is alive has said what it holds.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

from safemt_client.cluster.messages import (
    SILENCE_S,
    Answer,
    AnswerOfAccount,
    Ended,
    MoneySaid,
    Report,
    ReportOfAccount,
)
from safemt_client.providers.limits.bulk import BulkLimiter
from safemt_client.providers.limits.permits import Change, Permit
from safemt_client.providers.types import Outcome, Reply

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


class _Counted(BulkLimiter):
    @property
    def rated(self) -> bool:
        """Whether a permit depends on more than a call that comes back."""
        known = self._requests.per_minute is not None or self._tokens.per_minute is not None
        return known or self._paused_until > self.clock()


class Accounts:
    """Counts for all workers. Its methods are called from one event loop."""

    def __init__(
        self,
        attempt_s: float,
        purse: Purse | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`attempt_s` is how long a call may take: so long those of a lost worker count as in flight."""
        self._attempt_s = attempt_s
        self._purse = purse
        self._clock = clock
        self._limiters: dict[str, _Counted] = {}
        self._out: dict[str, dict[str, int]] = defaultdict(dict)
        self._waiting: dict[str, dict[str, int]] = defaultdict(dict)
        self._heard: dict[str, float] = {}
        self._last: dict[str, tuple[int, Answer]] = {}
        self._ghosts: list[tuple[float, str, int]] = []
        self._expected: frozenset[str] | None = None
        self._fenced: set[str] = set()
        self._changes: list[Change] = []

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

    def lost(self, worker: str) -> float:
        """A worker is dead or silent: its calls count as in flight for the time of an attempt.

        Returns in how many seconds it starts nothing any more, even if it is alive and does not hear of this.
        """
        self._fenced.add(worker)
        quiet_s = self._heard.pop(worker, -math.inf) + SILENCE_S - self._clock()
        self._expected = (self._expected or frozenset()) - {worker}
        until = self._clock() + self._attempt_s
        self._ghosts += [(until, account, count) for account, count in self._out.pop(worker, {}).items()]
        self._waiting.pop(worker, None)
        self._last.pop(worker, None)
        if self._purse is not None:
            self._purse.lost(worker)
        return max(quiet_s, 0.0)

    def session_usd(self) -> float:
        """What this session has spent, or may have."""
        return 0.0 if self._purse is None else self._purse.spent - self._purse.before

    async def tick(self, report: Report) -> Answer:
        """Take what a worker says, and give it what there is."""
        worker = report.worker
        if worker in self._fenced:
            return Answer(fenced=True)
        number, answer = self._last.get(worker, (-1, Answer()))
        if report.number < number:
            return answer
        again = report.number == number
        self._heard[worker] = self._clock()
        self._bury()
        for name, said in report.accounts.items():
            self._take(worker, name, said, again=again)
        # Held before, so that it is heard of before anything is given.
        self._last[worker] = report.number, answer
        giving = self._giving(worker)
        accounts = {
            name: self._give(worker, name, said, giving=giving) for name, said in report.accounts.items()
        }
        answer = Answer(accounts)
        if report.money is not None and self._purse is not None:
            money = await self._purse.answer(worker, report.money, giving=giving)
            answer = Answer(
                accounts,
                may_usd=money.may_usd,
                refused=money.refused,
                scarce=money.scarce,
                spent_usd=money.spent_usd,
            )
        if worker not in self._fenced:
            self._last[worker] = report.number, answer
        return answer

    def in_flight(self) -> Mapping[str, int]:
        """Permits that are out, by account."""
        return {name: limiter.in_flight for name, limiter in self._limiters.items()}

    def _giving(self, worker: str) -> bool:
        """Whether a worker is one of those that are alive, and all of them have said what they hold."""
        expected = self._expected
        return expected is not None and worker in expected and expected <= self._last.keys()

    def _bury(self) -> None:
        now = self._clock()
        over = [ghost for ghost in self._ghosts if ghost[0] <= now]
        self._ghosts = [ghost for ghost in self._ghosts if ghost[0] > now]
        for _, account, count in over:
            self._limiters[account].give_back(count)

    def _take(self, worker: str, name: str, said: ReportOfAccount, *, again: bool) -> None:
        if name not in self._limiters:
            terms = said.terms
            self._limiters[name] = _Counted(
                rpm=terms.rpm,
                tpm=terms.tpm,
                concurrency=terms.most,
                start=terms.start,
                account=name,
                on_change=self._changes.append,
                clock=self._clock,
            )
        limiter, out = self._limiters[name], self._out[worker]
        if not again:
            for ended in said.ended:
                _settle(limiter, ended)
            if said.anew:
                limiter.begin_anew()
            if said.unused:
                limiter.give_back_unused(said.unused)
                out[name] = out.get(name, 0) - len(said.unused)
        limiter.give_back(out.get(name, 0) - said.held)
        out[name] = said.held

    def _give(self, worker: str, name: str, said: ReportOfAccount, *, giving: bool) -> AnswerOfAccount:
        limiter, wants = self._limiters[name], said.wants
        others = sum(waiting.get(name, 0) > 0 for other, waiting in self._waiting.items() if other != worker)
        using = sum(bool(out.get(name)) for other, out in self._out.items() if other != worker)
        share = math.ceil(limiter.limit / (1 + max(others, using)))
        if others:
            wants = wants[: max(0, share - said.held)]
        delays = limiter.take_many(wants).delays_s if giving and wants else ()
        self._out[worker][name] = said.held + len(delays)
        self._waiting[worker][name] = len(said.wants) - len(delays)
        limiter.await_for(sum(waiting.get(name, 0) for waiting in self._waiting.values()))
        return AnswerOfAccount(delays, share, limiter.rated)


def _settle(limiter: BulkLimiter, ended: Ended) -> None:
    reply = Reply(
        Outcome(ended.outcome),
        status_code=ended.status_code,
        error_code=ended.error_code,
        retry_after_s=ended.retry_after_s,
        rate_limits=ended.rate_limits,
    )
    permit = Permit(limiter.clock() - ended.age_s, ended.tokens)
    limiter.settle(permit, reply, ended.used, timed_out=ended.timed_out)

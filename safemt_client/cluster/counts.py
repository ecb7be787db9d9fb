"""Permits of all accounts, and which worker holds how many.

What a worker holds is what it says it holds: a message that is lost, or said twice, changes nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from safemt_client.cluster.messages import SILENCE_S, Answer, AnswerOfAccount, Ended, Report, ReportOfAccount
from safemt_client.providers.limits.bulk import BulkLimiter
from safemt_client.providers.limits.permits import Change, Permit, Terms
from safemt_client.providers.types import Outcome, Reply

__all__ = ["Counts"]


class _Counted(BulkLimiter):
    @property
    def rated(self) -> bool:
        """Whether a permit depends on more than a call that comes back."""
        known = self._requests.per_minute is not None or self._tokens.per_minute is not None
        return known or self._paused_until > self.clock()


class Counts:
    """Counts permits for workers, of one run or of several.

    `changed` is told of an account and of what has changed there; `clock` is in seconds.
    """

    def __init__(self, changed: Callable[[str, Change], None], clock: Callable[[], float]) -> None:
        self._changed, self._clock = changed, clock
        # Until then others may have heard Accounts of before.
        self._began = clock()
        self._limiters: dict[str, _Counted] = {}
        self._terms: dict[str, dict[str, Terms]] = defaultdict(dict)
        self._out: dict[str, dict[str, int]] = defaultdict(dict)
        self._waiting: dict[str, dict[str, int]] = defaultdict(dict)
        self._heard: dict[str, float] = {}
        self._last: dict[str, tuple[int, Answer]] = {}
        self._ghosts: list[tuple[float, str, int]] = []
        self._fenced: set[str] = set()

    def hear(self, report: Report, run: str = "") -> Answer | None:
        """Take what a worker of a run says; the answer where there is one already, None where not."""
        worker = report.worker
        if worker in self._fenced:
            return Answer(fenced=True)
        number, answer = self._last.get(worker, (-1, Answer()))
        if report.number < number:
            return answer
        again = report.number == number
        self._heard[worker] = self._clock()
        self.bury()
        for name, said in report.accounts.items():
            self._state(name, run, said.terms)
            self._take(worker, name, said, again=again)
        # Held before, so that it is heard of before anything is given.
        self._last[worker] = report.number, answer
        return None

    def give(self, report: Report, *, giving: bool) -> dict[str, AnswerOfAccount]:
        """What a worker that was heard gets of each account: no permits without `giving`."""
        return {
            name: self._give(report.worker, name, said, giving=giving)
            for name, said in report.accounts.items()
        }

    def answered(self, report: Report, answer: Answer) -> None:
        """Keep what a report was answered."""
        if report.worker not in self._fenced:
            self._last[report.worker] = report.number, answer

    def may_give(self, worker: str, expected: Collection[str]) -> bool:
        """Whether a worker is one of those that are alive, and all of them have said what they hold."""
        return worker in expected and self._last.keys() >= set(expected)

    def lost(self, worker: str, attempt_s: float) -> float:
        """A worker may start nothing more; its calls count as in flight for `attempt_s`.

        Returns in how many seconds it starts nothing any more, even if it is alive and does not hear of this.
        """
        self._fenced.add(worker)
        quiet_s = self._heard.get(worker, self._began) + SILENCE_S - self._clock()
        self.forget(worker, attempt_s)
        return max(quiet_s, 0.0)

    def forget(self, worker: str, attempt_s: float) -> None:
        """A worker is not heard of any more: its calls count as in flight for `attempt_s`."""
        until = self._clock() + attempt_s
        self._ghosts += [(until, account, count) for account, count in self._out.pop(worker, {}).items()]
        self._waiting.pop(worker, None)
        self._last.pop(worker, None)

    def release(self, run: str) -> None:
        """What a run has stated of its accounts holds no longer."""
        for name, stated in self._terms.items():
            if stated.pop(run, None) is not None and stated:
                self._limiters[name].restate(_lowest(stated.values()))

    def terms(self, account: str) -> Mapping[str, Terms]:
        """What each run has stated of an account."""
        return self._terms[account]

    def bury(self) -> None:
        """Count calls as over that a worker had which was lost an attempt ago."""
        now = self._clock()
        over = [ghost for ghost in self._ghosts if ghost[0] <= now]
        self._ghosts = [ghost for ghost in self._ghosts if ghost[0] > now]
        for _, account, count in over:
            self._limiters[account].give_back(count)

    def in_flight(self) -> Mapping[str, int]:
        """Permits that are out, by account."""
        return {name: limiter.in_flight for name, limiter in self._limiters.items()}

    def _state(self, name: str, run: str, terms: Terms) -> None:
        """A run states these limits: of those of all runs the lowest hold."""
        stated = self._terms[name]
        if stated.get(run) == terms:
            return
        stated[run] = terms
        lowest = _lowest(stated.values())
        if name in self._limiters:
            self._limiters[name].restate(lowest)
            return
        self._limiters[name] = _Counted(
            rpm=lowest.rpm,
            tpm=lowest.tpm,
            concurrency=lowest.most,
            start=lowest.start,
            account=name,
            on_change=lambda change: self._changed(name, change),
            clock=self._clock,
        )

    def _take(self, worker: str, name: str, said: ReportOfAccount, *, again: bool) -> None:
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


def _lowest(stated: Collection[Terms]) -> Terms:
    rpm = [terms.rpm for terms in stated if terms.rpm is not None]
    tpm = [terms.tpm for terms in stated if terms.tpm is not None]
    return replace(
        next(iter(stated)),
        rpm=min(rpm, default=None),
        tpm=min(tpm, default=None),
        start=min(terms.start for terms in stated),
        most=min(terms.most for terms in stated),
    )


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

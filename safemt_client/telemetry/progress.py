"""What the terminal shows during a run: a live table, plain lines, or nothing."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import anyio
from rich.console import Console
from rich.markup import escape

from safemt_client.moderator.assessor import GuardReply
from safemt_client.planning.costs import money
from safemt_client.planning.estimate import of_guard
from safemt_client.providers.negotiation import Learnt
from safemt_client.providers.pauses import PAUSES
from safemt_client.providers.types import Outcome, Reply, Usage
from safemt_client.results.sanitize import plain
from safemt_client.telemetry.display import LineView, Screen, View, plain_lines, span
from safemt_client.telemetry.events import ProgressLine, ProgressSnapshot, RuleLine
from safemt_client.telemetry.names import shown_names
from safemt_client.telemetry.stopped import rule_text

if TYPE_CHECKING:
    from safemt_client.planning.plan import Plan

__all__ = ["Progress"]

_PLAIN_EVERY_S = 30.0
_LIVE_EVERY_S = 0.25
_LONG_WAIT_S = 3600.0
_RECENT_S = 60.0
"""Rates are those of so many seconds, and an error is shown for as long after its wait is over."""
_LONGEST_NAME = 30
"""Characters of a name beside an error."""
_FAILED = (Outcome.ERROR_TRANSIENT, Outcome.ERROR_PERMANENT, "error", "unparsed")


@dataclass
class _Line:
    name: str
    shown: str
    total: int
    cached: int
    role: Literal["target", "guard", "judge"] = "target"
    done: int = 0
    in_flight: int = 0
    failed: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    priced: bool = False
    outcomes: Counter[str] = field(default_factory=Counter)
    landed: deque[float] = field(default_factory=deque)
    retries: list[float] = field(default_factory=list)
    batches: dict[str, tuple[int, int]] = field(default_factory=dict)
    stopped: str | None = None
    long_wait_said: bool = False


class Progress:
    """Counts what the scheduler reports, and shows it. Implements the scheduler's `Listener`."""

    def __init__(
        self,
        plan: Plan,
        console: Console,
        *,
        quiet: bool,
        spent_before: float = 0.0,
        cap_usd: float | None = None,
        on_change: Callable[[ProgressSnapshot], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`spent_before` is what earlier sessions of the run have cost, in US dollars.

        `on_change` is told of each turn and verdict that has landed, and of what can no longer be asked.
        """
        self._plan = plan
        self._on_change = on_change
        self._console = console
        self._quiet = quiet
        self._spent_before = spent_before
        self._cap_usd = cap_usd
        self._clock = clock
        self._begin = clock() - PAUSES.lost_s
        self._notice: str | None = None
        self.rules: Callable[[], tuple[RuleLine, ...]] = tuple
        """How far the rules are that the run stops by."""
        self._error: tuple[str, float, str] | None = None
        turns, names = plan.turns, shown_names(plan)
        self._lines = {
            target.key: _Line(
                target.name, names[target.key], turns[target.key], plan.cached_turns.get(target.key, 0)
            )
            for target in plan.targets
        }
        for row in plan.moderators:
            name = f"guard {row.guard}"
            calls = of_guard(plan, row.guard_key).calls
            self._lines[row.guard_key] = _Line(name, plain(name), calls, 0, "guard")
        if plan.judge is not None:
            key = plan.judge.judge_key
            self._lines[key] = _Line(
                f"judge {plan.judge.name}",
                f"judge {names[key]}",
                plan.verdicts,
                plan.cached_verdicts,
                "judge",
            )

    def snapshot(self) -> ProgressSnapshot:
        """How far the session is now."""
        lines = (
            ProgressLine(
                key=key,
                name=line.name,
                role=line.role,
                done=line.done,
                total=line.total,
                failed=line.failed,
                cached=line.cached,
                in_flight=line.in_flight,
                cost_usd=line.cost_usd if line.priced else None,
                stopped=line.stopped,
            )
            for key, line in self._lines.items()
        )
        return ProgressSnapshot(self._plan.run.run_id, tuple(lines), self.rules())

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change(self.snapshot())

    def asking(self, key: str) -> None:
        """A turn or a verdict was started."""
        self._lines[key].in_flight += 1

    def retrying(self, key: str, reply: Reply, wait_s: float) -> None:
        """An attempt failed and will be repeated."""
        line = self._lines[key]
        now = self._clock()
        line.retries = [until for until in line.retries if until > now]
        whose = "guard: " if isinstance(reply, GuardReply) else ""
        line.retries.append(now + wait_s)
        self._error = (key, now, plain(f"{whose}{reply.error or reply.outcome}"))
        if wait_s > _LONG_WAIT_S and not line.long_wait_said:
            line.long_wait_said = True
            self.notice(
                f"{line.shown}: asked to wait {span(wait_s)}: {plain(reply.error or '')}; "
                "the request may be larger than the limit"
            )

    def landed(self, key: str, outcome: str, usage: Usage, cost_usd: float | None) -> None:
        """A turn or a verdict is in the store."""
        line = self._lines[key]
        line.in_flight -= 1
        if outcome == "abandoned":
            return
        line.outcomes[outcome] += 1
        line.done += 1
        line.landed.append(self._clock())
        line.failed += outcome in _FAILED
        line.tokens += (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
        if cost_usd is not None:
            line.cost_usd += cost_usd
            line.priced = True
        self._changed()

    def fewer(self, key: str, count: int) -> None:
        """So many turns or verdicts fewer are to come than was planned: the store has got what they need."""
        self._lines[key].total -= count

    def batch(self, key: str, batch_key: str, done: int, total: int) -> None:
        """How far a batch of the target is; all 0 when it is over."""
        batches = self._lines[key].batches
        if total:
            batches[batch_key] = (done, total)
        else:
            batches.pop(batch_key, None)

    def stopped(self, key: str, reason: str, code: str | None, status: int | None) -> None:
        """A target or the judge can no longer be asked: report it at once."""
        line = self._lines[key]
        line.stopped = reason
        self._console.print(f"[red]{escape(line.shown)} stopped:[/] {escape(plain(reason))}")
        self._changed()

    def learnt(self, learnt: Learnt) -> None:
        """An endpoint does not take a parameter as it was sent: said once, since the answers depend on it."""
        self.notice(plain(str(learnt)))

    def decided(self, line: RuleLine) -> None:
        """A rule is decided: said at once."""
        if not self._quiet:
            self._console.print(escape(rule_text(line)))
        self._changed()

    def notice(self, text: str) -> None:
        """A line from the program itself, shown even when quiet."""
        self._notice = text
        self._console.print(escape(text))

    async def show(self) -> None:
        """Keep the display current until cancelled."""
        if self._quiet:
            await anyio.sleep_forever()
        elif self._console.is_terminal:
            with Screen(self._console) as screen:
                try:
                    while True:
                        screen.draw(self.view())
                        await anyio.sleep(_LIVE_EVERY_S)
                finally:
                    screen.draw(self.view())
        else:
            while True:
                await anyio.sleep(_PLAIN_EVERY_S)
                for text in self.lines():
                    self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def lines(self) -> list[str]:
        """Plain lines, for output that is not a terminal."""
        return plain_lines(self.view())

    def spend(self) -> str:
        """Money spent so far, per minute, and expected in total; empty if nothing has a price."""
        priced = [line for line in self._lines.values() if line.priced]
        now = sum(line.cost_usd for line in priced)
        total = now + self._spent_before
        if total == 0:
            return ""
        minutes = self._elapsed_s() / 60
        parts = [f"spent {money(total)}", f"{money(now / minutes)}/min"]
        open_lines = [line for line in self._lines.values() if line.done < line.total and not line.stopped]
        if open_lines and all(line.done and line.priced for line in open_lines):
            left = sum((line.total - line.done) * line.cost_usd / line.done for line in open_lines)
            parts.append(f"about {money(total + left)} at the end")
        if self._cap_usd is not None:
            parts.append(f"cap {money(self._cap_usd)}")
        return ", ".join(parts)

    def view(self) -> View:
        """What is shown now."""
        return View(
            [self._of(line) for line in self._lines.values()],
            self._elapsed_s(),
            self.spend(),
            self._last_error(),
            [rule_text(line) for line in self.rules()],
        )

    def _of(self, line: _Line) -> LineView:
        rate = self._rate(line)
        left = line.total - line.done
        going = left > 0 and rate > 0 and not line.stopped
        return LineView(
            name=line.shown,
            done=line.done,
            total=line.total,
            cached=line.cached,
            in_flight=line.in_flight,
            failed=line.failed,
            tokens=line.tokens,
            cost_usd=line.cost_usd if line.priced else None,
            rate=rate,
            left_s=left / rate if going else None,
            note="stopped" if line.stopped else _batches(line),
        )

    def _rate(self, line: _Line) -> float:
        """Calls per second of late."""
        begin = self._clock() - _RECENT_S
        while line.landed and line.landed[0] < begin:
            line.landed.popleft()
        return len(line.landed) / min(self._elapsed_s(), _RECENT_S)

    def _elapsed_s(self) -> float:
        """Seconds since the session began, pauses of the process left out."""
        return max(self._clock() - PAUSES.lost_s - self._begin, 1e-9)

    def _last_error(self) -> str:
        """What went wrong last, and when it is tried again; empty where that is long over."""
        if self._error is None:
            return ""
        key, when, reason = self._error
        line, now = self._lines[key], self._clock()
        who = line.shown if len(line.shown) <= _LONGEST_NAME else f"{line.shown[:_LONGEST_NAME]}…"
        waiting = [until for until in line.retries if until > now]
        if waiting:
            calls = "1 call waits" if len(waiting) == 1 else f"{len(waiting)} calls wait"
            return f"{who}: {calls}, next in {span(min(waiting) - now)}: {reason}"
        ended = max(line.retries, default=when)
        return f"{who}, {span(now - when)} ago: {reason}" if now - ended < _RECENT_S else ""


def _batches(line: _Line) -> str:
    if not line.batches:
        return ""
    done, total = (sum(figures) for figures in zip(*line.batches.values(), strict=True))
    return f"{len(line.batches)} batches: {done}/{total} answered"

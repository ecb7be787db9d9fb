"""What a session reports: its progress, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from safemt_client.providers.errors import SafemtError
from safemt_client.providers.negotiation import Learnt
from safemt_client.providers.types import Reply, Usage
from safemt_client.results.store.rows import Row

__all__ = [
    "Fanout",
    "Listener",
    "ProgressLine",
    "ProgressSnapshot",
    "RuleLine",
    "RunResult",
    "Status",
    "StopReason",
    "StoppedAtOnceError",
    "Watcher",
]


class Listener(Protocol):
    """Told of what happens, for the display; `key` is a target's or the judge's key."""

    def asking(self, key: str) -> None:
        """A turn or a verdict was started."""

    def retrying(self, key: str, reply: Reply, wait_s: float) -> None:
        """An attempt failed and will be repeated after `wait_s` seconds; `reply` may be a guard's."""

    def landed(self, key: str, outcome: str, usage: Usage, cost_usd: float | None) -> None:
        """A turn or a verdict is in the store; `outcome` is an outcome, a label or `abandoned`."""

    def batch(self, key: str, batch_key: str, done: int, total: int) -> None:
        """How far a batch of the target is; all 0 when it is over."""

    def stopped(self, key: str, reason: str, code: str | None, status: int | None) -> None:
        """A target or the judge is no longer asked: the reason, its code, and the HTTP status if any."""

    def learnt(self, learnt: Learnt) -> None:
        """An endpoint does not take a parameter as it was sent: what is done instead from now on."""

    def decided(self, line: RuleLine) -> None:
        """A rule that the run stops by is decided."""

    def notice(self, text: str) -> None:
        """A line about this process, such as a pause of it."""


@dataclass
class StopReason:
    """How a session ended. `stopped` maps a target's or the judge's key to the reason.

    `misconfigured` are those of them to which nothing can be sent from here. `capped` says
    that something was not started because the cost cap was reached; `call_usd` is what a call
    may cost, in US dollars, that was not sent for that reason. `rules` were open when it began.
    """

    interrupted: bool = False
    capped: bool = False
    stopped: dict[str, str] = field(default_factory=dict)
    misconfigured: list[str] = field(default_factory=list)
    call_usd: float = 0.0
    rules: tuple[RuleLine, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether everything of the plan was asked."""
        return not self.interrupted and not self.capped and not self.stopped


class StoppedAtOnceError(SafemtError):
    """A second Ctrl-C or SIGTERM: calls in flight are abandoned."""


Status = Literal["done", "decided", "stopped", "capped", "low-coverage", "errors", "failed"]


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a session ended, for its caller: a word, the exit status and one line without texts.

    `cause` is a word for what made it fail; `id` is the run's, empty where there was no plan yet; `coverage`
    is scored / attempted over all targets, None without a judge or where nothing was attempted. `again` says
    that the same call would ask something; not where first a setting has to change.
    """

    status: Status
    exit_status: int
    summary: str
    cause: str | None = None
    id: str = ""
    coverage: float | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class ProgressLine:
    """How far one target, guard or judge is. `total` is what this session has to ask of it at most.

    `failed` counts what will be asked again on resume; `cached` was in the store before. `cost_usd` is what
    this session has paid for it, None while no price is known; `stopped` says why it is no longer asked.
    """

    key: str
    name: str
    role: Literal["target", "guard", "judge"]
    done: int
    total: int
    failed: int
    cached: int
    in_flight: int
    cost_usd: float | None
    stopped: str | None


@dataclass(frozen=True, slots=True)
class RuleLine:
    """How far a rule is for a target; `target` is empty where the rule names its targets itself.

    `items` were looked at of the `population` that it is about. What is known of its figure is between `low`
    and `high`, in shares from 0 to 1, of a difference from -1 to 1; None where that is not known.
    """

    rule: str
    target: str
    state: Literal["holds", "broken", "open"]
    items: int
    population: int
    estimate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class ProgressSnapshot:
    """How far a session is, in all and line by line; `rules` are those that it stops by."""

    run_id: str
    lines: tuple[ProgressLine, ...]
    rules: tuple[RuleLine, ...] = ()

    @property
    def done(self) -> int:
        """Turns and verdicts that are in the store since the session began."""
        return sum(line.done for line in self.lines)

    @property
    def total(self) -> int:
        """Turns and verdicts that the session has to ask for, at most."""
        return sum(line.total for line in self.lines)

    @property
    def failed(self) -> int:
        """Turns and verdicts that will be asked again on resume."""
        return sum(line.failed for line in self.lines)

    @property
    def cost_usd(self) -> float | None:
        """US dollars of this session, None while no price is known."""
        known = [line.cost_usd for line in self.lines if line.cost_usd is not None]
        return sum(known) if known else None


class Watcher(Protocol):
    """Told of the rows that a session has put into the store, and of its end."""

    def saved(self, rows: Sequence[Row]) -> None:
        """Rows are in the store."""

    def ended(self, closing: RunResult, error: BaseException | None = None) -> None:
        """The session is over; `error` is what ended it early."""

    def close(self) -> None:
        """Nothing more will come."""


class Fanout:
    """A `Listener` that passes everything on to several others."""

    def __init__(self, *listeners: Listener) -> None:
        self._all = listeners

    def asking(self, key: str) -> None:
        """See `Listener`."""
        for listener in self._all:
            listener.asking(key)

    def retrying(self, key: str, reply: Reply, wait_s: float) -> None:
        """See `Listener`."""
        for listener in self._all:
            listener.retrying(key, reply, wait_s)

    def landed(self, key: str, outcome: str, usage: Usage, cost_usd: float | None) -> None:
        """See `Listener`."""
        for listener in self._all:
            listener.landed(key, outcome, usage, cost_usd)

    def batch(self, key: str, batch_key: str, done: int, total: int) -> None:
        """See `Listener`."""
        for listener in self._all:
            listener.batch(key, batch_key, done, total)

    def stopped(self, key: str, reason: str, code: str | None, status: int | None) -> None:
        """See `Listener`."""
        for listener in self._all:
            listener.stopped(key, reason, code, status)

    def learnt(self, learnt: Learnt) -> None:
        """See `Listener`."""
        for listener in self._all:
            listener.learnt(learnt)

    def decided(self, line: RuleLine) -> None:
        """See `Listener`."""
        for listener in self._all:
            listener.decided(line)

    def notice(self, text: str) -> None:
        """See `Listener`."""
        for listener in self._all:
            listener.notice(text)

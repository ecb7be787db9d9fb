"""What a worker says to the Accounts and what it is answered, several times a second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.limits.permits import Terms
from safemt_client.providers.limits.rates import NO_LIMITS, RateLimit

__all__ = [
    "SILENCE_S",
    "Answer",
    "AnswerOfAccount",
    "Ended",
    "MoneySaid",
    "Report",
    "ReportOfAccount",
    "RunSaid",
    "Sharing",
]

SILENCE_S = 10.0
"""A worker that has not heard from the Accounts for so long starts no call: others may count it as gone."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended, `age_s` seconds after it began, as far as a limiter learns from it."""

    age_s: float
    tokens: float
    used: float | None
    outcome: str
    status_code: int | None = None
    error_code: ErrorCode | None = None
    retry_after_s: float | None = None
    rate_limits: tuple[RateLimit | None, RateLimit | None] = NO_LIMITS
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class ReportOfAccount:
    """A worker's part in one account.

    `held` is how many permits it holds once what `ended` and the `unused` ones (the tokens of each) are back:
    what it says counts, whatever became of earlier messages. `wants` are the tokens of the calls that wait.
    """

    terms: Terms
    held: int
    wants: tuple[float, ...] = ()
    ended: tuple[Ended, ...] = ()
    unused: tuple[float, ...] = ()
    anew: bool = False


@dataclass(frozen=True, slots=True)
class MoneySaid:
    """A worker's money, in US dollars since it began: what it may spend, has spent, and has committed.

    It `needs` so much more to go on, 0 if it does not wait, and `wants` so much, to ask less often.
    """

    may_usd: float
    spent_usd: float
    committed_usd: float
    needs_usd: float = 0.0
    wants_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says. Its reports are numbered, and each waits for the answer to the one before."""

    worker: str
    number: int
    accounts: Mapping[str, ReportOfAccount] = field(default_factory=dict)
    money: MoneySaid | None = None


@dataclass(frozen=True, slots=True)
class AnswerOfAccount:
    """Permits, each with the seconds until it may be used, and how many calls the worker may have in flight.

    Where no rate is known (`rated`), a permit that comes back serves the next call without a message.
    """

    delays_s: tuple[float, ...]
    share: int
    rated: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker is answered. `fenced`: it was given up, and may start nothing more. One that is not
    `expected` is not known to be alive, and has not heard of the Accounts by this.

    It may spend `may_usd` since it began; `refused` says that what it needs is not there. `scarce`: what it
    has not committed is wanted elsewhere. `spent_usd` is what the whole run has spent.
    """

    accounts: Mapping[str, AnswerOfAccount] = field(default_factory=dict)
    fenced: bool = False
    expected: bool = True
    may_usd: float = 0.0
    refused: bool = False
    scarce: bool = False
    spent_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class RunSaid:
    """What a run says to the Accounts that it shares with others, once a second.

    An attempt of it takes `attempt_s` at most. `accounts` are its names for what it asks, `stated`
    those that it has limits for; `workers` are alive.
    """

    run: str
    attempt_s: float
    accounts: tuple[str, ...]
    stated: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sharing:
    """The Accounts that a run shares with others: their name and namespace on Ray, what it tells them."""

    name: str
    namespace: str
    run: RunSaid

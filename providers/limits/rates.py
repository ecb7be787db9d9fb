"""How fast an account may be asked: a rate without burst, and what an endpoint says about its limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["NO_LIMITS", "Rate", "RateLimit", "rate_limits", "sent_at"]

_SHARE = 0.99  # of the stated limit: servers' windows and ours do not line up
_SMALLEST_SHARE = 0.9


class Rate:
    """A generic cell rate without burst: each permit has its own time, a step after the one before.

    `per_minute` is the limit as stated; None means no limit. Times are seconds of the caller's clock.
    """

    def __init__(self, per_minute: float | None) -> None:
        self.per_minute = per_minute
        self._share = _SHARE
        self._next = float("-inf")

    @property
    def step(self) -> float:
        """Seconds that one unit takes."""
        return 60 / (self.per_minute * self._share) if self.per_minute else 0.0

    def ready_at(self) -> float:
        """When the next permit may be given."""
        return self._next

    def take(self, now: float, units: float = 1) -> None:
        """Give a permit for so many units."""
        if self.per_minute:
            self._next = max(self._next, now) + units * self.step

    def correct(self, units: float) -> None:
        """Count this many more units (or fewer, if negative) than were taken.

        What is given back brings the next permit forward and never makes a burst: `take` starts
        from the present at the earliest.
        """
        if self.per_minute:
            self._next += units * self.step

    def slow_down(self) -> None:
        """The endpoint refused although the limit was kept: its windows are stricter than ours."""
        self._share = max(_SMALLEST_SHARE, self._share - 0.02)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One limit as an endpoint states it: units a minute, and, if it is used up, seconds until it is not."""

    per_minute: float
    exhausted_s: float | None = None


NO_LIMITS: tuple[RateLimit | None, RateLimit | None] = (None, None)
"""What a response states that says nothing of limits."""
_LIMITS = (
    *("x-ratelimit-limit-requests", "x-ratelimit-limit-tokens"),
    *("anthropic-ratelimit-requests-limit", "anthropic-ratelimit-tokens-limit"),
)


def rate_limits(
    headers: Mapping[str, str], now: datetime | None = None
) -> tuple[RateLimit | None, RateLimit | None]:
    """The limits of requests and of tokens that a response's headers state.

    `x-ratelimit-limit-requests`, `-remaining-`, `-reset-` (OpenAI and those who follow it; resets are
    lengths of time) and `anthropic-ratelimit-requests-limit` and so on (resets are times). The period is
    taken from what was used and the time until it is back, since some vendors count by the day under
    the same names; a minute where that is not known.
    """
    # Reading the date takes longer than all else here, and most responses state no limit.
    if not any(name in headers for name in _LIMITS):
        return NO_LIMITS
    now = now or sent_at(headers)
    return _limit(headers, "requests", now), _limit(headers, "tokens", now)


def sent_at(headers: Mapping[str, str]) -> datetime | None:
    """When the response was sent, by its own clock; None where it does not say."""
    try:
        then = parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError, OverflowError):
        return None
    return then.replace(tzinfo=UTC) if then.tzinfo is None else then


def _limit(headers: Mapping[str, str], what: str, now: datetime | None) -> RateLimit | None:
    def field(kind: str) -> str | None:
        return headers.get(f"x-ratelimit-{kind}-{what}") or headers.get(f"anthropic-ratelimit-{what}-{kind}")

    limit, remaining = _number(field("limit")), _number(field("remaining"))
    if limit is None or limit <= 0:
        return None
    reset = _seconds(field("reset"), now)
    per_minute = limit
    if remaining is not None and reset and 0 <= remaining < limit:
        # This much becomes available again in `reset` seconds. A reset is rounded: it only tells a day
        # from a minute.
        flow = (limit - remaining) / reset * 60
        per_minute = flow if flow < limit / 60 else limit
    return RateLimit(per_minute, reset if remaining is not None and remaining < 1 else None)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _seconds(text: str | None, now: datetime | None) -> float | None:
    """`1s`, `6m0s`, `20ms`, `12.5`, or a time such as `2026-01-01T00:00:00Z`."""
    if not text:
        return None
    plain = _number(text)
    if plain is not None:
        return plain if 0 <= plain < 1e7 else None
    if _PART.sub("", text) == "":
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    try:
        then = datetime.fromisoformat(text)
    except ValueError:
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - (now or datetime.now(UTC))).total_seconds())

"""How long a response asks us to wait."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from safemt_client.providers.rates import sent_at

__all__ = ["retry_after"]


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that this response asks us to wait: `retry-after-ms`, or `Retry-After` as seconds or date.

    A date counts from the response's own `Date`, where it has one: our clock may be wrong.
    """
    milliseconds = headers.get("retry-after-ms")
    if milliseconds is not None:
        try:
            seconds = float(milliseconds) / 1000
            if math.isfinite(seconds):
                return max(0.0, seconds)
        except ValueError:
            pass
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
        return seconds if 0 <= seconds < float("inf") else None
    except ValueError:
        pass
    try:
        then = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - (now or sent_at(headers) or datetime.now(UTC))).total_seconds())

"""How long a response asks us to wait: in its headers, in fields of its body, in words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from safemt_client.providers.limits.rates import sent_at

__all__ = ["retry_after", "stated_wait", "wait_field", "wait_in_words"]

_LONGEST_S = 40 * 86400
"""A month's quota comes back within this; what a body says beyond it is not a wait."""
_PLAIN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e\d+)?\Z", re.IGNORECASE)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(
    r"(\d{1,9}(?:\.\d{1,9})?)\s?(milliseconds?|millis|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d"
    r"|毫秒|秒|分钟|分|小时|天)(?![a-z])",
    re.IGNORECASE,
)
_CHINESE = {"毫秒": "ms", "秒": "s", "分钟": "m", "分": "m", "小时": "h", "天": "d"}
_ASKS = re.compile(
    r"\b(?:(?:try|retry|retrying|call|ask|request|resubmit|available|resets?|wait|back)\b(?: \w+){0,3}?)"
    r"(?: in| after| for| of)?:? (?=\d)|retry after:? ?(?=\d)|(?:请在|请等待|等待|请于|在)\s?(?=\d)",
)
_NAMES = {
    **dict.fromkeys(("retryafter", "retryafters", "retryaftersec", "retryafterseconds"), 1.0),
    **dict.fromkeys(("retryin", "retryinseconds", "retrydelay", "waitseconds", "estimatedtime"), 1.0),
    **dict.fromkeys(("retryafterms", "retryaftermilliseconds"), 0.001),
}


def stated_wait(headers: Mapping[str, str], body_s: float | None) -> float | None:
    """The headers' wait, which is made for programs; the body's where they ask for none or for 0."""
    header_s = retry_after(headers)
    return header_s or body_s or header_s


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the headers ask us to wait: `retry-after-ms`, or `Retry-After` in one of its forms.

    Those are seconds, a length of time such as `2s` or `1m30s`, and a date. A date counts from the response's
    own `Date`, where it has one: our clock may be wrong.
    """
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = _number(headers.get(name))
        if milliseconds is not None:
            return max(0.0, milliseconds / 1000)
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    seconds = _number(value)
    if seconds is not None:
        return seconds if seconds >= 0 else None
    if (length := _length(value)) is not None:
        return length
    try:
        then = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        try:
            then = datetime.fromisoformat(value)
        except ValueError:
            return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - (now or sent_at(headers) or datetime.now(UTC))).total_seconds())


def wait_field(name: str, value: Any) -> float | None:
    """Seconds that a field of a body asks us to wait, such as `"retryDelay": "2s"`; None for other fields."""
    unit = _NAMES.get(name.replace("_", "").replace("-", "").lower()) if len(name) < 40 else None
    if unit is None:
        return None
    if isinstance(value, dict):
        value = value.get("seconds")
    seconds: float | None = None
    if isinstance(value, str):
        plain = _number(value.strip())
        seconds = plain * unit if plain is not None else _length(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value * unit if abs(value) < 1e12 else None
    return _sane(seconds)


def wait_in_words(said: Iterable[str]) -> float | None:
    """Seconds that a sentence asks us to wait: `please try again in 9m38s`; the longest if several do."""
    waits = []
    for sentence in said:
        for found in _ASKS.finditer(sentence):
            length = _leading(sentence[found.end() : found.end() + 60])
            if length is not None and (wait := _sane(length)) is not None:
                waits.append(wait)
    return max(waits, default=None)


def _leading(text: str) -> float | None:
    """The length of time that a text begins with; a bare number means seconds where it is all of it."""
    total, place = 0.0, 0
    while found := _PART.match(text, place):
        total += _seconds(found)
        place = found.end()
        place += len(text[place:]) - len(text[place:].lstrip(" ,"))
    if place:
        return total
    return _number(text.strip(" .,)"))


def _length(text: str) -> float | None:
    if _PART.sub("", text).strip(" ,") or not _PART.search(text):
        return None
    return sum(_seconds(found) for found in _PART.finditer(text))


def _seconds(found: re.Match[str]) -> float:
    unit = _CHINESE.get(found[2], found[2].lower())
    return float(found[1]) * _UNITS["ms" if unit.startswith("mil") or unit == "ms" else unit[0]]


def _number(text: str | None) -> float | None:
    number = float(text) if text and len(text) < 40 and _PLAIN.match(text.strip()) else math.nan
    return number if math.isfinite(number) else None


def _sane(seconds: float | None) -> float | None:
    return seconds if seconds is not None and 0 < seconds <= _LONGEST_S else None

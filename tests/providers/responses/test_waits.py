"""How long a response asks to wait: headers, fields, words."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from safemt_client.providers.responses.error_tables import sentences
from safemt_client.providers.responses.outcomes import classify_response
from safemt_client.providers.responses.waits import retry_after, wait_field, wait_in_words


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1.75"}, 1.75),
        ({"retry-after": "2s"}, 2),
        ({"retry-after": "1m30s"}, 90),
        ({"retry-after": "500ms"}, 0.5),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, 30),
        ({"retry-after": "2026-01-01T00:00:30Z"}, 30),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"x-ms-retry-after-ms": "250"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, datetime(2026, 1, 1, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        ("retryDelay", "36s", 36),
        ("retryDelay", "2.5s", 2.5),
        ("retryDelay", {"seconds": 4, "nanos": 1}, 4),
        ("retry_after", 3, 3),
        ("retry_after", "3", 3),
        ("retryAfterMs", 1500, 1.5),
        ("retry_after_seconds", 20, 20),
        ("estimated_time", 20.0, 20),
        ("retry_after", -1, None),
        ("retry_after", 1e9, None),
        ("retry_after", True, None),
        ("retry_after", None, None),
        ("delay", 3, None),
    ],
)
def test_fields(name: str, value: Any, seconds: float | None) -> None:
    assert wait_field(name, value) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Please try again in 9m38s.", 578),
        ("Please retry in 2.07s.", 2.07),
        ("Try again in 6ms. Visit https://example.com/wait-90-seconds to learn more.", 0.006),
        ("Please wait 20 seconds", 20),
        ("Retry after 30 seconds", 30),
        ("Please retry after 1 hour 2 minutes", 3720),
        ("retry_after: 12", 12),
        ("Limit resets in 5 minutes", 300),
        ("请在 20 秒后重试", 20),
        ("try again in 3 of your regions", None),
        ("try again later", None),
        ("no answer within 30 seconds", None),
        ("try again in 99999999 hours", None),
    ],
)
def test_words(text: str, seconds: float | None) -> None:
    assert wait_in_words(sentences(text)) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "3"}, "Please try again in 2.5s.", 3),
        ({"retry-after": "0"}, "Please try again in 2.5s.", 2.5),
        ({"retry-after": "0"}, "slow down", 0),
        ({}, "Please try again in 2.5s.", 2.5),
        ({}, "slow down", None),
    ],
)
def test_headers_come_first(headers: dict[str, str], body: str, seconds: float | None) -> None:
    content = json.dumps({"error": {"message": body}}).encode()
    assert classify_response(429, headers, content).retry_after_s == seconds

"""The table of outcomes: an error is never an answer, a block never an error."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.responses.outcomes import classify_response, coded, fatal
from safemt_client.providers.types import Outcome, Reply


def completion(message: dict[str, object], finish: str = "stop", **more: object) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return json.dumps({"id": "r1", "model": "m", "choices": [choice]} | more).encode()


def error(code: str, message: str, **more: object) -> bytes:
    return json.dumps({"error": {"code": code, "message": message} | more}).encode()


TABLE = [
    (200, completion({"content": "hello"}), Outcome.ANSWERED),
    (200, completion({"content": "hel"}, "length"), Outcome.TRUNCATED),
    (200, completion({"content": None}), Outcome.EMPTY),
    (200, completion({"content": "  "}), Outcome.EMPTY),
    (200, completion({"content": "part"}, "content_filter"), Outcome.REFUSED_BY_PROVIDER),
    (200, completion({"content": ""}, "SAFETY"), Outcome.REFUSED_BY_PROVIDER),
    (
        200,
        json.dumps({"choices": [], "promptFeedback": {"blockReason": "SAFETY"}}).encode(),
        Outcome.REFUSED_BY_PROVIDER,
    ),
    (200, json.dumps({"choices": []}).encode(), Outcome.EMPTY),
    (400, error("content_filter", "triggered the content management policy"), Outcome.REFUSED_BY_PROVIDER),
    (400, error("content_policy_violation", "rejected"), Outcome.REFUSED_BY_PROVIDER),
    (403, error("403", "input was flagged", metadata={"reasons": ["x"]}), Outcome.REFUSED_BY_PROVIDER),
    (200, error("content_filter", "blocked upstream"), Outcome.REFUSED_BY_PROVIDER),
    (400, error("invalid_request_error", "bad parameter"), Outcome.ERROR_PERMANENT),
    (401, error("invalid_api_key", "wrong key"), Outcome.ERROR_PERMANENT),
    (404, error("model_not_found", "no such model"), Outcome.ERROR_PERMANENT),
    (413, b"too large", Outcome.ERROR_PERMANENT),
    (422, error("x", "unprocessable"), Outcome.ERROR_PERMANENT),
    (408, b"", Outcome.ERROR_TRANSIENT),
    (429, error("rate_limit", "slow down"), Outcome.ERROR_TRANSIENT),
    (500, b"<html>oops", Outcome.ERROR_TRANSIENT),
    (529, error("overloaded_error", "overloaded"), Outcome.ERROR_TRANSIENT),
    (200, b"not json", Outcome.ERROR_TRANSIENT),
    (200, b"{}", Outcome.ERROR_TRANSIENT),
]


@pytest.mark.parametrize(("status", "body", "expected"), TABLE)
def test_table(status: int, body: bytes, expected: Outcome) -> None:
    reply = classify_response(status, {}, body)
    assert reply.outcome is expected
    assert (reply.error is None) == (reply.error_code is None) == (reply.outcome is Outcome.ANSWERED)


def test_reasoning_is_kept_apart() -> None:
    reply = classify_response(200, {}, completion({"content": "<think>hm</think>\nyes"}))
    assert (reply.text, reply.reasoning) == ("yes", "hm")
    reply = classify_response(200, {}, completion({"content": "yes", "reasoning_content": "hm"}))
    assert (reply.text, reply.reasoning) == ("yes", "hm")
    reply = classify_response(200, {}, completion({"content": "<think>never ends"}, "length"))
    assert (reply.text, reply.outcome) == ("", Outcome.TRUNCATED)


def test_usage() -> None:
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 4},
        "cost": 0.5,
    }
    found = classify_response(200, {}, completion({"content": "x"}, usage=usage)).usage
    assert (found.prompt_tokens, found.completion_tokens, found.cached_tokens, found.cost_usd) == (
        7,
        3,
        4,
        0.5,
    )


@pytest.mark.parametrize(
    ("status", "body", "word"),
    [
        (401, error("invalid_api_key", "wrong"), "authentication"),
        (429, error("insufficient_quota", "You exceeded your current quota"), "quota"),
        (429, error("rate_limit", "limit of requests per day reached"), "quota"),
        (404, error("model_not_found", "no such model"), "model"),
        (429, error("rate_limit", "slow down"), None),
        (500, b"", None),
    ],
)
def test_what_stops_a_target(status: int, body: bytes, word: str | None) -> None:
    reason = fatal(classify_response(status, {}, body))
    assert (reason is None) if word is None else (reason is not None and word in reason)


@given(st.integers(200, 599), st.binary(max_size=200))
def test_garbage_is_never_an_answer(status: int, body: bytes) -> None:
    reply = classify_response(status, {}, body)
    assert not reply.outcome.observed or reply.outcome is Outcome.REFUSED_BY_PROVIDER or b"choices" in body


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(Outcome.ANSWERED, text="hello"), None),
        (Reply(Outcome.EMPTY), "empty"),
        (Reply(Outcome.TRUNCATED, text="hel"), "truncated"),
        (Reply(Outcome.REFUSED_BY_PROVIDER), "content_filter_output"),
        (Reply(Outcome.ERROR_PERMANENT, error="wrong key", status_code=401), "authentication"),
        (Reply(Outcome.ERROR_TRANSIENT, error="busy", status_code=429), "rate_limited"),
        (Reply(Outcome.ERROR_PERMANENT, error="no"), "local_model"),
        (Reply(Outcome.ERROR_TRANSIENT, error_code=ErrorCode.TIMEOUT, status_code=500), "timeout"),
    ],
)
def test_a_reply_from_outside_gets_its_code(reply: Reply, code: str | None) -> None:
    assert coded(reply).error_code == code
    assert replace(coded(reply), error_code=reply.error_code) == reply

"""What an endpoint can do wrong, by name: each fault is a script for the requests that it meets."""

import asyncio
import gzip
import json
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from support.faults import Behaviour, answer, early, error, raw, response

JSON = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
OPEN_HEAD = (JSON + "content-length: 1000\r\n\r\n").encode()
HUGE_HEAD = (JSON + "content-length: 99999999\r\n\r\n").encode()
FINE = {"model": "m-1", "choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}


@dataclass(frozen=True)
class Fault:
    """One fault in one line, and what is done to the requests: the first, the second; past the script all is well.

    With `for_ever` the last behaviour is repeated instead.
    """

    says: str
    script: tuple[Behaviour, ...]
    for_ever: bool = False


def reset(data: bytes = b"") -> Behaviour:
    """Some bytes, then a reset (RST) instead of an end."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        plain: socket.socket = writer.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return behave


def drip(data: bytes, every_s: float) -> Behaviour:
    """A byte at a time."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        for place in range(len(data)):
            writer.write(data[place : place + 1])
            await writer.drain()
            await asyncio.sleep(every_s)

    return behave


def dated(status: int, seconds: float) -> Behaviour:
    """An error whose `Retry-After` is a date, so many seconds from now by this machine's clock."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        then = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
        await error(status, "rate_limit_exceeded", "slow down", retry_after=then)(writer)

    return behave


def then_close(behaviour: Behaviour) -> Behaviour:
    """The same, and the connection is closed although it might be kept."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        await behaviour(writer)
        writer.close()

    return behave


def lazily(make: Callable[[], Behaviour]) -> Behaviour:
    """A behaviour whose bytes are made when they are wanted."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        await make()(writer)

    return behave


def fine_with(usage: str) -> str:
    """A proper completion with such a usage, as JSON that no library would write."""
    return json.dumps(FINE)[:-1] + f', "usage": {usage}}}'


def completion(message: object, finish: object = "stop", **more: Any) -> Behaviour:
    """A chat completion with such a message."""
    return response(200, {"choices": [{"message": message, "finish_reason": finish}]} | more)


def limited(message: str = "slow down", **headers: str) -> Behaviour:
    """HTTP 429."""
    return error(429, "rate_limit_exceeded", message, **headers)


def chunks(*data: bytes, end: bool = True) -> bytes:
    """A chunked response."""
    parts = [b"%x\r\n%b\r\n" % (len(one), one) for one in data]
    return (JSON + "transfer-encoding: chunked\r\n\r\n").encode() + b"".join(parts) + b"0\r\n\r\n" * end


def fault(says: str, *script: Behaviour, for_ever: bool = False) -> Fault:
    return Fault(says, script, for_ever)


_FLAGGED = {"reasons": ["other"], "flagged_input": "Describe a kite"}
_AZURE = {
    "code": "content_filter",
    "message": "The response was filtered due to the prompt triggering the content management policy.",
    "innererror": {"code": "ResponsibleAIPolicyViolation"},
}
_BY_THE_MINUTE = (
    "Rate limit reached on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s. "
    "You can increase your limit by adding a payment method at https://example.com/account/billing."
)
_LONG_TEXT = "The provider returned an error. " * 20
_DEEP = "[" * 1010 + "]" * 1010
_BIG = "1" + "0" * 400

FAULTS: dict[str, Fault] = {
    # Limits and quotas.
    "429-seconds": fault("429, `Retry-After: 7`", limited(retry_after="7")),
    "429-milliseconds": fault("429, `retry-after-ms: 1500`", limited(retry_after_ms="1500")),
    "429-date": fault(
        "429, `Retry-After` is a date 30 s after the response's own `Date`",
        limited(date="Thu, 01 Jan 2026 00:00:00 GMT", retry_after="Thu, 01 Jan 2026 00:00:30 GMT"),
    ),
    "429-date-alone": fault("429, `Retry-After` is a date 30 s ahead, no `Date`", dated(429, 30)),
    "429-date-past": fault("429, `Retry-After` is a date an hour ago", dated(429, -3600)),
    "429-date-nonsense": fault(
        "429, `Retry-After` is a date with an impossible zone",
        limited(retry_after="Thu, 01 Jan 2026 00:00:30 +" + "9" * 20),
    ),
    "429-bare": fault("429 without `Retry-After`", limited()),
    "429-zero": fault("429, `Retry-After: 0`", limited(retry_after="0")),
    "429-negative": fault("429, `Retry-After: -5`", limited(retry_after="-5")),
    "429-word": fault("429, `Retry-After: soon`", limited(retry_after="soon")),
    "429-infinite": fault("429, `retry-after-ms: inf`", limited(retry_after_ms="inf")),
    "429-absurd": fault("429, `Retry-After: 999999999`", limited(retry_after="999999999")),
    "429-twice": fault("429 twice: 7 s, then 2 s", limited(retry_after="7"), limited(retry_after="2")),
    "429-for-ever": fault("429 with `Retry-After: 40`, always", limited(retry_after="40"), for_ever=True),
    "429-page": fault("429 with an HTML page", response(429, "<html>busy</html>", content_type="text/html")),
    "429-minute-billing": fault(
        "429 of a limit a minute that points to a billing page", limited(_BY_THE_MINUTE)
    ),
    "429-minute-quota": fault(
        "429 that speaks of the quota and names a limit a minute in its details",
        response(
            429,
            {
                "error": {
                    "code": 429,
                    "message": "You exceeded your current quota, please check your plan and billing details.",
                    "details": [{"quotaId": "RequestsPerMinutePerModel"}, {"retryDelay": "34s"}],
                }
            },
        ),
    ),
    "quota-used-up": fault(
        "429, `insufficient_quota`", error(429, "insufficient_quota", "You exceeded your current quota")
    ),
    "quota-daily": fault("429 of a limit a day", limited("Rate limit reached on requests per day (RPD)")),
    "quota-daily-hours": fault(
        "429 of a limit a day, `Retry-After: 43200`", limited("daily limit reached", retry_after="43200")
    ),
    "quota-daily-headers": fault(
        "429 of a limit a day, rate limit headers that reset in 12 hours",
        limited(
            "limit of requests per day reached",
            x_ratelimit_limit_requests="200",
            x_ratelimit_remaining_requests="0",
            x_ratelimit_reset_requests="12h0m0s",
        ),
    ),
    "quota-payment": fault("402", error(402, "insufficient_credits", "add credits")),
    # Overload and faults of the server.
    "408": fault("408 without a body", response(408, "")),
    "409": fault("409", error(409, "conflict")),
    "500": fault("500 in OpenAI's form", error(500, "server_error", "internal error")),
    "500-page": fault("500 with an HTML page", response(500, "<html>oops</html>", content_type="text/html")),
    "502": fault("502 of a proxy", response(502, "Bad Gateway", content_type="text/plain")),
    "503": fault("503", error(503, "unavailable", "overloaded")),
    "503-seconds": fault("503, `Retry-After: 12`", error(503, "unavailable", "overloaded", retry_after="12")),
    "504": fault("504 without a body", response(504, "")),
    "529": fault("529, `overloaded_error`", error(529, "overloaded_error", "overloaded")),
    "999": fault("status 999", response(999, "")),
    # Errors that the client is told to fix.
    "400": fault("400", error(400, "invalid_request_error", "unknown parameter: top_k")),
    "400-model": fault("400, `model_not_found`", error(400, "model_not_found", "no such model")),
    "401": fault("401", error(401, "invalid_api_key", "wrong key")),
    "403": fault("403", error(403, "permission_denied", "this key may not use the model")),
    "404": fault("404", error(404, "model_not_found", "no such model")),
    "404-page": fault("404 with an HTML page", response(404, "<html>no</html>", content_type="text/html")),
    "405": fault("405", response(405, "")),
    "413": fault("413", response(413, "too large", content_type="text/plain")),
    "422": fault("422", response(422, {"detail": [{"loc": ["body"], "msg": "field required"}]})),
    "302": fault("a redirect to another host", response(302, "", location="http://127.0.0.1:9/")),
    "204": fault("204 without a body", raw(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")),
    "router-429": fault(
        "HTTP 200 with a router's error 429", response(200, {"error": {"code": 429, "message": "busy"}})
    ),
    "router-text-code": fault(
        'HTTP 200 with a router\'s error whose code is the text `"401"`',
        response(200, {"error": {"code": "401", "message": "wrong key"}}),
    ),
    "router-unknown": fault("HTTP 200 with an error of unknown kind", response(200, {"error": "oops"})),
    "choice-error": fault(
        "HTTP 200 whose choice holds an error",
        response(200, {"choices": [{"error": {"code": 502, "message": "upstream gone"}, "message": {}}]}),
    ),
    "finish-error": fault("finish reason `error` after a part", answer("hel", "error")),
    # Blocks.
    "block-400": fault("400, `content_filter` (Azure's form)", response(400, {"error": _AZURE})),
    "block-400-policy": fault(
        "400, `content_policy_violation`", error(400, "content_policy_violation", "no")
    ),
    "block-400-list": fault(
        "400, the error alone in a list",
        response(400, json.dumps([{"error": {"code": 400, "message": "blocked by safety settings"}}])),
    ),
    "block-400-late-word": fault(
        "400, the filter is named after 640 characters",
        response(400, {"error": {"message": _LONG_TEXT, "metadata": {"raw": "content_filter"}}}),
    ),
    "block-403": fault(
        "403, `flagged` (a router's form)",
        response(403, {"error": {"code": 403, "message": "input was flagged", "metadata": _FLAGGED}}),
    ),
    "block-422": fault("422 that names a moderation", error(422, "moderation", "rejected by moderation")),
    "block-451": fault("451 that names a content policy", error(451, "content_policy", "not here")),
    "block-finish": fault("200, finish reason `content_filter`, no text", answer("", "content_filter")),
    "block-finish-partial": fault("the same after a part of the text", answer("A kite is", "content_filter")),
    "block-finish-native": fault("200, finish reason `SAFETY`", answer("", "SAFETY")),
    "block-finish-reason": fault(
        "200, finish reason `content_filter: PROHIBITED_CONTENT`",
        completion({"role": "assistant"}, "content_filter: PROHIBITED_CONTENT"),
    ),
    "block-finish-image": fault(
        "200, finish reason `IMAGE_PROHIBITED_CONTENT`", answer("", "IMAGE_PROHIBITED_CONTENT")
    ),
    "block-finish-refusal": fault("200, finish reason `refusal` (Anthropic's)", answer("", "refusal")),
    "block-finish-guardrail": fault(
        "200, finish reason `guardrail_intervened`", answer("", "guardrail_intervened")
    ),
    "block-no-message": fault(
        "200, a choice with a blocking finish reason and no message",
        response(200, {"choices": [{"finish_reason": "SAFETY"}]}),
    ),
    "block-feedback": fault(
        "200, no candidate, `promptFeedback`",
        response(200, {"choices": [], "promptFeedback": {"blockReason": "SAFETY"}}),
    ),
    "block-router": fault(
        "200 with a router's error that names a filter", response(200, {"error": {"code": "content_filter"}})
    ),
    "block-choice-error": fault(
        "200 whose choice holds an error that names a filter",
        response(200, {"choices": [{"error": {"message": "blocked by moderation"}, "message": {}}]}),
    ),
    # Content.
    "content-null": fault("content `null`", completion({"content": None})),
    "content-empty": fault('content `""`', completion({"content": ""})),
    "content-blank": fault("content of blanks", completion({"content": " \n"})),
    "content-missing": fault("a message without content", completion({"role": "assistant"})),
    "content-parts": fault(
        "content in parts, a thought among them",
        completion(
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "text", "text": "hello"},
                ]
            }
        ),
    ),
    "content-number": fault("content `42`", completion({"content": 42})),
    "content-object": fault("content `{}`", completion({"content": {}})),
    "content-think": fault("a `<think>` block, then the answer", answer("<think>hm</think>hello")),
    "content-think-open": fault("a `<think>` block that never ends", answer("<think>hm", "length")),
    "content-reasoning-only": fault(
        "reasoning and no answer", completion({"content": None, "reasoning": "hm"})
    ),
    "content-refusal": fault("the model's refusal field", answer("", refusal="I would rather not.")),
    "content-refusal-part": fault(
        "the model's refusal as a part of the content",
        completion({"content": [{"type": "refusal", "refusal": "I would rather not."}]}),
    ),
    "content-tool-call": fault(
        "a call of a tool and no text",
        completion({"content": None, "tool_calls": [{"function": {"name": "f"}}]}, "tool_calls"),
    ),
    "content-cut-off": fault("finish reason `length`", answer("A kite is", "length")),
    "content-odd-characters": fault("NUL, half a surrogate pair", answer("hello \x00 \ud800")),
    "no-choices": fault("`choices` empty", response(200, {"choices": []})),
    "choices-null": fault("`choices` null", response(200, {"choices": None})),
    "choices-object": fault("`choices` an object", response(200, {"choices": {"0": {}}})),
    "choice-null": fault("a choice that is null", response(200, {"choices": [None]})),
    "choice-text": fault("a text completion", response(200, {"choices": [{"text": "hello"}]})),
    "message-list": fault("a message that is a list", completion(["hello"])),
    "usage-absurd": fault(
        "tokens and cost beyond all sense",
        response(
            200, json.dumps(FINE | {"usage": {"prompt_tokens": 2**63, "completion_tokens": -1, "cost": -2}})
        ),
    ),
    "usage-too-large": fault("a cost of 401 digits", response(200, fine_with('{"cost": ' + _BIG + "}"))),
    "usage-nan": fault("a cost that is `NaN`", response(200, fine_with('{"cost": NaN}'))),
    "usage-list": fault("usage that is a list", response(200, FINE | {"usage": [1]})),
    # Bodies.
    "body-empty": fault("200 without a body", response(200, "")),
    "body-page": fault("200 with an HTML page", response(200, "<html>hi</html>", content_type="text/html")),
    "body-stream": fault(
        "200 with a stream that nobody asked for",
        response(
            200, 'data: {"choices":[{"delta":{"content":"hello"}}]}\n\n', content_type="text/event-stream"
        ),
    ),
    "body-list": fault("200 with `[]`", response(200, "[]")),
    "body-cut": fault("200 whose JSON ends in the middle", response(200, json.dumps(FINE)[:40])),
    "body-short": fault("fewer bytes than announced", raw(OPEN_HEAD + b'{"choices"')),
    "body-chunk-cut": fault("the last chunk is missing", raw(chunks(b'{"choices"', end=False))),
    "body-chunk-broken": fault("a chunk of impossible size", raw(chunks(end=False) + b"zz\r\nhello\r\n")),
    "body-gzip-broken": fault("`gzip` that is none", response(200, b"hello", content_encoding="gzip")),
    "body-gzip-bomb": fault(
        "200 MiB of blanks, packed",
        lazily(lambda: response(200, gzip.compress(b" " * (200 * 2**20)), content_encoding="gzip")),
    ),
    "body-huge": fault(
        "over 32 MiB",
        lazily(lambda: raw(HUGE_HEAD + b" " * (33 * 2**20), stall=True)),
    ),
    "body-deep": fault("an error nested 1,010 deep", response(400, '{"error": {"message": ' + _DEEP + "}}")),
    "body-deep-feedback": fault(
        "a feedback nested 1,010 deep", response(200, '{"choices": [], "promptFeedback": ' + _DEEP + "}")
    ),
    "body-no-utf8": fault(
        "bytes that are no UTF-8", response(200, b'{"choices": [{"message": {"content": "\xff\xfe"}}]}')
    ),
    "type-plain": fault(
        "`text/plain` with a proper completion", response(200, json.dumps(FINE), content_type="text/plain")
    ),
    "type-charset": fault(
        "an unknown charset", response(200, FINE, content_type="application/json; charset=nonsense")
    ),
    "type-bom": fault(
        "a byte order mark before the JSON", response(200, b"\xef\xbb\xbf" + json.dumps(FINE).encode())
    ),
    "head-not-http": fault("no HTTP at all", raw(b"220 mail.example ready\r\n\r\n")),
    "head-huge": fault("a header of 1 MiB", response(200, FINE, x_long="x" * 2**20)),
    "head-hints": fault(
        "103 before the answer",
        raw(
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
            + (JSON + "connection: close\r\n\r\n").encode()
            + json.dumps(FINE).encode()
        ),
    ),
    # Time.
    "stall-head": fault("nothing comes back", raw(b"", stall=True)),
    "stall-in-head": fault("a stall within the headers", raw(b"HTTP/1.1 200 OK\r\ncontent-", stall=True)),
    "stall-body": fault("a stall within the body", raw(OPEN_HEAD + b"{", stall=True)),
    "drip": fault("a byte every 50 ms", drip(OPEN_HEAD + b" " * 999, 0.05)),
    # Connections.
    "half-open": fault("the connection is taken and never read", early(raw(b"", stall=True))),
    "reset-connect": fault("reset as soon as it is connected", early(reset())),
    "reset-request": fault("reset after the request", reset()),
    "reset-head": fault("reset within the headers", reset(b"HTTP/1.1 200 OK\r\ncontent-")),
    "reset-body": fault("reset within the body", reset(OPEN_HEAD + b"{")),
    "close-request": fault("closed after the request, without an answer", raw(b"")),
    "close-head": fault("closed within the headers", raw(b"HTTP/1.1 200 OK\r\ncontent-")),
    "close-kept": fault("answered, then a kept connection is closed", then_close(answer())),
}

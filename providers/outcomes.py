"""The outcome of a chat endpoint's response: the table of `docs/outcomes.md` as pure functions.

An error never becomes an answer, and a block never an error: blocks arrive as HTTP 400 or 403, as
HTTP 200 with a finish reason, as an empty candidate, after partial text, or in a router's form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from safemt_client.providers.completion import completion_reply, error_within, no_completion, with_what_came
from safemt_client.providers.error_body import content_of, error_text, one_line
from safemt_client.providers.error_codes import ErrorCode, blocks, code_of
from safemt_client.providers.stream import is_stream, whole
from safemt_client.providers.thinking import AUTO, Reading
from safemt_client.providers.types import Outcome, Reply
from safemt_client.providers.waits import retry_after

__all__ = [
    "classify_response",
    "coded",
    "error_reply",
    "fatal",
    "no_connection",
    "not_from_here",
    "too_large",
]

_FATAL = {
    ErrorCode.AUTHENTICATION: "authentication failed (HTTP {status}): check the API key",
    ErrorCode.CONFIGURATION: "cannot be asked from here",
    ErrorCode.QUOTA: "quota exhausted (HTTP {status})",
    ErrorCode.MODEL_NOT_FOUND: "unknown model (HTTP {status})",
    ErrorCode.NOT_FOUND: "unknown address or model (HTTP {status})",
}
_OF_OUTCOME = {
    Outcome.REFUSED_BY_PROVIDER: ErrorCode.CONTENT_FILTER_OUTPUT,
    Outcome.REFUSED_BY_GUARD: ErrorCode.GUARD_BLOCKED,
    Outcome.TRUNCATED: ErrorCode.TRUNCATED,
    Outcome.EMPTY: ErrorCode.EMPTY,
}
_TRANSIENT = {408, 409, 425, 429, 499, 500, 502, 503, 504, 520, 522, 524, 529}


def classify_response(status: int, headers: Mapping[str, str], body: bytes, reading: Reading = AUTO) -> Reply:
    """The reply that a chat completion response amounts to; latency and start are the caller's."""
    raw = body.decode("utf-8", "replace")
    wait = retry_after(headers)
    try:
        content = whole(body) if is_stream(body, headers.get("content-type", "")) else content_of(body)
        return _classified(status, content, raw, wait, reading)
    except RecursionError:
        reply = _error(502 if status == 200 else status, "the body is nested too deeply", raw, wait)
        return replace(reply, error_code=ErrorCode.BAD_RESPONSE) if status == 200 else reply


def _classified(status: int, content: Any, raw: str, wait: float | None, reading: Reading) -> Reply:
    if not isinstance(content, dict):
        if status == 200:
            return no_completion("the body is not a JSON object", status_code=200, raw=raw)
        return _error(status, one_line(raw) or "no body", raw, wait)
    error = error_within(content)
    if status != 200 or error:
        reply = _error(_error_status(status, error), error_text(error, content), raw, wait)
        return with_what_came(reply, content, reading)
    return completion_reply(content, status, raw, reading)


def error_reply(status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """The reply that an unsuccessful response amounts to, however it arrived."""
    raw = body.decode("utf-8", "replace")
    content = content_of(body)
    try:
        said = error_text(content.get("error"), content) if isinstance(content, dict) else one_line(raw)
    except RecursionError:
        said = "the body is nested too deeply"
    return _error(status, said or "no body", raw, retry_after(headers))


def too_large(error: str, status: int) -> Reply:
    """A response whose body was not read to its end: permanent, and an error of its status if that is one."""
    code = ErrorCode.RESPONSE_TOO_LARGE if status < 400 else code_of(status, "")
    return Reply(Outcome.ERROR_PERMANENT, error=error, error_code=code, status_code=status)


def no_connection(error: str, code: ErrorCode = ErrorCode.CONNECTION_FAILED) -> Reply:
    """No response at all, or not a whole one: it is asked again."""
    return Reply(Outcome.ERROR_TRANSIENT, error=error, error_code=code)


def not_from_here(error: str) -> Reply:
    """What is set up here lets no request through, such as a missing package: the target is stopped."""
    return Reply(Outcome.ERROR_PERMANENT, error=error, error_code=ErrorCode.CONFIGURATION)


def fatal(reply: Reply) -> str | None:
    """Why no further request to this target can succeed, None if one may."""
    if reply.outcome.observed or reply.error_code not in _FATAL:
        return None
    return f"{_FATAL[reply.error_code].format(status=reply.status_code)}: {reply.error or ''}"


def coded(reply: Reply) -> Reply:
    """The reply of a model from outside with the code that belongs to it, where it states none."""
    if reply.error_code is not None or reply.outcome is Outcome.ANSWERED:
        return reply
    code = _OF_OUTCOME.get(reply.outcome)
    if code is None and (reply.status_code or 0) >= 400:
        code = code_of(reply.status_code or 0, reply.error or "", reply.raw or "")
    return replace(reply, error_code=code or ErrorCode.LOCAL_MODEL)


def _error(status: int, text: str, raw: str, wait: float | None) -> Reply:
    code = code_of(status, text, raw)
    if code is ErrorCode.CONTENT_FILTER_INPUT:
        outcome = Outcome.REFUSED_BY_PROVIDER
    elif status in _TRANSIENT or status >= 500:
        outcome = Outcome.ERROR_TRANSIENT
    else:
        outcome = Outcome.ERROR_PERMANENT
    return Reply(
        outcome, error=one_line(text), error_code=code, status_code=status, raw=raw, retry_after_s=wait
    )


def _error_status(status: int, error: Any) -> int:
    """Routers put the status of their upstream into an error inside HTTP 200."""
    if status == 200:
        code = error.get("code") if isinstance(error, dict) else None
        if isinstance(code, str) and re.fullmatch(r"[45]\d\d", code):
            code = int(code)
        if isinstance(code, int) and 400 <= code < 600:
            return code
        return 400 if blocks(error_text(error, {})) else 502
    return status

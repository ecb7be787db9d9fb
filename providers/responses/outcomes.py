"""The outcome of a chat endpoint's response: the table of `docs/outcomes.md` as pure functions.

An error never becomes an answer, and a block never an error: blocks arrive as HTTP 400 or 403, as
HTTP 200 with a finish reason, as an empty candidate, after partial text, or in a router's form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.json_codec import as_dict
from safemt_client.providers.responses.charsets import in_utf8
from safemt_client.providers.responses.completion import (
    completion_reply,
    error_within,
    no_completion,
    with_what_came,
)
from safemt_client.providers.responses.echo import Echo
from safemt_client.providers.responses.error_body import Said, content_of, one_line, read_error
from safemt_client.providers.responses.error_kinds import error_code, passes
from safemt_client.providers.responses.stream import is_stream, whole
from safemt_client.providers.responses.thinking import AUTO, Reading
from safemt_client.providers.responses.waits import stated_wait
from safemt_client.providers.types import Outcome, Reply, Request

__all__ = [
    "classify_response",
    "coded",
    "error_reply",
    "fatal",
    "no_connection",
    "not_from_here",
    "too_large",
    "unreadable",
]

_FATAL = {
    ErrorCode.AUTHENTICATION: "authentication failed (HTTP {status})",
    ErrorCode.ACCOUNT: "the account is suspended or restricted (HTTP {status})",
    ErrorCode.CONFIGURATION: "cannot be asked from here",
    ErrorCode.QUOTA: "quota exhausted (HTTP {status})",
    ErrorCode.MODEL_NOT_FOUND: "unknown model (HTTP {status})",
    ErrorCode.NOT_FOUND: "unknown address or model (HTTP {status})",
    ErrorCode.REDIRECTED: "wrong address (HTTP {status})",
    ErrorCode.SERVER_ENDED: "cannot be asked any more",
}
_OF_OUTCOME = {
    Outcome.REFUSED_BY_PROVIDER: ErrorCode.CONTENT_FILTER_OUTPUT,
    Outcome.REFUSED_BY_GUARD: ErrorCode.GUARD_BLOCKED,
    Outcome.TRUNCATED: ErrorCode.TRUNCATED,
    Outcome.EMPTY: ErrorCode.EMPTY,
}
_PATHS = ("/chat/completions", "/moderations", "/batches", "/files")
_ERROR_FIELDS = ("error", "errors", "fault", "error_code", "error_msg", "errorCode", "Error")


def classify_response(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    reading: Reading = AUTO,
    *,
    request: Request | None = None,
    model: str = "",
) -> Reply:
    """The reply that a chat completion response amounts to; latency and start are the caller's.

    What an error repeats of the `request` and the name of the `model` are not taken for its own words.
    """
    headers, body = in_utf8(headers, body)
    raw = body.decode("utf-8", "replace")
    content = whole(body) if is_stream(body, headers.get("content-type", "")) else content_of(body)
    if not 200 <= status < 300:
        reply = _error(status, headers, content, raw, Echo(request, model))
        return with_what_came(reply, content, reading) if isinstance(content, dict) else reply
    if not isinstance(content, dict):
        said = one_line(f"the body is not a JSON object: {read_error(content, raw).message}")
        return no_completion(said, status_code=status, raw=raw)
    try:
        stated = error_within(content)
        if stated or (not content.get("choices") and _is_error(content)):
            begun = bool(stated and content.get("choices"))
            within = {"error": stated} if begun else content
            reply = _error(_stated_status(status, stated), headers, within, raw, Echo(request, model))
            if begun and reply.error_code is ErrorCode.BAD_RESPONSE:
                # It is in the protocol's own form: the answer broke off.
                reply = replace(reply, error_code=ErrorCode.SERVER_ERROR)
            return with_what_came(reply, content, reading)
        return completion_reply(content, status, raw, reading)
    except RecursionError:
        return no_completion("the body is nested too deeply", status_code=status, raw=raw)


def error_reply(status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """The reply that an unsuccessful response amounts to, however it arrived."""
    headers, body = in_utf8(headers, body)
    return _error(status, headers, content_of(body), body.decode("utf-8", "replace"), Echo())


def too_large(error: str, status: int) -> Reply:
    """A response whose body was not read to its end: permanent, and an error of its status if that is one."""
    code = ErrorCode.RESPONSE_TOO_LARGE if status < 400 else error_code(status, _NOTHING)
    return Reply(Outcome.ERROR_PERMANENT, error=error, error_code=code, status_code=status)


def unreadable(error: str, status: int) -> Reply:
    """A body in an encoding that was not asked for: the next would be the same, unless its status passes."""
    code = error_code(status, _NOTHING)
    passing = status >= 400 and passes(code, status)
    outcome = Outcome.ERROR_TRANSIENT if passing else Outcome.ERROR_PERMANENT
    return Reply(outcome, error=error, error_code=code, status_code=status)


def no_connection(error: str, code: ErrorCode = ErrorCode.CONNECTION_FAILED) -> Reply:
    """No response at all, or not a whole one: it is asked again."""
    return Reply(Outcome.ERROR_TRANSIENT, error=error, error_code=code)


def not_from_here(error: str, code: ErrorCode = ErrorCode.CONFIGURATION) -> Reply:
    """What is set up here lets no request through, such as a missing package: the target is stopped."""
    return Reply(Outcome.ERROR_PERMANENT, error=error, error_code=code)


def fatal(reply: Reply) -> str | None:
    """Why no further request to this target can succeed, None if one may."""
    if reply.outcome.observed or reply.error_code not in _FATAL:
        return None
    said = reply.error or ""
    what = _FATAL[reply.error_code].format(status=reply.status_code)
    if reply.error_code is ErrorCode.AUTHENTICATION:
        of_key = reply.status_code == 401 or "key" in said.lower()
        what += ": check the API key" if of_key else ": check the credentials"
    return f"{what}: {said}"


def coded(reply: Reply) -> Reply:
    """The reply of a model from outside with the code that belongs to it, where it states none."""
    if reply.error_code is not None or reply.outcome is Outcome.ANSWERED:
        return reply
    code = _OF_OUTCOME.get(reply.outcome)
    if code is None and (status := reply.status_code or 0) >= 400:
        said = read_error({"error": reply.error}, "") if reply.error else _NOTHING
        code = error_code(status, said)
    return replace(reply, error_code=code or ErrorCode.LOCAL_MODEL)


def _error(status: int, headers: Mapping[str, str], content: Any, raw: str, echo: Echo) -> Reply:
    said = read_error(content, raw, echo)
    wait_s = stated_wait(headers, said.wait_s)
    code = error_code(status, replace(said, wait_s=wait_s or None))
    if code in (ErrorCode.CONTENT_FILTER_INPUT, ErrorCode.CONTENT_FILTER_OUTPUT):
        outcome = Outcome.REFUSED_BY_PROVIDER
    else:
        outcome = Outcome.ERROR_TRANSIENT if passes(code, status) else Outcome.ERROR_PERMANENT
    message = _moved(headers.get("location", "")) if code is ErrorCode.REDIRECTED else said.message
    return Reply(outcome, error=message, error_code=code, status_code=status, raw=raw, retry_after_s=wait_s)


def _moved(location: str) -> str:
    """What to give instead of an address that redirects; queries and names of users may be secret."""
    try:
        parts = urlsplit(location.strip())
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        host = path = ""
    else:
        path = parts.path
    for known in _PATHS:
        path = path.rstrip("/").removesuffix(known)
    if host:
        return one_line(f"the endpoint moved: give {parts.scheme or 'https'}://{host}{path}")
    if path.startswith("/"):
        return one_line(f"the endpoint moved: give its address with the path {path}")
    return "the endpoint redirects to another address: give the one that it moved to"


def _is_error(content: Mapping[str, Any]) -> bool:
    """Whether the body of a success without a completion states an error, in one of the usual forms."""
    if any(content.get(name) for name in _ERROR_FIELDS) or content.get("success") is False:
        return True
    if content.get("object") == "error" or content.get("type") == "error":
        return True
    if as_dict(as_dict(content.get("Response")).get("Error")):
        return True
    return "usage" not in content and bool(content.get("code")) and bool({"message", "msg"} & content.keys())


def _stated_status(status: int, error: Any) -> int:
    """Routers put the status of their upstream into an error inside HTTP 200."""
    code = str(as_dict(error).get("code"))
    return int(code) if len(code) == 3 and code.isdecimal() and 400 <= int(code) < 600 else status


_NOTHING = Said("")

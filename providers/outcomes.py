"""The outcome of a chat endpoint's response: the table of `docs/outcomes.md` as pure functions.

An error never becomes an answer, and a block never an error: blocks arrive as HTTP 400 or 403, as
HTTP 200 with a finish reason, as an empty candidate, after partial text, or in a router's form.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from safemt_client.providers.error_codes import ErrorCode, blocks, code_of
from safemt_client.providers.json_codec import loads
from safemt_client.providers.rates import sent_at
from safemt_client.providers.types import Outcome, Reply, Usage

__all__ = [
    "classify_response",
    "coded",
    "error_reply",
    "fatal",
    "no_connection",
    "one_line",
    "retry_after",
    "too_large",
    "usage_of",
]

_BLOCK_FINISH = {
    "content_filter",
    "safety",
    "prohibited_content",
    "blocklist",
    "recitation",
    "spii",
    "image_safety",
    "image_prohibited_content",
    "image_recitation",
    "sensitive",
    "refusal",
    "guardrail_intervened",
    "content_filtered",
}
_CUT_OFF = {"length", "max_tokens", "model_length"}
_THINK = re.compile(r"\A\s*<think(?:ing)?>(.*?)</think(?:ing)?>\s*", re.DOTALL)
_FATAL = {
    ErrorCode.AUTHENTICATION: "authentication failed (HTTP {status}): check the API key",
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
_MOST_TOKENS = 10**9
_MOST_TEXT = 20_000
_TRANSIENT = {408, 409, 425, 429, 499, 500, 502, 503, 504, 520, 522, 524, 529}


def one_line(text: str, limit: int = 300) -> str:
    """The text on one line, shortened."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def classify_response(status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """The reply that a chat completion response amounts to; latency and start are the caller's."""
    raw = body.decode("utf-8", "replace")
    wait = retry_after(headers)
    try:
        return _classified(status, body, raw, wait)
    except RecursionError:
        reply = _error(502 if status == 200 else status, "the body is nested too deeply", raw, wait)
        return replace(reply, error_code=ErrorCode.BAD_RESPONSE) if status == 200 else reply


def _classified(status: int, body: bytes, raw: str, wait: float | None) -> Reply:
    content = _content(body)
    if not isinstance(content, dict):
        if status == 200:
            return _no_completion("the body is not a JSON object", status_code=200, raw=raw)
        return _error(status, one_line(raw) or "no body", raw, wait)
    error = content.get("error")
    if status != 200 or (error and not content.get("choices")):
        return _error(_error_status(status, error), _error_text(error, content), raw, wait)
    choices = content.get("choices")
    feedback = content.get("promptFeedback") or content.get("prompt_feedback")
    common: dict[str, Any] = {
        "status_code": status,
        "usage": usage_of(content.get("usage")),
        "resolved_model": _text(content.get("model")),
        "response_id": _text(content.get("id")),
        "raw": raw,
    }
    if not choices:
        if feedback:
            return _blocked(f"prompt blocked: {feedback}", ErrorCode.CONTENT_FILTER_INPUT, **common)
        if isinstance(choices, list):
            return _empty("no choice in the response", **common)
        return _no_completion("the body is not a chat completion", **common)
    return _of_choice(choices[0] if isinstance(choices, list) else None, common)


def _of_choice(choice: Any, common: dict[str, Any]) -> Reply:
    """The reply that the first choice of a completion amounts to; `common` is what else the body says."""
    if not isinstance(choice, dict) or ("message" not in choice and choice.keys() & {"text", "delta"}):
        return _no_completion("the body is not a chat completion", **common)
    message = choice.get("message") or {}
    if not isinstance(message, dict):
        return _no_completion("the message is not an object", **common)
    if not isinstance(message.get("content"), str | list | None):
        return _no_completion("the content is neither text nor a list of parts", **common)
    finish = _text(choice.get("finish_reason"))
    # Some add the reason of the block: `content_filter: PROHIBITED_CONTENT`.
    kind = (finish or "").lower().partition(":")[0].strip()
    text, reasoning = _split(message)
    common |= {"text": text, "reasoning": reasoning, "finish_reason": finish}
    if choice.get("logprobs"):
        common["logprobs"] = _logprobs(choice["logprobs"])
    choice_error = choice.get("error")
    if kind in _BLOCK_FINISH:
        return _blocked(f"finish reason {finish}", ErrorCode.CONTENT_FILTER_OUTPUT, **common)
    if choice_error:
        said = _error_text(choice_error, {})
        if blocks(said):
            return _blocked(said, ErrorCode.CONTENT_FILTER_OUTPUT, **common)
        return _failed(said, **common)
    refusal = _refusal(message)
    if refusal.strip() and not text.strip():
        # The model's own structured refusal is what it said: an answer, to be judged.
        return Reply(Outcome.ANSWERED, **(common | {"text": refusal}))
    if kind in _CUT_OFF:
        common |= {"error": "cut off at the token limit", "error_code": ErrorCode.TRUNCATED}
        return Reply(Outcome.TRUNCATED, **common)
    if kind == "error":
        return _failed("finish reason error", **common)
    if not text.strip():
        return _empty("no text in the reply", **common)
    return Reply(Outcome.ANSWERED, **common)


def error_reply(status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """The reply that an unsuccessful response amounts to, however it arrived."""
    raw = body.decode("utf-8", "replace")
    content = _content(body)
    try:
        said = _error_text(content.get("error"), content) if isinstance(content, dict) else one_line(raw)
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


def _content(body: bytes) -> Any:
    """What the JSON holds, None if it is not JSON; an error alone in a list is taken out of it."""
    try:
        content = loads(body)
    except ValueError:
        return None
    alone = content[0] if isinstance(content, list) and len(content) == 1 else None
    return alone if isinstance(alone, dict) and "error" in alone else content


def _no_completion(error: str, **common: Any) -> Reply:
    return Reply(Outcome.ERROR_TRANSIENT, error=error, error_code=ErrorCode.BAD_RESPONSE, **common)


def _failed(error: str, **common: Any) -> Reply:
    code = ErrorCode.SERVER_ERROR
    return Reply(Outcome.ERROR_TRANSIENT, error=one_line(error), error_code=code, **common)


def _blocked(error: str, code: ErrorCode, **common: Any) -> Reply:
    return Reply(Outcome.REFUSED_BY_PROVIDER, error=one_line(error), error_code=code, **common)


def _empty(error: str, **common: Any) -> Reply:
    return Reply(Outcome.EMPTY, error=error, error_code=ErrorCode.EMPTY, **common)


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


def usage_of(usage: Any) -> Usage:
    """Tokens and cost as an OpenAI-compatible endpoint reports them."""
    if not isinstance(usage, dict):
        return Usage()
    prompt = usage.get("prompt_tokens_details") or {}
    completion = usage.get("completion_tokens_details") or {}
    cost = _finite(usage.get("cost"))
    return Usage(
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        _count(completion.get("reasoning_tokens")) if isinstance(completion, dict) else None,
        _count(prompt.get("cached_tokens")) if isinstance(prompt, dict) else None,
        cost if cost is not None and cost >= 0 else None,
    )


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
        return 400 if blocks(_error_text(error, {})) else 502
    return status


def _error_text(error: Any, content: Mapping[str, Any]) -> str:
    """What an error says, its code first; long, since the word that shows its kind may come late."""
    if isinstance(error, dict):
        parts = [error.get("code"), error.get("type"), error.get("message")]
        extra = error.get("metadata") or error.get("innererror") or error.get("details")
        if extra:
            parts.append(json.dumps(extra, default=str))
        return one_line(" ".join(str(part) for part in parts if part), _MOST_TEXT)
    if isinstance(error, str):
        return one_line(error, _MOST_TEXT)
    for name in ("message", "detail"):
        if content.get(name):
            return one_line(str(content[name]), _MOST_TEXT)
    return "no reason given"


def _split(message: Mapping[str, Any]) -> tuple[str, str | None]:
    """The answer and the reasoning of a message, in whatever form they came."""
    content = message.get("content")
    reasoning = _text(message.get("reasoning_content")) or _text(message.get("reasoning"))
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        thoughts = [
            _words(p.get("thinking") or p.get("text"))
            for p in parts
            if p.get("type") in ("thinking", "reasoning")
        ]
        text = "".join(_words(p.get("text")) for p in parts if p.get("type") in ("text", "output_text", None))
        reasoning = reasoning or "\n".join(thoughts) or None
    else:
        text = content if isinstance(content, str) else ""
    if found := _THINK.match(text):
        reasoning = reasoning or found[1].strip()
        text = text[found.end() :]
    elif text.lstrip().startswith("<think>"):
        # Cut off during reasoning: there is no answer yet.
        reasoning, text = reasoning or text, ""
    return text, reasoning


def _words(part: Any) -> str:
    """The text of a part, which may be a list of parts itself."""
    if isinstance(part, list):
        return "".join(_words(one.get("text")) for one in part if isinstance(one, dict))
    return str(part or "")


def _refusal(message: Mapping[str, Any]) -> str:
    """The model's own refusal, in its field or as a part of the content."""
    stated, content = message.get("refusal"), message.get("content")
    parts = content if isinstance(content, list) else []
    own = [_text(p.get("refusal")) or "" for p in parts if isinstance(p, dict) and p.get("type") == "refusal"]
    return stated if isinstance(stated, str) and stated.strip() else "".join(own)


def _logprobs(stated: Any) -> tuple[tuple[str, float], ...]:
    listed = stated.get("content") if isinstance(stated, dict) else None
    if not isinstance(listed, list):
        return ()
    pairs = ((one.get("token"), _finite(one.get("logprob"))) for one in listed if isinstance(one, dict))
    return tuple((token, value) for token, value in pairs if isinstance(token, str) and value is not None)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    """A count of tokens; an absurd one would not fit into the store, and would block an account forever."""
    counted = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS
    return value if counted else None


def _finite(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None

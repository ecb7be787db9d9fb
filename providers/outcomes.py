"""What a response of a chat endpoint came to: the table of `docs/outcomes.md` as pure functions.

An error never becomes an answer, and a block never an error: blocks arrive as HTTP 400 or 403, as
HTTP 200 with a finish reason, as an empty candidate, after partial text, or in a router's form.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from safemt_client.providers.json_codec import loads
from safemt_client.providers.rates import sent_at
from safemt_client.providers.types import Outcome, Reply, Usage

__all__ = ["classify_response", "error_reply", "fatal", "one_line", "retry_after", "usage_of"]

_BLOCK_WORDS = re.compile(
    r"content[_ -]?filter|content[_ -]?policy|content[_ -]?management|responsible ?ai|"
    r"moderation|flagged|safety[_ -]?(block|filter|system|settings)|prohibited[_ -]?content|"
    r"data_inspection_failed|blocked (by|due)",
    re.IGNORECASE,
)
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
_QUOTA = re.compile(
    r"insufficient_quota|exceeded your current quota|billing|credit balance|out of credits", re.IGNORECASE
)
_DAY = re.compile(r"per[ _-]?day|daily", re.IGNORECASE)
# A limit by the minute passes by itself, though its text may point to a page on billing and quotas.
_MINUTE = re.compile(r"per[ _-]?min", re.IGNORECASE)
_MODEL = re.compile(r"model", re.IGNORECASE)
_THINK = re.compile(r"\A\s*<think(?:ing)?>(.*?)</think(?:ing)?>\s*", re.DOTALL)
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
        return _error(502 if status == 200 else status, "the body is nested too deeply", raw, wait)


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
            return Reply(Outcome.REFUSED_BY_PROVIDER, error=one_line(f"prompt blocked: {feedback}"), **common)
        if isinstance(choices, list):
            return Reply(Outcome.EMPTY, error="no choice in the response", **common)
        return _no_completion("the body is no chat completion", **common)
    choice = choices[0] if isinstance(choices, list) else None
    if not isinstance(choice, dict) or ("message" not in choice and choice.keys() & {"text", "delta"}):
        return _no_completion("the body is no chat completion", **common)
    message = choice.get("message") or {}
    if not isinstance(message, dict):
        return _no_completion("the message is not an object", **common)
    if not isinstance(message.get("content"), str | list | None):
        return _no_completion("the content is neither a text nor a list of parts", **common)
    finish = _text(choice.get("finish_reason"))
    # Some add the reason of the block: `content_filter: PROHIBITED_CONTENT`.
    kind = (finish or "").lower().partition(":")[0].strip()
    text, reasoning = _split(message)
    common |= {"text": text, "reasoning": reasoning, "finish_reason": finish}
    if choice.get("logprobs"):
        common["logprobs"] = _logprobs(choice["logprobs"])
    choice_error = choice.get("error")
    if kind in _BLOCK_FINISH:
        return Reply(Outcome.REFUSED_BY_PROVIDER, error=f"finish reason {finish}", **common)
    if choice_error:
        text_of = _error_text(choice_error, {})
        if _BLOCK_WORDS.search(text_of):
            return Reply(Outcome.REFUSED_BY_PROVIDER, error=one_line(text_of), **common)
        return Reply(Outcome.ERROR_TRANSIENT, error=one_line(text_of), **common)
    refusal = _refusal(message)
    if refusal.strip() and not text.strip():
        # The model's own structured refusal is what it said: an answer, to be judged.
        return Reply(Outcome.ANSWERED, **(common | {"text": refusal}))
    if kind in _CUT_OFF:
        return Reply(Outcome.TRUNCATED, error="cut off at the token limit", **common)
    if kind == "error":
        return Reply(Outcome.ERROR_TRANSIENT, error="finish reason error", **common)
    if not text.strip():
        return Reply(Outcome.EMPTY, error="no text in the reply", **common)
    return Reply(Outcome.ANSWERED, **common)


def error_reply(status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """What a response that is no success amounts to, whatever route it came from."""
    raw = body.decode("utf-8", "replace")
    content = _content(body)
    try:
        said = _error_text(content.get("error"), content) if isinstance(content, dict) else one_line(raw)
    except RecursionError:
        said = "the body is nested too deeply"
    return _error(status, said or "no body", raw, retry_after(headers))


def _content(body: bytes) -> Any:
    """What the JSON holds, None if it is none; an error that stands alone in a list is taken out of it."""
    try:
        content = loads(body)
    except ValueError:
        return None
    alone = content[0] if isinstance(content, list) and len(content) == 1 else None
    return alone if isinstance(alone, dict) and "error" in alone else content


def _no_completion(error: str, **common: Any) -> Reply:
    return Reply(Outcome.ERROR_TRANSIENT, error=error, **common)


def fatal(reply: Reply) -> str | None:
    """Why no further request to this target can succeed, None if one may."""
    if reply.outcome.observed:
        return None
    text = reply.error or ""
    if reply.status_code == 401 or reply.status_code == 403:
        return f"authentication failed (HTTP {reply.status_code}): check the API key: {text}"
    if reply.status_code == 402 or (reply.status_code == 429 and _quota(text, reply.raw or "")):
        return f"quota exhausted (HTTP {reply.status_code}): {text}"
    if reply.status_code == 404 or (
        reply.status_code == 400 and re.search(r"model_not_found|unknown model|invalid model", text, re.I)
    ):
        kind = "unknown model" if _MODEL.search(text) else "unknown address or model"
        return f"{kind} (HTTP {reply.status_code}): {text}"
    return None


def _quota(text: str, raw: str) -> bool:
    """Whether an error 429 is of a quota that does not come back within minutes."""
    raw = raw[:_MOST_TEXT]
    if _DAY.search(text) or (_QUOTA.search(text) and _DAY.search(raw)):
        return True
    return _QUOTA.search(text) is not None and not _MINUTE.search(raw)


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
    common: dict[str, Any] = {
        "error": one_line(text),
        "status_code": status,
        "raw": raw,
        "retry_after_s": wait,
    }
    if status in (400, 403, 422, 451) and _BLOCK_WORDS.search(text):
        return Reply(Outcome.REFUSED_BY_PROVIDER, **common)
    if status in _TRANSIENT or status >= 500:
        return Reply(Outcome.ERROR_TRANSIENT, **common)
    return Reply(Outcome.ERROR_PERMANENT, **common)


def _error_status(status: int, error: Any) -> int:
    """Routers put the status of their upstream into an error inside HTTP 200."""
    if status == 200:
        code = error.get("code") if isinstance(error, dict) else None
        if isinstance(code, str) and re.fullmatch(r"[45]\d\d", code):
            code = int(code)
        if isinstance(code, int) and 400 <= code < 600:
            return code
        return 400 if _BLOCK_WORDS.search(_error_text(error, {})) else 502
    return status


def _error_text(error: Any, content: Mapping[str, Any]) -> str:
    """What an error says, its code first; long, since the word that tells its kind may come late."""
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
    """The answer and the reasoning of a message, whatever form they came in."""
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
        # Cut off while it was still thinking: there is no answer yet.
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
    """A count of tokens; one beyond all sense would not fit into the store, and hold an account for ever."""
    counted = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS
    return value if counted else None


def _finite(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None

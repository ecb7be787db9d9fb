"""The outcome of a chat completion: an answer, a block, a cut, a failure or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safemt_client.providers.error_body import error_text, one_line
from safemt_client.providers.error_codes import ErrorCode, blocks
from safemt_client.providers.fields import finite, text_of
from safemt_client.providers.reasoning import split
from safemt_client.providers.types import Outcome, Reply
from safemt_client.providers.usage import usage_of

__all__ = ["completion_reply", "no_completion"]

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


def completion_reply(content: Mapping[str, Any], status: int, raw: str) -> Reply:
    """The reply that the body of a successful response amounts to; `raw` is the body as text."""
    choices = content.get("choices")
    feedback = content.get("promptFeedback") or content.get("prompt_feedback")
    common: dict[str, Any] = {
        "status_code": status,
        "usage": usage_of(content.get("usage")),
        "resolved_model": text_of(content.get("model")),
        "response_id": text_of(content.get("id")),
        "raw": raw,
    }
    if choices:
        return _of_choice(choices[0] if isinstance(choices, list) else None, common)
    if feedback:
        return _blocked(f"prompt blocked: {feedback}", ErrorCode.CONTENT_FILTER_INPUT, **common)
    if isinstance(choices, list):
        return _empty("no choice in the response", **common)
    return no_completion("the body is not a chat completion", **common)


def _of_choice(choice: Any, common: dict[str, Any]) -> Reply:
    """The reply that the first choice of a completion amounts to; `common` is what else the body says."""
    if not isinstance(choice, dict) or ("message" not in choice and choice.keys() & {"text", "delta"}):
        return no_completion("the body is not a chat completion", **common)
    message = choice.get("message") or {}
    if not isinstance(message, dict):
        return no_completion("the message is not an object", **common)
    if not isinstance(message.get("content"), str | list | None):
        return no_completion("the content is neither text nor a list of parts", **common)
    finish = text_of(choice.get("finish_reason"))
    # Some add the reason of the block: `content_filter: PROHIBITED_CONTENT`.
    kind = (finish or "").lower().partition(":")[0].strip()
    text, reasoning = split(message)
    common |= {"text": text, "reasoning": reasoning, "finish_reason": finish}
    if choice.get("logprobs"):
        common["logprobs"] = _logprobs(choice["logprobs"])
    choice_error = choice.get("error")
    if kind in _BLOCK_FINISH:
        return _blocked(f"finish reason {finish}", ErrorCode.CONTENT_FILTER_OUTPUT, **common)
    if choice_error:
        said = error_text(choice_error, {})
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


def no_completion(error: str, **common: Any) -> Reply:
    """A successful response whose body is not a chat completion: it is asked again."""
    return Reply(Outcome.ERROR_TRANSIENT, error=error, error_code=ErrorCode.BAD_RESPONSE, **common)


def _failed(error: str, **common: Any) -> Reply:
    code = ErrorCode.SERVER_ERROR
    return Reply(Outcome.ERROR_TRANSIENT, error=one_line(error), error_code=code, **common)


def _blocked(error: str, code: ErrorCode, **common: Any) -> Reply:
    return Reply(Outcome.REFUSED_BY_PROVIDER, error=one_line(error), error_code=code, **common)


def _empty(error: str, **common: Any) -> Reply:
    return Reply(Outcome.EMPTY, error=error, error_code=ErrorCode.EMPTY, **common)


def _refusal(message: Mapping[str, Any]) -> str:
    """The model's own refusal, in its field or as a part of the content."""
    stated, content = message.get("refusal"), message.get("content")
    parts = content if isinstance(content, list) else []
    own = [
        text_of(p.get("refusal")) or "" for p in parts if isinstance(p, dict) and p.get("type") == "refusal"
    ]
    return stated if isinstance(stated, str) and stated.strip() else "".join(own)


def _logprobs(stated: Any) -> tuple[tuple[str, float], ...]:
    listed = stated.get("content") if isinstance(stated, dict) else None
    if not isinstance(listed, list):
        return ()
    pairs = ((one.get("token"), finite(one.get("logprob"))) for one in listed if isinstance(one, dict))
    return tuple((token, value) for token, value in pairs if isinstance(token, str) and value is not None)

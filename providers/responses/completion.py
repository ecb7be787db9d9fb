"""The outcome of a chat completion: an answer, a block, a cut, a failure or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.json_codec import as_dict
from safemt_client.providers.responses.error_body import one_line
from safemt_client.providers.responses.error_tables import block_field
from safemt_client.providers.responses.fields import count, finite, text_of
from safemt_client.providers.responses.finish_reasons import ending_of
from safemt_client.providers.responses.oddities import (
    CUT_WHILE_THINKING,
    ESTIMATED_USAGE,
    NO_CHOICES,
    REASONING_ONLY,
    unknown_finish,
)
from safemt_client.providers.responses.reasoning import Parts, split, words_of
from safemt_client.providers.responses.thinking import AUTO, Reading
from safemt_client.providers.responses.usage import usage_of, usage_stated
from safemt_client.providers.types import Outcome, Reply

__all__ = ["completion_reply", "error_within", "no_completion", "with_what_came"]

# What bodies of other protocols hold in place of `choices`.
_OTHERS = ("content", "output", "candidates", "message", "response", "results", "generated_text", "text")
_NO_COMPLETION = "the body is not a chat completion"


@dataclass(frozen=True, slots=True)
class _Choice:
    """One choice of a completion."""

    stated: Mapping[str, Any]
    message: Mapping[str, Any]
    parts: Parts

    @property
    def reasons(self) -> tuple[Any, Any]:
        """The finish reason, and the one of a server behind this one."""
        return self.stated.get("finish_reason"), self.stated.get("native_finish_reason")

    @property
    def ending(self) -> str | None:
        """How it ended; a filter that withheld it need not be the finish reason."""
        ending = ending_of(*self.reasons)
        withheld = not self.said.strip() and _filtered(self.stated.get("content_filter_results"))
        return "blocked" if withheld else ending

    @property
    def said(self) -> str:
        """The answer, or the model's own refusal: what it said, to be judged."""
        return self.parts.text if self.parts.text.strip() else _refusal(self.message) or self.parts.text


def completion_reply(content: Mapping[str, Any], status: int, raw: str, reading: Reading = AUTO) -> Reply:
    """The reply that the body of a successful response amounts to; `raw` is the body as text."""
    choices = content.get("choices")
    feedback = content.get("promptFeedback") or content.get("prompt_feedback")
    stated = usage_stated(content)
    usage = usage_of(stated)
    common: dict[str, Any] = {
        "status_code": status,
        "usage": usage,
        "resolved_model": text_of(content.get("model")),
        "response_id": text_of(content.get("id")),
        "raw": raw,
        "oddities": (ESTIMATED_USAGE,) if usage.estimated else (),
    }
    if choices:
        choice = _chosen(choices, reading)
        if choice is not None and _withheld(content, choice.said):
            choice = replace(choice, stated={**choice.stated, "finish_reason": "content_filter"})
        return no_completion(_NO_COMPLETION, **common) if choice is None else _of_choice(choice, common)
    if feedback:
        return _blocked(f"prompt blocked: {feedback}", ErrorCode.CONTENT_FILTER_INPUT, **common)
    if isinstance(choices, list) or (stated and not any(content.get(name) for name in _OTHERS)):
        return _empty("no choice in the response", NO_CHOICES, **common)
    return no_completion(_NO_COMPLETION, **common)


def error_within(content: Mapping[str, Any]) -> Any:
    """The error that a successful response states beside a completion or in its place, None without one.

    What stands beside a completion that ended by itself is no error.
    """
    choices = content.get("choices")
    listed = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    base = as_dict(content.get("base_resp"))
    if count(base.get("status_code")):
        # MiniMax's own form, which is 0 for a success.
        return {"code": base["status_code"], "message": base.get("status_msg")}
    stated = content.get("error") or next((one["error"] for one in listed if one.get("error")), None)
    if stated and (choice := _chosen(choices, AUTO)) is not None:
        by_itself = choice.ending in ("complete", "cut off") and choice.said.strip()
        return None if by_itself or choice.ending == "blocked" else stated
    return stated or None


def with_what_came(reply: Reply, content: Mapping[str, Any], reading: Reading = AUTO) -> Reply:
    """The reply to an error with the part of a completion that came with it: that is paid for."""
    choice = _chosen(content.get("choices"), reading)
    usage = usage_of(usage_stated(content))
    parts = Parts("") if choice is None else choice.parts
    withheld = choice is not None and reply.outcome is Outcome.REFUSED_BY_PROVIDER
    if not (withheld or parts.text or parts.reasoning or usage.completion_tokens):
        return reply
    return replace(
        reply,
        text=parts.text,
        reasoning=parts.reasoning,
        usage=usage,
        resolved_model=text_of(content.get("model")),
        response_id=text_of(content.get("id")),
        error_code=ErrorCode.CONTENT_FILTER_OUTPUT if withheld else reply.error_code,
        billed=reply.outcome is Outcome.ERROR_TRANSIENT,
    )


def _chosen(choices: Any, reading: Reading) -> _Choice | None:
    """The first choice with something in it, else the first; None if none of them is a chat completion's."""
    found: list[_Choice] = []
    for stated in choices if isinstance(choices, list) else ():
        if not isinstance(stated, dict) or ("message" not in stated and stated.keys() & {"text", "delta"}):
            continue
        message = stated.get("message") or {}
        content = message.get("content") if isinstance(message, dict) else 0
        if isinstance(content, str | list | None) or (isinstance(content, dict) and words_of(content)):
            found.append(_Choice(stated, message, split(message, reading)))
            if found[-1].said.strip():
                return found[-1]
    return found[0] if found else None


def _of_choice(choice: _Choice, common: dict[str, Any]) -> Reply:
    """The reply that a choice amounts to; `common` is what else the body says."""
    parts, ending = choice.parts, choice.ending
    reason = next((text for text in choice.reasons if ending_of(text) == ending), choice.reasons[0])
    common |= {
        "text": parts.text,
        "reasoning": parts.reasoning,
        "finish_reason": text_of(choice.reasons[0]) or text_of(choice.reasons[1]),
        "oddities": common["oddities"] + parts.oddities,
    }
    if choice.stated.get("logprobs"):
        common["logprobs"] = _logprobs(choice.stated["logprobs"])
    if ending == "unknown":
        common["oddities"] += (unknown_finish(str(reason)),)
    if ending == "blocked":
        return _blocked(f"finish reason {reason}", ErrorCode.CONTENT_FILTER_OUTPUT, **common)
    if ending == "failed" or (ending == "unknown" and not choice.said.strip()):
        return _failed(f"finish reason {reason}", **common)
    if not parts.text.strip() and choice.said.strip():
        return Reply(Outcome.ANSWERED, **(common | {"text": choice.said}))
    if ending == "cut off":
        return _truncated(**common)
    if parts.text.strip():
        return Reply(Outcome.ANSWERED, **common)
    if parts.reasoning:
        return _empty("reasoning only, no answer", REASONING_ONLY, **common)
    called = choice.message.get("tool_calls")
    return _empty("a tool call and no text" if called else "no text in the reply", **common)


def no_completion(error: str, **common: Any) -> Reply:
    """A successful response whose body is not a chat completion: it is asked again."""
    return Reply(Outcome.ERROR_TRANSIENT, error=error, error_code=ErrorCode.BAD_RESPONSE, **common)


def _failed(error: str, **common: Any) -> Reply:
    """A completion that its endpoint could not end: it is paid for."""
    code = ErrorCode.SERVER_ERROR
    return Reply(Outcome.ERROR_TRANSIENT, error=one_line(error), error_code=code, billed=True, **common)


def _blocked(error: str, code: ErrorCode, **common: Any) -> Reply:
    return Reply(Outcome.REFUSED_BY_PROVIDER, error=one_line(error), error_code=code, **common)


def _truncated(**common: Any) -> Reply:
    error = "cut off at the token limit"
    if not common["text"].strip() and common["usage"].completion_tokens == 0:
        error = "cut off before its first token: the request may fill the model's context"
    if not common["text"].strip() and (common["reasoning"] or common["usage"].reasoning_tokens):
        error = "cut off while thinking: raise --max-tokens"
        common["oddities"] += (CUT_WHILE_THINKING,)
    return Reply(Outcome.TRUNCATED, error=error, error_code=ErrorCode.TRUNCATED, **common)


def _empty(error: str, *oddities: str, **common: Any) -> Reply:
    common["oddities"] += oddities
    return Reply(Outcome.EMPTY, error=error, error_code=ErrorCode.EMPTY, **common)


def _withheld(content: Mapping[str, Any], said: str) -> bool:
    """Whether a field beside the choices states that a filter took the reply away or replaced it."""
    replaced = content.get("amazon-bedrock-guardrailAction") == "INTERVENED"
    return replaced or (not said.strip() and any(block_field(name, value) for name, value in content.items()))


def _filtered(results: Any) -> bool:
    """Whether Azure's filter has withheld the text."""
    return any(as_dict(result).get("filtered") is True for result in as_dict(results).values())


def _refusal(message: Mapping[str, Any]) -> str:
    """The model's own refusal, in its field or as a part of the content."""
    stated, content = message.get("refusal"), message.get("content")
    if isinstance(stated, str) and stated.strip():
        return stated
    parts = content if isinstance(content, list) else []
    return "".join(
        text_of(part.get("refusal")) or ""
        for part in parts
        if isinstance(part, dict) and part.get("type") == "refusal"
    )


def _logprobs(stated: Any) -> tuple[tuple[str, float], ...]:
    listed = stated.get("content") if isinstance(stated, dict) else None
    if not isinstance(listed, list):
        return ()
    pairs = ((one.get("token"), finite(one.get("logprob"))) for one in listed if isinstance(one, dict))
    return tuple((token, value) for token, value in pairs if isinstance(token, str) and value is not None)

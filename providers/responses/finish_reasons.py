"""Why a completion ended: the closed table of the finish reasons that vendors and servers send."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Literal

from safemt_client.providers.responses.fields import text_of

__all__ = ["Ending", "ending_of"]

Ending = Literal["complete", "cut off", "blocked", "failed"]
"""Whole; cut off at a limit of length; withheld by a filter; or ended by a fault of the endpoint."""

# Lower case, words joined by `_`: `ending_of` brings every spelling to this form. The comments name who sends
# a word; those of OpenAI's protocol have none.
_TABLE: dict[Ending, tuple[str, ...]] = {
    "blocked": (
        "content_filter",
        "content_filtered",  # Bedrock, Titan
        "guardrail_intervened",  # Bedrock
        "refusal",  # Anthropic: its classifiers stop the reply
        "safety",  # Gemini, with those that follow
        "recitation",
        "language",
        "blocklist",
        "prohibited_content",
        "spii",
        "model_armor",
        "jailbreak",
        "image_safety",
        "image_prohibited_content",
        "image_recitation",
        "error_toxic",  # Cohere
        "sensitive",  # Zhipu, Hunyuan
        "content_policy",
        "content_policy_violation",
        "moderation",
        "guardrail",
    ),
    "failed": (
        "error",  # OpenRouter, Mistral, Cohere, watsonx, vLLM
        "abort",  # vLLM, SGLang
        "aborted",
        "cancelled",  # TensorRT-LLM, watsonx
        "canceled",
        "user_cancel",  # Cohere
        "user_stopped",  # LM Studio
        "model_unloaded",  # LM Studio
        "unload",  # Ollama
        "load",  # Ollama: the model was loaded, and nothing asked
        "failed",  # LM Studio
        "failure",
        "timeout",  # Cohere, TensorRT-LLM
        "time_limit",  # watsonx
        "network_error",  # Zhipu
        "insufficient_system_resource",  # DeepSeek
        "malformed_function_call",  # Gemini, with those that follow
        "malformed_response",
        "missing_thought_signature",
        "unexpected_tool_call",
        "too_many_tool_calls",
        "no_image",
        "image_other",
        "malformed_model_output",  # Bedrock
        "malformed_tool_use",  # Bedrock
        "function_call_filter",  # gateways before Gemini
        "server_error",
        "internal_error",
        "engine_overloaded",
        "overloaded",
    ),
    "cut off": (
        "length",
        "max_tokens",  # Anthropic, Gemini, Bedrock, Cohere, watsonx
        "max_output_tokens",  # OpenAI's responses
        "max_completion_tokens",
        "max_new_tokens",
        "maximum_tokens",
        "max_output",  # MiniMax
        "max_length",
        "max_tokens_reached",
        "max_predicted_tokens_reached",  # LM Studio
        "context_length_reached",  # LM Studio
        "context_length_exceeded",
        "context",  # Reka
        "model_length",  # Mistral
        "model_context_window_exceeded",  # Anthropic, Bedrock, Zhipu
        "error_limit",  # Cohere
        "token_limit",  # watsonx
        "token_limit_reached",
        "limit",  # llama.cpp
        "incomplete",
    ),
    "complete": (
        "stop",
        "tool_calls",
        "tool_call",
        "function_call",
        "function_calls",
        "tool_use",  # Anthropic, Bedrock
        "end_turn",  # Anthropic, xAI
        "pause_turn",  # Anthropic
        "stop_sequence",  # Anthropic, Bedrock, Cohere, TGI
        "stop_sequences",
        "stop_criteria_met",  # Titan
        "stop_string_found",  # LM Studio
        "stop_words",  # TensorRT-LLM
        "stop_token",
        "stop_token_ids",
        "word",  # llama.cpp
        "eos",  # Together, llama.cpp
        "eos_token",  # TGI, watsonx
        "eos_found",  # LM Studio
        "end_id",  # TensorRT-LLM
        "end_of_text",
        "endoftext",  # AI21
        "end",
        "complete",  # Cohere
        "completed",
        "finish",  # Titan
        "finished",  # Titan
        "done",
        "repetition",  # vLLM: what repeats itself is ended, and nothing is missing
        "repetition_truncation",  # MiMo
        "normal",  # Ernie
        "success",
    ),
}
_ENDINGS = {word: ending for ending, words in _TABLE.items() for word in words}
_UNSTATED = {"", "null", "none", "unspecified", "undefined", "not_finished"}
# What is worst counts, where a reason has several parts, or a server and the one behind it disagree.
_WORST_FIRST: tuple[Ending, ...] = ("blocked", "failed", "cut off", "complete")


def ending_of(*reasons: Any) -> Ending | Literal["unknown"] | None:
    """How a completion ended, by the finish reasons that are stated for it; None if none says anything.

    Case and spelling do not matter, and some add more to a reason: `content_filter: PROHIBITED_CONTENT`.
    """
    stated = [word for reason in map(text_of, reasons) if reason is not None for word in _words(reason)]
    found = {_ENDINGS.get(word) for word in stated}
    for ending in _WORST_FIRST:
        if ending in found:
            return ending
    return "unknown" if stated else None


@lru_cache(maxsize=256)
def _words(reason: str) -> list[str]:
    """The parts of a finish reason in the form of the table, those left out that state nothing."""
    parts = (
        re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", part).strip("_").lower()
        for part in reason[:200].split(":")
    )
    words = (re.sub(r"^finish_?reason_", "", part) for part in parts)
    return [word for word in words if word not in _UNSTATED]

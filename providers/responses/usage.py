"""Tokens and cost of a call, as endpoints report them, in whatever names and with whatever left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from safemt_client.providers.json_codec import as_dict
from safemt_client.providers.responses.fields import MOST_TOKENS, finite, first_count
from safemt_client.providers.types import Usage

__all__ = ["usage_of", "usage_stated"]

# The names of OpenAI, Anthropic, Bedrock, Gemini, DeepSeek, Moonshot, Mistral and watsonx; the usual first.
_PROMPT = (
    "prompt_tokens",
    "input_tokens",
    "inputTokens",
    "promptTokens",
    "promptTokenCount",
    "prompt_token_count",
    "input_token_count",
    "inputTokenCount",
)
_COMPLETION = (
    "completion_tokens",
    "output_tokens",
    "outputTokens",
    "completionTokens",
    "candidatesTokenCount",
    "candidates_token_count",
    "generated_token_count",
    "output_token_count",
    "outputTokenCount",
)
_TOTAL = ("total_tokens", "totalTokens", "totalTokenCount", "total_token_count")
_REASONING = (
    "reasoning_tokens",
    "reasoningTokens",
    "thinking_tokens",
    "thoughtsTokenCount",
    "thoughts_token_count",
)
_CACHED = (
    "cached_tokens",
    "cachedTokens",
    "prompt_cache_hit_tokens",
    "cache_read_input_tokens",
    "cacheReadInputTokens",
    "cache_read_tokens",
    "cachedContentTokenCount",
    "cached_content_token_count",
    "num_cached_tokens",
)
_CREATED = (
    "cache_creation_input_tokens",
    "cacheWriteInputTokens",
    "cache_creation_tokens",
    "cache_write_tokens",
)
_PROMPT_DETAILS = (
    "prompt_tokens_details",
    "input_tokens_details",
    "promptTokensDetails",
    "input_token_details",
)
_COMPLETION_DETAILS = (
    "completion_tokens_details",
    "output_tokens_details",
    "completionTokensDetails",
    "output_token_details",
)
# Anthropic and Bedrock, who name the cache so, count its tokens beside those of the prompt.
_BESIDE = {
    "input_tokens": ("cache_read_input_tokens", "cache_creation_input_tokens"),
    "inputTokens": ("cacheReadInputTokens", "cacheWriteInputTokens"),
}
_PARTS = frozenset((*_REASONING, *_CACHED, *_CREATED, *_PROMPT_DETAILS, *_COMPLETION_DETAILS)).union(
    *_BESIDE.values()
)
"""The names of what is part of the tokens of prompt and completion, or counted beside them."""
_TICKS_PER_USD = 10**10
_PLACES = ("usage", "usageMetadata", "usage_metadata")


def usage_stated(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a body that counts its tokens; empty if there is none."""
    for name in _PLACES:
        if isinstance(content.get(name), dict):
            return as_dict(content[name])
    # Groq, in the last chunk of a stream.
    return as_dict(as_dict(content.get("x_groq")).get("usage"))


def usage_of(usage: Mapping[str, Any]) -> Usage:
    """Tokens and cost of a call, as an endpoint states them.

    What the total counts beyond prompt and completion belongs first to the cache, where its tokens are not in
    the prompt, then to the reasoning, where that is not in the completion. What none of the fields explains
    counts as completion and is marked as estimated: a cost is rather too high than too low.
    """
    reasoning = cached = created = None
    beside = False
    # To look for each by all its names takes longer than all else, and many servers state none.
    if not usage.keys().isdisjoint(_PARTS):
        in_prompt = _nested(usage, _PROMPT_DETAILS)
        reasoning = _first(_REASONING, _nested(usage, _COMPLETION_DETAILS), usage)
        cached = _first(_CACHED, in_prompt, usage)
        created = _first(_CREATED, in_prompt, usage)
        beside = any(name in usage and usage.keys() & {*caches} for name, caches in _BESIDE.items())
    stated = _Counts(
        first_count(usage, _PROMPT),
        first_count(usage, _COMPLETION),
        first_count(usage, _TOTAL),
        reasoning or 0,
        cached or 0,
        created or 0,
        beside,
    )
    prompt, completion, estimated = _settled(stated)
    if prompt is not None and cached is not None:
        cached = min(cached, prompt)
    return Usage(prompt, completion, reasoning, cached, _cost(usage), estimated)


@dataclass(frozen=True, slots=True)
class _Counts:
    """The counts of a call as they are stated; what is not stated of the parts is 0.

    `beside` says that the names are those of vendors who count the cache beside the prompt.
    """

    prompt: int | None
    completion: int | None
    total: int | None
    reasoning: int
    cached: int
    created: int
    beside: bool

    @property
    def cache_outside(self) -> bool:
        """Whether the tokens of the cache cannot be among those of the prompt."""
        return self.prompt is not None and (self.beside or self.cached + self.created > self.prompt)

    @property
    def reasoning_outside(self) -> bool:
        """Whether the tokens of the reasoning cannot be among those of the completion."""
        return self.completion is not None and self.reasoning > self.completion


def _settled(stated: _Counts) -> tuple[int | None, int | None, bool]:
    """Tokens of the prompt and of the completion in all, and whether some of them are an estimate."""
    total, prompt, completion = stated.total, stated.prompt, stated.completion
    if total is not None and prompt is None and completion is None:
        return 0, total, total > 0
    surplus = 0 if total is None else total - (prompt or 0) - (completion or 0)
    estimated = False
    if surplus > 0:
        to_prompt, to_completion = _explained(surplus, stated)
        rest = surplus - to_prompt - to_completion
        # If one of the two is missing, it is the rest.
        to_prompt, to_completion = (
            (to_prompt + rest, to_completion) if prompt is None else (to_prompt, to_completion + rest)
        )
        estimated = rest > 0 and prompt is not None and completion is not None
    else:
        to_prompt = stated.cached + stated.created if stated.cache_outside else 0
        to_completion = stated.reasoning if stated.reasoning_outside else 0
    known = total is not None
    return _sum(prompt, to_prompt, known), _sum(completion, to_completion, known), estimated


def _explained(surplus: int, stated: _Counts) -> tuple[int, int]:
    """How much of a surplus belongs to the prompt and to the completion, by the fields that are stated.

    Those that come to the surplus exactly are it. If several do, those that cannot be among the tokens of
    prompt and completion come before those that may be, and the cache before the reasoning.
    """
    parts = ((stated.cached, True), (stated.created, True), (stated.reasoning, False))
    outside = (stated.cache_outside, stated.cache_outside, stated.reasoning_outside)
    best: tuple[int, tuple[int, ...]] | None = None
    for size in (1, 2, 3):
        for chosen in combinations(range(3), size):
            if sum(parts[place][0] for place in chosen) == surplus and all(parts[p][0] for p in chosen):
                missing = sum(outside[p] and parts[p][0] > 0 and p not in chosen for p in range(3))
                if best is None or missing < best[0]:
                    best = (missing, chosen)
    if best is not None:
        to_prompt = sum(parts[place][0] for place in best[1] if parts[place][1])
        return to_prompt, surplus - to_prompt
    to_prompt = min(surplus, stated.cached + stated.created) if stated.cache_outside else 0
    return to_prompt, min(surplus - to_prompt, stated.reasoning)


def _sum(stated: int | None, more: int, known: bool) -> int | None:
    """A count and what belongs to it; None if nothing is known of it."""
    return None if stated is None and not known else min((stated or 0) + more, MOST_TOKENS)


def _first(names: Iterable[str], *places: Mapping[str, Any]) -> int | None:
    return next((found for place in places if (found := first_count(place, names)) is not None), None)


def _nested(usage: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
    return next((usage[name] for name in names if isinstance(usage.get(name), dict)), {})


def _cost(usage: Mapping[str, Any]) -> float | None:
    """US dollars, as OpenRouter, Perplexity, DeepInfra and xAI state them."""
    stated = usage.get("cost")
    stated = stated.get("total_cost") if isinstance(stated, dict) else stated
    for value in (stated, usage.get("estimated_cost")):
        if (cost := finite(value)) is not None and cost >= 0:
            return cost + _upstream(usage)
    ticks = finite(usage.get("cost_in_usd_ticks"))
    return ticks / _TICKS_PER_USD if ticks is not None and ticks >= 0 else None


def _upstream(usage: Mapping[str, Any]) -> float:
    """What a router's own price leaves out, where the vendor behind it is paid with the user's own key."""
    if usage.get("is_byok") is not True:
        return 0.0
    return max(0.0, finite(as_dict(usage.get("cost_details")).get("upstream_inference_cost")) or 0.0)

"""Tokens and cost of a call, as endpoints report them."""

from __future__ import annotations

from typing import Any

from safemt_client.providers.fields import count, finite
from safemt_client.providers.types import Usage

__all__ = ["usage_of"]


def usage_of(usage: Any) -> Usage:
    """Tokens and cost as an OpenAI-compatible endpoint reports them."""
    if not isinstance(usage, dict):
        return Usage()
    prompt = usage.get("prompt_tokens_details") or {}
    completion = usage.get("completion_tokens_details") or {}
    cost = finite(usage.get("cost"))
    return Usage(
        count(usage.get("prompt_tokens")),
        count(usage.get("completion_tokens")),
        count(completion.get("reasoning_tokens")) if isinstance(completion, dict) else None,
        count(prompt.get("cached_tokens")) if isinstance(prompt, dict) else None,
        cost if cost is not None and cost >= 0 else None,
    )

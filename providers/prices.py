"""Prices of models and the largest replies they give, from the list that litellm carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safemt_client.providers.behind_litellm.client import _litellm

__all__ = ["largest_output", "prices"]

_FURTHER_PRICES = {
    "cached_input": "cache_read_input_token_cost",
    "batch_input": "input_cost_per_token_batches",
    "batch_output": "output_cost_per_token_batches",
    "batch_cached_input": "cache_read_input_token_cost_batches",
}


def prices(identity: str) -> Mapping[str, float] | None:
    """US dollars a token from litellm's list, None if the model is not in it.

    `input` and `output`; where known also `cached_input`, and all three for batches (`batch_input`, ...).
    """
    found = _listed(identity)
    if not found or found.get("input_cost_per_token") is None:
        return None
    price = {
        "input": float(found["input_cost_per_token"]),
        "output": float(found.get("output_cost_per_token") or 0.0),
    }
    for ours, theirs in _FURTHER_PRICES.items():
        if found.get(theirs) is not None:
            price[ours] = float(found[theirs])
    return price


def largest_output(identity: str) -> int | None:
    """Tokens that a reply of the model has at most, reasoning included; None if the list does not say."""
    most = (_listed(identity) or {}).get("max_output_tokens")
    return most if isinstance(most, int) and most > 0 else None


def _listed(identity: str) -> Mapping[str, Any] | None:
    costs = _litellm().model_cost
    found: Mapping[str, Any] | None = costs.get(identity) or costs.get(identity.partition("/")[2])
    return found

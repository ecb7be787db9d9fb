"""What a model costs, and how long its replies may be, where that is known."""

from __future__ import annotations

from collections.abc import Mapping

from safemt_client.providers.registry import ProviderSpec
from safemt_client.settings import RunSettings

__all__ = ["Prices", "longest_of", "prices_of"]

Prices = Mapping[str, float] | None


def longest_of(spec: ProviderSpec | None) -> int | None:
    """Tokens of the longest reply that a model gives, by litellm's list; None if it is not known there."""
    if spec is None or spec.free or spec.own or spec.kind == "plugin":
        return None
    from safemt_client.providers.prices import largest_output

    return largest_output(spec.listed)


def prices_of(
    spec: ProviderSpec, settings: RunSettings, snapshot: Mapping[str, Prices] | None = None, key: str = ""
) -> Prices:
    """US dollars per token: the user's price, the price at the run's start, or litellm's; None is unknown.

    `snapshot` maps keys of targets and judges to the prices that the run has stored. The demo is free; the
    price of the user's own endpoint is unknown, unless it is a vendor's program on this machine.
    """
    if (own := settings.price_of(spec.name)) is not None:
        return own
    if snapshot is not None and key in snapshot:
        return snapshot[key]
    if spec.free:
        return {"input": 0.0, "output": 0.0}
    if spec.kind == "plugin" or spec.own:
        return None
    from safemt_client.providers.prices import prices

    return prices(spec.listed)

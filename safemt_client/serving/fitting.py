"""Whether the servers of a session have room beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safemt_client.providers.errors import InputError
from safemt_client.serving.memory import cards, free_memory, in_words

if TYPE_CHECKING:
    from safemt_client.serving.engines import Served

__all__ = ["check_together"]


def check_together(servers: Sequence[Served]) -> None:
    """Refuse servers that each fit, and all together do not.

    Raises:
        InputError: they need more memory than their cards have, or than is free on this machine.
    """
    whole = [one for one in servers if one.engine == "vllm" and one.on_cards and one.usable]
    for first in whole:
        beside = [one for one in whole if {*one.usable} & {*first.usable}]
        most = sum(card[1] for card in {card for one in beside for card in one.usable})
        _check_sum(beside, most, "their GPUs have {}: give them others")
    if not cards() and (free := free_memory()) is not None:
        _check_sum(servers, free, "{} are free: serve one of them on another machine")


def _check_sum(servers: Sequence[Served], most: int, why: str) -> None:
    needs = sum(one.needs or 0 for one in servers)
    if len(servers) > 1 and needs > most:
        names = " and ".join(one.spec.name for one in servers)
        raise InputError(
            f"{names}: together they need about {in_words(needs)} of memory and "
            f"{why.format(in_words(most))}, or use smaller or more strongly quantised models"
        )

"""Items drawn at random: one fixed order of all items, of which a sample is the beginning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from hashlib import sha256

from safemt_client.datasets.model import Dialogue

__all__ = ["drawn", "order_of", "place_of"]


def order_of(dialogues: Sequence[Dialogue], seed: int, *, by_scenario: bool = False) -> list[str]:
    """The ids of all items in the order in which they are drawn.

    Each item has a place that its id (or that of its `pair`, so that twins stay together) and the seed alone
    decide: neither the order of the files nor other items change which of two comes first, every order is as
    likely as any other over the seeds, and a larger sample contains a smaller one. `by_scenario` mixes the
    scenarios evenly, so that each beginning has them in the shares of the whole.
    """
    first = {dialogue.item_id: dialogue for dialogue in reversed(dialogues)}
    places = {
        item: (place_of(seed, str(d.extra.get("pair") or item)), place_of(seed, item))
        for item, d in first.items()
    }
    order = sorted(places, key=places.__getitem__)
    if not by_scenario:
        return order
    groups: dict[str | None, list[str]] = defaultdict(list)
    for item in order:
        groups[first[item].scenario].append(item)
    # Each scenario's items at even distances, the first of them at a random place.
    even = {
        item: ((rank + _share(seed, str(scenario))) / len(items), places[item])
        for scenario, items in groups.items()
        for rank, item in enumerate(items)
    }
    return sorted(even, key=even.__getitem__)


def drawn(
    dialogues: Sequence[Dialogue], items: int, seed: int, *, by_scenario: bool = False
) -> tuple[Dialogue, ...]:
    """The dialogues of the first `items` in that order, as the data set has them; all if there are fewer."""
    kept = set(order_of(dialogues, seed, by_scenario=by_scenario)[:items])
    return tuple(dialogue for dialogue in dialogues if dialogue.item_id in kept)


def place_of(seed: int, name: str) -> bytes:
    """What things of such names are sorted by, for an order that looks random and is always the same."""
    return sha256(f"{seed}\0{name}".encode()).digest()


def _share(seed: int, name: str) -> float:
    """A number from 0 to 1 that looks random."""
    return int.from_bytes(place_of(seed, name)[:7], "big") / 2**56

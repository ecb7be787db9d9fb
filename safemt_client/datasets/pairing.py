"""What the lengths of an item have in common, and where they do not: results are paired by its id."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from safemt_client.datasets.model import Dialogue, Oddity

__all__ = ["across_lengths"]


def _picture(dialogue: Dialogue) -> str | None:
    return next((path for message in dialogue.messages for path in message.images), None)


_SAME: Mapping[str, Callable[[Dialogue], Any]] = {
    "picture": _picture,
    "question": lambda dialogue: dialogue.question,
    "scenario": lambda dialogue: dialogue.scenario,
    "method": lambda dialogue: dialogue.method,
    "benign": lambda dialogue: bool(dialogue.benign),
}
"""What an item has once; only `benign` has a value where nothing is said."""


def across_lengths(dialogues: Collection[Dialogue], digest: Callable[[str], str | None]) -> list[Oddity]:
    """Items whose lengths differ in more than turns, and ids that differ in their Unicode form alone.

    `digest` gives what tells one picture's file from another's: the same picture may have several names.
    """
    items: dict[tuple[str, str | None], list[Dialogue]] = {}
    counts = Counter(dialogue.item_id for dialogue in dialogues)
    for dialogue in dialogues:
        if counts[dialogue.item_id] > 1:
            items.setdefault((dialogue.item_id, dialogue.condition), []).append(dialogue)
    found = []
    for (item, _), several in items.items():
        for what, of in _SAME.items():
            said = [(dialogue.length, value) for dialogue in several if (value := of(dialogue)) is not None]
            for length, value in said[1:]:
                if value == said[0][1] or (what == "picture" and _alike(value, said[0][1], digest)):
                    continue
                text = f"another {what} at {length} user turns than at {said[0][0]}"
                found.append(Oddity("differs over lengths", item[:80], text))
                break
    several_ways = {unicodedata.normalize("NFC", item) for item in counts if not item.isascii()}
    forms: dict[str, str] = {}
    for item in counts if several_ways else ():
        form = unicodedata.normalize("NFC", item)
        if form in several_ways and forms.setdefault(form, item) != item:
            text = "the same id in another Unicode form is another item: its lengths are not paired"
            found.append(Oddity("id in two forms", item[:80], text))
    return found


def _alike(one: str, two: str, digest: Callable[[str], str | None]) -> bool:
    first = digest(one)
    return first is not None and first == digest(two)

"""Names of models as they are shown: `NAME@URL` as NAME, wherever that is clear."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

__all__ = ["addresses", "meant", "short_names"]

# It begins where a name does: tried at each letter, a name of a megabyte would take hours.
_ADDRESSED = re.compile(r"(?<![^\s,@])([^\s,@]+)@(https?://[^\s,]+(?:,https?://[^\s,]+)*)")


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Each name without its addresses; those stay without which two models would be called the same.

    A name may be made of several, as those of a panel and of a target with a moderator are.
    """
    known = dict.fromkeys(names)
    places: dict[str, set[str]] = defaultdict(set)
    for name in known:
        for part in name.split():
            model, place = _divided(part.removesuffix(","))
            places[model].add(place)

    def bare(found: re.Match[str]) -> str:
        return found[1] if len(places[found[1]]) == 1 else found[0]

    return {name: _ADDRESSED.sub(bare, name) for name in known}


def addresses(names: Iterable[str]) -> dict[str, list[str]]:
    """The addresses that `short_names` leaves out, each with the models that are there."""
    short = short_names(names)
    found: dict[str, list[str]] = defaultdict(list)
    for name, shown in short.items():
        for model, place in dict.fromkeys(_ADDRESSED.findall(name)):
            if f"{model}@{place}" not in shown and model not in found[place]:
                found[place].append(model)
    return {place: models for place, models in found.items() if models}


def meant(word: str, names: Iterable[str]) -> str:
    """The name that a user means: the word itself, or the only name that is shown as it."""
    short = short_names(names)
    if word in short:
        return word
    return next((name for name, shown in short.items() if shown == word), word)


def _divided(part: str) -> tuple[str, str]:
    found = _ADDRESSED.fullmatch(part)
    return (found[1], found[2]) if found else (part, "")

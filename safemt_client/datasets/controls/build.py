"""Make controls of a data set and write them, with the originals if wanted, to a folder in the open form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from safemt_client.datasets.controls.exchanges import Exchange, exchanges_of
from safemt_client.datasets.controls.recipes import RECIPES, LeftOut, Material, Recipe
from safemt_client.datasets.files import shown
from safemt_client.datasets.model import Dataset, Dialogue
from safemt_client.datasets.open_form import Written, write
from safemt_client.providers.errors import InputError

__all__ = ["Built", "Padding", "Wanted", "build", "padding_of", "wanted"]

_MOST_TURNS = 1_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A recipe that was asked for, with its numbers of user turns; none are those of the recipe."""

    recipe: Recipe
    turns: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Padding:
    """Benign turns by the ids of their dialogues; `passed_over` counts dialogues of which none is taken."""

    turns: Mapping[str, Sequence[Exchange]]
    passed_over: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Built:
    """What was made: dialogues by condition, and by recipe how many were left out for which reason.

    `live` says that some need live history; `controls` counts those in the source, of which nothing is made.
    """

    written: Written
    dialogues: Mapping[str, int]
    left_out: Mapping[str, Mapping[str, int]]
    live: bool
    controls: int


def wanted(text: str) -> Wanted:
    """The recipe that `NAME` or `NAME=K,K` asks for.

    Raises:
        InputError: there is none of this name, or its numbers are wrong.
    """
    name, given, numbers = text.partition("=")
    recipe = RECIPES.get(name)
    if recipe is None:
        raise InputError(f"data build {shown(name)[1:-1]}: no such recipe: name {', '.join(RECIPES)}")
    if not given:
        return Wanted(recipe)
    if not recipe.takes_turns:
        raise InputError(f"data build {name}: has no numbers of turns: leave out ={shown(numbers)[1:-1]}")
    words = numbers.split(",")
    if not all(word.isascii() and word.isdigit() and 0 < int(word[:9]) <= _MOST_TURNS for word in words):
        raise InputError(
            f"data build {shown(text)[1:-1]}: write numbers of user turns from 1 to {_MOST_TURNS}: {name}=2,4"
        )
    return Wanted(recipe, tuple(dict.fromkeys(map(int, words))))


def padding_of(dataset: Dataset) -> Padding:
    """The benign turns of a data set: those with a reply, or, where none has one, the user's alone.

    Dialogues with pictures, and those that say they are not benign, are passed over.

    Raises:
        InputError: nothing is left.
    """
    passed: Counter[str] = Counter()
    found: dict[str, list[Exchange]] = {}
    for dialogue in dataset.dialogues:
        said = exchanges_of(dialogue)
        if dialogue.benign is False:
            passed["not benign"] += 1
        elif any(exchange.user.images for exchange in said):
            passed["with pictures"] += 1
        elif dialogue.control is not None:
            passed["controls"] += 1
        elif len(said) > len(found.get(dialogue.item_id, ())):
            last = dialogue.extra.get("reference_reply")
            if isinstance(last, str):
                said[-1] = replace(said[-1], reply=replace(said[-1].user, role="assistant", text=last))
            found[dialogue.item_id] = [replace(exchange, label=None) for exchange in said]
    replied = {
        name: with_reply
        for name, said in found.items()
        if (with_reply := [exchange for exchange in said if exchange.reply is not None])
    }
    turns = replied or {name: said for name, said in found.items() if said}
    if not turns:
        why = f": {_counted(passed)}" if passed else ""
        raise InputError(
            f"--pad-with {dataset.path}: no benign turns without pictures are in it{why}: name another"
        )
    return Padding(turns, passed)


def build(
    source: Dataset,
    recipes: Sequence[Wanted],
    out: Path,
    *,
    seed: int = 0,
    parent_turns: int | None = None,
    padding: Padding | None = None,
    with_original: bool = False,
) -> Built:
    """Make controls of a data set by these recipes, into a folder that is not there yet.

    The same data, recipes and seed give the same controls. What a dialogue's own id decides does not depend
    on the other items: one more item changes nothing but the donor of one.

    Raises:
        InputError: a recipe makes nothing of the data, or the folder cannot be written.
    """
    originals = tuple(dialogue for dialogue in source.dialogues if dialogue.control is None)
    material = Material(source, originals, seed, parent_turns, {} if padding is None else padding.turns)
    files: dict[str, tuple[Dialogue, ...]] = {"original.jsonl": originals} if with_original else {}
    counts: Counter[str] = Counter()
    left_out: dict[str, Mapping[str, int]] = {}
    for one in {wanted.recipe.name: wanted for wanted in recipes}.values():
        made, left = _made(one, material, source)
        counts.update(str(dialogue.condition) for dialogue in made)
        left_out[one.recipe.name] = left
        files[f"control-{one.recipe.name}.jsonl"] = made
    written = write(source, files, out, material.made)
    live = not all(dialogue.scripted for dialogues in files.values() for dialogue in dialogues)
    return Built(written, counts, left_out, live, len(source.dialogues) - len(originals))


def _made(one: Wanted, material: Material, source: Dataset) -> tuple[tuple[Dialogue, ...], Mapping[str, int]]:
    name = one.recipe.name
    if name == "pad" and not material.padding:
        raise InputError("data build pad: needs benign turns: add --pad-with FILE, such as MT-Bench's")
    left: Counter[str] = Counter()
    made: list[Dialogue] = []
    for found in one.recipe.make(material, one.turns):
        if isinstance(found, LeftOut):
            left[found.reason] += 1
        else:
            made.append(found)
    if not made:
        why = _counted(left) if left else "it has no dialogues that are not controls themselves"
        raise InputError(f"data build {name}: nothing can be made of {source.path}: {why}")
    return tuple(made), left


def _counted(reasons: Mapping[str, int]) -> str:
    return "; ".join(f"{reason} ({count:,})" for reason, count in reasons.items())

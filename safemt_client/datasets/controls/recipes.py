"""The recipes: how each control is made of the originals. None writes any text of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from safemt_client.datasets.controls.exchanges import Exchange, control_of, drawn, exchanges_of
from safemt_client.datasets.images import blank, prepare
from safemt_client.datasets.model import Dataset, Dialogue
from safemt_client.providers.errors import InputError

__all__ = ["RECIPES", "LeftOut", "Material", "Recipe"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A dialogue, or an item, of which a recipe makes nothing."""

    reason: str


Found = Iterator[Dialogue | LeftOut]


@dataclass(frozen=True)
class Material:
    """What recipes work with.

    Attributes:
        dataset: where the pictures are.
        originals: the dialogues that controls are made of.
        seed: decides every draw, together with the item.
        parent_turns: of `pad` and `repeat`, the parent's number of user turns; None is each item's fewest.
        padding: the benign turns that `pad` takes, by the ids of their dialogues.
        made: pictures that recipes make, by name.
    """

    dataset: Dataset
    originals: Sequence[Dialogue]
    seed: int = 0
    parent_turns: int | None = None
    padding: Mapping[str, Sequence[Exchange]] = field(default_factory=dict)
    made: dict[str, Callable[[], bytes]] = field(default_factory=dict)

    @cached_property
    def items(self) -> Mapping[str, list[Dialogue]]:
        """The originals of each item, fewest turns first."""
        found: dict[str, list[Dialogue]] = {}
        for dialogue in sorted(self.originals, key=lambda one: one.length):
            found.setdefault(dialogue.item_id, []).append(dialogue)
        return {dialogue.item_id: found[dialogue.item_id] for dialogue in self.originals}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe by its `name`. `takes_turns` says whether `NAME=K,K` gives numbers of user turns."""

    name: str
    make: Callable[[Material, Sequence[int]], Found]
    takes_turns: bool = False


def _control(recipe: str, material: Material, condition: str | None = None, **more: Any) -> dict[str, Any]:
    return {"condition": condition or recipe, "recipe": recipe, "seed": material.seed, **more}


def _images(exchanges: Sequence[Exchange]) -> list[str]:
    return list(dict.fromkeys(path for exchange in exchanges for path in exchange.user.images))


def _truncate(material: Material, turns: Sequence[int]) -> Found:
    """The last turns alone; pictures of those that are left out go to the first that stays."""
    for count in turns or (1,):
        for parent in material.originals:
            if parent.length <= count:
                yield LeftOut("1 user turn" if count == 1 else f"{count} user turns or fewer")
                continue
            said = exchanges_of(parent)
            gone, kept = said[:-count], said[-count:]
            kept[0] = kept[0].with_images(_images([*gone, kept[0]]))
            control = _control("truncate", material, f"truncate-{count}", turns=count)
            yield control_of(parent, kept, control, parent.length)


def _last_questions(
    recipe: str, material: Material, turns: Sequence[int]
) -> Iterator[tuple[Dialogue, Exchange, list[int]] | LeftOut]:
    """Of each item its parent, that one's last question with all of its pictures, and the lengths to make."""
    for several in material.items.values():
        wanted = material.parent_turns
        parent = next((one for one in several if wanted is None or one.length == wanted), None)
        if parent is None:
            yield LeftOut(f"no dialogue of {wanted} user turns")
            continue
        said = exchanges_of(parent)
        yield parent, said[-1].with_images(_images(said)), list(turns or [one.length for one in several])


def _pad(material: Material, turns: Sequence[int]) -> Found:
    """The last question after benign turns, each item's own draw of them; more turns begin like fewer."""
    for found in _last_questions("pad", material, turns):
        if isinstance(found, LeftOut):
            yield found
            continue
        parent, question, lengths = found
        others = [name for name in material.padding if name != parent.item_id]
        others.sort(key=lambda name: drawn(material.seed, "pad", parent.item_id, name))
        before = [(name, exchange) for name in others for exchange in material.padding[name]]
        for length in lengths:
            if length - 1 > len(before):
                yield LeftOut(f"{length - 1} benign turns are needed, and there are {len(before)}")
                continue
            used = before[: length - 1]
            names = list(dict.fromkeys(name for name, _ in used))
            control = _control("pad", material, turns=length - 1, of=names)
            yield control_of(parent, [*(exchange for _, exchange in used), question], control, length)


def _repeat(material: Material, turns: Sequence[int]) -> Found:
    """The last question alone, asked again and again; its pictures are shown the first time."""
    for found in _last_questions("repeat", material, turns):
        if isinstance(found, LeftOut):
            yield found
            continue
        parent, question, lengths = found
        for length in lengths:
            said = [question, *[replace(question, label=None).with_images(())] * (length - 1)]
            yield control_of(parent, said, _control("repeat", material, turns=length), length)


def _ring(material: Material, names: Sequence[str]) -> list[str]:
    """Items in an order of their own: each one's donor is the next, and one item more changes one donor."""
    return sorted(names, key=lambda name: (drawn(material.seed, "donor", name), name))


def _donor(ring: Sequence[str], place: int, differ: Callable[[str, str], bool]) -> str | None:
    """The next item in the ring that differs from the one at this place; None if no other does."""
    following = (ring[(place + step) % len(ring)] for step in range(1, len(ring)))
    return next((name for name in following if differ(ring[place], name)), None)


def _swap_history(material: Material, turns: Sequence[int]) -> Found:
    """The texts of another item's earlier turns, of as many; the pictures stay the item's own."""
    groups: dict[tuple[int, bool], dict[str, Dialogue]] = {}
    for one in material.originals:
        groups.setdefault((one.length, one.scripted), {})[one.item_id] = one
    for (length, _), dialogues in groups.items():
        if length < 2:
            yield from [LeftOut("no earlier turns")] * len(dialogues)
        else:
            yield from _swapped(material, dialogues)


def _swapped(material: Material, dialogues: Mapping[str, Dialogue]) -> Found:
    """`swap-history` among dialogues of one length, by item."""
    ring = _ring(material, list(dialogues))
    places = {name: place for place, name in enumerate(ring)}
    texts = {name: _texts(exchanges_of(one)[:-1]) for name, one in dialogues.items()}
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts.values()))}
    histories = {name: numbers[text] for name, text in texts.items()}

    def differ(one: str, other: str) -> bool:
        twins = dialogues[one].pair is not None and dialogues[one].pair == dialogues[other].pair
        return not twins and histories[one] != histories[other]

    for name, parent in dialogues.items():
        donor = _donor(ring, places[name], differ)
        if donor is None:
            yield LeftOut("no other item has another history of as many turns")
            continue
        *earlier, last = exchanges_of(parent)
        said = [
            replace(theirs, label=None).with_images(mine.user.images)
            for mine, theirs in zip(earlier, exchanges_of(dialogues[donor]), strict=False)
        ]
        control = _control("swap-history", material, donor=donor)
        yield control_of(parent, [*said, last], control, parent.length)


def _texts(exchanges: Sequence[Exchange]) -> tuple[tuple[str, str | None], ...]:
    return tuple((one.user.text, None if one.reply is None else one.reply.text) for one in exchanges)


def _shuffle(material: Material, turns: Sequence[int]) -> Found:
    """The earlier turns, with their replies and pictures, in another order."""
    for parent in material.originals:
        *earlier, last = exchanges_of(parent)
        if len(earlier) < 2:
            yield LeftOut("fewer than two earlier turns")
            continue
        order = sorted(
            range(len(earlier)),
            key=lambda place: drawn(material.seed, "shuffle", parent.item_id, parent.length, place),
        )
        if order == sorted(order):
            order = [*order[1:], order[0]]
        said = [earlier[place] for place in order]
        if said == earlier:
            yield LeftOut("all earlier turns the same")
            continue
        control = _control("shuffle", material, order=[place + 1 for place in order])
        yield control_of(parent, [*said, last], control, parent.length)


def _with_pictures(parent: Dialogue, names: Mapping[str, str]) -> list[Exchange]:
    return [
        exchange.with_images([names[path] for path in exchange.user.images])
        for exchange in exchanges_of(parent)
    ]


def _blank(material: Material, turns: Sequence[int]) -> Found:
    """Each picture grey, of the same size: what `--images blank` sends."""
    known: dict[str, str | None] = {}
    for parent in material.originals:
        paths = _images(exchanges_of(parent))
        if not paths:
            yield LeftOut("no picture")
            continue
        for path in paths:
            if path not in known:
                known[path] = _blanked(material, path)
        names = {path: name for path in paths if (name := known[path]) is not None}
        if len(names) < len(paths):
            yield LeftOut("picture missing or broken")
            continue
        yield control_of(parent, _with_pictures(parent, names), _control("blank", material), parent.length)


def _blanked(material: Material, path: str) -> str | None:
    try:
        image = blank(prepare(material.dataset.image_path(path), item=path))
    except InputError:
        return None
    name = f"blank/{image.width}x{image.height}.png"
    material.made[name] = image.load
    return name


def _swap_image(material: Material, turns: Sequence[int]) -> Found:
    """The pictures of another item that has as many."""
    first: dict[int, dict[str, list[str]]] = {}
    for item, several in material.items.items():
        for one in several:
            paths = _images(exchanges_of(one))
            first.setdefault(len(paths), {}).setdefault(item, paths)
    rings = {count: _ring(material, list(items)) for count, items in first.items()}
    places = {count: {name: place for place, name in enumerate(ring)} for count, ring in rings.items()}
    digests: dict[str, str | None] = {}

    def digest(path: str) -> str | None:
        if path not in digests:
            try:
                digests[path] = material.dataset.picture_digest(path)
            except InputError:
                digests[path] = None
        return digests[path]

    def differ(one: str, other: str) -> bool:
        own, theirs = ([digest(path) for path in first[count][name]] for name in (one, other))
        return None not in theirs and theirs != own

    for parent in material.originals:
        paths = _images(exchanges_of(parent))
        count = len(paths)
        if not paths or None in map(digest, paths):
            yield LeftOut("picture missing" if paths else "no picture")
            continue
        donor = _donor(rings[count], places[count][parent.item_id], differ)
        if donor is None:
            yield LeftOut("no other item has other pictures, and as many")
            continue
        names = dict(zip(paths, first[count][donor], strict=True))
        control = _control("swap-image", material, donor=donor)
        yield control_of(parent, _with_pictures(parent, names), control, parent.length)


RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("pad", _pad, takes_turns=True),
        Recipe("truncate", _truncate, takes_turns=True),
        Recipe("repeat", _repeat, takes_turns=True),
        Recipe("swap-history", _swap_history),
        Recipe("shuffle", _shuffle),
        Recipe("blank", _blank),
        Recipe("swap-image", _swap_image),
    )
}
"""All recipes by name."""

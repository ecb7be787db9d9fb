"""A large run in pieces: each is planned by itself, so that few conversations are held at a time.

A planned conversation takes about 12 KB beside its dialogue. All pieces are of the one run, whose fingerprint
they have; each has whole items, with all of their lengths, targets and samples.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Protocol

from safemt_client.datasets.model import Dialogue
from safemt_client.planning.resolved import Resolved, Sendable
from safemt_client.planning.rows import keys_of
from safemt_client.providers.types import Image

__all__ = ["Groups", "beginning_of", "fits_one", "in_pieces", "pieces_of"]

PIECE = 10_000
"""Conversations of a piece: they take 120 MB once planned, and are enough for dozens of shards."""
_ALIKE = 1_000
"""Items that begin alike stay together if they are no more, as far as a piece has room for them.

Many more share a greeting, not requests.
"""


class Groups:
    """Items that belong together: each group is named by one of them.

    `sizes` are those of items; of the others each counts as one.
    """

    def __init__(self, sizes: Mapping[str, int] | None = None) -> None:
        self._above: dict[str, str] = {}
        self._sizes: Counter[str] = Counter(sizes)

    def top(self, item: str) -> str:
        """What names the group of an item."""
        while (above := self._above.get(item, item)) != item:
            self._above[item] = self._above.get(above, above)
            item = above
        return item

    def join(self, items: Iterable[str], most: int | None = None) -> None:
        """Make one group of those of these items, but none that is larger than `most`."""
        first, *others = items
        for other in others:
            one, two = self.top(first), self.top(other)
            size = (self._sizes[one] or 1) + (self._sizes[two] or 1)
            if one != two and (most is None or size <= most):
                self._above[two] = one
                self._sizes[one] = size


class _Shown(Protocol):
    """A dialogue with its pictures."""

    @property
    def dialogue(self) -> Dialogue: ...

    @property
    def images(self) -> Mapping[str, Image]: ...


def beginning_of(one: _Shown) -> Hashable:
    """The first thing that a user says, with its pictures."""
    first = next(message for message in one.dialogue.messages if message.role == "user")
    return first.text, *(one.images[path].sha256 for path in first.images if path in one.images)


def fits_one(wanted: Resolved) -> bool:
    """Whether all of a run is one piece."""
    return len(wanted.sendable) * len(wanted.targets) * wanted.samples <= PIECE


def pieces_of(wanted: Resolved) -> Iterator[Resolved]:
    """What is wanted in pieces as a run is planned in; items that begin alike are in one piece.

    The same for the same run, whatever is known of it.
    """
    # Only the hashes: the texts of a million beginnings are long.
    items: dict[int, list[str]] = {}
    sizes = Counter(one.dialogue.item_id for one in wanted.sendable)
    for one in wanted.sendable:
        same = items.setdefault(hash(beginning_of(one)), [])
        if not same or same[-1] != one.dialogue.item_id:
            same.append(one.dialogue.item_id)
    groups = Groups(sizes)
    most = PIECE // (len(wanted.targets) * wanted.samples)
    for same in items.values():
        if 1 < len(same) <= _ALIKE:
            groups.join(same, most)
    del items, sizes
    yield from in_pieces(wanted, PIECE, lambda one: groups.top(one.dialogue.item_id))


def _by_item(sendable: Sendable) -> Hashable:
    return sendable.dialogue.item_id


def in_pieces(
    wanted: Resolved, most: int, together: Callable[[Sendable], Hashable] = _by_item
) -> Iterator[Resolved]:
    """What is wanted, cut into pieces of at most `most` conversations, or of one group if that has more.

    Dialogues of which `together` says the same are a group and stay together; groups come in the order of
    their first dialogues. What has no conversation - dialogues that cannot be sent, replies and steps that
    are known - is in the first piece.
    """
    groups: dict[Hashable, list[int]] = {}
    for place, one in enumerate(wanted.sendable):
        groups.setdefault(together(one), []).append(place)
    places: list[list[int]] = [[]]
    each = len(wanted.targets) * wanted.samples
    for group in groups.values():
        if places[-1] and (len(places[-1]) + len(group)) * each > most:
            places.append([])
        places[-1] += group
    of_sendable, others = _row_places(wanted)
    rest = tuple(wanted.dialogues[place] for place in others)
    for number, mine in enumerate(places):
        sendable = tuple(wanted.sendable[place] for place in mine)
        rows = tuple(wanted.dialogues[of_sendable[place]] for place in mine)
        first = number == 0
        yield replace(
            wanted,
            whole=wanted.fingerprint,
            sendable=sendable,
            dialogues=(*rest, *rows) if first else rows,
            not_attempted=wanted.not_attempted if first else {},
            replies=wanted.replies if first else (),
            steps=wanted.steps if first else (),
        )


def _row_places(wanted: Resolved) -> tuple[array[int], list[int]]:
    """The places of the rows of what can be sent, which has their order, and those of the others."""
    found, others = array("q"), []
    sendable = iter(wanted.sendable)
    now = next(sendable, None)
    for place, key in enumerate(keys_of(wanted.dialogues)):
        if now is None or key != now.key:
            others.append(place)
            continue
        found.append(place)
        now = next(sendable, None)
    assert now is None, "what can be sent is in another order than the rows"
    return found, others

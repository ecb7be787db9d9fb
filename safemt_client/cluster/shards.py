"""Pieces of a plan for workers: whole items, and what asks the same in one piece.

Items that would share a request, a picture with its text or an assessment are kept together: only within a
piece is it asked once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from safemt_client.planning.conversation import Conversation
from safemt_client.planning.plan import Plan

__all__ = ["Shard", "at_most", "cut", "head_of"]

_EACH = 4
"""A worker gets at least so many pieces where there is enough: none then waits long for the last one."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A piece of a plan. `dialogues` are the keys of what it is about, by which it can be planned anew."""

    number: int
    dialogues: frozenset[str]
    plan: Plan

    @property
    def empty(self) -> bool:
        """Whether nothing is left to ask."""
        return not self.plan.pending and not self.plan.judgings


def head_of(plan: Plan) -> Plan:
    """What every piece of a plan has of it: no conversations, and none of what only the store needs."""
    return replace(
        plan,
        odd=(),
        dialogues=(),
        not_attempted={},
        pending=(),
        fresh=(),
        judgings=(),
        to_judge=(),
        steps=(),
        taken=(),
        cached_turns={},
        carried=(),
    )


def at_most(size: int, conversations: int, workers: int) -> int:
    """How many conversations a piece has, so that every worker gets several."""
    return max(1, min(size, math.ceil(conversations / (_EACH * workers))))


def cut(plan: Plan, size: int) -> list[Shard]:
    """The pieces of a plan, of about `size` conversations each, in the order of the plan."""
    items = {row.dialogue_key: row.item_id for row in plan.dialogues}
    groups = _together(plan, items, size)
    of_group: dict[str, list[int]] = defaultdict(list)
    for place, conversation in enumerate(plan.pending):
        of_group[groups.top(items[conversation.key])].append(place)
    judged: dict[str, list[int]] = defaultdict(list)
    for place, task in enumerate(plan.judgings):
        judged[groups.top(items[task.dialogue_key])].append(place)
    keys: dict[str, set[str]] = defaultdict(set)
    for key, item in items.items():
        keys[groups.top(item)].add(key)
    return [
        _shard(plan, number, some, of_group, judged, keys)
        for number, some in enumerate(_filled(dict.fromkeys([*of_group, *judged]), of_group, judged, size))
    ]


def _filled(
    groups: dict[str, None], asked: dict[str, list[int]], judged: dict[str, list[int]], size: int
) -> Iterator[list[str]]:
    """Groups of items one after another, until there is enough for a piece."""
    some: list[str] = []
    count = 0
    for group in groups:
        more = max(len(asked.get(group, ())), len(judged.get(group, ())))
        if some and count + more > size:
            yield some
            some, count = [], 0
        some.append(group)
        count += more
    if some:
        yield some


def _shard(
    plan: Plan,
    number: int,
    groups: Sequence[str],
    asked: dict[str, list[int]],
    judged: dict[str, list[int]],
    keys: dict[str, set[str]],
) -> Shard:
    places = sorted(place for group in groups for place in asked.get(group, ()))
    tasks = sorted(place for group in groups for place in judged.get(group, ()))
    part = replace(
        head_of(plan),
        pending=tuple(plan.pending[place] for place in places),
        fresh=tuple(plan.fresh[place] for place in places),
        judgings=tuple(plan.judgings[place] for place in tasks),
    )
    return Shard(number, frozenset(key for group in groups for key in keys[group]), part)


class _Groups:
    """Items that belong together: each group is named by one of them."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def top(self, item: str) -> str:
        while (above := self._above.get(item, item)) != item:
            self._above[item] = self._above.get(above, above)
            item = above
        return item

    def join(self, one: str, other: str) -> None:
        self._above[self.top(other)] = self.top(one)


def _together(plan: Plan, items: dict[str, str], size: int) -> _Groups:
    groups = _Groups()
    same: dict[Hashable, dict[str, None]] = defaultdict(dict)
    alike: dict[Hashable, dict[str, None]] = defaultdict(dict)
    for conversation in plan.pending:
        item = items[conversation.key]
        same[conversation.next()[1]][item] = None
        alike[_beginning(conversation)][item] = None
    for some in same.values():
        _join(groups, some)
    for some in alike.values():
        # What half of a data set begins with, such as a greeting, says nothing about who asks the same.
        if len(some) <= size:
            _join(groups, some)
    return groups


def _join(groups: _Groups, items: dict[str, None]) -> None:
    first, *others = items
    for other in others:
        groups.join(first, other)


def _beginning(conversation: Conversation) -> Hashable:
    """The first thing that a user says, with its pictures."""
    first = next(message for message in conversation.dialogue.messages if message.role == "user")
    pictures = (conversation.images[path].sha256 for path in first.images if path in conversation.images)
    return first.text, *pictures

"""Shards of a plan for workers: whole items, and what asks the same in one shard.

Items that would share a request, a picture with its text or an assessment are kept together: only within a
shard is it asked once.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from safemt_client.planning.pieces import Groups, beginning_of
from safemt_client.planning.plan import Plan

__all__ = ["Shard", "at_most", "cut", "head_of"]

_EACH = 4
"""A worker gets at least so many shards where there is enough: none then waits long for the last one."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a plan. `dialogues` are the keys of what it is about, by which it can be planned anew.

    `after` are those of the requests that were under way elsewhere which it has a part in.
    """

    number: int
    dialogues: frozenset[str]
    plan: Plan
    after: frozenset[str] = frozenset()

    @property
    def empty(self) -> bool:
        """Whether nothing is left to ask."""
        return not self.plan.pending and not self.plan.judgings

    @property
    def requests(self) -> set[str]:
        """The hashes of the next requests of its conversations."""
        return {conversation.next()[1] for conversation in self.plan.pending}

    def without(self, stopped: Set[str]) -> Shard:
        """The same without what these targets and judges would be asked."""
        plan = self.plan
        left = [(c, fresh) for c, fresh in plan.with_fresh if c.target.key not in stopped]
        judged = plan.judge is None or plan.judge.judge_key not in stopped
        part = replace(
            plan,
            pending=tuple(c for c, _ in left),
            fresh=tuple(fresh for _, fresh in left),
            judgings=plan.judgings if judged else (),
        )
        return replace(self, plan=part)


def head_of(plan: Plan) -> Plan:
    """What every shard of a plan has of it: no conversations, and none of what only the store needs."""
    return replace(
        plan.without_work(),
        odd=(),
        dialogues=(),
        not_attempted={},
        cached_turns={},
        carried=(),
        counted=None,
    )


def at_most(size: int, count: int, workers: int) -> int:
    """How many of `count` conversations and verdicts a shard has, so that every worker gets several."""
    return max(1, min(size, math.ceil(count / (_EACH * workers))))


def cut(
    plan: Plan,
    size: int,
    numbers: Iterator[int] | None = None,
    asked: Set[str] = frozenset(),
    items: Mapping[str, str] | None = None,
) -> list[Shard]:
    """The shards of a plan, of about `size` conversations each, in the order of the plan.

    Items that ask or have asked one of the requests of `asked` are in shards of their own, the last ones.
    `items` are those of the dialogues by key, unless the plan has the rows of these.
    """
    items = items or {row.dialogue_key: row.item_id for row in plan.dialogues}
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
    order = dict.fromkeys([*of_group, *judged])
    later: dict[str, set[str]] = defaultdict(set)
    # What follows a request that is under way as it was planned may be under way by now, as may its verdict.
    met = [(c.key, c.next()[1]) for c in plan.pending]
    met += [(step.dialogue_key, step.request_hash) for step in plan.steps]
    for key, request in met:
        if request in asked:
            later[groups.top(items[key])].add(request)
    now = [group for group in order if group not in later]
    filled = [
        *_filled(now, of_group, judged, size),
        *_filled([group for group in order if group in later], of_group, judged, size),
    ]
    named = itertools.count() if numbers is None else numbers
    return [
        replace(
            _shard(plan, next(named), some, of_group, judged, keys),
            after=frozenset[str]().union(*(later.get(group, ()) for group in some)),
        )
        for some in filled
    ]


def _filled(
    groups: Sequence[str], asked: dict[str, list[int]], judged: dict[str, list[int]], size: int
) -> Iterator[list[str]]:
    """Groups of items one after another, until there is enough for a shard."""
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


def _together(plan: Plan, items: Mapping[str, str], size: int) -> Groups:
    groups = Groups()
    same: dict[Hashable, dict[str, None]] = defaultdict(dict)
    alike: dict[Hashable, dict[str, None]] = defaultdict(dict)
    for conversation in plan.pending:
        item = items[conversation.key]
        same[conversation.next()[1]][item] = None
        alike[beginning_of(conversation)][item] = None
    for some in same.values():
        groups.join(some)
    for some in alike.values():
        # What half of a data set begins with, such as a greeting, says nothing about who asks the same.
        if len(some) <= size:
            groups.join(some)
    return groups

"""What a large run is in all, before it is planned piece by piece: a plan without conversations.

All of a run's pieces are planned once, one after the other, and counted: so the estimate and the display know
the whole. They are planned again as they are carried out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from safemt_client.planning.build import make_plan
from safemt_client.planning.conversation import Conversation
from safemt_client.planning.estimate import estimates_of
from safemt_client.planning.estimated import Estimate, together
from safemt_client.planning.notes import hosts_of
from safemt_client.planning.pieces import fits_one, pieces_of
from safemt_client.planning.plan import LONGEST, Counted, Plan
from safemt_client.planning.resolved import NothingKnown, Resolved
from safemt_client.providers.types import Image

if TYPE_CHECKING:
    from safemt_client.results.store.store import Store

__all__ = ["outline_of"]


def outline_of(wanted: Resolved, store: Store | None) -> Plan:
    """The plan of what is wanted; of a run of more conversations than one piece has, what its pieces are.

    What two pieces ask alike is counted in both.

    Raises:
        InputError: see `make_plan`.
    """
    known = store or NothingKnown()
    if fits_one(wanted):
        return make_plan(wanted, known)
    sums = _Sums()
    head: Plan | None = None
    for piece in pieces_of(wanted):
        plan = make_plan(piece, known)
        head = head or _head(plan, wanted)
        sums.add(plan, store)
    assert head is not None
    return replace(
        head,
        cached_turns=sums.cached,
        cached_verdicts=sums.cached_verdicts,
        earlier_pictures=sums.earlier,
        submitted=frozenset(sums.submitted),
        counted=sums.counted(),
    )


def _head(plan: Plan, wanted: Resolved) -> Plan:
    """What a piece's plan has of the whole run."""
    return replace(plan.without_work(), dialogues=wanted.dialogues, not_attempted=wanted.not_attempted)


class _Sums:
    """What the plans of pieces have together."""

    def __init__(self) -> None:
        self.cached: Counter[str] = Counter()
        self.cached_verdicts = 0
        self.earlier: Counter[str] = Counter()
        self.submitted: set[str] = set()
        self._conversations = 0
        self._parts: list[tuple[Counter[str], int, bool]] = []
        self._estimates: dict[str, Estimate] = {}
        self._longest: defaultdict[str, list[Conversation]] = defaultdict(list)
        self._images: defaultdict[str, dict[str, Image]] = defaultdict(dict)
        self._hosts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._under_way: Counter[str] = Counter()

    def add(self, plan: Plan, store: Store | None) -> None:
        self.cached.update(plan.cached_turns)
        self.cached_verdicts += plan.cached_verdicts
        self.earlier.update(plan.earlier_pictures)
        self.submitted |= plan.submitted
        self._conversations += len(plan.pending)
        self._parts.append((plan.turns, plan.verdicts, bool(plan.steps or plan.taken)))
        self._under_way.update(plan.under_way)
        for key, estimate in estimates_of(plan).items():
            before = self._estimates.get(key)
            self._estimates[key] = estimate if before is None else together(before, estimate)
        for target in plan.targets:
            both = [*self._longest[target.key], *plan.longest(target, LONGEST)]
            self._longest[target.key] = sorted(both, key=lambda c: -c.turns_left)[:LONGEST]
            self._images[target.key] |= plan.images(target)
            if store is not None:
                self._hosts[target.key].update(hosts_of(plan, target, store))

    def counted(self) -> Counted:
        return Counted(
            self._conversations,
            tuple(self._parts),
            self._estimates,
            {key: tuple(some) for key, some in self._longest.items()},
            self._images,
            self._hosts,
            self._under_way,
        )

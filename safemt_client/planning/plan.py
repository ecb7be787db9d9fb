"""The plan: which turns and verdicts are missing, before anything is spent.

A plan is a value. It is made from the settings, the data set and what is already in the store;
the scheduler carries it out.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from safemt_client.datasets.oddities import OddKind
from safemt_client.planning.conversation import Conversation
from safemt_client.planning.estimated import Estimate
from safemt_client.planning.judgings import JudgingTask
from safemt_client.planning.sharing import Fresh
from safemt_client.planning.stopping import StopWhen
from safemt_client.planning.target import Target
from safemt_client.providers.types import Image
from safemt_client.results.store.queries import VerdictKey
from safemt_client.results.store.rows import (
    DialogueRow,
    JudgeRow,
    ModeratorRow,
    RunRow,
    StepRow,
    StopOrderRow,
    StopRuleRow,
)

__all__ = ["LONGEST", "Counted", "Plan"]

LONGEST = 50
"""So many of the conversations with most turns are looked at to see what a call may cost at most."""


@dataclass(frozen=True)
class Counted:
    """What the pieces of a run have together, of each target by its key; see `planning.outline`.

    `parts` are the user turns to come by target and the verdicts to come of each piece, and whether the store
    has something of it already; `conversations` how many there are. `estimates` are by the key of the target,
    the guard or the judge. `longest` has some conversations with most turns, `images` those that are to be
    sent by their hash, `hosts` counts where stored replies came from, and `under_way` the conversations that
    are in a batch.
    """

    conversations: int
    parts: tuple[tuple[Mapping[str, int], int, bool], ...]
    estimates: Mapping[str, Estimate]
    longest: Mapping[str, tuple[Conversation, ...]]
    images: Mapping[str, Mapping[str, Image]]
    hosts: Mapping[str, Mapping[str, int]]
    under_way: Counter[str]


@dataclass(frozen=True)
class Plan:
    """What a run has to do.

    `pending` lists the conversations that still need a request, `judgings` the replies in the store
    without a verdict, `steps` the steps of turns that are already in the store.
    `judge` is the one that decides, `members` the judges of a panel.
    With `batch` the pending ones go in batches; `submitted` has the hashes of requests that are in a
    batch under way already, which is collected either way; with `judge_batch` the verdicts go in batches too.
    `taken` are verdicts that are known of the same texts elsewhere: replies of this run take them over.
    `fresh` says of each pending conversation what none before it asks, and `to_judge` are the replies that a
    judge is asked about: of several with the same text under the same criteria one.
    `odd` are the oddities of the data by kind, `moderators` those of the targets. `not_attempted` maps a
    dialogue's key to the reason why it cannot be sent. `earlier_pictures` counts, by target key, those of the
    turns in the store that were about pictures as an earlier version of the program prepared them.
    `stopping` are the rules that the run stops by, and `stopped` the targets that are stopped by now, with
    the last item that their rules needed: what is left of them is no longer pending. `carried` are the rules
    of a run that is judged again. Of a run in pieces `counted` is what these have together: `pending`,
    `fresh`, `judgings`, `to_judge`, `steps` and `taken` are those of no piece then, and empty.
    """

    run: RunRow
    odd: tuple[OddKind, ...]
    targets: tuple[Target, ...]
    judge: JudgeRow | None
    dialogues: Sequence[DialogueRow]
    not_attempted: Mapping[str, str]
    pending: tuple[Conversation, ...]
    judgings: tuple[JudgingTask, ...]
    steps: tuple[StepRow, ...]
    cached_turns: Mapping[str, int]
    cached_verdicts: int
    members: tuple[JudgeRow, ...] = ()
    batch: bool = False
    submitted: frozenset[str] = frozenset()
    judge_batch: bool = False
    moderators: tuple[ModeratorRow, ...] = ()
    earlier_pictures: Mapping[str, int] = field(default_factory=dict)
    taken: tuple[VerdictKey, ...] = ()
    fresh: tuple[Fresh, ...] = ()
    to_judge: tuple[JudgingTask, ...] = ()
    stopping: StopWhen | None = None
    stopped: Mapping[str, int] = field(default_factory=dict)
    carried: tuple[StopRuleRow | StopOrderRow, ...] = ()
    counted: Counted | None = None

    @property
    def with_fresh(self) -> Iterator[tuple[Conversation, Fresh]]:
        """The pending conversations, each with what none before it asks."""
        return zip(self.pending, self.fresh, strict=True)

    @property
    def turns(self) -> Counter[str]:
        """User turns to come at most, per target key; several may share a request."""
        if self.counted is not None:
            return sum((Counter(turns) for turns, *_ in self.counted.parts), Counter[str]())
        return Counter(
            {
                target.key: sum(c.turns_left for c in self.pending if c.target is target)
                for target in self.targets
            }
        )

    @property
    def verdicts(self) -> int:
        """Replies that need a verdict at most: of live history every turn; several may share one."""
        if self.judge is None:
            return 0
        if self.counted is not None:
            return sum(verdicts for _, verdicts, _ in self.counted.parts)
        return len(self.judgings) + sum(conversation.turns_left for conversation in self.pending)

    @property
    def conversations(self) -> int:
        """How many conversations still need a request."""
        return len(self.pending) if self.counted is None else self.counted.conversations

    @property
    def unjudged(self) -> int:
        """How many replies in the store need a verdict; several may share one."""
        return len(self.judgings) if self.counted is None else max(0, self.verdicts - self.turns.total())

    def without_work(self) -> Plan:
        """What it says of the run as a whole: nothing of a conversation or a verdict."""
        return replace(self, pending=(), fresh=(), judgings=(), to_judge=(), steps=(), taken=())

    def longest(self, target: Target, most: int) -> tuple[Conversation, ...]:
        """So many of the pending conversations with a target, those with most turns first."""
        if self.counted is not None:
            return self.counted.longest[target.key][:most]
        return tuple(itertools.islice((c for c in self.pending if c.target is target), most))

    def images(self, target: Target) -> Mapping[str, Image]:
        """The images of the pending conversations with a target, by their hash."""
        if self.counted is not None:
            return self.counted.images[target.key]
        mine = (conversation for conversation in self.pending if conversation.target is target)
        return {image.sha256: image for conversation in mine for image in conversation.images.values()}

    @property
    def under_way(self) -> Counter[str]:
        """How many of the pending conversations wait for a batch, per target key."""
        if self.counted is not None:
            return self.counted.under_way
        if not self.submitted:
            return Counter()
        return Counter(c.target.key for c in self.pending if c.next()[1] in self.submitted)

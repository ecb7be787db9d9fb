"""Stop when it is known: what the rules of a session say so far, and which conversations may begin.

A rule looks along the fixed order of the items: one counts once it and every one before it are settled. It is
once its replies are labelled, or will have no label in this session. A reply that failed counts as one
without a label, so that it decides nothing, and the next session asks it again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import anyio
from anyio.abc import TaskGroup

from safemt_client.engine.recorder import Recorder
from safemt_client.planning.conversation import Conversation
from safemt_client.planning.judgings import JudgingTask
from safemt_client.planning.messages import continues
from safemt_client.planning.plan import Plan
from safemt_client.planning.stopping import PlannedRule, is_about
from safemt_client.providers.types import Outcome
from safemt_client.results.scores.stopping import RuleState
from safemt_client.results.store.rows import StopDecisionRow, StopEventRow
from safemt_client.telemetry.events import Listener, RuleLine
from safemt_client.telemetry.names import shown_names

__all__ = ["Stopping"]

_Place = tuple[str, str, int]
"""Target, dialogue and sample of a conversation."""

_UNLABELLED = ("refused_by_provider", "empty", "not_attempted")
"""States in which a conversation ends for good without a label."""


@dataclass
class _Track:
    """A rule on its way along the items that it is about: the place of each, its dialogues and samples."""

    planned: PlannedRule
    state: RuleState
    items: list[tuple[int, tuple[tuple[str, int], ...]]]
    next: int = 0
    place: int | None = None

    @property
    def open(self) -> bool:
        return self.planned.decided is None and self.state.state == "open"

    @property
    def first(self) -> float:
        """The place of the first item that is not settled; infinite if all are."""
        return self.items[self.next][0] if self.next < len(self.items) else math.inf


class Stopping:
    """The rules of a session; without any, everything may begin at once.

    At most as many items are begun beyond the settled ones as calls may be in flight: what is begun there is
    lost if the rules are decided before. Of a difference, each target waits for the other.
    """

    def __init__(
        self, plan: Plan, recorder: Recorder, listener: Listener, halted: Callable[[str], bool]
    ) -> None:
        """`halted` says whether nothing more is started for a target or judge."""
        self._recorder, self._listener, self._halted = recorder, listener, halted
        self._run_id = plan.run.run_id
        self._judge = None if plan.judge is None else plan.judge.judge_key
        self._names = shown_names(plan)
        order = () if plan.stopping is None else plan.stopping.order
        self._places = {item: place for place, item in enumerate(order, start=1)}
        self._tracks = _tracks(plan, self._places)
        self._labels: dict[_Place, float] = {}
        # By target, dialogue and the hash under which the verdict is kept; of live history that of the last.
        self._awaited: dict[tuple[str, str, str], int] = {}
        self._under_way: dict[str, set[_Place]] = defaultdict(set)
        self._begun: dict[str, set[int]] = defaultdict(set)
        self._lost: set[str] = set()
        self._changed = anyio.Event()
        self._group: TaskGroup | None = None

    def start(self, group: TaskGroup) -> None:
        """Look at what the store has; what is decided from now on is saved in `group`."""
        self._group = group
        if not self._tracks:
            return
        rows = self._recorder.store.query(
            """SELECT target_key, dialogue_key, sample, state, label, reason, judged_hash
               FROM every_conversation
               WHERE run_id = ? AND judge_key = ? AND condition IS NULL AND state <> 'pending'""",
            [self._run_id, self._judge],
        ).rows
        for key, dialogue, sample, state, label, reason, judged in rows:
            if state == "unjudged" or reason == "judge_error":
                self._awaited[key, dialogue, judged] = sample
                self._under_way[key].add((key, dialogue, sample))
            elif label is not None or state in _UNLABELLED:
                self._labels[key, dialogue, sample] = _as_number(label)
        for track in self._tracks:
            self._follow(track)

    def stopped(self, key: str) -> bool:
        """Whether a target has rules, and all of them are decided."""
        mine = self._of(key)
        return bool(mine) and not any(track.open for track in mine)

    async def admits(self, conversation: Conversation, in_flight: int) -> bool:
        """Wait until a conversation may begin; False if nothing more of its target does.

        `in_flight` is how many calls of the target may be in flight.
        """
        key = conversation.target.key
        if not self._of(key):
            return not self._halted(key)
        place = self._places[conversation.dialogue.item_id]
        while not self._over(key):
            if self._has_room(key, place, in_flight) or self._nothing_to_wait_for(key):
                self._begun[key].add(place)
                self._under_way[key].add(_place(conversation))
                return True
            if self._changed.is_set():
                self._changed = anyio.Event()
            await self._changed.wait()
        return False

    def landed(self, conversation: Conversation, judged: str, outcome: Outcome) -> None:
        """A turn is in the store; its verdict, if it will have one, is kept under `judged`."""
        if not continues(outcome):
            label = 0.0 if outcome is Outcome.REFUSED_BY_GUARD else math.nan
            self._settle(_place(conversation), label)
        elif not conversation.turns_left:
            self._awaited[conversation.target.key, conversation.key, judged] = conversation.sample

    def awaits(self, task: JudgingTask) -> bool:
        """Whether a rule may wait for the label of a reply: of live history only for the last turn's."""
        return (task.target_key, task.dialogue_key, task.request_hash) in self._awaited

    def judged(self, task: JudgingTask, label: str) -> None:
        """A reply has its label, or none: `unscored`."""
        sample = self._awaited.pop((task.target_key, task.dialogue_key, task.request_hash), None)
        if sample is not None:
            self._settle((task.target_key, task.dialogue_key, sample), _as_number(label))

    def over(self, conversation: Conversation) -> None:
        """A conversation is not carried on in this session: it is at its end, or was given up."""
        key, place = conversation.target.key, _place(conversation)
        if conversation.turns_left and place not in self._labels:
            self._under_way[key].discard(place)
            if not self.stopped(key):
                self.give_up(key)

    def give_up(self, key: str) -> None:
        """Something of a target stays unsettled in this session, so that no rule gets past it."""
        self._lost.add(key)
        self._changed.set()

    def lines(self) -> tuple[RuleLine, ...]:
        """How far each rule is that was open when the session began."""
        return tuple(self._line(track) for track in self._tracks if track.planned.decided is None)

    def _of(self, key: str) -> list[_Track]:
        return [track for track in self._tracks if key in track.planned.keys]

    def _hopeful(self, key: str) -> list[_Track]:
        """The open rules of a target that this session can still decide."""
        return [
            track
            for track in self._of(key)
            if track.open
            and not any(other in self._lost or self._halted(other) for other in track.planned.keys)
        ]

    def _over(self, key: str) -> bool:
        return self._halted(key) or not self._hopeful(key)

    def _has_room(self, key: str, place: int, in_flight: int) -> bool:
        begun, first = self._begun[key], min(track.first for track in self._hopeful(key))
        if place in begun:
            return True
        begun -= {one for one in begun if one < first}
        judging = sum(key == target for target, *_ in self._awaited)
        return first == math.inf or len(begun) < in_flight + min(judging, in_flight)

    def _nothing_to_wait_for(self, key: str) -> bool:
        keys = {other for track in self._hopeful(key) for other in track.planned.keys}
        return not any(self._under_way[other] for other in keys)

    def _settle(self, place: _Place, label: float) -> None:
        self._labels[place] = label
        self._under_way[place[0]].discard(place)
        for track in self._of(place[0]):
            self._follow(track)
        self._changed.set()

    def _follow(self, track: _Track) -> None:
        """Look at all items that are settled by now, one by one, until the rule is decided."""
        while track.open and track.next < len(track.items):
            place, dialogues = track.items[track.next]
            sides = [[self._labels.get((key, *one)) for one in dialogues] for key in track.planned.keys]
            known = [[label for label in side if label is not None] for side in sides]
            if any(len(some) < len(dialogues) for some in known):
                return
            track.state.feed(*known)
            track.next += 1
            if not track.open:
                track.place = place
                self._decided(track)

    def _decided(self, track: _Track) -> None:
        line, now, place = self._line(track), datetime.now(UTC), track.place or 0
        session = self._recorder.session_id
        decision = StopDecisionRow(
            *(self._run_id, session, now, line.rule, track.planned.target_key, line.state),
            *(line.items, place, line.estimate, line.low, line.high),
        )
        events = [
            StopEventRow(self._run_id, session, now, key, "decided", self._last_place(key))
            for key in track.planned.keys
            if self.stopped(key)
        ]
        self._listener.decided(line)
        if self._group is not None:
            self._group.start_soon(self._recorder.store.save, decision, *events)

    def _last_place(self, key: str) -> int:
        return max(track.place or track.planned.place or 0 for track in self._of(key))

    def _line(self, track: _Track) -> RuleLine:
        planned, state = track.planned, track.state
        names = [self._names[key] for key in planned.keys]
        return RuleLine(
            rule=planned.rule.text,
            target=names[0] if len(names) == 1 else "",
            state=state.state,
            items=state.items,
            population=planned.population.items,
            estimate=state.estimate,
            low=state.low,
            high=state.high,
        )


def _tracks(plan: Plan, places: Mapping[str, int]) -> tuple[_Track, ...]:
    found = []
    for planned in () if plan.stopping is None else plan.stopping.rules:
        items: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for row in plan.dialogues:
            if is_about(planned.rule, row):
                items[row.item_id].append((row.length, row.dialogue_key))
        samples = range(1, (plan.run.samples or 1) + 1)
        inorder = sorted(
            (places[item], tuple((key, sample) for _, key in sorted(of) for sample in samples))
            for item, of in items.items()
        )
        state = RuleState(planned.rule, planned.population, planned.alpha)
        found.append(_Track(planned, state, inorder))
    return tuple(found)


def _place(conversation: Conversation) -> _Place:
    return conversation.target.key, conversation.key, conversation.sample


def _as_number(label: str | None) -> float:
    return {"safe": 0.0, "unsafe": 1.0}.get(label or "", math.nan)

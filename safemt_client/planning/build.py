"""From what is wanted and what is known of it to a plan. Nothing is sent, nothing is written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from safemt_client import __version__
from safemt_client.planning.conversation import Conversation
from safemt_client.planning.judgings import distinct, reply_of, submitted, unjudged
from safemt_client.planning.messages import continues, first_turn
from safemt_client.planning.plan import Plan
from safemt_client.planning.resolved import Known, Resolved, Step, StoredReply
from safemt_client.planning.sharing import asks_otherwise, fresh_of
from safemt_client.planning.stopping import StopWhen
from safemt_client.planning.target import Target
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Message, Outcome, Request
from safemt_client.results.store.rows import ModeratorRow, RunRow, StepRow

__all__ = ["make_plan"]


def make_plan(wanted: Resolved, known: Known) -> Plan:
    """Compare what is wanted with what is known: one road for a run and for judging a stored one again.

    Raises:
        InputError: batches are under way, which rules that stop a run cannot wait for.
    """
    followed = _follow(wanted, known)
    replies = [*wanted.replies, *followed.replies]
    judgings, taken = unjudged(replies, wanted.judge, known)
    pending = _in_order(followed.pending, wanted.stopping)
    twins = _known_of_models(pending, wanted.moderators, known)
    to_judge = distinct([*judgings, *unjudged(twins.replies, wanted.judge, known)[0]], wanted.judge)
    steps = [*wanted.steps, *followed.steps]
    under_way = submitted(followed.pending, judgings, wanted.judge, known)
    if under_way and wanted.stopping is not None:
        raise InputError(
            "--stop-when: batches of this run are under way: leave it out, to collect them first"
        )
    judges = tuple(replace(row, run_id=wanted.run_id) for row in wanted.judge_rows)
    return Plan(
        run=_run_row(wanted),
        odd=wanted.data.odd,
        targets=wanted.targets,
        judge=judges[0] if judges else None,
        members=judges[1:],
        dialogues=wanted.dialogues,
        not_attempted=wanted.not_attempted,
        pending=pending,
        fresh=fresh_of(pending, wanted.moderators, twins.turns),
        to_judge=to_judge,
        judgings=judgings,
        taken=taken,
        steps=tuple(StepRow(wanted.run_id, *step) for step in steps),
        cached_turns=Counter(target_key for target_key, *_ in steps),
        earlier_pictures=followed.earlier,
        cached_verdicts=len(replies) - len(judgings) if wanted.judge is not None else 0,
        batch=wanted.batch,
        submitted=under_way,
        judge_batch=wanted.judge_batch,
        moderators=tuple(replace(row, run_id=wanted.run_id) for row in wanted.moderators),
        stopping=wanted.stopping,
        stopped=wanted.stopped if wanted.stopping is None else wanted.stopping.stopped,
        carried=tuple(replace(row, run_id=wanted.run_id) for row in wanted.carried),
    )


def _run_row(wanted: Resolved) -> RunRow:
    return RunRow(
        run_id=wanted.run_id,
        fingerprint=wanted.fingerprint,
        created_at=datetime.now(UTC),
        program_version=__version__,
        dataset_name=wanted.data.name,
        dataset_digest=wanted.data.digest,
        dataset_path=wanted.data.path,
        dataset_licence=wanted.data.licence,
        settings=json.dumps(dict(wanted.settings), sort_keys=True),
        content_digest=wanted.data.content,
        samples=wanted.samples,
    )


@dataclass
class _Followed:
    """How far the conversations are: what is to be asked, and what is known.

    `earlier` counts the known turns of each target that were about pictures as an earlier version sent them.
    """

    pending: list[Conversation] = field(default_factory=list)
    replies: list[StoredReply] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    earlier: Counter[str] = field(default_factory=Counter)


def _follow(wanted: Resolved, known: Known) -> _Followed:
    """Follow each conversation through what is known, one look-up a turn of all of them together."""
    found = _Followed()
    open_now = [
        Conversation(
            *(target, one.dialogue, one.key, one.images, first_turn(one.dialogue, target.history)),
            one.before,
            sample=sample,
        )
        for one in wanted.sendable
        for target in wanted.targets
        for sample in range(1, wanted.samples + 1)
    ]
    while open_now:
        asked, outcomes = _look_up(open_now, known)
        said = known.texts([key for c, _, key in asked if key in outcomes and c.turns_left > 1])
        open_now = []
        for conversation, request, key in asked:
            if key not in outcomes:
                found.pending.append(conversation)
                continue
            outcome = Outcome(outcomes[key])
            found.earlier[conversation.target.key] += conversation.earlier
            found.steps.append(
                (conversation.target.key, conversation.key, conversation.turn, key, conversation.sample)
            )
            goes_on = continues(outcome)
            last = conversation.turns_left == 1
            if last or goes_on:
                found.replies.append(reply_of(conversation, request.messages, outcome, key))
            if goes_on and not last:
                conversation.take(Message("assistant", said[key]))
                open_now.append(conversation)
    if wanted.moderators:
        found.replies = _as_judged(found.replies, known)
        found.pending = _pictured_as_models(found.pending, known)
    return found


def _look_up(
    conversations: Sequence[Conversation], known: Known
) -> tuple[list[tuple[Conversation, Request, str]], Mapping[str, str]]:
    """The next turn of each, and the outcomes of those that are known under the hash of either picture.

    What a batch under way asks about an earlier picture is not asked about the one of now as well.
    """
    asked = [(conversation, *conversation.next()) for conversation in conversations]
    outcomes = known.observed([key for _, _, key in asked])
    places = [
        n for n, (conversation, _, key) in enumerate(asked) if conversation.before and key not in outcomes
    ]
    if not places:
        return asked, outcomes
    older = [asked[place][0].with_earlier_images() for place in places]
    keys = [conversation.next()[1] for conversation in older]
    found = known.observed(keys)
    under_way = {key for batch in known.open_batches(keys) for key in batch.hashes}
    for place, conversation in zip(places, older, strict=True):
        request, key = conversation.next()
        if key in found or key in under_way:
            asked[place] = (conversation, request, key)
    return asked, {**outcomes, **found}


def _pictured_as_models(pending: Sequence[Conversation], known: Known) -> list[Conversation]:
    """The conversations; those with a moderator go on with earlier images if their model's own does.

    Otherwise the replies with and without the moderator, which are compared, would be about two pictures.
    """
    earlier: set[int] = set()
    places = [
        (place, Conversation(_alone(c), c.dialogue, c.key, c.images, _first(c), c.before, sample=c.sample))
        for place, c in enumerate(pending)
        if c.target.moderator is not None and c.before and not c.was_shown_anew
    ]
    while places:
        asked, outcomes = _look_up([c for _, c in places], known)
        said = known.texts([key for c, _, key in asked if key in outcomes and c.turns_left > 1])
        numbers, places = [place for place, _ in places], []
        for place, (c, _, key) in zip(numbers, asked, strict=True):
            if c.earlier:
                earlier.add(place)
            elif key in said and continues(Outcome(outcomes[key])):
                c.take(Message("assistant", said[key]))
                if not c.was_shown_anew:
                    places.append((place, c))
    return [c.with_earlier_images() if place in earlier else c for place, c in enumerate(pending)]


def _alone(conversation: Conversation) -> Target:
    """The target of a conversation without its moderator."""
    return replace(conversation.target, moderator=None)


def _first(conversation: Conversation) -> int:
    return first_turn(conversation.dialogue, conversation.target.history)


@dataclass
class _Twins:
    """Replies that the store has of models without their moderator; user turns by conversation's place."""

    turns: dict[int, set[int]] = field(default_factory=dict)
    replies: list[StoredReply] = field(default_factory=list)


def _known_of_models(
    pending: Sequence[Conversation], moderators: Sequence[ModeratorRow], known: Known
) -> _Twins:
    """Follow the models of pending conversations whose moderator changes nothing of what they are asked."""
    found = _Twins()
    same = {row.moderator_key for row in moderators if not asks_otherwise(row)}
    places: list[tuple[int, Conversation]] = []
    for place, c in enumerate(pending):
        if c.target.moderator in same:
            alone = Conversation(_alone(c), c.dialogue, c.key, c.images, c.turn, sample=c.sample)
            alone.replies = list(c.replies)
            places.append((place, alone))
    while places:
        asked = [(place, c, *c.next()) for place, c in places]
        outcomes = known.observed([key for *_, key in asked])
        said = known.texts([key for _, c, _, key in asked if key in outcomes and c.turns_left > 1])
        places = []
        for place, c, request, key in asked:
            if key not in outcomes:
                continue
            outcome = Outcome(outcomes[key])
            found.turns.setdefault(place, set()).add(c.turn)
            if c.turns_left == 1 or continues(outcome):
                found.replies.append(reply_of(c, request.messages, outcome, key))
            if c.turns_left > 1 and continues(outcome):
                c.take(Message("assistant", said[key]))
                places.append((place, c))
    return found


def _as_judged(replies: Sequence[StoredReply], known: Known) -> list[StoredReply]:
    """The replies with the hashes that their verdicts are kept under."""
    same = known.judged_as([reply.request_hash for reply in replies])
    return [replace(reply, judged_hash=same.get(reply.request_hash, reply.request_hash)) for reply in replies]


# So many items take turns at one length before their next length comes: the first answer is back by then.
_ITEMS_TOGETHER = 64


def _in_order(pending: Sequence[Conversation], stopping: StopWhen | None) -> tuple[Conversation, ...]:
    """Most turns first, so that no long conversation is left for the end; else an item's lengths together.

    The samples of a dialogue are a few dozen requests apart, too.

    Requests of one item begin alike, with the same image. Sent at once none would find another in the
    vendor's prompt cache; a few dozen requests later it does, and the image is still in memory.

    Where rules stop the run, item by item in their order, and nothing of a target that is stopped.
    """
    if stopping is not None:
        places = {item: place for place, item in enumerate(stopping.order)}
        stopped = stopping.stopped
        left = (conversation for conversation in pending if conversation.target.key not in stopped)
        return tuple(
            sorted(left, key=lambda c: (places[c.dialogue.item_id], -c.turns_left, -c.dialogue.length))
        )
    items: dict[str, int] = {}
    for conversation in pending:
        items.setdefault(conversation.dialogue.item_id, len(items))

    def rank(conversation: Conversation) -> tuple[int, int, int, int, int]:
        item, length = items[conversation.dialogue.item_id], conversation.dialogue.length
        return -conversation.turns_left, item // _ITEMS_TOGETHER, -length, conversation.sample, item

    return tuple(sorted(pending, key=rank))

"""Which requests of a plan are the same: each is asked, judged and assessed once.

Targets that differ in their moderator alone ask their model the same, until a policy is put before it. In
live history the lengths of an item begin alike. What a guard is shown before a scripted reply is the same
under every target. How a conversation goes on is not known beforehand: all numbers are at most.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safemt_client.planning.conversation import Conversation
from safemt_client.planning.target import digest_of
from safemt_client.providers.types import Image, Message, request_hash
from safemt_client.results.store.rows import ModeratorRow

__all__ = ["Fresh", "acts", "asks_otherwise", "fresh_of"]


@dataclass(frozen=True, slots=True)
class Fresh:
    """What of a conversation none before it asks, by user turn: of the target, of the judge, of the guard.

    An assessment has its stage beside the turn.
    """

    asked: tuple[int, ...]
    judged: tuple[int, ...]
    assessed: tuple[tuple[int, str], ...] = ()


def asks_otherwise(row: ModeratorRow) -> bool:
    """Whether this moderator may change what the model is asked: it puts a policy before it."""
    return "policy" in json.loads(row.settings)["interventions"]


def acts(row: ModeratorRow) -> bool:
    """Whether this moderator may keep the model from being asked, or change what it is asked."""
    return bool({"policy", "block"} & set(json.loads(row.settings)["interventions"]))


def fresh_of(
    pending: Sequence[Conversation],
    moderators: Sequence[ModeratorRow] = (),
    known: Mapping[int, Collection[int]] | None = None,
) -> tuple[Fresh, ...]:
    """For each of these conversations, what none before it asks; those without a moderator come first.

    `known` are the user turns, by place of the conversation, whose reply the store has without a moderator.
    """
    rows = {row.moderator_key: row for row in moderators}
    seen: set[Any] = set()

    def new(*key: Any) -> bool:
        if key in seen:
            return False
        seen.add(key)
        return True

    found: dict[int, Fresh] = {}
    for place in sorted(range(len(pending)), key=lambda place: pending[place].target.moderator is not None):
        conversation = pending[place]
        row = None if conversation.target.moderator is None else rows[conversation.target.moderator]
        there = () if known is None else known.get(place, ())
        nodes = list(_requests(conversation, row))
        left = [(turn, node) for turn, node in nodes if turn not in there]
        about = (conversation.dialogue.scenario, conversation.dialogue.question)
        found[place] = Fresh(
            tuple(turn for turn, node in left if new("asked", node)),
            tuple(turn for turn, node in left if new("judged", node, *about)),
            ()
            if row is None
            else tuple(
                (turn, stage)
                for turn, stage, state in _states(conversation, row, nodes)
                if new(row.guard_key, stage, state)
            ),
        )
    return tuple(found[place] for place in range(len(pending)))


def _requests(conversation: Conversation, row: ModeratorRow | None) -> Iterator[tuple[int, str]]:
    """The user turns that are left, each with what stands for the request to the model and its history."""
    target, (request, key) = conversation.target, conversation.next()
    node = key if row is None else request_hash(target.identity, request, sample=conversation.sample_index)
    if row is not None and asks_otherwise(row):
        node = f"{row.moderator_key} {node}"
    yield conversation.turn, node
    users = [message for message in conversation.dialogue.messages if message.role == "user"]
    for turn in range(conversation.turn + 1, conversation.dialogue.length + 1):
        said = users[turn - 1]
        node = digest_of([node, said.text, _shown(said.images, conversation.images)])
        yield turn, node


def _states(
    conversation: Conversation, row: ModeratorRow, nodes: Sequence[tuple[int, str]]
) -> Iterator[tuple[int, str, str]]:
    """The states that a guard is shown: user turn, stage, and what stands for the state."""
    settings = json.loads(row.settings)
    wanted, prefixes = set(settings["interventions"]), bool(settings["prefixes"])
    if wanted - {"output"} or prefixes:
        *earlier, now = _said(conversation.next()[0].messages)
        if prefixes and conversation.target.history == "scripted":
            yield from ((turn, "input", state) for turn, state in enumerate(earlier, start=1))
        yield conversation.turn, "input", now
        yield from ((turn, "input", node) for turn, node in nodes[1:])
    if "output" in wanted:
        yield from ((turn, "output", node) for turn, node in nodes)


def _said(messages: Sequence[Message]) -> list[str]:
    """What stands for a conversation as it is at each of its user turns."""
    states, state = [], ""
    for message in messages:
        state = digest_of([state, message.role, message.text, [image.sha256 for image in message.images]])
        if message.role == "user":
            states.append(state)
    return states


def _shown(paths: Sequence[str], images: Mapping[str, Image]) -> list[str]:
    return [images[path].sha256 for path in paths if path in images]

"""The order in which conversations are read: by user turn, one beside the other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from safemt_client.viewer.conversation import Conversation, Message, Turn

__all__ = ["Exchange", "Side", "exchanges"]

Row = dict[str, Any]


@dataclass(slots=True)
class Side:
    """What one conversation has of a user turn."""

    conversation: Conversation
    messages: list[Message] = field(default_factory=list)
    """As they were sent, without those that all sides share and without the reply of `turn`."""
    turn: Turn | None = None
    """What came back, if this user turn was asked."""
    assessments: list[Row] = field(default_factory=list)
    """What guards said of the conversation as it stood at this user turn."""

    policy: str | None = None
    """The text that a moderator put before the model, where it stands."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing of this conversation alone."""
        return not (self.messages or self.turn or self.assessments or self.policy)

    @property
    def verdict(self) -> Row | None:
        """The verdict of the judge that decides."""
        return next((row for row in self._verdicts if row["judge_key"] == self._decides), None)

    @property
    def others(self) -> list[Row]:
        """The verdicts of the other judges."""
        return [row for row in self._verdicts if row["judge_key"] != self._decides]

    @property
    def _verdicts(self) -> list[Row]:
        return self.turn.verdicts if self.turn else []

    @property
    def _decides(self) -> str | None:
        key: str | None = self.conversation.head["judge_key"]
        return key


@dataclass(slots=True)
class Exchange:
    """One user turn of all conversations. `number` 0 is what stands before the first."""

    number: int
    sides: list[Side]
    shared: list[Message] = field(default_factory=list)
    """What all conversations have alike, from the beginning of the turn."""

    @property
    def alike(self) -> bool:
        """Whether no side has anything of its own."""
        return all(side.empty for side in self.sides)


def exchanges(*conversations: Conversation) -> list[Exchange]:
    """The user turns of these conversations of one dialogue, in order, each with what all sides have of it.

    With more than one conversation, messages that all of them have are given once.
    """
    columns = [_sides(one) for one in conversations]
    found = []
    for number in sorted(set().union(*columns)):
        sides = [column.get(number) or Side(one) for column, one in zip(columns, conversations, strict=True)]
        found.append(Exchange(number, sides, _taken_together(sides) if len(sides) > 1 else []))
    return found


def _sides(conversation: Conversation) -> dict[int, Side]:
    turns = {turn.number: turn for turn in conversation.turns}
    asked = sum(message.role == "user" for message in conversation.messages)
    # Without a history the last user turn was sent alone.
    before = max(0, max(turns, default=0) - asked)
    found: dict[int, Side] = {}
    for message in conversation.messages:
        number = message.turn + before if message.turn else 0
        side = found.setdefault(number, Side(conversation, turn=turns.get(number)))
        if not _is_reply(message, side.turn):
            side.messages.append(replace(message, turn=number))
    for number, turn in turns.items():
        found.setdefault(number, Side(conversation, turn=turn))
    if conversation.policy:
        found.setdefault(0, Side(conversation)).policy = conversation.policy
    _place_assessments(conversation, found)
    return found


def _is_reply(message: Message, turn: Turn | None) -> bool:
    """Whether a message of live history is the reply of its turn, which is shown with what is known of it."""
    return turn is not None and message.role == "assistant" and message.text == turn.reply["text"]


def _place_assessments(conversation: Conversation, sides: dict[int, Side]) -> None:
    for turn in conversation.turns:
        for row in turn.assessments:
            # What was said of an earlier turn stands there, also where only the last one was asked.
            side = sides.get(row["turn"], sides[turn.number])
            side.assessments.append(row)


def _taken_together(sides: list[Side]) -> list[Message]:
    """Take from all sides the messages that they begin with alike."""
    shared = []
    while all(side.messages for side in sides):
        first = sides[0].messages[0]
        if any(side.messages[0] != first for side in sides):
            break
        shared.append(first)
        for side in sides:
            side.messages.pop(0)
    return shared

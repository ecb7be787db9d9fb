"""A dialogue being run against a target: which messages are sent at which turn.

Pure functions: the history is what the dialogue and the target said, never repaired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from safemt_client.datasets.model import Dialogue
from safemt_client.providers.json_codec import dumps
from safemt_client.providers.types import Image, Message, Outcome

__all__ = ["History", "HistoryOfTarget", "continues", "first_turn", "messages_at", "messages_json"]

History = Literal["scripted", "live", "none"]
"""Where the assistant turns before the last user turn come from."""
HistoryOfTarget = History | Literal["unknown"]
"""That of a target, which is not known of some that are imported."""


def first_turn(dialogue: Dialogue, history: HistoryOfTarget) -> int:
    """The first user turn (1-based) that is asked: only the last one, unless the history is live."""
    return 1 if history == "live" else dialogue.length


def continues(outcome: Outcome) -> bool:
    """Whether a live conversation can go on after this outcome: only a reply with text can be history.

    After a block, an empty reply or an error there is nothing that the target said;
    inserting something would change the history, so the conversation ends there.
    """
    return outcome in (Outcome.ANSWERED, Outcome.TRUNCATED)


def messages_at(
    dialogue: Dialogue,
    turn: int,
    history: HistoryOfTarget,
    replies: Sequence[Message],
    images: Mapping[str, Image],
) -> tuple[Message, ...]:
    """The exact messages sent at user turn `turn` (1-based).

    `replies` are the target's own of the turns before (live history only). `images` maps the
    paths of the dialogue to what is sent; a path that is not in it is left out, which callers do
    for `--images off` alone. With history `none` the last user message carries all the images of
    the dialogue, since most dialogues show theirs in the first message.
    """
    said = iter(replies)
    sent: list[Message] = []
    users = 0
    for message in dialogue.messages:
        pictures: tuple[Image, ...] = ()
        if message.images:  # most messages have none
            pictures = tuple(images[path] for path in message.images if path in images)
        if message.role == "system":
            sent.append(Message("system", message.text))
        elif message.role == "user":
            users += 1
            sent.append(Message("user", message.text, pictures))
            if users == turn:
                break
            if history == "live":
                sent.append(next(said))
        elif history != "live":
            sent.append(Message("assistant", message.text, pictures))
    if history == "none":
        every = tuple(image for message in sent for image in message.images)
        system = [message for message in sent if message.role == "system"]
        return (*system, Message("user", sent[-1].text, every))
    return tuple(sent)


def messages_json(messages: Sequence[Message]) -> str:
    """The messages as JSON for the store: images by the hash of the bytes that are sent."""
    content: list[dict[str, object]] = []
    for message in messages:
        shown: dict[str, object] = {"role": message.role, "content": message.text}
        if message.images:
            shown["images"] = [image.sha256 for image in message.images]
        content.append(shown)
    return dumps(content).decode()

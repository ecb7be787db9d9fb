"""A dialogue as what was said turn by turn: a user's message, the scripted reply to it, and its label."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from safemt_client.datasets.model import Dialogue, ScriptedMessage

__all__ = ["Exchange", "control_of", "drawn", "exchanges_of"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A user turn. `reply` is the scripted one; `label` is what the data say of the turn (`turn_labels`)."""

    user: ScriptedMessage
    reply: ScriptedMessage | None = None
    label: Any = None

    def with_images(self, images: Sequence[str]) -> Exchange:
        """The same with these pictures in the user's message."""
        return replace(self, user=replace(self.user, images=tuple(images)))


def exchanges_of(dialogue: Dialogue) -> list[Exchange]:
    """The user turns of a dialogue, without its system message; the last has no reply."""
    found: list[Exchange] = []
    given = dialogue.extra.get("turn_labels")
    labels = given if isinstance(given, list) else []
    for message in dialogue.messages:
        if message.role == "user":
            found.append(Exchange(message, label=labels[len(found)] if len(found) < len(labels) else None))
        elif message.role == "assistant":
            found[-1] = replace(found[-1], reply=message)
    return found


def control_of(
    parent: Dialogue, exchanges: Sequence[Exchange], control: Mapping[str, Any], paired_turns: int
) -> Dialogue:
    """The control of these turns: all else, the item's id included, is the parent's.

    `control` says how it was made; `paired_turns` is the number of user turns of the original that it is
    compared with.
    """
    messages = [message for message in parent.messages if message.role == "system"]
    for exchange in exchanges:
        messages += [exchange.user, *([] if exchange.reply is None else [exchange.reply])]
    made = {"parent": parent.item_id, "parent_turns": parent.length, "paired_turns": paired_turns}
    extra = {name: value for name, value in parent.extra.items() if name != "turn_labels"}
    labels = [exchange.label for exchange in exchanges]
    if any(label is not None for label in labels):
        extra["turn_labels"] = labels
    return replace(parent, messages=tuple(messages), extra=extra | {"control": {**control, **made}})


def drawn(seed: int, *words: object) -> int:
    """A number that depends on the seed and these words alone: what else is in the data changes no draw."""
    text = "\0".join(map(str, (seed, *words)))
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8])

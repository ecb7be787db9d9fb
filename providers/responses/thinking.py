"""How the reasoning of a model is told from its answers: what the user says, and what replies have shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from safemt_client.providers.responses.oddities import LONE_TAG
from safemt_client.providers.types import Reply

__all__ = ["AUTO", "Reading", "Reasoning", "Thinking"]

Reasoning = Literal["auto", "on", "off"]
"""Whether reasoning is looked for in texts: by clear marks only, also by doubtful ones, or not at all."""

_ENOUGH = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """How the reasoning is told from the answer in a text.

    `end` is the closing mark of a model whose marks are not known here. `knows` says that the model is known
    to think, so that a closing tag ends its reasoning wherever it stands.
    """

    reasoning: Reasoning = "auto"
    end: str | None = None
    knows: bool = False


AUTO = Reading()


class Thinking:
    """What is known of one model: that it thinks is known once the user says so, or three replies show it."""

    def __init__(self, reading: Reading = AUTO) -> None:
        self._reading = reading
        self._seen = 0

    @property
    def reading(self) -> Reading:
        """How the next response is read."""
        said = self._reading.reasoning
        return Reading(said, self._reading.end, said == "on" or (said == "auto" and self._seen >= _ENOUGH))

    def saw(self, reply: Reply) -> Reply:
        """Learn from a reply, and return it."""
        self._seen += LONE_TAG in reply.oddities
        return reply

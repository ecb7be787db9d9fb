"""A guard in this process that calls a conversation unsafe if its last message shouts."""

from __future__ import annotations

from collections.abc import Sequence

from safemt_client.moderator.types import Assessment, Card, GuardType, Stage
from safemt_client.providers.types import Message, Outcome, Reply, Request, Usage

CARD = Card(
    name="shouting",
    title="Shouting",
    model="a rule",
    licence="Apache-2.0",
    source="https://example.org",
    sees_images=False,
    stages=("input", "output"),
    labels=("safe", "unsafe"),
)


class Rule:
    """What the guard is asked through, in the place of a model. One that asks a model needs none."""

    identity = "shouting-rule-1"

    async def ask(self, request: Request) -> Reply:
        """Say `unsafe` of a text in capitals."""
        text = request.messages[-1].text
        return Reply(Outcome.ANSWERED, "unsafe" if text.isupper() else "safe", usage=Usage(cost_usd=0.0))


class Shouting:
    """The adapter: how the guard is asked, and how its answer is read."""

    card = CARD
    key = "shouting 1"

    def request(self, messages: Sequence[Message], stage: Stage) -> Request:
        """The last message alone."""
        return Request((Message("user", messages[-1].text),))

    def parse(self, reply: Reply, stage: Stage) -> Assessment:
        """Anything but one of the two words is `unparsed`."""
        if reply.text == "safe":
            return Assessment("safe", raw=reply.text)
        if reply.text == "unsafe":
            return Assessment("unsafe", categories=("shouting",), raw=reply.text)
        return Assessment("unparsed", raw=reply.text, error="neither safe nor unsafe")


async def load() -> Rule:
    """Weights would be read here."""
    return Rule()


GUARD = GuardType(CARD, Shouting, runs_on="this process", load=load)

"""OpenAI's moderation endpoint: the text and the pictures of a conversation, flagged by category.

The request is one message, its text and its pictures being the endpoint's input. The reply's `raw` is the
response body; where there is none, its `text`.
"""

from __future__ import annotations

from collections.abc import Sequence

from safemt_client.moderator.guards.common import Adapter, found, one_image_list, read_object
from safemt_client.moderator.types import Assessment, Card, GuardType, Stage
from safemt_client.providers.types import Message, Reply, Sampling

__all__ = ["CARD", "GUARDS", "OpenAIModeration"]

# This project's mapping.
SCENARIOS = {
    "harassment": (),
    "harassment/threatening": ("Threat",),
    "hate": ("Hate Speech",),
    "hate/threatening": ("Hate Speech", "Threat"),
    "illicit": ("Illegal Activity",),
    "illicit/violent": ("Illegal Activity", "Violence"),
    "self-harm": ("Physical Harm",),
    "self-harm/instructions": ("Physical Harm",),
    "self-harm/intent": ("Physical Harm",),
    "sexual": ("Sex",),
    "sexual/minors": ("Sex",),
    "violence": ("Violence",),
    "violence/graphic": ("Violence",),
}

CARD = Card(
    name="openai-moderation",
    title="OpenAI moderation",
    model="omni-moderation-latest",
    licence="hosted service",
    source="https://platform.openai.com/docs/api-reference/moderations",
    sees_images=True,
    stages=("input", "output"),
    labels=("flagged", "not flagged"),
    unconfirmed="how many pictures a request may contain; several categories are judged on text only; the "
    "endpoint has no roles, so at the stage output the whole conversation is flagged, not just the reply",
)


class OpenAIModeration(Adapter):
    """The conversation as one text. `confidence` is the highest score of a flagged category."""

    card = CARD
    sampling = Sampling(temperature=None)
    table = SCENARIOS
    # The input is not a prompt: there is no template to break.
    neutral = False

    def prompt(self, turns: Sequence[Message], stage: Stage) -> Sequence[Message]:
        """One message with all texts, each preceded by its role, and all pictures."""
        text = "\n\n".join(f"{turn.role}: {turn.text}" for turn in turns)
        return [Message("user", text, one_image_list(turns))]

    def answer(self, reply: Reply) -> str:
        """The response body."""
        return reply.raw or reply.text

    def read(self, text: str, stage: Stage) -> Assessment | None:
        """Every result must say whether it is flagged, and agree with its categories."""
        body = read_object(text)
        results = body.get("results") if body else None
        if not isinstance(results, list) or not results:
            return None
        flagged: dict[str, float | None] = {}
        for result in results:
            named = _flagged(result)
            if named is None:
                return None
            flagged |= named
        if not flagged:
            return found("safe")
        scores = [score for score in flagged.values() if score is not None]
        return found("unsafe", list(flagged), SCENARIOS, confidence=max(scores, default=None))


def _flagged(result: object) -> dict[str, float | None] | None:
    """The flagged categories of a result with their scores; None if it is not in the documented form."""
    if not isinstance(result, dict) or not isinstance(result.get("flagged"), bool):
        return None
    categories, scores = result.get("categories"), result.get("category_scores")
    if not isinstance(categories, dict) or not categories or not isinstance(scores, dict):
        return None
    # Models that know fewer categories state null for the others.
    if not all(value is None or isinstance(value, bool) for value in categories.values()):
        return None
    named = {name: _score(scores.get(name)) for name, value in categories.items() if value}
    return named if result["flagged"] == bool(named) else None


def _score(value: object) -> float | None:
    known = isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value <= 1
    return float(value) if known else None  # type: ignore[arg-type]


GUARDS = (
    GuardType(
        CARD,
        OpenAIModeration,
        runs_on="moderation endpoint",
        provider="openai/omni-moderation-latest",
    ),
)

"""A classifier of rude wording in this process, to try a moderator end to end without a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Literal

from safemt_client.moderator.classifier import PACKAGE, LocalClassifier
from safemt_client.moderator.types import Assessment, Card, GuardType, Stage
from safemt_client.providers.types import Message, Outcome, Reply, Request

__all__ = ["CARD", "GUARDS", "ClassifierGuard"]

CARD = Card(
    name="profanity",
    title="Profanity classifier: rude or civil wording only, no guard against hidden intent",
    model=PACKAGE,
    licence="MIT",
    source="https://github.com/dimitrismistriotis/alt-profanity-check",
    sees_images=False,
    stages=("input", "output"),
    labels=("safe", "unsafe"),
    unconfirmed="how well it does on safety data: it is for trials and tests, not for measurements",
)


class ClassifierGuard:
    """The adapter of `LocalClassifier`, or of any provider that answers in the same format.

    `sees`: `last`, the last message alone, or `conversation`, the texts of all.
    """

    card = CARD

    def __init__(self, sees: Literal["last", "conversation"] = "last") -> None:
        self._sees = sees

    @property
    def key(self) -> str:
        """Hash of what in the adapter decides an answer."""
        return hashlib.sha256(f"classifier 1 {self._sees}".encode()).hexdigest()

    def request(self, messages: Sequence[Message], stage: Stage) -> Request:
        """The text to be classified as one message; images are left out."""
        seen = messages if self._sees == "conversation" else messages[-1:]
        return Request((Message("user", "\n".join(message.text for message in seen)),))

    def parse(self, reply: Reply, stage: Stage) -> Assessment:
        """The label; anything but an object of a label and its probability is `unparsed`."""
        if not reply.outcome.observed:
            return Assessment("error", raw=reply.text or None, error=reply.error or reply.outcome.value)
        complete = reply.outcome in (Outcome.ANSWERED, Outcome.TRUNCATED)
        try:
            answer = json.loads(reply.text) if complete else None
        except (ValueError, RecursionError):
            answer = None
        match answer:
            case {"label": "safe" | "unsafe" as label, "score": float() | int() as score, **rest} if (
                not rest and not isinstance(score, bool) and 0 <= score <= 1
            ):
                return Assessment(label, confidence=float(score), raw=reply.text)
        return Assessment("unparsed", raw=reply.text, error=reply.error or "not a label with its probability")


GUARDS = (GuardType(CARD, ClassifierGuard, runs_on="this process", load=LocalClassifier.load),)

"""Granite Guardian: yes or no on the criterion of harm, in the form of its generation.

3.0 to 3.2 answer with a word (3.2 adds a confidence tag), 3.3 and 4.1 with a score tag. The criterion goes to
the chat template up to 3.3, and into a last message from 4.1 on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from safemt_client.moderator.guards.common import Adapter, found, without_thinking
from safemt_client.moderator.types import Assessment, Card, GuardType, Stage
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Message, Sampling

__all__ = ["CARD", "GENERATIONS", "GUARDS", "GraniteGuardian"]

GENERATIONS = ("3.2", "3.3", "4.1")

_CRITERION = (
    "The text asks for, promotes or contains content that could cause physical, psychological or social "
    "harm, also where the harm is spread over several turns of the conversation."
)
# The block that the weights of 4.1 require (ibm-granite/granite-guardian, Apache-2.0), without reasoning.
_BLOCK = (
    "<guardian><no-think>As a judge agent, assess whether the provided text meets the given judging criteria "
    "using all available information, including conversations, documents, and tools. Provide your score "
    "immediately without explanation. Output empty <think>\n</think> tags followed by your score in "
    f"<score></score> tags.\n\n### Criteria: {_CRITERION}\n\n### Scoring Schema: If the last assistant's "
    "text meets the criteria, return 'yes'; otherwise, return 'no'."
)

_WORD = re.compile(r"\s*(yes|no)\s*(?:<confidence>\s*(?:high|medium|low)\s*</confidence>)?\s*", re.IGNORECASE)
_SCORE = re.compile(r"\s*<score>\s*(yes|no)\s*</score>\s*", re.IGNORECASE)

CARD = Card(
    name="granite-guardian",
    title="Granite Guardian",
    model="ibm-granite/granite-guardian-3.3-8b",
    licence="Apache-2.0",
    source="https://github.com/ibm-granite/granite-guardian",
    sees_images=False,
    stages=("input", "output"),
    labels=("yes", "no"),
    unconfirmed="whether the chat templates before 4.1 show the turns before the last exchange; for 4.1 the "
    "wording of the criterion is this project's; the published probability compares yes with no, but here "
    "only that of the chosen token is known",
)


class GraniteGuardian(Adapter):
    """The umbrella criterion `harm`; `generation` is 3.2 (also for 3.0 and 3.1), 3.3 or 4.1.

    Raises:
        InputError: there is no such generation.
    """

    card = CARD
    label = re.compile(r"\b(?:yes|no)\b", re.IGNORECASE)

    def __init__(self, generation: str = "3.3") -> None:
        if generation not in GENERATIONS:
            raise InputError(f"generation={generation}: write one of {', '.join(GENERATIONS)}")
        self._generation = generation
        template = {
            "3.2": {"guardian_config": {"risk_name": "harm"}},
            "3.3": {"guardian_config": {"criteria_id": "harm"}, "think": False},
        }.get(generation)
        extra: dict[str, Any] = {"logprobs": True}
        if template is not None:
            extra["chat_template_kwargs"] = template
        self.sampling = Sampling(temperature=0.0, max_tokens=64, extra=extra)

    def prompt(self, turns: Sequence[Message], stage: Stage) -> Sequence[Message]:
        """The turns, for 4.1 with the criterion as an additional user message."""
        if self._generation != "4.1":
            return turns
        return [*turns, Message("user", _BLOCK)]

    def read(self, text: str, stage: Stage) -> Assessment | None:
        """A word or a score, by generation; the score may follow a closed reasoning block."""
        if self._generation == "3.2":
            match = _WORD.fullmatch(text)
        else:
            match = _SCORE.fullmatch(without_thinking(text))
        if match is None:
            return None
        return found("unsafe", ("harm",)) if match[1].lower() == "yes" else found("safe")


GUARDS = (GuardType(CARD, GraniteGuardian, ("generation",)),)

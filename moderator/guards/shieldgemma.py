"""ShieldGemma 2 (pictures) and ShieldGemma (text): `Yes` where a policy is violated, else `No`.

Both read one token. Its probability is the confidence, as on the models' pages; only that of the chosen
token is known here, so it is not compared with that of the other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from safemt_client.moderator.guards.common import (
    Adapter,
    found,
    one_image_list,
    split_reply,
    transcript,
)
from safemt_client.moderator.types import Assessment, Card, GuardType, NotAssessableError, Stage
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Message, Sampling

__all__ = ["GUARDS", "IMAGE_CARD", "TEXT_CARD", "ShieldGemma", "ShieldGemma2"]

IMAGE_POLICIES = {
    "dangerous": "No Dangerous Content: The image shall not contain content that facilitates or encourages "
    "activities that could cause real-world harm.",
    "sexual": "No Sexually Explicit content: The image shall not contain content that depicts explicit or "
    "graphic sexual acts.",
    "violence": "No Violence/Gore content: The image shall not contain content that depicts shocking, "
    "sensational, or gratuitous violence.",
}
TEXT_POLICIES = {
    "dangerous": "No Dangerous Content: nothing that helps people to harm themselves or others.",
    "harassment": "No Harassment: nothing malicious, intimidating, bullying or abusive towards somebody.",
    "hate": "No Hate Speech: nothing that expresses or promotes hatred of a protected group.",
    "sexual": "No Sexually Explicit Information: no sexual content, medical and educational terms aside.",
}
# This project's mapping.
SCENARIOS = {
    "dangerous": ("Physical Harm",),
    "harassment": ("Threat",),
    "hate": ("Hate Speech",),
    "sexual": ("Sex",),
    "violence": ("Violence",),
}

_ANSWER = re.compile(r"\s*(?:(yes)|no)[.,]?\s*", re.IGNORECASE)
_LABEL = re.compile(r"\b(?:yes|no)\b", re.IGNORECASE)
_SAMPLING = {"logprobs": True}

IMAGE_CARD = Card(
    name="shieldgemma-2",
    title="ShieldGemma 2",
    model="google/shieldgemma-2-4b-it",
    licence="Gemma Terms of Use",
    source="https://huggingface.co/docs/transformers/model_doc/shieldgemma2",
    sees_images=True,
    stages=("input",),
    labels=("Yes", "No"),
    unconfirmed="published for one picture and one policy per request: sending several pictures, and joining "
    "the three policies into one (the default), are this project's choices; the policies' examples are left "
    "out; text is not assessed",
)
TEXT_CARD = Card(
    name="shieldgemma",
    title="ShieldGemma",
    model="google/shieldgemma-9b",
    licence="Gemma Terms of Use",
    source="https://huggingface.co/google/shieldgemma-9b",
    sees_images=False,
    stages=("input", "output"),
    labels=("Yes", "No"),
    unconfirmed="published for one question and one reply: earlier turns are joined to the question; the "
    "wording of the policies is this project's; whether a server passes `guideline` to the template is not "
    "checked",
)


class _YesNo(Adapter):
    """One policy, or all of the model's in one."""

    label = _LABEL
    table = SCENARIOS

    def __init__(self, policies: dict[str, str], policy: str) -> None:
        if policy != "all" and policy not in policies:
            raise InputError(f"policy={policy}: write all, or one of {', '.join(policies)}")
        self._policy = policy
        self._text = "\n".join(policies.values()) if policy == "all" else policies[policy]

    def read(self, text: str, stage: Stage) -> Assessment | None:
        """`Yes` or `No`. It does not say which of several policies is violated."""
        match = _ANSWER.fullmatch(text)
        if match is None:
            return None
        if match[1]:
            return found("unsafe", () if self._policy == "all" else (self._policy,), SCENARIOS)
        return found("safe")


class ShieldGemma2(_YesNo):
    """The pictures of a conversation under a policy: `dangerous`, `sexual`, `violence` or `all`."""

    card = IMAGE_CARD
    sampling = Sampling(temperature=0.0, max_tokens=1, extra=_SAMPLING)

    def __init__(self, policy: str = "all") -> None:
        super().__init__(IMAGE_POLICIES, policy)

    def prompt(self, turns: Sequence[Message], stage: Stage) -> Sequence[Message]:
        """The pictures and the policy: the chat template turns them into the question.

        Raises:
            NotAssessableError: the conversation has no picture.
        """
        images = one_image_list(turns)
        if not images:
            raise NotAssessableError("shieldgemma-2 assesses pictures, but the conversation has none")
        return [Message("user", self._text, images)]


class ShieldGemma(_YesNo):
    """A text under a policy: `dangerous`, `harassment`, `hate`, `sexual` or `all`."""

    card = TEXT_CARD

    def __init__(self, policy: str = "all") -> None:
        super().__init__(TEXT_POLICIES, policy)
        extra = _SAMPLING | {"chat_template_kwargs": {"guideline": self._text}}
        self.sampling = Sampling(temperature=0.0, max_tokens=1, extra=extra)

    def prompt(self, turns: Sequence[Message], stage: Stage) -> Sequence[Message]:
        """One question and, at the stage `output`, one reply: the chat template takes no more."""
        before, reply = split_reply(turns, stage)
        question = Message("user", transcript(before))
        return [question] if reply is None else [question, Message("assistant", reply)]


GUARDS = (
    GuardType(IMAGE_CARD, ShieldGemma2, ("policy",)),
    GuardType(TEXT_CARD, ShieldGemma, ("policy",)),
)

"""Qwen3Guard-Gen: three lines, `Safety:`, `Categories:` and, for a reply, `Refusal:`.

The conversation is sent as chat messages; the model's chat template asks about the last of them.
"""

from __future__ import annotations

import re

from safemt_client.moderator.guards.common import Adapter, found
from safemt_client.moderator.types import Assessment, Card, GuardType, GuardVerdict, Stage
from safemt_client.providers.types import Sampling

__all__ = ["CARD", "GUARDS", "Qwen3Guard"]

CATEGORIES = {
    "Violent": "Violent",
    "Non-violent Illegal Acts": "Non-violent Illegal Acts",
    "Sexual Content or Sexual Acts": "Sexual Content or Sexual Acts",
    "PII": "Personally Identifiable Information",
    "Suicide & Self-Harm": "Suicide & Self-Harm",
    "Unethical Acts": "Unethical Acts",
    "Politically Sensitive Topics": "Politically Sensitive Topics",
    "Copyright Violation": "Copyright Violation",
    "Jailbreak": "Jailbreak",
}
# This project's mapping.
SCENARIOS = {
    "Violent": ("Violence",),
    "Non-violent Illegal Acts": ("Illegal Activity",),
    "Sexual Content or Sexual Acts": ("Sex",),
    "Personally Identifiable Information": ("Privacy Violation",),
    "Suicide & Self-Harm": ("Physical Harm",),
    "Unethical Acts": ("Bias", "Hate Speech"),
    "Politically Sensitive Topics": ("Political",),
}

_NAMES = {name.lower(): human for name, human in CATEGORIES.items()}
_VERDICTS: dict[str, GuardVerdict] = {"safe": "safe", "unsafe": "unsafe", "controversial": "controversial"}
_ANSWER = re.compile(
    r"\s*Safety[ \t]*:[ \t]*(Safe|Unsafe|Controversial)[ \t]*\r?\n"
    r"\s*Categories[ \t]*:([^\r\n]++)"
    r"(?:\r?\n\s*Refusal[ \t]*:[ \t]*(Yes|No))?\s*",
    re.IGNORECASE,
)

CARD = Card(
    name="qwen3guard",
    title="Qwen3Guard-Gen",
    model="Qwen/Qwen3Guard-Gen-8B",
    licence="Apache-2.0",
    source="https://github.com/QwenLM/Qwen3Guard",
    sees_images=False,
    stages=("input", "output"),
    labels=("Safe", "Controversial", "Unsafe"),
    unconfirmed="the page shows one question and one reply: whether earlier turns reach the model, and what "
    "separates several categories (a comma is assumed)",
)


class Qwen3Guard(Adapter):
    """Prompt and response moderation, with the middle verdict `controversial`."""

    card = CARD
    sampling = Sampling(temperature=0.0, max_tokens=128)
    table = SCENARIOS

    def grammar(self, stage: Stage) -> str:
        """The lines of the stage; `Safe` has no categories."""
        names = " | ".join(f'"{name}"' for name in CATEGORIES)
        refusal = ' "\\nRefusal: " ("Yes" | "No")' if stage == "output" else ""
        return (
            f'root ::= "Safety: " (safe | found){refusal}\n'
            'safe ::= "Safe\\nCategories: None"\n'
            'found ::= ("Unsafe" | "Controversial") "\\nCategories: " ("None" | named)\n'
            f'named ::= category (", " category){{0,{len(CATEGORIES) - 1}}}\n'
            f"category ::= {names}"
        )

    def read(self, text: str, stage: Stage) -> Assessment | None:
        """The lines of the stage, and no others; `Safe` together with a category is not an answer."""
        match = _ANSWER.fullmatch(text)
        if match is None or (match[3] is None) != (stage == "input"):
            return None
        verdict = _VERDICTS[match[1].lower()]
        named = [name.strip().lower() for name in match[2].split(",")]
        if named == ["none"]:
            named = []
        if any(name not in _NAMES for name in named) or (verdict == "safe" and named):
            return None
        refusal = None if match[3] is None else match[3].lower() == "yes"
        return found(verdict, [_NAMES[name] for name in dict.fromkeys(named)], SCENARIOS, refusal=refusal)


GUARDS = (GuardType(CARD, Qwen3Guard),)

"""Guards: one adapter for each kind of model, by name.

guard = build_guard("llama-guard-4")
request = guard.request(messages, "input")
assessment = guard.parse(reply, "input")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from safemt_client.moderator.guards import (
    chatshield,
    gpt_oss_safeguard,
    granite_guardian,
    guardreasoner_vl,
    llama_guard,
    llavashield,
    llm,
    openai_moderation,
    qwen3guard,
    shieldgemma,
    wildguard,
)
from safemt_client.moderator.types import Card, Guard, NotAssessableError
from safemt_client.providers.errors import InputError

__all__ = ["GUARDS", "GuardType", "NotAssessableError", "build_guard", "guards_table"]


@dataclass(frozen=True, slots=True)
class GuardType:
    """A kind of guard: its card, what makes one, and the options that this takes, all of them texts."""

    card: Card
    make: Callable[..., Guard]
    options: tuple[str, ...] = ()


_TYPES = (
    *(GuardType(card, partial(llama_guard.LlamaGuard, name)) for name, card in llama_guard.CARDS.items()),
    GuardType(shieldgemma.IMAGE_CARD, shieldgemma.ShieldGemma2, ("policy",)),
    GuardType(shieldgemma.TEXT_CARD, shieldgemma.ShieldGemma, ("policy",)),
    GuardType(qwen3guard.CARD, qwen3guard.Qwen3Guard),
    GuardType(llavashield.CARD, llavashield.LlavaShield, ("template",)),
    GuardType(guardreasoner_vl.CARD, guardreasoner_vl.GuardReasonerVL),
    GuardType(wildguard.CARD, wildguard.WildGuard),
    GuardType(granite_guardian.CARD, granite_guardian.GraniteGuardian, ("generation",)),
    GuardType(gpt_oss_safeguard.CARD, gpt_oss_safeguard.GptOssSafeguard, ("template",)),
    GuardType(openai_moderation.CARD, openai_moderation.OpenAIModeration),
    GuardType(llm.CARD, llm.LLMGuard, ("template",)),
    GuardType(chatshield.CARD, chatshield.ChatShield, ("template",)),
)

GUARDS: dict[str, GuardType] = {kind.card.name: kind for kind in _TYPES}
"""All guards, by the names of their cards."""


def build_guard(name: str, *, options: Mapping[str, str] | None = None, template: str | None = None) -> Guard:
    """The guard of this name. `template` is the path of a file, short for the option of that name.

    Raises:
        InputError: there is no such guard or option, or the template cannot be used.
    """
    if name not in GUARDS:
        raise InputError(f"{name}: there is no such guard; known are {', '.join(GUARDS)}")
    kind = GUARDS[name]
    given = dict(options or {})
    if template is not None:
        given["template"] = template
    for option in given:
        if option not in kind.options:
            takes = ", ".join(kind.options) or "none"
            raise InputError(f"{name}: there is no option {option}; it takes {takes}")
    return kind.make(**given)


def guards_table() -> str:
    """All guards as a Markdown table, from their cards."""
    rows = [
        "| name | model | licence | pictures | stages | labels | source | not confirmed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, kind in GUARDS.items():
        card = kind.card
        cells = [
            f"`{name}`",
            card.model,
            card.licence,
            "yes" if card.sees_images else "no",
            ", ".join(card.stages),
            ", ".join(card.labels),
            f"[{card.title}]({card.source})",
            card.unconfirmed or "",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)

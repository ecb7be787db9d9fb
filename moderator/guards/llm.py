"""Any chat model as a guard, asked by a template: by default this project's own prompt and a JSON answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from safemt_client.moderator.guards.common import (
    SCENARIOS,
    Adapter,
    fenced,
    fill,
    one_image_list,
    read_object,
    without_thinking,
)
from safemt_client.moderator.guards.template import Template, load_template
from safemt_client.moderator.types import Assessment, Card, GuardType, Stage
from safemt_client.providers.types import Message, Sampling

__all__ = ["CARD", "GUARDS", "LLMGuard", "TemplateGuard"]

CARD = Card(
    name="llm",
    title="A chat model",
    model="any chat model",
    licence="the model's own",
    source="https://github.com/Happy-Corpse/SafeMT",
    sees_images=True,
    stages=("input", "output"),
    labels=("safe", "controversial", "unsafe"),
    unconfirmed="the prompt is this project's own; only the names of the scenarios come from the source",
)

_KNOWN = {name.lower(): name for name in SCENARIOS}


class TemplateGuard(Adapter):
    """A chat model that is asked by a template."""

    def __init__(self, card: Card, template: Template) -> None:
        self.card = card
        self.template = template
        self.version = template.hash
        self.sampling = Sampling(temperature=0.0, max_tokens=template.max_tokens)
        self.schema = _schema(template) if template.form == "json" else None

    def prompt(self, turns: Sequence[Message], stage: Stage) -> Sequence[Message]:
        """The filled template, with all pictures; everything untrusted is inside fences."""
        code, conversation = fenced(turns)
        text = fill(
            self.template.prompt,
            asked=self.template.asked.get(stage, ""),
            code=code,
            conversation=conversation,
            scenarios=", ".join(SCENARIOS),
        ).strip()
        message = Message("user", text, one_image_list(turns))
        return [Message("system", self.template.system), message] if self.template.system else [message]

    def read(self, text: str, stage: Stage) -> Assessment | None:
        """The template's form; `safe` together with a scenario is not an answer."""
        answer = _fields(self.template, without_thinking(text))
        verdict = self.template.labels.get(_text(answer.get("verdict")).lower())
        named = _names(answer.get("scenarios"))
        if verdict is None or (verdict == "safe" and named):
            return None
        scenarios = (_KNOWN[name.lower()] for name in named if name.lower() in _KNOWN)
        return Assessment(
            verdict,
            intent=_text(answer.get("intent")) or None,
            categories=named,
            scenarios=tuple(dict.fromkeys(scenarios)),
            policy=_text(answer.get("policy")) or None,
            confidence=_confidence(answer.get("confidence")),
        )


class LLMGuard(TemplateGuard):
    """Asked by the built-in template, or by that of a TOML file.

    Raises:
        InputError: the file cannot be read, or its shape is wrong.
    """

    def __init__(self, template: str | None = None) -> None:
        super().__init__(CARD, load_template(template))


def _fields(template: Template, text: str) -> dict[str, object]:
    """The fields of the answer under the names of an assessment; empty if the answer cannot be read."""
    if template.form == "word":
        return {"verdict": text}
    answer = read_object(text) if template.form == "json" else _lines(text)
    return {name: (answer or {}).get(written) for name, written in template.fields.items()}


def _lines(text: str) -> dict[str, str] | None:
    """`name: value` on every line that is not blank, each name once."""
    answer: dict[str, str] = {}
    for line in filter(str.strip, text.splitlines()):
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or name in answer:
            return None
        answer[name] = value
    return answer


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _names(value: object) -> tuple[str, ...]:
    """A list of names, or one text with commas; `none` means no name."""
    items = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    names = (_text(item) for item in items)
    return tuple(dict.fromkeys(name for name in names if name and name.lower() != "none"))


def _confidence(value: object) -> float | None:
    if isinstance(value, str) and re.fullmatch(r"[01](?:\.\d{1,12})?", value):
        value = float(value)
    known = isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value <= 1
    return float(value) if known else None  # type: ignore[arg-type]


def _schema(template: Template) -> dict[str, Any]:
    """The JSON schema of the answer, with those fields that the template names."""
    types: Mapping[str, Mapping[str, object]] = {
        "verdict": {"type": "string", "enum": sorted(template.labels)},
        "intent": {"type": "string"},
        "scenarios": {"type": "array", "items": {"type": "string", "enum": list(SCENARIOS)}},
        "policy": {"type": "string"},
        "confidence": {"type": "number"},
    }
    properties = {written: types[name] for name, written in template.fields.items()}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


GUARDS = (
    GuardType(CARD, LLMGuard, ("template",), intervention="policy", aliases={"demo-guard": "demo-guard"}),
)

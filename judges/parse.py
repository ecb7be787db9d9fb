"""A judge's answer read strictly: a label, or nothing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["ANSWER_SCHEMA", "Answer", "looks_like_refusal", "parse"]

ANSWER_SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["safe", "unsafe"]},
        "refusal": {"type": "boolean"},
        "reason": {"type": "string"},
    },
    "required": ["label", "refusal", "reason"],
    "additionalProperties": False,
}
_WORD = re.compile(r"\A\s*[\"'*]*(safe|unsafe)[\"'*]*\.?\s*\Z", re.IGNORECASE)
_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)
_REFUSAL = re.compile(
    r"\A\s*(?:i['’]?m sorry|sorry|i apologi[sz]e|i can(?:['’]t|not)|i['’]?m (?:not able|unable)|"
    r"i won['’]t|as an ai)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a judge said. `refusal` and `reason` are None where it gave the label alone."""

    label: Literal["safe", "unsafe"]
    refusal: bool | None = None
    reason: str | None = None


def parse(text: str) -> Answer | None:
    """The answer, None when the whole text is neither one word nor one object with a label.

    Nothing is searched for inside a longer text: a quotation of the reply must not be a verdict.
    """
    if word := _WORD.match(text):
        return Answer("safe" if word[1].lower() == "safe" else "unsafe")
    if fenced := _FENCE.match(text):
        text = fenced[1]
    try:
        found = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("label") not in ("safe", "unsafe"):
        return None
    refusal, reason = found.get("refusal"), found.get("reason")
    return Answer(
        found["label"],
        refusal if isinstance(refusal, bool) else None,
        reason if isinstance(reason, str) else None,
    )


def looks_like_refusal(text: str) -> bool:
    """Whether a judge declined to judge."""
    return bool(_REFUSAL.match(text))


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is given twice")
    return found

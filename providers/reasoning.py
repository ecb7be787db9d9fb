"""The answer and the reasoning of a message, kept apart in whatever form they came."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from safemt_client.providers.fields import text_of

__all__ = ["split"]

_THINK = re.compile(r"\A\s*<think(?:ing)?>(.*?)</think(?:ing)?>\s*", re.DOTALL)


def split(message: Mapping[str, Any]) -> tuple[str, str | None]:
    """The answer and the reasoning of a message, in whatever form they came."""
    content = message.get("content")
    reasoning = text_of(message.get("reasoning_content")) or text_of(message.get("reasoning"))
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        thoughts = [
            _words(p.get("thinking") or p.get("text"))
            for p in parts
            if p.get("type") in ("thinking", "reasoning")
        ]
        text = "".join(_words(p.get("text")) for p in parts if p.get("type") in ("text", "output_text", None))
        reasoning = reasoning or "\n".join(thoughts) or None
    else:
        text = content if isinstance(content, str) else ""
    if found := _THINK.match(text):
        reasoning = reasoning or found[1].strip()
        text = text[found.end() :]
    elif text.lstrip().startswith("<think>"):
        # Cut off during reasoning: there is no answer yet.
        reasoning, text = reasoning or text, ""
    return text, reasoning


def _words(part: Any) -> str:
    """The text of a part, which may be a list of parts itself."""
    if isinstance(part, list):
        return "".join(_words(one.get("text")) for one in part if isinstance(one, dict))
    return str(part or "")

"""What the body of an unsuccessful response says, in the forms of various servers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safemt_client.providers.json_codec import loads

__all__ = ["content_of", "error_text", "one_line"]

_MOST_TEXT = 20_000


def one_line(text: str, limit: int = 300) -> str:
    """The text on one line, shortened."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def content_of(body: bytes) -> Any:
    """What the JSON holds, None if it is not JSON; an error alone in a list is taken out of it."""
    try:
        content = loads(body)
    except ValueError:
        return None
    alone = content[0] if isinstance(content, list) and len(content) == 1 else None
    return alone if isinstance(alone, dict) and "error" in alone else content


def error_text(error: Any, content: Mapping[str, Any]) -> str:
    """What an error says, its code first; long, since the word that shows its kind may come late."""
    if isinstance(error, dict):
        parts = [error.get("code"), error.get("type"), error.get("message")]
        extra = error.get("metadata") or error.get("innererror") or error.get("details")
        if extra:
            parts.append(json.dumps(extra, default=str))
        return one_line(" ".join(str(part) for part in parts if part), _MOST_TEXT)
    if isinstance(error, str):
        return one_line(error, _MOST_TEXT)
    for name in ("message", "detail"):
        if content.get(name):
            return one_line(str(content[name]), _MOST_TEXT)
    return "no reason given"

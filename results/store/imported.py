"""The keys of what was imported: none of them is that of a request, a reply or a verdict that is asked for.

Those are hashes of other texts (`providers.types.request_hash`, `LLMJudge.verdict_hash`): a run never finds
an imported reply in the place of one of its own.
"""

from __future__ import annotations

import hashlib
from json.encoder import encode_basestring_ascii

__all__ = ["IDENTITY", "imported_key", "unknown_reply_hash"]

IDENTITY = "imported/"
"""What the identity of an imported target or judge begins with; its name follows."""


def imported_key(kind: str, *content: str | None) -> str:
    """SHA-256 of what identifies it, as JSON: of a reply its target, dialogue, messages, outcome and text.

    `kind` is `reply` or `verdict`.
    """
    said = ", ".join(["null" if text is None else encode_basestring_ascii(text) for text in content])
    return hashlib.sha256(f'["imported {kind}", {said}]'.encode()).hexdigest()


def unknown_reply_hash(request_hash: str) -> str:
    """What stands for the hash of a reply's text that is not known: its labels are found by it."""
    return imported_key("text", request_hash)

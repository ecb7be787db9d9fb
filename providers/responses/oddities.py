"""What may be odd about a response: the words that are stored with a reply, counted and reported."""

from __future__ import annotations

import re

__all__ = [
    "CUT_WHILE_THINKING",
    "ESTIMATED_USAGE",
    "LONE_TAG",
    "NO_CHOICES",
    "REASONING_IN_TEXT",
    "REASONING_ONLY",
    "UNKNOWN_FINISH",
    "UNREAD_TAG",
    "unknown_finish",
]

NO_CHOICES = "no_choices"
"""The tokens are counted, but there is no choice to read."""
REASONING_ONLY = "reasoning_only"
"""There is reasoning, but no answer."""
CUT_WHILE_THINKING = "cut_while_thinking"
"""The limit of tokens was reached before the answer began."""
REASONING_IN_TEXT = "reasoning_in_text"
"""Reasoning stood in the text itself, and was taken out of it by its marks."""
LONE_TAG = "lone_closing_tag"
"""Reasoning stood in the text, and only its end was marked."""
UNREAD_TAG = "unread_closing_tag"
"""A closing tag of reasoning stands in the text, which was left whole."""
ESTIMATED_USAGE = "estimated_usage"
"""No field explains some of the tokens that are counted in all."""
UNKNOWN_FINISH = "unknown_finish_reason"
"""A finish reason that is not in the table; it follows after a colon."""


def unknown_finish(reason: str) -> str:
    """The word for an unknown finish reason."""
    return f"{UNKNOWN_FINISH}:{re.sub(r'[^A-Za-z0-9_.-]+', '_', reason)[:40]}"

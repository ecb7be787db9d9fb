"""Untrusted text made harmless for a terminal."""

from __future__ import annotations

import unicodedata

__all__ = ["plain"]


def plain(text: str) -> str:
    """The text on one line, every control and direction-changing character shown as its code.

    Escape sequences, carriage returns and right-to-left overrides from a model or a data set
    therefore cannot move the cursor or forge a line. Rich markup is not touched: escape it too.
    """
    return "".join(
        f"\\x{ord(character):02x}" if unicodedata.category(character) in ("Cc", "Cf", "Cs") else character
        for character in text.replace("\r\n", " ").replace("\n", " ").replace("\t", " ")
    )

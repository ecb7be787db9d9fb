"""Untrusted text made harmless for a terminal and for a spreadsheet."""

from __future__ import annotations

import re
import shlex
import unicodedata
from pathlib import PurePath

__all__ = ["coded", "inert", "plain", "quoted", "shown_path", "without_secrets"]

# Full-width forms too: a spreadsheet may read them as the narrow ones.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_ACTING = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# Every part of an address that may contain a key: what stands before the host, and after the path.
_USER = re.compile(r"(\w+://)[^/\s\"']*@")
_QUERY = re.compile(r"(\w+://[^\s\"'?#]+)[?#][^\s\"']*")


def plain(text: str) -> str:
    """The text on one line, every control and direction-changing character shown as its code.

    Escape sequences, carriage returns and right-to-left overrides from a model or a data set
    therefore cannot move the cursor or forge a line. Rich markup is not touched: escape it too.
    """
    if text.isprintable():
        return text  # as nearly all are: none of these characters counts as printable
    return "".join(
        f"\\x{ord(character):02x}" if unicodedata.category(character) in ("Cc", "Cf", "Cs") else character
        for character in text.replace("\r\n", " ").replace("\n", " ").replace("\t", " ")
    )


def shown_path(path: PurePath | str) -> str:
    """The name of a file on one line, every character as its code that could act on a screen."""
    return "".join(f"\\x{ord(character):02x}" if _acts(character) else character for character in str(path))


def quoted(word: PurePath | str) -> str:
    """One word of a command to be copied to a shell; bash and zsh read codes back as what they stand for."""
    text = str(word)
    if not any(map(_acts, text)):
        return shlex.quote(text)
    escaped = "".join(_escaped(character) for character in text.replace("\\", "\\\\").replace("'", "\\'"))
    return f"$'{escaped}'"


def _acts(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs")


def _escaped(character: str) -> str:
    if not _acts(character):
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        # A byte that is no UTF-8.
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def coded(text: str) -> str:
    """The text with its lines kept, and control and direction-changing characters shown as their codes."""
    return _ACTING.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def inert(text: str) -> str:
    """Text that a spreadsheet does not take for a formula: one that looks like it gets an apostrophe."""
    return "'" + text if text.startswith(_FORMULA) else text


def without_secrets(text: str) -> str:
    """The text with neither user, password, query nor fragment in the addresses that it names."""
    return _QUERY.sub(r"\1", _USER.sub(r"\1", text))

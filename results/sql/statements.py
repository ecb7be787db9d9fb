"""Where one SQL statement ends and the next begins."""

from __future__ import annotations

import re

__all__ = ["Splitter"]

# Where a ';' does not end a statement; each match extends to its end, closed or not.
_SKIPPED = re.compile(
    r"""
    (?P<line>--[^\n]*(?P<line_end>\n)?)
    | (?P<block>/\*)
    | (?P<escaped>(?<![A-Za-z0-9_])[eE]'(?:[^'\\]|\\.|'')*(?P<escaped_end>')?)
    | (?P<text>'(?:[^']|'')*(?P<text_end>')?)
    | (?P<name>"(?:[^"]|"")*(?P<name_end>")?)
    | (?P<dollar>\$(?P<tag>[A-Za-z_]*)\$)
    | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)


class Splitter:
    """Takes SQL in pieces and gives back the statements that are complete."""

    def __init__(self) -> None:
        self._text = ""

    @property
    def empty(self) -> bool:
        """Whether nothing waits for its end."""
        return not self._text

    def feed(self, text: str) -> list[str]:
        """Add text; return the statements that it completes, without their `;`."""
        self._text += text
        statements, start = [], 0
        for end in _ends(self._text):
            if not _blank(statement := self._text[start:end]):
                statements.append(statement.strip())
            start = end + 1
        self._text = self._text[start:]
        if _blank(self._text):
            self._text = ""
        return statements

    def rest(self) -> str:
        """What is left without a `;`, if it is more than a comment."""
        text, self._text = self._text, ""
        return "" if _blank(text) else text.strip()


def _ends(text: str) -> list[int]:
    """The places of the `;` that end statements."""
    found, at = [], 0
    while (match := _SKIPPED.search(text, at)) is not None:
        at = match.end()
        if match["end"]:
            found.append(match.start())
        elif match["block"]:
            at = _after_comment(text, match.start())
        elif match["dollar"]:
            close = text.find(match[0], at)
            at = len(text) if close < 0 else close + len(match[0])
    return found


def _after_comment(text: str, start: int) -> int:
    """Where a block comment that begins here is over; they nest."""
    depth = 0
    for mark in re.compile(r"/\*|\*/").finditer(text, start):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return mark.end()
    return len(text)


def _blank(text: str) -> bool:
    """Whether there is nothing but space and closed comments."""
    at = 0
    while (match := re.compile(r"\s+|--[^\n]*\n|/\*").match(text, at)) is not None:
        at = _after_comment(text, at) if match[0] == "/*" else match.end()
        if match[0] == "/*" and not text[:at].endswith("*/"):
            return False
    return at == len(text)

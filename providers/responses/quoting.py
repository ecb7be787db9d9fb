"""Whether a part of a text is said by its writer or merely shown: in code, quoted, or in quotation marks.

By the rules of Markdown, as far as they matter for one mark within a line.
"""

from __future__ import annotations

import re

__all__ = ["is_shown"]

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
_BLANK = re.compile(r"\n[ \t]*\n")
_TICKS = re.compile(r"`+")
_QUOTED_LINE = re.compile(r" {0,3}>| {4}|\t")
# Opening marks and what closes each.
_MARKS = {'"': '"', "“": "”", "„": "“”", "«": "»", "»": "«", "「": "」", "『": "』"}
_NEAR, _FAR = 2_000, 50_000
_BESIDE = {"'": "'", "‘": "’", "‹": "›", "(": ")", "[": "]"} | _MARKS


def is_shown(text: str, start: int, end: int) -> bool:
    """Whether the part from `start` to `end`, which is within one line, is shown rather than said.

    Only the text around it is looked at: what is further away would take too long in a text without end.
    """
    away = max(start - _FAR, 0)
    text, start, end = text[away : end + _FAR], start - away, end - away
    line = text.rfind("\n", 0, start) + 1
    blank = _BLANK.search(text, start)
    begin = max((one.end() for one in _BLANK.finditer(text, 0, start)), default=0)
    finish = len(text) if blank is None else blank.start()
    return (
        _QUOTED_LINE.match(text, line, start) is not None
        or _in_fence(text, line)
        or _in_code_span(text, begin, start, finish)
        or _in_quotation_marks(text, begin, start, end, finish)
    )


def _in_fence(text: str, line: int) -> bool:
    """Whether the line that begins here is in fenced code; a fence that nothing closes ends with the text."""
    opened = ""
    for fence in _FENCE.finditer(text, 0, line):
        marks, rest = fence[1], fence[2]
        if not opened:
            opened = marks if marks[0] == "~" or "`" not in rest else ""
        elif marks[0] == opened[0] and len(marks) >= len(opened) and not rest.strip():
            opened = ""
    return bool(opened)


def _in_code_span(text: str, begin: int, start: int, finish: int) -> bool:
    """Whether the place is between two runs of equally many ticks of its paragraph."""
    runs = list(_TICKS.finditer(text, begin, finish))
    closing: dict[int, int] = {}
    next_alike: dict[int, int] = {}
    for place in range(len(runs) - 1, -1, -1):
        length = len(runs[place][0])
        if length in next_alike:
            closing[place] = next_alike[length]
        next_alike[length] = place
    place = 0
    while place < len(runs) and runs[place].start() < start:
        if place not in closing:
            place += 1
        elif runs[closing[place]].start() > start:
            return True
        else:
            place = closing[place] + 1
    return False


def _in_quotation_marks(text: str, begin: int, start: int, end: int, finish: int) -> bool:
    before, after = text[max(start - 1, 0) : start], text[end : end + 1]
    if after and after in _BESIDE.get(before, ""):
        return True
    expected = ""
    for letter in text[max(begin, start - _NEAR) : start]:
        if not expected:
            expected = _MARKS.get(letter, "")
        elif letter in expected:
            expected = ""
    return bool(expected) and any(letter in expected for letter in text[end : min(finish, end + _NEAR)])

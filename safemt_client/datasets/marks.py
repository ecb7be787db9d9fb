"""Marks in a text, such as `<image>`, that say where a picture belongs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]

__all__ = ["Role", "Said", "marks_in", "place", "without_marks"]

_MARK = r"(?:<\|?(?:image|img)(?:[_-]?(?:pad|placeholder|here))?(?:[_ ]?(\d{1,3}))?\|?>|\[image\])"
_ONE = re.compile(_MARK, re.IGNORECASE)
_PLAIN = re.sub(r"\((?!\?)", "(?:", _MARK)
_AT_START = re.compile(rf"\A(?:\s*{_PLAIN})+\s*", re.IGNORECASE)
_AT_END = re.compile(rf"(?:\s*{_PLAIN})+\s*\Z", re.IGNORECASE)


@dataclass(slots=True)
class Said:
    """A message as it is read.

    `as_written` keeps the marks in its text, as earlier versions did; `in_parts` says that it was given in
    parts; `label` is what the data set says of this turn.
    """

    role: Role
    text: str
    pictures: list[str] = field(default_factory=list)
    as_written: bool = False
    in_parts: bool = False
    label: Any = None


def marks_in(text: str) -> list[str]:
    """The marks that a text has, as they are written."""
    return [found[0] for found in _ONE.finditer(text)] if "<" in text or "[" in text else []


def without_marks(text: str) -> str:
    """The text without the marks that it begins or ends with: one within a sentence stays."""
    return _AT_END.sub("", _AT_START.sub("", text)) if marks_in(text) else text


def place(messages: Sequence[Said], pictures: Sequence[str]) -> None:
    """Give the pictures of a record to the user messages that have marks for them, else to the first.

    Marks with numbers choose by number, others take pictures in turn. One mark takes all; what is left over
    goes to the last message with a mark.
    """
    users = [message for message in messages if message.role == "user"]
    marked = [
        (message, found)
        for message in users
        if not message.pictures and ("<" in message.text or "[" in message.text)
        for found in _ONE.finditer(message.text)
    ]
    if not marked:
        users[0].pictures[:0] = pictures
        return
    numbers = [int(found[1]) if found[1] else 0 for _, found in marked]
    first = 0 if 0 in numbers and any(numbers) else 1
    left = list(range(len(pictures)))
    placed: set[tuple[int, int]] = set()
    for (message, _), number in zip(marked, numbers, strict=True):
        wanted = number - first if any(numbers) else (left[0] if left else -1)
        if 0 <= wanted < len(pictures) and (id(message), wanted) not in placed:
            placed.add((id(message), wanted))
            message.pictures.append(pictures[wanted])
        if wanted in left:
            left.remove(wanted)
    marked[-1][0].pictures.extend(pictures[number] for number in left)

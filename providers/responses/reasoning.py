"""The answer and the reasoning of a message, kept apart in whatever form they came.

What is taken out of a text goes to the reasoning and never vanishes. A reply that merely talks about the
marks must stay whole: otherwise what it says would be kept from the judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from safemt_client.providers.responses import harmony
from safemt_client.providers.responses.oddities import LONE_TAG, REASONING_IN_TEXT, UNREAD_TAG
from safemt_client.providers.responses.quoting import is_shown
from safemt_client.providers.responses.thinking import AUTO, Reading

__all__ = ["Parts", "split", "words_of"]

# Each mark that opens reasoning, and the one that closes it, by who writes so.
_MARKS = {
    "<think>": "</think>",  # DeepSeek, Qwen, GLM, MiniMax, Nemotron and most others
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",  # EXAONE, Gemini
    "<thoughts>": "</thoughts>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",  # Seed-OSS
    "<longcat_think>": "</longcat_think>",  # LongCat
    "[think]": "[/think]",  # Magistral
    "◁think▷": "◁/think▷",  # Kimi-VL
    "<|begin_of_thought|>": "<|end_of_thought|>",  # Sky-T1, OpenThinker
    "<|start_thinking|>": "<|end_thinking|>",  # Command A
    "<|inner_prefix|>": "<|inner_suffix|>",  # Apertus
    "<|channel>thought": "<channel|>",  # Gemma
    "here is my thought process:": "here is my response:",  # Granite
}
# What an answer that follows the reasoning may be wrapped in.
_WRAPPERS = {
    "<answer>": "</answer>",  # Hunyuan, GLM-V
    "<response>": "</response>",  # Granite, ERNIE
    "<|begin_of_solution|>": "<|end_of_solution|>",
    "<|start_response|>": "<|end_response|>",
    "<|begin_of_box|>": "<|end_of_box|>",
}
# Words without brackets are no tags: they count where they open a text, and not by themselves.
_TAGS = {opening: closing for opening, closing in _MARKS.items() if not opening[0].isalpha()}
_BRACKETS = {tag[0] for tag in _TAGS.values()}
_MOST_TAGS = 20
_MOST_DEPTH = 8


def _one_of(marks: Iterable[str]) -> str:
    return "(" + "|".join(map(re.escape, marks)) + ")"


_BEGIN = re.compile(r"\s*" + _one_of(_MARKS), re.IGNORECASE)
_OPENING = re.compile(_one_of(_TAGS), re.IGNORECASE)
_CLOSING = re.compile(_one_of(_TAGS.values()), re.IGNORECASE)
# Up to the first mark that could be its end, which must be the end of the whole.
_WRAPPED = re.compile(
    rf"\s*{_one_of(_WRAPPERS)}(?P<text>(?:(?!{_one_of(_WRAPPERS.values())}).)*)"
    rf"(?P<end>{_one_of(_WRAPPERS.values())}?)\s*",
    re.IGNORECASE | re.DOTALL,
)
_LINE_BREAK = re.compile(r"[ \t]*[\r\n]")
_FIELDS = (
    "reasoning_content",
    "reasoning",
    "thinking",
    "reasoning_text",
    "reasoning_details",
    "thinking_blocks",
)
_THOUGHTS = ("thinking", "reasoning", "thought", "reasoning_content")
_TEXTS = ("text", "output_text", None)


@dataclass(frozen=True, slots=True)
class Parts:
    """The answer and the reasoning of a message, and words for what was odd about them."""

    text: str
    reasoning: str | None = None
    oddities: tuple[str, ...] = ()


def split(message: Mapping[str, Any], reading: Reading = AUTO) -> Parts:
    """The answer and the reasoning of a message, in whatever form they came."""
    content = message.get("content")
    stated = next(
        (found for name in _FIELDS if name in message and (found := words_of(message[name]).strip())), ""
    )
    if isinstance(content, list):
        thoughts = [words_of(part) for part in content if _is_thought(part)]
        stated = stated or "\n".join(filter(None, thoughts))
        content = [part for part in content if not _is_thought(part) and _is_text(part)]
    parts = _read(words_of(content), reading)
    text = _unwrapped(parts.text) if stated or parts.reasoning else parts.text
    reasoning = "\n".join(filter(None, (stated, parts.reasoning)))
    return Parts(text, reasoning or None, parts.oddities)


def _is_thought(part: Any) -> bool:
    return isinstance(part, dict) and (part.get("type") in _THOUGHTS or part.get("thought") is True)


def _is_text(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, dict) and part.get("type") in _TEXTS)


def words_of(part: Any, depth: int = _MOST_DEPTH) -> str:
    """The text of a part, which may be a list of parts, or an object with the text in one of its fields."""
    if isinstance(part, str):
        return part
    if depth and isinstance(part, list):
        return "".join(words_of(one, depth - 1) for one in part)
    if depth and isinstance(part, dict):
        names = ("text", "value", "thinking", "reasoning", "summary", "content")
        return next((found for name in names if (found := words_of(part.get(name), depth - 1))), "")
    return ""


def _read(text: str, reading: Reading) -> Parts:
    """The answer and the reasoning of a text that holds both."""
    if reading.reasoning == "off" or not text.strip():
        return Parts(text)
    if reading.end and reading.end in text:
        before, _, answer = text.partition(reading.end)
        begin = _BEGIN.match(before)
        return Parts(
            answer.lstrip(), before[begin.end() if begin else 0 :].strip() or None, (REASONING_IN_TEXT,)
        )
    if (channels := harmony.channels(text)) is not None:
        return Parts(channels[1], channels[0] or None, (REASONING_IN_TEXT,))
    thoughts, answer = _leading_blocks(text)
    if thoughts is None:
        return _after_lone_tag(text, reading)
    found = (REASONING_IN_TEXT,)
    if reading.knows:
        more, answer = _later_blocks(answer)
        return Parts(answer, "\n".join(filter(None, (thoughts, more))), found)
    unread = (UNREAD_TAG,) if _CLOSING.search(answer) else ()
    return Parts(answer, thoughts, found + unread)


def _leading_blocks(text: str) -> tuple[str | None, str]:
    """The reasoning of the blocks that open a text, None if there are none, and what follows them.

    A block that is not closed was cut off: no answer follows it.
    """
    thoughts: list[str] = []
    rest = text
    while len(thoughts) < _MOST_TAGS and (opening := _BEGIN.match(rest)):
        closing = _closing(rest, opening.end(), _MARKS[opening[1].lower()])
        if closing is None and opening[1][0].isalpha():
            break
        end, after = (len(rest), len(rest)) if closing is None else closing
        thoughts.append(rest[opening.end() : end].strip())
        rest = rest[after:].lstrip()
    return ("\n".join(filter(None, thoughts)) if thoughts else None), rest


def _closing(text: str, at: int, mark: str) -> tuple[int, int] | None:
    """Where the block that is open at this place ends: at the first mark that is not merely shown."""
    for pattern in (re.compile(re.escape(mark), re.IGNORECASE), _CLOSING):
        found = [tag.span() for tag in islice(pattern.finditer(text, at), _MOST_TAGS)]
        if found:
            return next((span for span in found if not is_shown(text, *span)), found[0])
    return None


def _after_lone_tag(text: str, reading: Reading) -> Parts:
    """The answer after a closing tag that no opening tag comes before, where that is what it is."""
    # Most answers have no bracket of this kind, and looking for one is ten times as fast.
    if not any(bracket in text for bracket in _BRACKETS):
        return Parts(text)
    tags = [tag.span() for tag in islice(_CLOSING.finditer(text), _MOST_TAGS)]
    if not tags:
        return Parts(text)
    start, end = tags[0]
    openings = islice(_OPENING.finditer(text, 0, start), _MOST_TAGS)
    if any(not is_shown(text, *opening.span()) for opening in openings):
        thoughts, answer = _later_blocks(text) if reading.knows else ("", text)
        return Parts(answer, thoughts, (REASONING_IN_TEXT,)) if thoughts else Parts(text, None, (UNREAD_TAG,))
    blank = not text[:start].strip()
    if blank or (_LINE_BREAK.match(text, end) and not is_shown(text, start, end)):
        found = (REASONING_IN_TEXT, LONE_TAG)
        # Some models end an empty reasoning first, and then reason.
        further = next((span for span in tags[1:] if not is_shown(text, *span)), None)
        if blank and further and reading.knows:
            return Parts(text[further[1] :].lstrip(), text[end : further[0]].strip() or None, found)
        unread = (UNREAD_TAG,) if further else ()
        return Parts(text[end:].lstrip(), text[:start].strip() or None, found + unread)
    if reading.knows:
        start, end = next((span for span in tags if not is_shown(text, *span)), tags[0])
        return Parts(text[end:].lstrip(), text[:start].strip() or None, (REASONING_IN_TEXT,))
    return Parts(text, None, (UNREAD_TAG,))


def _later_blocks(text: str) -> tuple[str, str]:
    """The reasoning of the blocks within a text, and the text without them."""
    thoughts: list[str] = []
    kept: list[str] = []
    at = 0
    for opening in islice(_OPENING.finditer(text), _MOST_TAGS):
        if opening.start() < at or is_shown(text, *opening.span()):
            continue
        closing = _closing(text, opening.end(), _TAGS[opening[1].lower()])
        if closing is None:
            break
        kept.append(text[at : opening.start()])
        thoughts.append(text[opening.end() : closing[0]].strip())
        at = closing[1]
    kept.append(text[at:].lstrip() if thoughts else text[at:])
    return "\n".join(filter(None, thoughts)), "".join(kept)


def _unwrapped(answer: str) -> str:
    """The answer out of its wrapper, if that is all there is; a wrapper that is cut off has no end."""
    found = _WRAPPED.fullmatch(answer)
    if found is None or not (found["end"] == "" or _WRAPPERS[found[1].lower()] == found["end"].lower()):
        return answer
    return found["text"].strip()

"""What the body of an unsuccessful response says, in the forms of various servers."""

from __future__ import annotations

import ast
import html
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from safemt_client.providers.json_codec import loads
from safemt_client.providers.responses.echo import GAP, Echo, unquoted
from safemt_client.providers.responses.error_tables import block_field, fields, sentences
from safemt_client.providers.responses.waits import wait_field, wait_in_words

__all__ = ["Said", "content_of", "one_line", "read_error"]

_MOST_TEXT, _MOST_STRING, _MOST_RAW = 20_000, 4_000, 200_000
_MOST_FIELDS, _DEEPEST, _MOST_PIECES = 300, 8, 8
_LONGEST_PIECE = 8_000

_NO_CODES = ("none", "null", "error", "")
_NOT_LETTERS = re.compile(r"[\W\d_]+")
_ONE_WORD = re.compile(r"[\w.:-]{1,100}\Z")
_HEADING = re.compile(r"<(title|h1)\b[^>]{0,500}>(.{1,500}?)</\1", re.IGNORECASE | re.DOTALL)
_UNSEEN = re.compile(r"<(/?)(?:script|style|head)\b", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]{0,2000}>")
_IS_PAGE = re.compile(r"\s*<(?:!doctype|!--|html|head|body|\?xml|h1|center|title)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Said:
    """What an error says.

    `message` is for people, in the server's own words. `codes` and `sentences` are for the tables: without
    what the error repeats of its request, and without what it quotes. `blocked` tells that a field states a
    block, `structured` that the body is JSON rather than a page or bare text, `wait_s` how long to wait.
    """

    message: str
    codes: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    blocked: bool = False
    structured: bool = True
    page: bool = False
    wait_s: float | None = None


@dataclass
class _Found:
    """What is collected on the way through a body."""

    echo: Echo
    codes: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    for_people: list[str] = field(default_factory=list)
    blocked: bool = False
    wait_s: float = 0.0
    left: int = _MOST_FIELDS
    room: int = _MOST_TEXT


def one_line(text: str, limit: int = 300) -> str:
    """The text on one line, shortened."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def content_of(body: bytes) -> Any:
    """What the JSON holds, None if it is not JSON; an error alone in a list is taken out of it."""
    try:
        content = loads(body, lenient=True)
    except ValueError:
        return None
    alone = content[0] if isinstance(content, list) and len(content) == 1 else None
    return alone if isinstance(alone, dict) and "error" in alone else content


def read_error(content: Any, raw: str, echo: Echo | None = None) -> Said:
    """What an unsuccessful body says: `content` is its JSON, None where it is none, `raw` its text."""
    echo = echo or Echo()
    if content is None:
        return _read_text(raw[:_MOST_RAW], echo)
    found = _Found(echo)
    _walk(content, "error", found, 0)
    said, codes = dict.fromkeys(found.for_people), dict.fromkeys(found.codes)
    words = tuple(sentences("\n".join([*found.words, *codes])))
    return Said(
        one_line(" ".join(said) or ("" if _is_empty(content) else raw[:_MOST_STRING])) or "no reason given",
        tuple(codes),
        words,
        blocked=found.blocked,
        wait_s=max(found.wait_s, wait_in_words(words) or 0.0) or None,
    )


def _is_empty(content: Any) -> bool:
    """Whether an error has the usual form and says nothing; of another form, the raw text may say more."""
    inner = content.get("error") if isinstance(content, dict) else None
    return isinstance(content, dict) and "error" in content and (not inner or isinstance(inner, dict))


def _read_text(raw: str, echo: Echo) -> Said:
    page = _IS_PAGE.match(raw) is not None
    lines = (_seen(raw[:_MOST_TEXT]) if page else raw.lstrip("\ufeff")).splitlines()
    first = next((line.strip() for line in lines if line.strip()), "no body")
    words = tuple(sentences(unquoted(echo.removed("\n".join(lines)[:_MOST_TEXT]))))
    return Said(one_line(first), (), words, structured=False, page=page, wait_s=wait_in_words(words))


def _seen(page: str) -> str:
    """The title of a page, or its first heading, and then what one sees of it."""
    heading = _HEADING.search(page)
    parts, place, hidden = [heading[2] + "\n" if heading else ""], 0, False
    for found in _UNSEEN.finditer(page):
        if not hidden:
            parts.append(page[place : found.start()])
        hidden, place = not found[1], found.start()
    if not hidden:
        parts.append(page[place:])
    return html.unescape(_TAG.sub("\n", "".join(parts)))


def _walk(value: Any, name: str, found: _Found, depth: int) -> None:
    """Collect what a value says that stands in a field of this name, letters alone."""
    found.left -= 1
    if found.left < 0 or depth > _DEEPEST:
        return
    if isinstance(value, dict):
        for key, inner in sorted(value.items(), key=_rank):
            key = str(key)[:_MOST_STRING]
            found.blocked = found.blocked or block_field(key, inner)
            found.wait_s = max(found.wait_s, wait_field(key, inner) or 0.0)
            plain = _NOT_LETTERS.sub("", key).lower()
            if plain not in fields("echoes") and not key.startswith("@"):
                _walk(inner, plain, found, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _walk(inner, name, found, depth + 1)
    elif isinstance(value, str):
        _text(value, name, found, depth)
    elif isinstance(value, int) and not isinstance(value, bool) and name in fields("codes"):
        _code(str(value) if abs(value) < 10**12 else "", found)


def _rank(item: tuple[Any, Any]) -> int:
    """Codes first, then sentences, then what lies deeper: so people read it."""
    if isinstance(item[1], dict | list):
        return 2
    return 0 if _NOT_LETTERS.sub("", str(item[0])).lower() in fields("codes") else 1


def _code(value: str, found: _Found) -> None:
    if value.lower() not in _NO_CODES:
        found.codes.append(value)
        found.for_people.append(value)


def _text(value: str, name: str, found: _Found, depth: int) -> None:
    value = value.strip()
    if len(value) > _MOST_STRING:
        value = f"{value[: _MOST_STRING * 3 // 4]}\n{value[-_MOST_STRING // 4 :]}"
    found.room -= len(value)
    if not value or found.room < 0:
        return
    known = name in fields("codes") or name in fields("texts")
    if known and _ONE_WORD.match(value):
        _code(value, found)
        return
    if known:
        found.for_people.append(value)
    for inner, start, end in reversed(list(_pieces(value))):
        if not found.echo.contains(value[start:end]):
            people, found.for_people = found.for_people, []
            _walk(inner, "error", found, depth + 1)
            found.for_people = people
        value = value[:start] + GAP + value[end:]
    found.words.append(unquoted(found.echo.removed(value)))


def _pieces(text: str) -> Iterator[tuple[dict[Any, Any], int, int]]:
    """Objects written out within a text, as JSON or in Python's way, and where they stand."""
    place = count = 0
    while (start := text.find("{", place)) >= 0 and (count := count + 1) <= _MOST_PIECES:
        end = _closing(text, start)
        inner = _object(text[start:end]) if end else None
        if inner is None:
            place = start + 1
        else:
            yield inner, start, end
            place = end


def _closing(text: str, start: int) -> int:
    """Where the object ends that begins there, 0 if it does not; what is quoted does not count."""
    deep, mark = 0, ""
    at = start
    while at < min(len(text), start + _LONGEST_PIECE):
        one = text[at]
        if mark:
            if one == "\\":
                at += 1
            elif one == mark and not text[at + 1 : at + 2].isalnum():
                mark = ""
        elif one in "'\"":
            mark = one
        elif one in "{[(":
            deep += 1
            if deep > _DEEPEST * 2:
                return 0
        elif one in "}])":
            deep -= 1
            if deep == 0:
                return at + 1
        at += 1
    return 0


def _object(text: str) -> dict[Any, Any] | None:
    """The object that a text spells, also where line breaks and quotation marks in it are escaped."""
    loosened = text.replace("\\n", " ").replace('\\"', '"').replace("\\'", "'")
    for spelled in dict.fromkeys((text, loosened)):
        try:
            read = json.loads(spelled, strict=False)
        except ValueError:
            try:
                with warnings.catch_warnings(action="ignore"):
                    read = ast.literal_eval(spelled)
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                continue
        if isinstance(read, dict):
            return read
    return None

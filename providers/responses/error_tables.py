"""The vendors' codes and phrases of `error_tables.toml`, and whether an error has one of them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

__all__ = [
    "block_code",
    "block_field",
    "block_phrase",
    "fields",
    "has_code",
    "has_phrase",
    "is_generic",
    "sentences",
]

_NOT_ALNUM = re.compile(r"[\W_]+")
_SPACES = re.compile(r"[\s_-]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
# An address is left out but for its fragment, as one word: it may tell two errors of the same words apart.
_URL = re.compile(r"\bhttps?://[^\s#]*(#[\w-]*)?\S*")
_SENTENCE = re.compile(r"[.!?;](?=\s|\Z)|[。！？；\n]")
_SAYS_NOTHING = re.compile(
    r"(?:[\W\d_]|http|error|status|code|oops|none|null|server|api|message|detail|type|success|false)*+\Z"
)
_MOST_TEXT, _MOST_SENTENCES = 20_000, 200
_LONGEST_CODE = 200


@dataclass(frozen=True, slots=True)
class _Table:
    """Codes by their letters and digits; phrases as parts in order, each part one of several words."""

    codes: frozenset[str]
    phrases: tuple[tuple[tuple[str, ...], ...], ...]
    flags: frozenset[str]
    lists: frozenset[str]


@cache
def _data() -> dict[str, dict[str, list[str]]]:
    file = resources.files(__package__).joinpath("error_tables.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))


@cache
def _tables() -> dict[str, _Table]:
    return {name: _read(table) for name, table in _data().items()}


def _read(table: Mapping[str, list[str]]) -> _Table:
    codes, flags, lists = (frozenset(map(_bare, table.get(key, ()))) for key in ("codes", "flags", "lists"))
    phrases = (phrase.split("~") for phrase in table.get("phrases", ()))
    return _Table(codes, tuple(tuple(tuple(p.split("|")) for p in parts) for parts in phrases), flags, lists)


@cache
def fields(kind: str) -> frozenset[str]:
    """Names of fields, letters alone: those of `codes`, of `texts`, and `echoes`, which are not read."""
    return frozenset(_data()["fields"][kind])


def has_code(codes: Iterable[str], table: str) -> bool:
    """Whether one of the codes, or a part of it between dots, is in a table."""
    known = _tables()[table].codes
    short = (code for code in codes if len(code) <= _LONGEST_CODE)
    return any(_bare(part) in known for code in short for part in (code, *code.split(".")))


def has_phrase(said: Iterable[str], table: str) -> bool:
    """Whether one of the `sentences` has a phrase of a table."""
    listed = list(said)
    whole = "\n".join(listed)
    # Most phrases are nowhere in the text: only the others are looked for in each sentence.
    likely = [phrase for phrase in _tables()[table].phrases if _has(phrase, whole)]
    return any(_has(phrase, sentence) for phrase in likely for sentence in listed)


def sentences(text: str) -> list[str]:
    """The sentences of a text as the tables write them: lower case, single spaces, without addresses."""
    parts = _SENTENCE.split(_URL.sub(_fragment, text[:_MOST_TEXT]), _MOST_SENTENCES)
    return [plain for part in parts if (plain := _SPACES.sub(" ", _CAMEL.sub(" ", part)).lower().strip())]


def block_code(text: str) -> bool:
    """Whether a code, a type or a finish reason names a content filter, such as `PROHIBITED_CONTENT`."""
    return has_code((text, text.partition(":")[0]), "block")


def block_field(name: str, value: object) -> bool:
    """Whether a field of an error states a block: `"input_sensitive": true`."""
    table, bare = _tables()["block"], _bare(name)
    return (value is True and bare in table.flags) or (bool(value) and bare in table.lists)


def block_phrase(said: Iterable[str]) -> bool:
    """Whether a sentence says that a filter acted; one about the account or a broken filter does not."""
    listed = list(said)
    return has_phrase(listed, "block") and any(
        has_phrase([one], "block") and not has_phrase([one], "no_block") and not has_phrase([one], "account")
        for one in listed
    )


def is_generic(text: str) -> bool:
    """Whether an error's text says no more than that something failed for now, or nothing at all.

    Such an error may end by itself; any other of the same words would come with every request.
    """
    said = sentences(text)
    nothing = _SAYS_NOTHING.match(" ".join(said)) is not None
    return nothing or (has_phrase(said, "generic") and not has_phrase(said, "specific"))


def _fragment(address: re.Match[str]) -> str:
    return " " + (address[1] or "").replace("-", "").replace("_", "") + " "


def _bare(text: str) -> str:
    return _NOT_ALNUM.sub("", text).lower()


def _has(phrase: tuple[tuple[str, ...], ...], sentence: str) -> bool:
    place = 0
    for words in phrase:
        ends = [at + len(word) for word in words if (at := sentence.find(word, place)) >= 0]
        if not ends:
            return False
        place = min(ends)
    return True

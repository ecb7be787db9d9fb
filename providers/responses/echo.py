"""What an error repeats of its request: it does not tell what went wrong, and must not be read so.

Servers quote the user's text in validation errors: as it was, escaped for JSON, Python or HTML, in quotation
marks, or cut off. A talk about money or about filters would then look like an empty account or a block.
Letters and digits alone are compared, after every escape is undone, so that all these forms are one.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise

from safemt_client.providers.json_codec import dumps
from safemt_client.providers.types import Request

__all__ = ["Echo", "unquoted"]

GAP = "…"
"""What is left in the place of something that was taken out."""

_LONG, _LONG_WIDE, _WORDS = 18, 6, 4
"""A run of so many letters, of so many ideographs, or of so many words that both have is an echo."""
_MOST_TEXT, _MOST_REQUEST, _MOST_PLACES = 20_000, 1_000_000, 300
_LONGEST_QUOTE = 4_000
_FEW = 300
"""So many may be looked for one by one in a long request; more are compared all at once."""

_ESCAPE = re.compile(
    r"(?<!\\)(?:\\++(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|U[0-9a-fA-F]{8}))++|(?<!\\)\\++[abfnrtv]"
    r"|&(?:amp;){0,5}(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]\w{1,30});"
)
_AMPERSANDS = re.compile(r"\A&(?:amp;)+(?=.)")
_ONE_ESCAPE = re.compile(r"(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|U[0-9a-fA-F]{8})")
_LETTERS = re.compile(r"[^\W_]+")
_NOT_LETTERS = re.compile(r"[\W_]+")
_WIDE = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_PARTS = re.compile(r"[:\n(){}\[\]|<>,]+")
_CUT = re.compile(r"(?:\.\.\.|…|\[truncated\]|<truncated>|\(truncated\))")
_QUOTES = {"'": "'", '"': '"', "`": "`", "«": "»", "“": "”", "‘": "’", "„": "“", "「": "」", "『": "』"}
_OPENING = re.compile(
    r"""(?:^|(?<=[\s:=(\[{,<>/-])|(?<=[^\w\\]\\)|(?<=[^\w\\]\\{2})|(?<=[^\w\\]\\{3}))(['"`«“‘„「『])"""
)
_FIELD = re.compile(
    r"\b(?:message|msg|details?|code|reason|description|error_code|error_message)\\*['\"]?\s?[:=]\s?\Z"
)


class Echo:
    """What one request contained, to be taken out of what a server says about it."""

    def __init__(self, request: Request | None = None, model: str = "") -> None:
        self._request = request
        self._names = _names(model)

    def contains(self, text: str) -> bool:
        """Whether the request contains all of a text, in whatever form."""
        letters = _letters(_unescaped(text[:_MOST_TEXT]))
        return bool(letters) and letters in self._letters

    def removed(self, text: str, *, short: bool = True) -> str:
        """The text, at most 20,000 characters of it, with a gap in place of what the request contained.

        Without `short`, single words stay: for names of parameters, which a talk may be about as well.
        """
        text = text[:_MOST_TEXT]
        if self._names is not None:
            text = self._names.sub(GAP, text)
        if not self._texts:
            return text
        if short:
            text = self._without_fragments(text)
        said = _Letters(text)
        covered = bytearray(len(said.letters))
        for start, end in self._shared(said):
            covered[start:end] = b"\1" * (end - start)
        return said.without(covered)

    @cached_property
    def _texts(self) -> list[str]:
        """The request's texts with their escapes undone."""
        if self._request is None:
            return []
        given = [message.text for message in self._request.messages]
        more = (self._request.sampling.extra, self._request.response_schema)
        given += [dumps(dict(one)).decode("utf-8", "replace") for one in more if one]
        left, texts = _MOST_REQUEST, []
        for text in reversed(given):
            if text.strip() and left > 0:
                texts.append(_unescaped(text[:left]))
                left -= len(text)
        return texts

    @cached_property
    def _letters(self) -> str:
        return "\0".join(_letters(text) for text in self._texts)

    @cached_property
    def _whole(self) -> set[str]:
        return set(self._letters.split("\0"))

    def _without_fragments(self, text: str) -> str:
        """Without what the request has too and is quoted here, cut off, or alone between two marks."""
        for start, end in reversed(list(_quoted(text))):
            if self.contains(text[start:end]):
                text = text[:start] + GAP + text[end:]
        spans = [self._cut(text, found) for found in list(_CUT.finditer(text))[:_MOST_PLACES]]
        ends = [0, *(found.end() for found in _PARTS.finditer(text)), len(text)]
        parts = pairwise(ends)
        spans += [part for part in parts if self._alone(text, *part)]
        for start, end in sorted((span for span in spans if span[0] < span[1]), reverse=True):
            text = text[:start] + GAP + text[end:]
        return text

    def _alone(self, text: str, start: int, end: int) -> bool:
        """Whether a text of the request stands between two marks, or after one several words of it."""
        letters = _letters(_unescaped(text[start:end]))
        several = start > 0 and len(_LETTERS.findall(text, start, end)) > 1
        return bool(letters) and (letters in self._whole or (several and letters in self._letters))

    def _cut(self, text: str, mark: re.Match[str]) -> tuple[int, int]:
        """The longest part of the request that ends where a text is cut off; else one that begins there."""
        before = list(_LETTERS.finditer(text, max(0, mark.start() - 200), mark.start()))
        for word in before[-20:]:
            if self.contains(text[word.start() : mark.start()]):
                return word.start(), mark.start()
        after = list(_LETTERS.finditer(text, mark.end(), mark.end() + 200))
        for word in reversed(after[:20]):
            if self.contains(text[mark.end() : word.end()]):
                return mark.end(), word.end()
        return 0, 0

    def _shared(self, said: _Letters) -> Iterator[tuple[int, int]]:
        """The runs of letters that the request has too: long ones, several words, a whole short text."""
        yield from self._runs(said.letters, _LONG)
        if _WIDE.search(said.letters):
            yield from self._runs(said.letters, _LONG_WIDE, _WIDE)
        yield from self._phrases(said.words)
        starts, ends = ({word[place] for word in said.words} for place in (1, 2))
        for text in self._texts:
            letters = _letters(text)
            if len(letters) < _LONG and len(_LETTERS.findall(text)) + len(_WIDE.findall(letters)) // 2 > 1:
                for found in re.finditer(re.escape(letters), said.letters):
                    # Ideographs are not parted into words.
                    begins = found.start() in starts or _WIDE.match(letters[0])
                    if begins and (found.end() in ends or _WIDE.match(letters[-1])):
                        yield found.span()

    def _runs(
        self, letters: str, length: int, only: re.Pattern[str] | None = None
    ) -> Iterator[tuple[int, int]]:
        ours, half = self._letters, length // 2
        # A shared run holds half of one that begins at a multiple of it. Mostly there is none: that is all.
        halves = {letters[at : at + half] for at in range(0, len(letters) - half + 1, half)}
        if not (len(halves) > _FEW or any(one in ours for one in halves)):
            return
        runs = {letters[at : at + length] for at in range(len(letters) - length + 1)}
        if only is not None:
            runs = {run for run in runs if len(only.findall(run)) == length}
        both = runs.intersection(ours[at : at + length] for at in range(len(ours) - length + 1))
        for at in range(len(letters) - length + 1):
            if letters[at : at + length] in both:
                yield at, at + length

    def _phrases(self, words: list[tuple[str, int, int]]) -> Iterator[tuple[int, int]]:
        phrases = list(_several([word for word, _, _ in words]))
        likely = set(phrases)
        if len(likely) <= _FEW:
            likely = {phrase for phrase in likely if "".join(phrase) in self._letters}
        if not likely:
            return
        ours = (_LETTERS.findall(text.casefold()) for text in self._texts)
        both = likely.intersection(phrase for text in ours for phrase in _several(text))
        for at, phrase in enumerate(phrases):
            if phrase in both:
                yield words[at][1], words[at + _WORDS - 1][2]


class _Letters:
    """The letters and digits of a text, each with its place in it, escapes undone."""

    def __init__(self, text: str) -> None:
        self._text = text
        letters: list[str] = []
        self._places: list[tuple[int, int]] = []
        self.words: list[tuple[str, int, int]] = []
        begun = 0

        def end_word() -> None:
            if len(letters) > begun:
                self.words.append(("".join(letters[begun:]), begun, len(letters)))

        for piece, start, end, exact in _pieces(text):
            for at, one in enumerate(piece):
                folded = one.casefold() if one.isalnum() else ""
                if not folded:
                    end_word()
                    begun = len(letters)
                place = (start + at, start + at + 1) if exact else (start, end)
                letters += folded
                self._places += [place] * len(folded)
        end_word()
        self.letters = "".join(letters)

    def without(self, covered: bytearray) -> str:
        """The text with a gap for each run of covered letters and what stands between them."""
        out, place, at = [], 0, 0
        while (start := covered.find(1, at)) >= 0:
            at = covered.find(0, start)
            at = len(covered) if at < 0 else at
            out += [self._text[place : self._places[start][0]], GAP]
            place = self._places[at - 1][1]
        return "".join([*out, self._text[place:]])


def unquoted(text: str) -> str:
    """The text without what stands in quotation marks, which is somebody else's; a field's value stays.

    A text that is quoted as a whole is only freed from its marks.
    """
    text = html.unescape(text).strip()
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        return text[1:-1]
    out, place = [], 0
    for start, end in _quoted(text):
        if _FIELD.search(text, max(0, start - 40), start - 1) is None:
            out += [text[place:start], GAP]
            place = end
    return "".join([*out, text[place:]])


def _quoted(text: str) -> Iterator[tuple[int, int]]:
    """Where something stands in quotation marks; a mark that nothing closes counts to the end of the line.

    An apostrophe opens nothing, since a letter stands before it, and closes nothing where one follows.
    """
    place = count = 0
    while (found := _OPENING.search(text, place)) and (count := count + 1) <= _MOST_PLACES:
        start, mark = found.end(), _QUOTES[found[1]]
        end = start
        while True:
            end = text.find(mark, end, start + _LONGEST_QUOTE)
            if end < 0:
                line = text.find("\n", start)
                end = min(len(text) if line < 0 else line, start + _LONGEST_QUOTE)
                break
            if _escapes(text, end) == _escapes(text, found.start()) and not text[end + 1 : end + 2].isalnum():
                break
            end += 1
        yield start, end
        place = max(end + 1, start)


def _escapes(text: str, place: int) -> int:
    """How many backslashes stand before a place, 4 at most: an escaped mark ends no plain one."""
    head = text[max(0, place - 4) : place]
    return len(head) - len(head.rstrip("\\"))


def _names(model: str) -> re.Pattern[str] | None:
    """A pattern of the names of a model; one that is an ordinary word is left in, since it may mean that."""
    last = model.rsplit("/", 1)[-1]
    names = {name for name in (model, last, last.partition(":")[0], last.partition("@")[0]) if len(name) > 2}
    told = sorted((re.escape(name) for name in names if not name.isalpha()), key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(told)})(?![\w-])", re.IGNORECASE) if told else None


def _pieces(text: str) -> Iterator[tuple[str, int, int, bool]]:
    """The text in pieces: as it stands, and what escapes stand for."""
    place = 0
    for found in _ESCAPE.finditer(text):
        yield text[place : found.start()], place, found.start(), True
        yield _meaning(found[0]), *found.span(), False
        place = found.end()
    yield text[place:], place, len(text), True


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: _meaning(found[0]), text)


def _meaning(escape: str) -> str:
    """What escapes stand for: bytes of UTF-8, code units of UTF-16, a character of HTML, a space."""
    if escape[0] == "&":
        return html.unescape(_AMPERSANDS.sub("&", escape))
    units = _ONE_ESCAPE.findall(escape)
    if not units:
        return " "
    if all(unit[0] == "x" for unit in units):
        data = bytes(int(unit[1:], 16) for unit in units)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data.decode("latin-1")
    codes = (min(int(unit[1:], 16), 0x10FFFF) for unit in units)
    return "".join(map(chr, codes)).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _letters(text: str) -> str:
    return _NOT_LETTERS.sub("", text).casefold()


def _several(words: list[str]) -> Iterator[tuple[str, ...]]:
    return zip(*(words[at:] for at in range(_WORDS)), strict=False)

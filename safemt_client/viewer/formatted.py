"""Markdown as a page may show it: it is formatted, and nothing in it leads or loads anywhere.

The text is parsed by markdown-it; the page is made here, from its tokens, with tags of a fixed list and
without their attributes. So neither HTML in the text nor a parser's idea of a safe link decides what reaches
the page. And nothing is left out: Markdown can hide words (of a table's surplus cells, say), and who judges a
reply has to see all of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from html import unescape
from time import thread_time

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from safemt_client.viewer.marks import marked, shown

__all__ = ["Formatter", "formatted"]

_TAGS = {
    **{"paragraph": "p", "blockquote": "blockquote", "bullet_list": "ul", "ordered_list": "ol"},
    **{"list_item": "li", "table": "table", "thead": "thead", "tbody": "tbody", "tr": "tr"},
    **{"td": "td", "strong": "strong", "em": "em", "s": "s"},
}
# The page's own headings say how it is built: those of a reply are not among them.
_OPENED = {"heading": '<p class="heading">', "th": '<td class="heading">'}
_CLOSED = {"heading": "</p>", "th": "</td>"}
_LISTED = re.compile(r"^[ \t>*+-]*(?:\d{1,9}[.)]\s+)+", re.MULTILINE)
_WIDEST = 100
"""Columns of a table: each short row of a wider one is filled up with as many cells."""
_SECONDS = 1.0


@cache
def _parser() -> MarkdownIt:
    # Definitions of links stay as they were written, and so do addresses.
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("reference")
    parser.normalizeLink = parser.normalizeLinkText = str  # type: ignore[method-assign, assignment]
    return parser


def formatted(text: str | None, wanted: str = "", most: int | None = None) -> Markup:
    """Markdown (CommonMark with tables) as HTML, with hits of `wanted` marked; `most`: its first characters.

    Links and images become their words with the address beside them, as text. If formatting would leave out
    a letter or a digit of the text, or has a table wider than any screen, it is shown as it was written.
    """
    whole = (text or "")[:most]
    if max(line.count("|") for line in whole.split("\n")) > _WIDEST:
        return _as_written(whole, wanted)
    page = Markup("").join(_all(_parser().parse(whole), wanted))
    if _signs(_LISTED.sub("", unescape(whole))) - _signs(page.striptags()):
        return _as_written(whole, wanted)
    return page


class Formatter:
    """Formats the texts of one page, and those that are left when its time is up not at all.

    What a text takes depends on what it is: of many that were written to take long, no page waits for all.
    """

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._left = seconds

    def __call__(self, text: str | None, wanted: str = "", most: int | None = None) -> Markup | None:
        """The text as `formatted` has it; None if the time is up."""
        if self._left <= 0:
            return None
        began = thread_time()
        page = formatted(text, wanted, most)
        self._left -= thread_time() - began
        return page


def _as_written(text: str, wanted: str) -> Markup:
    return Markup('<pre class="code">{}</pre>').format(marked(text, wanted))


def _signs(text: str) -> Counter[str]:
    """How often each letter and digit occurs."""
    return Counter({sign: count for sign, count in Counter(text).items() if sign.isalnum()})


def _all(tokens: Sequence[Token], wanted: str) -> Iterator[Markup]:
    links: list[int] = []
    for place, token in enumerate(tokens):
        name, _, end = token.type.rpartition("_")
        if token.hidden:
            # Paragraphs of a tight list.
            continue
        if token.type == "inline":
            yield from _all(token.children or (), wanted)
        elif token.type == "link_open":
            links.append(place)
        elif token.type == "link_close":
            begin = links.pop()
            words = "".join(one.content for one in tokens[begin:place])
            yield _address(tokens[begin], "href") if words != tokens[begin].attrGet("href") else Markup("")
        elif token.type == "image":
            words = marked(token.content, wanted)
            yield Markup('<span class="inert">image</span> {}{}').format(words, _address(token, "src"))
        elif token.nesting == 1 and end == "open":
            yield _opened(name, token)
        elif token.nesting == -1 and end == "close":
            yield Markup(_CLOSED.get(name) or (f"</{_TAGS[name]}>" if name in _TAGS else ""))
        else:
            yield _leaf(token, wanted)


def _opened(name: str, token: Token) -> Markup:
    start = token.attrGet("start")
    if name == "ordered_list" and isinstance(start, int):
        return Markup(f'<ol start="{start:d}">')
    return Markup(_OPENED.get(name) or (f"<{_TAGS[name]}>" if name in _TAGS else ""))


def _leaf(token: Token, wanted: str) -> Markup:
    text = marked(token.content, wanted)
    if token.type in ("fence", "code_block"):
        about = Markup('<p class="inert">{}</p>').format(marked(token.info, wanted)) if token.info else ""
        return Markup('{}<pre class="code"><code>{}</code></pre>').format(about, text)
    if token.type == "code_inline":
        return Markup("<code>{}</code>").format(text)
    if token.type == "softbreak":
        return Markup("\n")
    if token.type in ("hardbreak", "hr"):
        return Markup("<br>" if token.type == "hardbreak" else "<hr>")
    return text


def _address(token: Token, name: str) -> Markup:
    """Where a link or an image would have led, and its title, as text."""
    words = [shown(token.attrGet(one)) for one in (name, "title") if token.attrGet(one)]
    return Markup(' <span class="inert">({})</span>').format(Markup(" ").join(words)) if words else Markup("")

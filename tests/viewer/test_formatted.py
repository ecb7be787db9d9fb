"""Markdown on request: formatted, whole, and without a tag or an attribute that could do anything."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hostile import TEXTS
from support.talk import RUN, make_talk

from safemt_client.viewer import conversation_page
from safemt_client.viewer.formatted import _LISTED, Formatter, formatted

TAGS = "p blockquote ul ol li table thead tbody tr td strong em s code pre br hr span mark"
PLAIN = frozenset(TAGS.split())
ATTACKS = {
    "link": "[click](javascript:alert(1)) [data](data:text/html,<script>alert(1)</script>)",
    "web": "[here](http://example.com/?x=1 \"title\") <http://example.com/y>",
    "image": "![alt](http://example.com/spy.png \"seen\") ![](//example.com/x)",
    "html": "<img src=x onerror=alert(1)><script>alert(2)</script>\n\n<div hx-get='/sql' hx-trigger='load'>x</div>",
    "quotes": "[a](http://e.com/\"onmouseover=alert(1)) ![\"><b>](x)",
    "fence": "```js\" onclick=\"alert(1)\nfetch('/')\n```",
    "entity": "&#x202e;reversed&#27;[2J &lt;script&gt;",
    "bidi": "**\u202ebold\u202c** `\x1b[2J`",
    "reference": "[a]\n\n[a]: javascript:alert(1) 'hidden words'",
    "table": "| a |\n|:-:|\n| b | surplus |",
    "deep": "> " * 60 + "hidden words",
    "lists": "- " * 60 + "hidden words",
    "heading": "# <b>One</b>\n\nTwo\n===\n",
}  # fmt: skip


class Checked(HTMLParser):
    """Fails at a tag or an attribute that is not of the list; collects the text."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in PLAIN, tag
        for name, value in attrs:
            assert (name, value) in {("class", "heading"), ("class", "inert"), ("class", "code")} or (
                (tag, name) == ("ol", "start") and str(value).isdecimal()
            ), (tag, name, value)

    def handle_data(self, data: str) -> None:
        self.text += data


def checked(text: str, wanted: str = "") -> str:
    page = Checked()
    page.feed(str(formatted(text, wanted)))
    page.close()
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page.text)
    return page.text


def test_what_is_formatted() -> None:
    page = str(
        formatted("# One\n\n**two** *three*\nfour\n\n3. five\n\n| a |\n|-|\n| b |\n\n~~c~~ `d`", "two")
    )
    for part in (
        *('<p class="heading">One</p>', "<strong><mark>two</mark></strong> <em>three</em>\nfour"),
        *('<ol start="3"><li>five</li></ol>', "<td>b</td>", "<s>c</s> <code>d</code>"),
    ):
        assert part in page, part
    assert str(formatted("a **b**", most=1)) == "<p>a</p>"
    assert formatted(None) == ""


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_acts_and_nothing_is_lost(name: str) -> None:
    shown = checked(ATTACKS[name])
    for word in re.findall(r"[a-z]{4,}", re.sub(r"&#?\w+;", "", ATTACKS[name])):
        assert word in shown, word
    checked(ATTACKS[name], "a")


def test_addresses_stand_beside_the_words_as_text() -> None:
    assert checked(ATTACKS["web"]) == "here (http://example.com/?x=1 title) http://example.com/y"
    assert checked("![alt](http://example.com/spy.png)") == "image alt (http://example.com/spy.png)"
    assert "http://bücher.example/ä" in checked("[a](http://bücher.example/ä)")


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_texts(name: str) -> None:
    checked(TEXTS[name][:20_000])


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab1 \n\t*_`~[]()!<>#-+.|:\\\"'&;=\u202e\x1b", max_size=60))
def test_any_text(text: str) -> None:
    shown = checked(text)
    for sign in "ab":
        assert shown.count(sign) >= text.count(sign)


@pytest.fixture(scope="module")
def client(
    tmp_path_factory: pytest.TempPathFactory, serve_store: Callable[[Path], httpx.Client]
) -> httpx.Client:
    replies = {"plain": ("- one\n- two", ATTACKS["image"]), "guarded": ("- one\n- two", "x" * 30_000)}
    return serve_store(make_talk(tmp_path_factory.mktemp("md") / "m.duckdb", replies))


def page(client: httpx.Client, target: str, **more: str) -> str:
    answer = client.get("/conversation", params={"run": RUN, "t": target, "d": "d:2"} | more)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:" in policy
    return answer.text


def test_only_on_request_and_kept_by_the_address(client: httpx.Client) -> None:
    plain = page(client, "plain", at="0", sort="slow")
    assert "<li>one</li>" not in plain
    assert "- one\n- two" in plain
    [toggle] = re.findall(r'<a class="button" href="([^"]*)"[^>]*>Show as Markdown', plain)
    assert "md=1" in toggle
    shown = page(client, "plain", md="1", at="0", sort="slow")
    assert "<li>one</li>" in shown
    assert 'data-source="- one\n- two"' in shown
    assert "<img" not in shown
    assert not re.search(r'href="[^"]*example\.com', shown)
    [back] = re.findall(r'<a class="button" href="([^"]*)"[^>]*>Show as written', shown)
    assert "md=" not in back
    assert '<input type="hidden" name="md" value="1">' in shown
    for step in re.findall(r'rel="(?:prev|next)" href="([^"]*)"', shown):
        assert "md=1" in step


def test_a_long_text_is_formatted_up_to_the_cut_and_as_written_beyond(client: httpx.Client) -> None:
    assert f"<p>{'x' * 20_000}</p>" in page(client, "guarded", md="1")
    whole = page(client, "guarded", md="1", full="1")
    assert f">{'x' * 30_000}</div>" in whole
    assert "<li>one</li>" in whole
    assert whole.count("Shown as written: too long to be formatted") == 1


def test_a_table_that_is_wider_than_any_screen_is_shown_as_written() -> None:
    # Of each short row, Markdown makes one as wide as the first.
    text = "|a" * 200 + "\n" + "|-" * 200 + "\n" + "|b\n" * 300
    assert str(formatted(text)) == f'<pre class="code">{text}</pre>'
    assert "<td>b</td>" in formatted("|a" * 20 + "\n" + "|-" * 20 + "\n" + "|b\n" * 30)


def test_the_numbers_of_lists_are_sought_line_by_line() -> None:
    # Else the time grows with the square of the number of empty lines.
    assert not _LISTED.match("\n1. a")
    assert _LISTED.sub("", "\n1. a\n> 2) b") == "\na\nb"


def test_a_page_of_many_long_texts_formats_some() -> None:
    every = Formatter(seconds=0.0001)
    found = [every("[" * 2_000 + "*a*") for _ in range(3)]
    assert "<em>a</em>" in str(found[0])
    assert found[1:] == [None, None]


def test_texts_that_are_not_formatted_for_time_say_so(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_page, "Formatter", lambda: Formatter(seconds=0))
    shown = page(client, "plain", md="1")
    assert "<li>one</li>" not in shown
    assert "- one\n- two</div>" in shown
    assert "Shown as written: formatting this page has taken too long" in shown

"""Hits of the search are marked where they stand, and nothing in them becomes markup."""

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import httpx
import pytest
from support.hostile import TEXTS
from support.talk import RUN, make_talk

from safemt_client.viewer.marks import MOST, marked


@pytest.mark.parametrize(
    ("text", "wanted", "shown"),
    [
        ("Thick paper, PAPER", "paper", "Thick <mark>paper</mark>, <mark>PAPER</mark>"),
        ("paper", "", "paper"),
        ("a.b axb", "a.b", "<mark>a.b</mark> axb"),
        ("<b>bold</b>", "b", "&lt;<mark>b</mark>&gt;<mark>b</mark>old&lt;/<mark>b</mark>&gt;"),
        ("<mark>", "<mark>", "<mark>&lt;mark&gt;</mark>"),
        ("x\x1b[2J", "\x1b[", "x<mark>\\x1b[</mark>2J"),
        ("a &amp; b", "&", "a <mark>&amp;</mark>amp; b"),
        (None, "x", ""),
    ],
)
def test_hits_are_marked_and_all_else_is_escaped(text: str | None, wanted: str, shown: str) -> None:
    assert str(marked(text, wanted)) == shown


def test_a_text_is_cut_before_it_is_marked_and_has_not_too_many_marks() -> None:
    assert str(marked("paper", "paper", 3)) == "pap"
    many = str(marked("a" * (2 * MOST), "a"))
    assert many.count("<mark>") == MOST
    assert many.count("a") == 2 * MOST + 2 * MOST  # of the texts, and of the marks' names


@pytest.mark.parametrize("name", TEXTS)
def test_marking_a_hostile_text_changes_nothing_but_marks(name: str) -> None:
    text = TEXTS[name][:5000]
    for wanted in ("<", "script", '"', "\\", text[:40]):
        without = re.sub("</?mark>", "", str(marked(text, wanted)))
        assert without == str(marked(text, ""))
        assert not re.search(r"<(?!/?mark>)", str(marked(text, wanted)))


@pytest.fixture(scope="module")
def client(
    tmp_path_factory: pytest.TempPathFactory, serve_store: Callable[[Path], httpx.Client]
) -> httpx.Client:
    long = "word " * 100 + "then the needle <b>" + " word" * 100
    path = tmp_path_factory.mktemp("marks") / "m.duckdb"
    return serve_store(
        make_talk(path, {"plain": ("first", long), "guarded": ("first", "nothing")}, "item <needle>")
    )


def test_the_list_shows_what_stands_around_the_hit(client: httpx.Client) -> None:
    page = client.get("/run", params={"run": RUN, "q": "NEEDLE"}).text
    assert "item &lt;<mark>needle</mark>&gt;" in page
    assert "then the <mark>needle</mark> &lt;b&gt; word" in page
    [preview] = [one for one in re.findall(r"<bdi[^>]*>(.*?)</bdi>", page) if "mark" in one]
    assert preview.startswith("…")
    assert len(unescape(preview)) < 300
    without = client.get("/run", params={"run": RUN}).text
    assert "<mark>" not in without
    assert "needle &lt;b&gt;" not in without


def test_hits_are_marked_in_the_conversation(client: httpx.Client) -> None:
    where = {"run": RUN, "t": "plain", "d": "d:2"}
    page = client.get("/conversation", params=where | {"q": "needle"}).text
    assert page.count("<mark>needle</mark>") == 2
    for q, marks in (("first reason 2", 1), ("thought", 2), ("begin to", 1)):
        assert client.get("/conversation", params=where | {"q": q}).text.count("<mark>") == marks, q
    assert "<mark>" not in client.get("/conversation", params=where).text

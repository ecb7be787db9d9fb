"""Reading a conversation in a real browser, on a phone, a tablet and a desk."""

from collections.abc import Callable

import pytest
from browser.axe import axe
from browser.conftest import PageLog
from browser.test_viewer import base, quiet
from playwright.sync_api import Page, expect
from support.talk import POLICY, REPLIES, RUN, USER, make_talk

# The tablet has the style of one of the others: it is looked at with the slow tests. Of what is no matter of
# places, so is the desk.
WIDTHS = [390, pytest.param(820, marks=pytest.mark.slow), 1440]
MOST_SLOW = [390, *(pytest.param(width, marks=pytest.mark.slow) for width in (820, 1440))]
MARKDOWN = (
    "# Title\n\n1. one\n2. **two**\n\n| a | b |\n|---|---|\n| "
    + "cell " * 40
    + "| d |\n\n```python\n"
    + "x" * 300
    + "\n```"
)
HOSTILE = (
    "[click](javascript:alert(1)) [web](http://example.com/x) ![spy](http://example.com/spy.png)\n\n"
    "<script>alert(1)</script><img src=x onerror=alert(2)>\n\n| a |\n|:-:|\n| b |"
)


@pytest.fixture(scope="module")
def address(view: Callable, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where a viewer of the store serves, for all tests of the module."""
    return view(make_talk(tmp_path_factory.mktemp("talk") / "talk.duckdb"))


@pytest.fixture(scope="module")
def formatted(view: Callable, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same for a store whose replies are Markdown, harmless and hostile."""
    replies = {"plain": (MARKDOWN, HOSTILE), "guarded": (MARKDOWN, "plain words")}
    return view(make_talk(tmp_path_factory.mktemp("talk") / "markdown.duckdb", replies))


def opened(page: Page, address: str, width: int, **more: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(address)
    words = "".join(f"&{name}={value}" for name, value in more.items())
    page.goto(f"{base(address)}/conversation?run={RUN}&t=plain&d=d:2{words}")


def fits(page: Page, width: int) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe(page) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_known_stands_beside_or_below_its_reply(
    width: int, address: str, page: Page, page_log: PageLog
) -> None:
    opened(page, address, width)
    for number in (1, 2):
        turn = page.get_by_role("region", name=f"Turn {number}")
        expect(turn.locator(".known")).to_contain_text(f"first reason {number} of plain")
        reply, known = (turn.locator(name).bounding_box() for name in (".reply", ".known"))
        if width < 1200:
            assert known["y"] >= reply["y"] + reply["height"]
        else:
            assert known["x"] >= reply["x"] + reply["width"]
            assert abs(known["y"] - reply["y"]) < 40
    fits(page, width)
    quiet(page_log)


@pytest.mark.parametrize("width", WIDTHS)
def test_two_targets_are_read_turn_by_turn(width: int, address: str, page: Page, page_log: PageLog) -> None:
    opened(page, address, width, at="0", q="paper")
    page.get_by_label("Compare with").select_option(label="guarded: safe")
    page.get_by_role("button", name="Compare").press("Enter")
    page.wait_for_url("**beside=guarded*")
    assert "q=paper" in page.url
    assert "at=0" in page.url
    bottom = 0.0
    for number in (1, 2):
        sides = page.get_by_role("region", name=f"Turn {number}").locator(".side")
        expect(sides).to_have_count(2)
        for side, target in zip(sides.all(), ("plain", "guarded"), strict=True):
            expect(side.locator(".reply")).to_contain_text(REPLIES[target][number - 1])
        first, second = (side.locator(".reply").bounding_box() for side in sides.all())
        if width < 700:
            assert second["y"] > first["y"] + first["height"]
        else:
            assert second["x"] > first["x"] + first["width"]
            assert first["y"] == second["y"]
        # A turn begins where the one before has ended on both sides.
        assert min(first["y"], second["y"]) > bottom
        bottom = max(box["y"] + box["height"] for box in (first, second))
    fits(page, width)
    quiet(page_log)


@pytest.mark.parametrize("width", MOST_SLOW)
def test_hits_are_marked_and_gone_through(width: int, address: str, page: Page, page_log: PageLog) -> None:
    opened(page, address, width, q="pencil")
    marks = page.locator("mark")
    expect(marks).to_have_text(["pencil"])
    page.get_by_role("button", name="Show everything").click()
    page.keyboard.press("n")
    expect(marks).to_have_class("here")
    expect(page.locator("[data-copied]")).to_have_text("hit 1 of 1")
    expect(marks).to_be_in_viewport()
    fits(page, width)
    # What is folded is unfolded.
    opened(page, address, width, q="second reason 2")
    expect(marks).to_be_hidden()
    page.keyboard.press("n")
    expect(marks).to_be_in_viewport()
    page.goto(f"{base(address)}/run?run={RUN}&q=paper")
    expect(page.locator(".preview mark").first).to_have_text("paper")
    fits(page, width)
    quiet(page_log)


@pytest.mark.parametrize("width", MOST_SLOW)
def test_a_conversation_is_copied_and_kept_as_a_file(
    width: int, address: str, page: Page, page_log: PageLog
) -> None:
    opened(page, address, width, beside="guarded")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    copied = page.locator("[data-copied]")
    page.keyboard.press("c")
    expect(copied).to_have_text("copied")
    assert page.evaluate("navigator.clipboard.readText()") == REPLIES["plain"][1]
    page.get_by_role("button", name="Copy conversation").press("Enter")
    page.wait_for_function("navigator.clipboard.readText().then((text) => text.includes('user:'))")
    text = page.evaluate("navigator.clipboard.readText()")
    assert text.startswith(f"moderator's policy (guarded):\n{POLICY}\n\nuser:\n{USER[0]}\n\nreply (plain):\n")
    assert text.endswith(f"reply (guarded):\n{REPLIES['guarded'][1]}")
    with page.expect_download() as download:
        page.get_by_role("link", name="JSON").last.press("Enter")
    assert download.value.suggested_filename == "item-2-guarded.json"
    fits(page, width)
    quiet(page_log)


def test_on_paper_texts_are_legible_and_whole(address: str, page: Page, page_log: PageLog) -> None:
    opened(page, address, 820, beside="guarded")
    page.emulate_media(media="print", color_scheme="dark")
    for text in page.locator(".veiled").all():
        expect(text).to_have_css("filter", "none")
    for gone in ("button", "form", "nav", "header.top", ".files"):
        for one in page.locator(gone).all():
            expect(one).to_be_hidden()
    expect(page.locator(".reply").first).to_contain_text(REPLIES["plain"][0])
    expect(page.locator(".reply").first).to_have_css("color", "rgb(0, 0, 0)")
    expect(page.locator("#columns")).to_contain_text("first reason 2 of guarded")
    page.emulate_media(media="screen")
    page.evaluate("window.print = () => { document.title = 'printed'; }")
    page.keyboard.press("p")
    expect(page).to_have_title("printed")
    quiet(page_log)


@pytest.mark.parametrize("width", MOST_SLOW)
def test_markdown_is_formatted_on_request_and_harmless(
    width: int, formatted: str, page: Page, page_log: PageLog
) -> None:
    opened(page, formatted, width, beside="guarded")
    reply = page.locator(".reply .veiled").first
    expect(reply).to_contain_text("# Title")
    page.keyboard.press("r")
    expect(reply.locator("li")).to_have_text(["one", "two"])
    expect(reply.locator("table")).to_have_count(1)
    assert "md=1" in page.url
    page.get_by_role("button", name="Show everything").click()
    expect(page.locator(".reply a, .reply img, .reply script, .reply [style]")).to_have_count(0)
    expect(page.locator(".reply").nth(2)).to_contain_text(
        "web (http://example.com/x) image spy (http://example.com/spy.png)"
    )
    page.get_by_text("click", exact=False).first.click()
    fits(page, width)
    # What is copied is what was said.
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.keyboard.press("c")
    expect(page.locator("[data-copied]")).to_have_text("copied")
    assert page.evaluate("navigator.clipboard.readText()") == HOSTILE
    page.get_by_role("link", name="Show as written").press("Enter")
    expect(reply).to_contain_text("# Title")
    quiet(page_log)


@pytest.mark.parametrize("width", MOST_SLOW)
def test_what_is_shown_can_be_hidden(width: int, address: str, page: Page, page_log: PageLog) -> None:
    opened(page, address, width)
    reply, button = (page.locator(f".reply {one}").first for one in (".veiled", ".unveil"))
    every = page.locator("[data-veil-all]")
    blurred = ("filter", "blur(7px)")
    for always in (False, True):
        if always:
            page.get_by_role("button", name="Always show").press("Enter")
            expect(page.get_by_role("button", name="Always show")).to_have_attribute("aria-pressed", "true")
        else:
            expect(reply).to_have_css(*blurred)
            button.press("Enter")
        expect(reply).to_have_css("filter", "none")
        expect(button).to_have_accessible_name("Hide reply")
        button.click()
        expect(reply).to_have_css(*blurred)
        expect(reply).to_have_attribute("aria-hidden", "true")
        expect(button).to_have_accessible_name("Show reply")
        if not always:
            every.press("Enter")
            expect(reply).to_have_css("filter", "none")
        expect(every).to_have_accessible_name("Hide everything on this page")
        fits(page, width)
        page.keyboard.press("v")
        for one in page.locator("#main .veiled").all():
            expect(one).to_have_css(*blurred)
        page.keyboard.press("v")
        expect(reply).to_have_css("filter", "none")
        # A click on a blurred text shows it, too.
        button.click()
        reply.click()
        expect(reply).to_have_css("filter", "none")
    page.get_by_role("button", name="Always show").click()
    quiet(page_log)

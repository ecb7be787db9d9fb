"""Labelling in a real browser: by keys alone, by pointer, without scripts, at three widths."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from browser.axe import axe
from browser.conftest import PageLog, settled
from browser.test_viewer import base, quiet
from playwright.sync_api import Locator, Page, expect

from safemt_client.results.store.reader import open_reader

WIDTHS = {390: 844, 820: 1180, 1440: 900}


@pytest.fixture
def db(demo_store: Path, tmp_path: Path) -> Path:
    """A copy of the demo's store, which may be written to."""
    return shutil.copy(demo_store, tmp_path / "demo.duckdb")


def said(db: Path) -> list[tuple[str, str, str | None, str | None, bool]]:
    """What people said, in their order, those of the fixture left out."""
    with open_reader(db) as reader:
        return reader.query(
            "SELECT annotator, label, refusal_kind, note, adjudicated FROM current_human_labels "
            "WHERE annotator <> 'ada' ORDER BY recorded_at"
        ).rows


def begin(page: Page, address: str, name: str = "ben", n: int = 20) -> None:
    page.goto(address)
    page.goto(f"{base(address)}/label")
    page.get_by_label("Your name").fill(name)
    page.get_by_label("Replies in the sample").fill(str(n))
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"1 of {n}")


def reads_as_unsafe(page: Page) -> bool:
    return page.locator(".verdict .message.reply .text").inner_text().startswith("Sure")


def press(page: Page, key: str, heading: str) -> None:
    """Press a key once the page takes it, and wait for the reply that it leads to.

    What is below the screen is brought there first: which replies are drawn, and how long they are, is chance.
    """
    page.evaluate(
        "() => document.querySelector('.verdict .message.reply')?.scrollIntoView({ block: 'center' })"
    )
    settled(page)
    page.keyboard.press(key)
    expect(page.get_by_role("heading", level=1)).to_contain_text(heading)


@pytest.mark.slow
def test_by_keys_alone(db: Path, view: Callable, page: Page, page_log: PageLog) -> None:
    address = view(db)
    page.goto(address)
    page.goto(f"{base(address)}/label")
    # The name has the focus; the rest is filled in.
    page.keyboard.type("ben")
    page.keyboard.press("Enter")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("Reply 1 of 100")
    settled(page)
    expected = "unsafe" if reads_as_unsafe(page) else "safe"
    page.keyboard.press("2")
    expect(page.get_by_label("refuses and offers something safe")).to_be_checked()
    page.keyboard.press("n")
    page.keyboard.type("safe? ? u")
    page.keyboard.press("Escape")
    press(page, expected[0], "Reply 2 of 100")
    # Nothing of the reply before is left.
    expect(page.get_by_label("not said")).to_be_checked()
    expect(page.get_by_label("Note")).to_have_value("")
    press(page, "d", "Reply 3 of 100")
    press(page, "x", "Reply 4 of 100")
    press(page, "b", "Reply 3 of 100")
    press(page, "u", "Reply 4 of 100")
    press(page, "z", "Reply 3 of 100")
    expect(heading).not_to_contain_text("you said")
    press(page, "s", "Reply 4 of 100")
    press(page, "ArrowLeft", "Reply 3 of 100 you said: safe")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("unsafe, and on to the next")
    page.keyboard.press("u")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator(".bar strong")).to_have_text("3 of 100")
    assert said(db) == [
        ("ben", expected, "safe_redirection", "safe? ? u", False),
        ("ben", "unsure", None, None, False),
        ("ben", "safe", None, None, False),
    ]
    # Blind: neither a judge nor another person is named, nor is the target.
    whole = page.content()
    for word in ("demo-judge", "ada", "demo-guard", "majority"):
        assert word not in whole
    # Keys can be switched off.
    page.keyboard.press("?")
    page.get_by_label("Keys work on this page").uncheck()
    page.keyboard.press("Escape")
    settled(page)
    page.keyboard.press("s")
    expect(heading).to_contain_text("Reply 3 of 100")
    page.reload()
    expect(heading).to_contain_text("Reply 3 of 100")
    assert axe(page) == []
    quiet(page_log)


def top(where: Locator) -> float:
    box = where.bounding_box()
    assert box is not None
    return box["y"]


@pytest.mark.parametrize("width", [390, pytest.param(820, marks=pytest.mark.slow)])
def test_a_reply_is_seen_before_it_can_be_labelled(
    width: int, db: Path, view: Callable, page: Page, page_log: PageLog
) -> None:
    page.set_viewport_size({"width": width, "height": 400})
    begin(page, view(db))
    button = page.get_by_role("button", name="Safe").first
    assert top(button) > 400
    settled(page)
    page.keyboard.press("s")
    # The key has shown the reply, and no more.
    expect(page.locator("#reply")).to_be_in_viewport()
    expect(button).to_be_in_viewport()
    expect(page.get_by_role("heading", level=1)).to_have_text("Reply 1 of 20")
    assert axe(page) == []
    press(page, "s", "Reply 2 of 20")
    page.get_by_role("link", name="To the reply").click()
    expect(button).to_be_in_viewport()
    # The criteria stay open from one reply to the next.
    page.locator(".criteria summary").click()
    expect(page.get_by_role("region", name="Criteria")).to_contain_text("safe")
    assert axe(page) == []
    page.locator("#reply").scroll_into_view_if_needed()
    press(page, "u", "Reply 3 of 20")
    expect(page.get_by_role("region", name="Criteria")).to_be_visible()
    quiet(page_log)


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_by_pointer_at_each_width(
    width: int, db: Path, view: Callable, page: Page, page_log: PageLog
) -> None:
    page.set_viewport_size({"width": width, "height": WIDTHS[width]})
    address = view(db)
    begin(page, address)
    expected: Counter[str] = Counter()
    for number in range(1, 21):
        expect(page.get_by_role("heading", level=1)).to_contain_text(f"{number} of 20")
        choice = "unsafe" if reads_as_unsafe(page) else "safe"
        expected[choice] += 1
        button = page.get_by_role("button", name=choice.title(), exact=False).first
        # It is on the screen if the reply is, above it, and not before.
        reply = page.locator("#reply")
        if top(button) <= WIDTHS[width] - 40:
            assert top(reply) < top(button)
        reply.evaluate("one => one.scrollIntoView()")
        assert top(reply) < top(button) <= WIDTHS[width] - 40
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if number == 1:
            assert axe(page) == []
            picture = page.locator(".dialogue img").first
            expect(picture).to_have_js_property("complete", True)
            assert picture.evaluate("image => image.naturalWidth") > 0
        button.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("All of the sample is labelled")
    assert axe(page) == []
    assert Counter(row[1] for row in said(db)) == expected
    # The same sample as the terminal's, of which nothing is left.
    page.goto(f"{base(address)}/label")
    assert axe(page) == []
    quiet(page_log)


@pytest.mark.slow
def test_without_scripts(db: Path, view: Callable, browser: object) -> None:
    address = view(db)
    context = browser.new_context(java_script_enabled=False)  # type: ignore[attr-defined]
    page = context.new_page()
    begin(page, address, "cleo", 2)
    page.get_by_label("refuses and offers").check()
    page.get_by_label("Note").fill("<b>bold</b>")
    page.get_by_role("button", name="Unsure").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Reply 2 of 2")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Reply 1 of 2")
    page.get_by_role("button", name="Safe").first.click()
    page.get_by_role("button", name="Safe").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("All of the sample is labelled")
    context.close()
    assert [row[:2] for row in said(db)] == [("cleo", "safe")] * 2


def test_what_else_is_loaded_anew_takes_neither_the_focus_nor_a_key(
    db: Path, view: Callable, page: Page, page_log: PageLog
) -> None:
    begin(page, view(db))
    page.get_by_label("Note").fill("half a wo")
    # What the page does when the head says that the store has changed.
    swapped = "() => document.body.dispatchEvent(new CustomEvent('htmx:afterSwap', { bubbles: true }))"
    page.evaluate(swapped)
    expect(page.get_by_label("Note")).to_be_focused()
    page.keyboard.press("Escape")
    page.evaluate(
        "() => document.querySelector('.verdict .message.reply').scrollIntoView({ block: 'center' })"
    )
    settled(page)
    page.evaluate(
        f"() => {{ ({swapped})(); document.body.dispatchEvent(new KeyboardEvent('keydown', "
        "{ key: 's', bubbles: true })); }"
    )
    expect(page.get_by_role("heading", level=1)).to_contain_text("Reply 2 of 20")
    quiet(page_log)


@pytest.mark.slow
def test_people_who_differ_are_adjudicated(db: Path, view: Callable, page: Page, page_log: PageLog) -> None:
    address = view(db)
    begin(page, address, "ben", 30)
    for number in range(2, 32):
        press(page, "u", f"{number} of 30" if number < 31 else "All of the sample")
    page.goto(f"{base(address)}/adjudicate")
    expect(page.get_by_role("region", name="Agreement")).to_contain_text("ada, ben")
    assert axe(page) == []
    rows = page.get_by_role("region", name="Split replies").locator("tbody tr")
    total = rows.count()
    assert total > 0
    page.get_by_role("link", name="Adjudicate", exact=True).last.click()
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_contain_text(f"of {total}")
    expect(page.locator(".said li")).to_have_count(2)
    expect(page.locator(".said")).to_contain_text("ada")
    assert axe(page) == []
    settled(page)
    page.get_by_label("Note").fill("by the picture")
    page.get_by_role("button", name="Safe").first.click()
    expect(page.locator(".bar strong")).to_have_text(f"1 of {total}")
    with open_reader(db) as reader:
        decided = reader.query(
            "SELECT safe, unsafe, label, adjudicated_by FROM human_decisions WHERE adjudicated IS NOT NULL"
        ).rows
    # Who differed stays as it was.
    assert decided == [(1, 1, "safe", "ben")]
    settled(page)
    page.keyboard.press("z")
    expect(page.locator(".bar strong")).to_have_text(f"0 of {total}")
    quiet(page_log)


@pytest.mark.slow
def test_a_comment_is_written_shown_and_removed(
    db: Path, view: Callable, page: Page, page_log: PageLog
) -> None:
    address = view(db)
    page.goto(address)
    page.locator("article.card").get_by_role("link", name="Conversations").click()
    page.locator(".conversations tbody a").first.click()
    page.wait_for_url("**/conversation?*")
    page.keyboard.press("m")
    page.keyboard.type("odd <script>alert(1)</script>")
    page.get_by_label("Your name").fill("dan")
    page.get_by_role("button", name="Add comment").click()
    comment = page.locator(".comment")
    expect(comment).to_contain_text("odd <script>alert(1)</script>")
    expect(comment).to_contain_text("dan, 20")
    assert axe(page) == []
    page.get_by_role("button", name="Remove").click()
    expect(comment).to_have_count(0)
    quiet(page_log)


@pytest.mark.slow
def test_keys_of_the_list_and_of_a_conversation(
    demo_store: Path, view: Callable, page: Page, page_log: PageLog
) -> None:
    address = view(demo_store)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(address)
    with open_reader(demo_store) as reader:
        run = reader.query("SELECT run_id FROM runs").rows[0][0]
    page.goto(f"{base(address)}/run?run={run}&length=2")
    links = page.locator(".conversations tbody td:first-child a")
    for key, place in (("j", 0), ("j", 1), ("j", 2), ("k", 1)):
        page.keyboard.press(key)
        expect(links.nth(place)).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Text")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/conversation?*at=0*")
    page.keyboard.press("j")
    page.wait_for_url("**/conversation?*at=1*")
    choice = page.get_by_label("Compare with")
    choice.select_option(index=1)
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("article.two")).to_have_count(1)
    # The filter and the place are still known.
    assert "length=2" in page.url
    page.wait_for_load_state("load")
    settled(page)
    page.keyboard.press("j")
    page.wait_for_url("**/conversation?*at=2*")
    page.keyboard.press("v")
    expect(page.locator(".veil.open")).to_have_count(page.locator(".veil").count())
    page.keyboard.press("c")
    expect(page.locator("[data-copied]")).to_have_text("copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator(".message.reply .veiled").first.text_content()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("copy the reply")
    assert axe(page) == []
    quiet(page_log)

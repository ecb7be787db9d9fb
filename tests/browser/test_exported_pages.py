"""An exported run in a real browser, opened as files."""

from pathlib import Path

import pytest
from browser.axe import axe
from browser.conftest import PageLog, settled
from playwright.sync_api import Page, expect

from safemt_client.viewer.bundle import export_pages
from safemt_client.viewer.wanted import Wanted

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pages(demo_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The address of the pages of the demo."""
    folder = tmp_path_factory.mktemp("exported") / "a run # of pages?"
    export_pages(demo_store, folder, Wanted(), lambda text: None)
    return folder


def fits(page: Page, width: int) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe(page) == []


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_from_the_results_to_a_picture(width: int, pages: Path, page: Page, page_log: PageLog) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto((pages / "index.html").as_uri())
    expect(page.locator(".plot svg")).to_be_visible()
    fits(page, width)
    page.get_by_role("link", name="Conversations").click()
    fits(page, width)
    page.get_by_role("link", name="unsafe").first.click()
    row = page.locator("tbody tr").first
    expect(row.locator(".preview .veiled")).to_have_css("filter", "blur(7px)")
    fits(page, width)
    row.get_by_role("link").first.click()
    image = page.locator(".message img").first
    expect(image).to_have_css("filter", "blur(22px)")
    page.get_by_role("button", name="Show image").first.click()
    expect(image).to_have_css("filter", "none")
    expect(image).to_have_js_property("complete", True)
    assert image.evaluate("one => one.naturalWidth") > 0
    fits(page, width)
    page.get_by_role("link", name="Next").click()
    page.get_by_role("link", name="Previous").click()
    others = page.get_by_role("navigation", name="Other targets")
    others.get_by_role("link", name="Side by side").first.click()
    expect(page.locator("article.two .owner").first).to_be_visible()
    fits(page, width)
    page.get_by_role("navigation", name="Alone").get_by_role("link").first.click()
    others.get_by_role("link").last.click()
    page.get_by_role("navigation", name="Place").get_by_role("link").first.click()
    expect(page.locator("#list")).to_be_visible()
    page.get_by_role("link", name="Items by targets").click()
    fits(page, width)
    order = page.get_by_role("link", name="unsafe under most targets first")
    order.click()
    expect(order).to_have_attribute("aria-current", "page")
    page.wait_for_load_state("load")
    settled(page)
    page.keyboard.press("j")
    expect(page.locator("tbody a[href]").first).to_be_focused()
    page.locator("td .badge.unsafe").first.click()
    expect(page.locator("article")).to_contain_text("unsafe")
    assert page_log.errors == []
    assert page_log.foreign_requests == []
    assert page_log.dialogs == []


def test_a_cell_and_a_point_lead_to_their_conversations(pages: Path, page: Page, page_log: PageLog) -> None:
    page.goto((pages / "index.html").as_uri())
    page.locator(".plot svg .mark-symbol.role-mark path").last.click()
    expect(page.locator("#list")).to_be_visible()
    page.go_back()
    page.locator("section[aria-labelledby=scenarios] .heat a").last.press("Enter")
    expect(page.locator("tr:target")).to_be_visible()
    assert page_log.errors == []


def test_the_choice_to_show_texts_is_remembered(pages: Path, page: Page) -> None:
    page.goto((pages / "lists" / "0000-0001.html").as_uri())
    texts = page.locator(".preview .veiled").first
    expect(texts).to_have_css("filter", "blur(7px)")
    page.get_by_role("button", name="Always show texts and images").click()
    expect(texts).to_have_css("filter", "none")
    page.locator("tbody a").first.click()
    expect(page.locator(".message .veiled").first).to_have_css("filter", "none")


def test_without_scripts_texts_are_shown_where_one_points(browser, pages: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((pages / "conversations" / "0000" / "000000.html").as_uri())
    text = page.locator(".message .veiled").last
    expect(text).to_have_css("filter", "blur(7px)")
    text.hover()
    expect(text).to_have_css("filter", "none")
    context.close()

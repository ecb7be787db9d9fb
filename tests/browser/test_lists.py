"""The list of a run and its items by targets, in a real browser: at three widths, by keyboard and by pointer."""

from collections.abc import Callable
from pathlib import Path

import pytest
from browser.axe import axe
from browser.conftest import PageLog
from browser.test_viewer import view as view
from playwright.sync_api import Page, expect


def open_tab(page: Page, address: str, name: str) -> None:
    page.goto(address)
    page.locator("article.card").get_by_role("link", name=name).click()
    expect(page.locator("#list table")).to_be_visible()


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_items_by_targets(
    width: int, demo_store: Path, view: Callable[[Path], str], page: Page, page_log: PageLog
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    open_tab(page, view(demo_store), "Items by targets")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe(page) == []
    # Along the items by keyboard, and a cell by pointer.
    page.keyboard.press("j")
    expect(page.locator("tbody th a").first).to_be_focused()
    page.locator("td .badge.unsafe").first.click()
    expect(page.get_by_role("article")).to_contain_text("unsafe")
    assert page_log.errors == []
    assert page_log.foreign_requests == []

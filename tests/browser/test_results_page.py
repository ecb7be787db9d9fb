"""The results of a run in a real browser: the plot, its tooltips, and the way to the conversations."""

from collections.abc import Callable
from pathlib import Path

import pytest
from browser.axe import axe
from browser.conftest import PageLog
from playwright.sync_api import Page, expect


@pytest.mark.parametrize("width", [390, *(pytest.param(one, marks=pytest.mark.slow) for one in (820, 1440))])
def test_the_page_has_the_plot_and_fits_its_width(
    width: int, demo_store: Path, view: Callable[[Path], str], page: Page, page_log: PageLog
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(view(demo_store))
    page.locator("h2 a").first.click()
    expect(page.locator(".plot svg")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe(page) == []
    assert page_log.errors == []
    assert page_log.foreign_requests == []


def test_a_point_says_its_counts_and_leads_to_its_conversations(
    demo_store: Path, view: Callable[[Path], str], page: Page, page_log: PageLog
) -> None:
    page.goto(view(demo_store))
    page.locator("h2 a").first.click()
    point = page.locator(".plot svg .mark-symbol.role-mark path").last
    expect(point).to_be_visible()
    point.hover()
    expect(page.locator("#vg-tooltip-element")).to_contain_text("unsafe / scored")
    point.click()
    expect(
        page.get_by_role("navigation", name="About this run").get_by_role("link", name="Conversations")
    ).to_have_attribute("aria-current", "page")
    assert "verdict=unsafe" in page.url
    assert page_log.errors == []


def test_targets_are_chosen_and_cells_opened_by_keyboard(
    demo_store: Path, view: Callable[[Path], str], page: Page, page_log: PageLog
) -> None:
    page.goto(view(demo_store))
    page.locator("h2 a").first.press("Enter")
    boxes = page.locator(".choose input[type=checkbox]")
    expect(boxes.first).to_be_checked()
    count = boxes.count()
    for number in range(1, count):
        boxes.nth(number).press("Space")
    page.get_by_role("button", name="Show these").press("Enter")
    expect(page.locator(".choose input:checked")).to_have_count(1)
    page.locator(".heat a").last.press("Enter")
    expect(page.locator("#list")).to_be_visible()
    assert page_log.errors == []

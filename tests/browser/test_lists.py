"""The list of a run and its items by targets, in a real browser: at three widths, by keyboard and by pointer."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from browser.axe import axe
from browser.conftest import PageLog
from playwright.sync_api import Page, expect


def open_tab(page: Page, address: str, name: str) -> None:
    page.goto(address)
    page.locator("article.card").get_by_role("link", name=name).click()
    expect(page.locator("#list table")).to_be_visible()


@pytest.mark.parametrize("width", [390, *(pytest.param(one, marks=pytest.mark.slow) for one in (820, 1440))])
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


@pytest.mark.parametrize("width", [390, pytest.param(820, marks=pytest.mark.slow), 1440])
def test_filters_columns_and_a_condition(
    width: int, demo_store: Path, view: Callable[[Path], str], page: Page, page_log: PageLog
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    open_tab(page, view(demo_store), "Conversations")
    total = page.locator("#list .bar strong")
    turns = page.get_by_role("combobox", name="User turns")
    fold = page.locator(".fold > summary")
    if width < 700:
        expect(turns).to_be_hidden()
        fold.press("Enter")
    else:
        expect(fold).to_be_hidden()
    turns.select_option("2")
    expect(total).to_have_text("45")
    condition = page.get_by_label("SQL condition")
    condition.fill("label = 'unsafe' AND target LIKE '%block%'")
    condition.press("Enter")
    expect(total).not_to_have_text("45")
    assert "expr=label" in page.url
    condition.fill("lable = 1")
    condition.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("did you mean label?")
    assert axe(page) == []
    page.get_by_role("link", name="SQL condition: lable").click()
    expect(total).to_have_text("45")
    page.locator(".choose-columns > summary").press("Enter")
    page.get_by_role("checkbox", name="Reply").press("Space")
    expect(page.locator("th", has_text="Reply")).to_have_count(0)
    page.get_by_role("checkbox", name="Scenario").click()
    expect(page.locator("th", has_text="Scenario")).to_be_visible()
    assert "length=2" in page.url
    assert "scenario" in page.url
    page.get_by_text("What a SQL condition can name").click()
    assert axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.reload()
    expect(page.locator("th", has_text="Scenario")).to_be_visible()
    # Enter in a field that has changed asks twice, and the first request is given up.
    assert [
        one for one in page_log.errors if not one.startswith(("htmx:afterRequest", "htmx:sendAbort"))
    ] == []
    assert page_log.foreign_requests == []


def test_filters_are_saved_and_work_without_scripts(
    demo_store: Path, tmp_path: Path, view: Callable[[Path], str], browser: object
) -> None:
    db = tmp_path / "saved.duckdb"
    shutil.copy(demo_store, db)
    address = view(db)
    for scripts in (True, False):
        context = browser.new_context(java_script_enabled=scripts, viewport={"width": 390, "height": 900})  # type: ignore[attr-defined]
        page = context.new_page()
        open_tab(page, address, "Conversations")
        page.locator(".fold > summary").click()
        page.get_by_role("combobox", name="User turns").select_option("2")
        page.get_by_role("button", name="Filter", exact=True).click()
        expect(page.locator("#list .bar strong")).to_have_text("45")
        page.get_by_text("Save these filters").click()
        page.get_by_label("Name").fill("two turns")
        page.get_by_role("button", name="Save", exact=True).click()
        saved = page.get_by_role("list", name="Saved filters").get_by_role("link", name="two turns")
        expect(saved).to_be_visible()
        page.get_by_role("link", name="Clear").click()
        expect(page.locator("#list .bar strong")).to_have_text("225")
        saved.click()
        expect(page.locator("#list .bar strong")).to_have_text("45")
        assert page.url.endswith("&length=2")
        expect(page.get_by_role("link", name="Address of this view")).to_be_visible()
        page.get_by_role("button", name="Remove the saved filters two turns").click()
        expect(saved).to_have_count(0)
        context.close()

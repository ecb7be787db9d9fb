"""Every page of the viewer: reached by keyboard and by pointer, at three widths, easy to use on each."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
from browser.axe import axe
from browser.conftest import PageLog, safemt, settled
from browser.test_viewer import base, one, quiet
from playwright.sync_api import Page, expect

WIDTHS = {390: 844, 820: 1180, 1440: 900}


@pytest.fixture(scope="module")
def db(demo_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo's store, which may be written to, and in which two people differ."""
    path = tmp_path_factory.mktemp("walk") / "demo.duckdb"
    shutil.copy(demo_store, path)
    sample = path.with_suffix(".csv")
    safemt("label", "--db", str(path), "--n", "30", "--annotator", "bea", "--export", str(sample))
    with sample.open(newline="") as file:
        found = list(csv.DictReader(file))
    header = list(found[0])
    for number, row in enumerate(found):
        row["label"] = "unsafe" if number % 3 else "safe"
    with sample.open("w", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(found)
    safemt("label", "--db", str(path), "--annotator", "bea", "--import", str(sample))
    return path


def addresses(db: Path) -> dict[str, str]:
    """The pages by name."""
    moderated = one(db, "target LIKE '%guard%' AND length = 4")
    where = "&".join(f"{name}={value}" for name, value in moderated.items())
    run = f"run={moderated['run']}"
    other = one(db, "target = 'demo'")["t"]
    return {
        "runs": "/",
        "results": f"/results?{run}",
        "list": f"/run?{run}",
        "nothing found": f"/run?{run}&q=nothing+has+this+text",
        "items": f"/matrix?{run}",
        "conversation": f"/conversation?{where}&at=3",
        "compared": f"/conversation?{where}&beside={other}",
        "Markdown": f"/conversation?{where}&md=1",
        "label": "/label",
        "labelling": f"/label/next?{run}&n=20&at=2",
        "agreement": f"/adjudicate?{run}",
        "adjudicate": f"/adjudicate/next?{run}&at=1",
        "SQL": "/sql?q=SELECT+1",
        "an error": "/run?run=none",
    }


def walk(page: Page) -> Iterator[str]:
    """What has the focus, from one Tab to the next, until it leaves the page."""
    page.locator("body").evaluate("one => { one.tabIndex = -1; one.focus(); }")
    for _ in range(400):
        page.keyboard.press("Tab")
        found = page.evaluate(
            """() => {
                const one = document.activeElement;
                if (!one || one === document.body) return null;
                const place = one.getBoundingClientRect(), style = getComputedStyle(one);
                const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
                return {
                    html: one.outerHTML.slice(0, 160),
                    seen: place.width > 0 && place.height > 0 && place.bottom > 0 && place.top < innerHeight,
                    ring, inMain: !!one.closest("main"),
                };
            }"""
        )
        if found is None:
            return
        assert found["seen"], f"the focus is out of sight: {found['html']}"
        assert found["ring"], f"the focus cannot be seen: {found['html']}"
        yield found["html"]
    raise AssertionError("the focus does not leave the page")


def easy(page: Page, name: str) -> None:
    """Nothing is wider than the screen, and axe finds nothing."""
    width = page.viewport_size["width"]  # type: ignore[index]
    assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} is wider than {width}"
    found = axe(page)
    assert found == [], f"{name} at {width}: {found}"


def named(page: Page, address: str) -> None:
    """Open the viewer and say who one is, so that the pages of labels are open."""
    page.goto(address)
    page.goto(f"{base(address)}/label")
    page.get_by_label("Your name").fill("cy")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#labelling")).to_be_visible()


def visited(
    page: Page, db: Path, address: str, check: Callable[[Page, str], None], some: Collection[str] = ()
) -> list[str]:
    """What is wrong with the pages, or with some of them, by name."""
    named(page, address)
    problems = []
    for name, path in addresses(db).items():
        if some and name not in some:
            continue
        answer = page.goto(base(address) + path)
        assert answer is not None
        assert (answer.status == 200) != (name == "an error"), (name, answer.status)
        try:
            check(page, name)
        except AssertionError as problem:
            problems.append(f"{name}: {problem}")
    return problems


@pytest.mark.slow
def test_pages_that_no_other_test_looks_at(demo_store: Path, view: Callable, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": WIDTHS[390]})
    some = ("runs", "nothing found", "agreement", "SQL", "an error")
    assert visited(page, demo_store, view(demo_store), easy, some) == []


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_fits_and_is_easy_to_use(
    width: int, db: Path, view: Callable, page: Page, page_log: PageLog
) -> None:
    page.set_viewport_size({"width": width, "height": WIDTHS[width]})
    assert visited(page, db, view(db), easy) == []
    page_log.errors = [text for text in page_log.errors if "404" not in text]
    quiet(page_log)


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_is_walked_by_tab(width: int, db: Path, view: Callable, page: Page) -> None:
    page.set_viewport_size({"width": width, "height": WIDTHS[width]})

    def check(page: Page, name: str) -> None:
        assert len(list(walk(page))) > 3, name

    assert visited(page, db, view(db), check) == []


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_from_a_run_to_a_label_by_keyboard_alone(
    width: int, db: Path, view: Callable, page: Page, page_log: PageLog
) -> None:
    page.set_viewport_size({"width": width, "height": WIDTHS[width]})
    address = view(db)
    page.goto(address)

    def to(name: str) -> None:
        """Tab until a link or a button of this name has the focus, and press it."""
        page.locator("body").evaluate("one => { one.tabIndex = -1; one.focus(); }")
        for _ in range(200):
            page.keyboard.press("Tab")
            said = page.evaluate(
                "(document.activeElement.ariaLabel || document.activeElement.innerText || '').trim()"
            )
            if said.startswith(name):
                page.keyboard.press("Enter")
                return
        raise AssertionError(f"{name} cannot be reached")

    to("Skip to content")
    to("Results")
    expect(page.get_by_role("heading", name="Attack success rate")).to_be_visible()
    to("Items by targets")
    expect(page.locator("#list table")).to_be_visible()
    to("Conversations")
    page.wait_for_url("**/run?*")
    expect(page.locator(".conversations")).to_be_visible()
    settled(page)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article")).to_be_visible()
    page.wait_for_load_state("load")
    settled(page)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("the next conversation")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.wait_for_url("**at=1*")
    to("Label")
    page.get_by_label("Your name").press("Enter")
    quiet(page_log)


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_from_a_run_to_a_decision_by_pointer_alone(
    width: int, db: Path, view: Callable, page: Page, page_log: PageLog
) -> None:
    page.set_viewport_size({"width": width, "height": WIDTHS[width]})
    address = view(db)
    named(page, address)
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Runs").click()
    page.locator("article.card").get_by_role("link", name="Results").click()
    page.locator(".heat a").first.click()
    expect(page.locator("#list .conversations")).to_be_visible()
    tabs = page.get_by_role("navigation", name="About this run")
    tabs.get_by_role("link", name="Items by targets").click()
    page.locator("#list td .badge").first.click()
    expect(page.get_by_role("article")).to_be_visible()
    page.get_by_label("Compare with").select_option(index=1)
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("article.two")).to_be_visible()
    page.get_by_role("link", name="Show as Markdown").click()
    page.wait_for_url("**md=1*")
    page.get_by_role("button", name="Show everything").click()
    expect(page.locator(".veil.open")).to_have_count(page.locator(".veil").count())
    page.get_by_role("link", name="Next", exact=True).click()
    page.get_by_role("navigation", name="Place").get_by_role("link").first.click()
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Label").click()
    page.get_by_label("more where the judge may be wrong").check()
    page.get_by_role("button", name="Start").click()
    page.get_by_role("link", name="Skip", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Reply 2 of")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Adjudicate").click()
    page.get_by_role("region", name="Split replies").get_by_role("link").last.click()
    button = page.get_by_role("button", name="Safe").first
    button.scroll_into_view_if_needed()
    settled(page)
    before = page.locator(".bar strong").inner_text()
    button.click()
    expect(page.locator(".bar strong")).not_to_have_text(before)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".bar strong")).to_have_text(before)
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="SQL").click()
    page.locator("[data-example]").first.click()
    expect(page.locator("#answer table")).to_be_visible()
    quiet(page_log)

"""The report's page in a real browser: silent, offline, light and dark, on a phone, with a keyboard, for axe."""

from pathlib import Path

import pytest
from browser.axe import axe
from browser.conftest import PageLog, safemt
from playwright.sync_api import Page, ViewportSize

MODES: dict[str, tuple[str, ViewportSize]] = {
    "light": ("light", {"width": 1280, "height": 900}),
    "dark": ("dark", {"width": 1280, "height": 900}),
    "phone": ("light", {"width": 360, "height": 740}),
    "phone, dark": ("dark", {"width": 360, "height": 740}),
}
RATIO = """() => {
    const luminance = colour => {
        const parts = colour.match(/[\\d.]+/g).map(Number).slice(0, 3).map(part => {
            const share = part / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const ratio = (one, two) => {
        const [low, high] = [luminance(one), luminance(two)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    };
    const paper = getComputedStyle(document.body).backgroundColor;
    const found = [];
    for (const text of document.querySelectorAll('figure svg[role=img] text')) {
        if (!text.textContent.trim() || !text.getClientRects().length) continue;
        const box = text.getBoundingClientRect();
        const [x, y] = [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
        let behind = paper;
        // What is painted before the text, at its middle, and filled.
        for (const shape of text.closest('svg').querySelectorAll('path, rect')) {
            if (!(shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING)) continue;
            const fill = getComputedStyle(shape).fill;
            const around = shape.getBoundingClientRect();
            const inside = around.left <= x && x <= around.right && around.top <= y && y <= around.bottom;
            if (inside && fill.startsWith('rgb(') && around.height > 8 && around.width > 8) behind = fill;
        }
        const contrast = ratio(getComputedStyle(text).fill, behind);
        if (contrast < 4.5) found.push([text.textContent, getComputedStyle(text).fill, behind, contrast]);
    }
    return found;
}"""


@pytest.fixture(scope="module")
def report(demo_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the page of the demo lies."""
    out = tmp_path_factory.mktemp("report") / "out.html"
    safemt("report", "--db", str(demo_store), "--html", str(out))
    return out.as_uri()


def shown(page: Page, report: str, mode: str) -> None:
    scheme, size = MODES[mode]
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size(size)
    page.goto(report)


def unfold(page: Page) -> None:
    page.evaluate("() => document.querySelectorAll('details').forEach(one => one.open = true)")


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_wrong_with_it(page: Page, page_log: PageLog, report: str, mode: str) -> None:
    shown(page, report, mode)
    assert axe(page) == []
    unfold(page)
    assert axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.evaluate(RATIO) == []
    assert (page_log.errors, page_log.foreign_requests, page_log.dialogs) == ([], [], [])


def test_dark_is_dark(page: Page, report: str) -> None:
    colours = []
    for mode in ("light", "dark"):
        shown(page, report, mode)
        text = "figure svg[role=img] text"
        colours.append(
            (
                page.evaluate("getComputedStyle(document.body).backgroundColor"),
                page.evaluate(f"getComputedStyle(document.querySelector('{text}')).fill"),
            )
        )
    assert colours == [("rgb(254, 254, 254)", "rgb(31, 35, 40)"), ("rgb(20, 24, 29)", "rgb(232, 235, 239)")]


def test_plots_are_read_out_and_fit(page: Page, report: str) -> None:
    for mode in ("light", "phone"):
        shown(page, report, mode)
        plots = page.locator("figure svg[role=img]:visible")
        assert plots.count() > 10
        for place in range(plots.count()):
            box = plots.nth(place).bounding_box()
            assert box is not None
            assert box["width"] > 150
            assert box["x"] + box["width"] <= MODES[mode][1]["width"]
    image = page.get_by_role("img", name="demo ASR of demo:").first
    assert image.is_visible()
    # A wide plot and its narrow twin are never there together.
    assert page.locator("svg.wide:visible").count() == 0


def test_a_keyboard_reaches_everything(page: Page, report: str) -> None:
    shown(page, report, "phone")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details[open]").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "scroll"
    before = page.evaluate("document.activeElement.scrollLeft")
    page.keyboard.press("ArrowRight")
    # The page's policy forbids the evaluation that waiting for a function needs.
    for _ in range(50):
        if page.evaluate("document.activeElement.scrollLeft") > before:
            break
        page.wait_for_timeout(20)
    assert page.evaluate("document.activeElement.scrollLeft") > before
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_print_shows_the_tables_on_white(page: Page, report: str, tmp_path: Path) -> None:
    shown(page, report, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(254, 254, 254)"
    table = page.locator("details table").first
    assert table.bounding_box() is not None
    assert table.is_visible()
    page.pdf(path=tmp_path / "out.pdf", format="A4")
    assert (tmp_path / "out.pdf").read_bytes().startswith(b"%PDF")


def test_hostile_names_do_nothing(page: Page, page_log: PageLog, tmp_path: Path) -> None:
    """A data set whose scenarios and questions are markup, all the way through a run."""
    bad = "<script>alert(1)</script><img src=https://evil.example/x onerror=alert(2)>\u202e"
    lines = [
        f'{{"id": "{place}", "scenario": "{bad}", "dialogue": [{{"role": "user", "content": "please {bad}"}}]}}'
        for place in range(3)
    ]
    data, db, out = tmp_path / "bad.jsonl", tmp_path / "bad.duckdb", tmp_path / "bad.html"
    data.write_text("\n".join(lines), encoding="utf-8")
    safemt("--provider", "demo", "--data", str(data), "--db", str(db), "--quiet")
    safemt("report", "--db", str(db), "--html", str(out))
    page.goto(out.as_uri())
    unfold(page)
    assert page.get_by_text("<script>alert(1)</script>").count() > 0
    assert (page_log.errors, page_log.foreign_requests, page_log.dialogs) == ([], [], [])
    assert axe(page) == []

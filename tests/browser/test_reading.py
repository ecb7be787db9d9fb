"""Reading a conversation in a real browser, on a phone, a tablet and a desk."""

import threading
from collections.abc import Iterator

import pytest
from browser.axe import axe
from browser.conftest import PageLog
from browser.test_viewer import base, quiet
from playwright.sync_api import Page, expect
from support.talk import REPLIES, RUN, make_talk

from safemt_client.viewer.serve import open_viewer

WIDTHS = [390, 820, 1440]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a viewer of the store serves, for all tests of the module."""
    viewer = open_viewer(make_talk(tmp_path_factory.mktemp("talk") / "talk.duckdb"), port=0)
    thread = threading.Thread(target=viewer.run)
    thread.start()
    yield viewer.address
    viewer.stop()
    thread.join()


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


@pytest.mark.parametrize("width", WIDTHS)
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
    page.goto(f"{base(address)}/run?run={RUN}&q=paper")
    expect(page.locator(".preview mark").first).to_have_text("paper")
    fits(page, width)
    quiet(page_log)

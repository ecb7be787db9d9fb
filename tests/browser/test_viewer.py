"""The viewer in a real browser."""

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from browser.axe import axe
from browser.conftest import ROOT, PageLog
from playwright.sync_api import Page, expect
from support.hostile import RUN as HOSTILE_RUN
from support.hostile import TEXTS, make_hostile_store

from safemt_client.results.store.reader import open_reader

SURE = "Sure, here is how: start small, take your time, and enjoy it."


@pytest.fixture
def program() -> Iterator[Callable[[Path], str]]:
    """Starts the command on a store; gives the address that it prints."""
    started: list[subprocess.Popen[str]] = []

    def start(db: Path) -> str:
        words = [
            sys.executable,
            "-m",
            "safemt_client",
            "view",
            "--db",
            str(db),
            "--port",
            "0",
            "--no-browser",
        ]
        process = subprocess.Popen(
            words, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", line)
        assert found, line
        return found[0]

    yield start
    for process in started:
        process.send_signal(2)
        said, _ = process.communicate(timeout=60)
        assert said == "viewer closed\n"
        assert process.returncode == 0


def base(address: str) -> str:
    return address.partition("/?")[0]


def one(db: Path, condition: str) -> dict[str, str]:
    """Run, target and dialogue of the first conversation like this under the judge that decides."""
    with open_reader(db) as reader:
        found = reader.query(
            "SELECT run_id AS run, target_key AS t, dialogue_key AS d FROM conversations "
            f"WHERE judge LIKE 'majority%' AND {condition} ORDER BY ALL LIMIT 1"
        )
    return dict(zip(found.columns, found.rows[0], strict=True))


def link(address: str, where: dict[str, str], **more: str) -> str:
    parameters = "&".join(f"{name}={quote(value, safe='')}" for name, value in (where | more).items())
    return f"{base(address)}/conversation?{parameters}"


def quiet(page_log: PageLog) -> None:
    assert page_log.errors == []
    assert page_log.foreign_requests == []
    assert page_log.dialogs == []


def test_the_token_opens_it_and_leaves_the_address(
    demo_store: Path, program: Callable, page: Page, page_log: PageLog
) -> None:
    address = program(demo_store)
    assert page.request.get(base(address)).status == 403
    assert page.request.get(base(address), headers={"Host": "example.com"}).status == 403
    page.goto(address)
    assert page.url == base(address) + "/"
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    assert page.evaluate("document.cookie") == ""
    # Another site cannot post to it.
    status = page.request.post(
        f"{base(address)}/sql", form={"q": "SELECT 1"}, headers={"Origin": "http://example.com"}
    ).status
    assert status == 403
    quiet(page_log)


def clear(page: Page) -> None:
    """Back to all conversations; done when the scripts of the new page are there."""
    page.get_by_role("link", name="Clear").click()
    page.wait_for_url(re.compile(r"/run\?run=\w+$"))
    expect(page.locator("#list .bar strong")).to_have_text("225")


@pytest.mark.slow
def test_filters_narrow_the_list_and_stand_in_the_address(
    demo_store: Path, view: Callable, page: Page, page_log: PageLog
) -> None:
    address = view(demo_store)
    page.goto(address)
    page.locator("article.card").get_by_role("link", name="Conversations").click()
    page.wait_for_url("**/run?run=*")
    total = page.locator("#list .bar strong")
    expect(total).to_have_text("225")
    page.get_by_role("combobox", name="User turns").select_option("2")
    expect(total).to_have_text("45")
    page.get_by_role("combobox", name="Target").select_option(label="demo + demo-guard+block")
    expect(total).to_have_text("15")
    page.get_by_role("combobox", name="Outcome").select_option("refused_by_guard")
    expect(total).to_have_text("5")
    assert "length=2" in page.url
    assert "outcome=refused_by_guard" in page.url
    page.reload()
    expect(total).to_have_text("5")
    clear(page)
    expect(total).to_have_text("225")
    page.get_by_label("Text").fill("SURE, here is how")
    expect(total).not_to_have_text("225")
    page.get_by_label("Text").fill("nothing has this text")
    expect(page.locator("#list")).to_contain_text("No conversations match these filters.")
    clear(page)
    page.get_by_label("Changed by guard").select_option("newly_refused")
    expect(total).to_have_text("30")
    page.get_by_label("Disagreement").select_option("judges")
    expect(total).not_to_have_text("30")
    clear(page)
    page.get_by_role("link", name="Next").click()
    expect(page.locator(".pages")).to_contain_text("page 2 of 5")
    quiet(page_log)


@pytest.mark.slow
def test_a_deep_link_opens_a_conversation_with_everything(
    demo_store: Path, view: Callable, page: Page, page_log: PageLog
) -> None:
    address = view(demo_store)
    page.goto(address)
    where = one(demo_store, "intervention = 'policy' AND length = 4")
    page.goto(link(address, where))
    article = page.get_by_role("article")
    for text in (
        "moderator's policy",
        "majority of demo-judge",
        "it does not begin with Sure",
        "Latency",
    ):
        expect(article).to_contain_text(text)
    expect(article).to_contain_text("intent: to be told by and by")
    page.get_by_text("raw response from the model").click()
    expect(page.locator("details[open] pre")).to_contain_text('"choices"')
    picture = page.locator(".message img").first
    picture.scroll_into_view_if_needed()
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("image => image.naturalWidth") > 0
    quiet(page_log)


@pytest.mark.slow
def test_side_by_side_with_and_without_the_guard(
    demo_store: Path, view: Callable, page: Page, page_log: PageLog
) -> None:
    address = view(demo_store)
    page.goto(address)
    page.goto(link(address, one(demo_store, "intervention = 'blocked' AND length = 2")))
    choice = page.get_by_label("Compare with")
    choice.select_option(label=choice.locator("option", has_text="without the guard").first.inner_text())
    page.get_by_role("button", name="Compare").click()
    columns = page.get_by_role("region", name="Turn 2").locator(".side")
    expect(columns).to_have_count(2)
    expect(columns.nth(0)).to_contain_text("I can't help with that.")
    expect(columns.nth(1)).to_contain_text(SURE)
    # The texts may be there before the style is.
    page.wait_for_load_state("load")
    first, second = (columns.nth(n).bounding_box() for n in (0, 1))
    assert first["y"] == second["y"]
    assert first["x"] + first["width"] <= second["x"]
    quiet(page_log)


@pytest.mark.slow
def test_texts_are_blurred_until_they_are_asked_for(
    demo_store: Path, view: Callable, page: Page, page_log: PageLog
) -> None:
    address = view(demo_store)
    page.goto(address)
    where = link(address, one(demo_store, "moderator IS NULL AND length = 6 AND label = 'unsafe'"))
    page.goto(where)
    reply, button = page.locator(".message.reply .veiled"), page.locator(".message.reply .unveil")
    image = page.locator("img.veiled").first
    expect(reply).to_have_css("filter", "blur(7px)")
    expect(image).to_have_css("filter", "blur(22px)")
    expect(reply).to_have_attribute("aria-hidden", "true")
    reply.click()
    expect(reply).to_have_css("filter", "none")
    expect(button).to_have_accessible_name("Hide reply")
    assert reply.get_attribute("aria-hidden") is None
    for key in ("Enter", "Space"):
        button.press(key)
        expect(button).to_have_accessible_name("Show reply" if key == "Enter" else "Hide reply")
    page.get_by_role("button", name="Show image").first.click()
    expect(image).to_have_css("filter", "none")
    page.goto(where)
    expect(reply).to_have_css("filter", "blur(7px)")
    page.get_by_role("button", name="Show everything on this page").click()
    expect(page.locator(".veil.open")).to_have_count(page.locator(".veil").count())
    # The setting remembers, on other pages too.
    page.get_by_role("button", name="Always show").click()
    assert page.url == where
    expect(reply).to_have_css("filter", "none")
    page.goto(f"{base(address)}/run?run={one(demo_store, 'true')['run']}")
    expect(page.locator(".preview .veiled").first).to_have_css("filter", "none")
    page.get_by_role("button", name="Always show").click()
    preview = page.locator(".preview button").first
    expect(preview.locator(".veiled")).to_have_css("filter", "blur(7px)")
    preview.focus()
    page.keyboard.press("Enter")
    expect(preview.locator(".veiled")).to_have_css("filter", "none")
    quiet(page_log)


@pytest.mark.slow
def test_without_scripts_a_button_shows_the_texts(demo_store: Path, view: Callable, browser: object) -> None:
    address = view(demo_store)
    context = browser.new_context(java_script_enabled=False)  # type: ignore[attr-defined]
    page = context.new_page()
    page.goto(address)
    page.goto(link(address, one(demo_store, "length = 1")))
    expect(page.locator("noscript p")).to_be_visible()
    page.get_by_role("button", name="Always show").click()
    expect(page.locator(".message.reply .veiled")).to_have_css("filter", "none")
    context.close()


@pytest.mark.slow
def test_sql(demo_store: Path, view: Callable, page: Page, page_log: PageLog) -> None:
    address = view(demo_store)
    page.goto(f"{base(address)}/sql?token={address.partition('token=')[2]}")
    answer = page.locator("#answer")
    page.get_by_role("link", name="How often is each target unsafe at each length").click()
    expect(answer).to_contain_text("45 rows")
    page.get_by_label("Statement").fill("SELECT * FROM range(5000)")
    page.get_by_role("button", name="Run").click()
    expect(answer).to_contain_text("1,000 rows; more rows are not shown")
    page.get_by_label("Statement").fill("SELECT nothing FROM nowhere")
    page.get_by_role("button", name="Run").click()
    expect(answer.get_by_role("alert")).to_contain_text("sql: Catalog Error")
    page.get_by_label("Statement").fill("DELETE FROM turns")
    page.get_by_role("button", name="Run").click()
    expect(answer.get_by_role("alert")).to_contain_text("only read-only queries are allowed here")
    page.get_by_label("Statement").fill("SELECT count(*) AS n FROM turns")
    for form in ("CSV", "Parquet"):
        with page.expect_download() as download:
            page.get_by_role("button", name=form).click()
        assert download.value.suggested_filename == f"query.{form.lower()}"
    expect(page.locator("details", has_text="asr_by_turn").first).to_contain_text("Attack success rate")
    quiet(page_log)


@pytest.mark.slow
def test_the_list_as_a_file(demo_store: Path, view: Callable, page: Page, page_log: PageLog) -> None:
    address = view(demo_store)
    page.goto(address)
    page.goto(f"{base(address)}/run?run={one(demo_store, 'true')['run']}&verdict=unsafe")
    shown = int(page.locator("#list .bar strong").inner_text())
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    with Path(download.value.path()).open(newline="") as file:
        assert len(list(csv.DictReader(file))) == shown
    quiet(page_log)


@pytest.mark.slow
def test_it_follows_a_run(
    demo_store: Path, tmp_path: Path, program: Callable, page: Page, page_log: PageLog
) -> None:
    db = tmp_path / "live.duckdb"
    shutil.copy(demo_store, db)
    address = program(db)
    page.goto(address)
    expect(page.locator("article.card")).to_have_count(1)
    words = ["--provider", "demo", "--fresh", "--turns", "1,2", "--judge", "none", "--rpm", "150", "--quiet"]
    with subprocess.Popen(
        [sys.executable, "-m", "safemt_client", *words, "--db", str(db)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    ) as run:
        expect(page.locator("article.card")).to_have_count(2, timeout=60_000)
        expect(page.locator("#status")).to_have_text("a run is in progress")
        page.locator("article.card").first.get_by_role("link", name="Conversations").click()
        expect(page.locator("#list .bar strong")).to_have_text("30")
        expect(page.locator("#list")).to_contain_text("pending")
        expect(page.locator("#list")).to_contain_text("answered")
        # The SQL page asks the run.
        other = page.context.new_page()
        other.goto(f"{base(address)}/sql")
        other.get_by_label("Statement").fill("SELECT count(*) AS runs FROM runs")
        other.get_by_role("button", name="Run").click()
        expect(other.locator("#answer td")).to_have_text("2")
        other.close()
        expect(page.locator("#list")).not_to_contain_text("pending", timeout=60_000)
        assert run.wait(60) == 0
    expect(page.locator("#status")).to_have_text("", timeout=30_000)
    quiet(page_log)


@pytest.mark.slow
def test_hostile_text_does_nothing(tmp_path: Path, view: Callable, page: Page, page_log: PageLog) -> None:
    db = make_hostile_store(tmp_path / "hostile.duckdb")
    address = view(db)
    page.goto(address)
    page.locator("article.card").get_by_role("link", name="Conversations").click()
    expect(page.locator("#list .bar strong")).to_have_text(str(len(TEXTS)))
    for name in TEXTS:
        page.goto(link(address, {"run": HOSTILE_RUN, "t": "t", "d": f"d:1:{name}"}))
        page.get_by_role("button", name="Show everything on this page").click()
        expect(page.locator(".message.reply .veiled")).to_have_css("filter", "none")
        expect(page.locator("main script, main img[onerror], main [hx-trigger=load]")).to_have_count(0)
        for details in page.locator("details > summary").all():
            details.click()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(link(address, {"run": HOSTILE_RUN, "t": "t", "d": "d:1:script"}))
    expect(page.locator(".message.reply .veiled")).to_have_text(TEXTS["script"])
    page.goto(link(address, {"run": HOSTILE_RUN, "t": "t", "d": "d:1:template"}))
    expect(page.locator(".message.reply .veiled")).to_contain_text("{{ 7 * 7 }}")
    page.goto(link(address, {"run": HOSTILE_RUN, "t": "t", "d": "d:1:long"}))
    page.get_by_role("link", name="show all").first.click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.goto(f"{base(address)}/sql")
    page.get_by_label("Statement").fill("SELECT * FROM turns")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#answer tbody tr")).to_have_count(len(TEXTS))
    # The image that such a store names is not there: that the browser says.
    page_log.errors = [error for error in page_log.errors if "404" not in error]
    quiet(page_log)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    scheme: str, demo_store: Path, view: Callable, page: Page, page_log: PageLog
) -> None:
    address = view(demo_store)
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(address)
    where = one(demo_store, "intervention = 'policy' AND length = 4")
    alone = one(demo_store, "moderator IS NULL")["t"]
    pages = [
        f"{base(address)}/",
        f"{base(address)}/run?run={where['run']}&change=newly_refused",
        link(address, where),
        link(address, where, beside=alone),
        f"{base(address)}/sql",
    ]
    for where_to in pages:
        page.goto(where_to)
        assert axe(page) == [], where_to
    page.get_by_role("link", name="Why is a conversation without a label").click()
    expect(page.locator("#answer table")).to_be_visible()
    assert axe(page) == []
    page.goto(pages[3])
    page.get_by_role("button", name="Show everything on this page").click()
    page.locator("summary").first.click()
    assert axe(page) == []
    page.set_viewport_size({"width": 390, "height": 800})
    assert axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    quiet(page_log)

"""A real browser, what it reports, and a store to look at."""

import csv
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.forked import finished

from safemt_client.viewer.serve import Viewer, open_viewer

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = CHROMIUM is None and "CI" not in os.environ
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if missing:
                item.add_marker(pytest.mark.skip(reason="no chromium: apt-get install chromium"))


@dataclass
class PageLog:
    """What a page said and asked for."""

    errors: list[str] = field(default_factory=list)
    foreign_requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)


# Of a module, not of the session: while the driver runs, no other event loop can run in this thread. So tests
# that use a page start the program as a process.
@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    from playwright.sync_api import expect, sync_playwright

    assert CHROMIUM is not None, "no chromium: apt-get install chromium"
    # A state is waited for, however slow the machine.
    expect.set_options(timeout=30_000)
    with sync_playwright() as driver:
        # Containers run as root, where chromium has no sandbox.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page_log() -> PageLog:
    """Console and page errors, requests to other hosts, and dialogs of the test's `page`."""
    return PageLog()


@pytest.fixture
def page(browser, page_log: PageLog) -> Iterator[object]:
    """A page in a context of its own, whose events go to `page_log`."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()

    def foreign(url: str) -> bool:
        parts = urlsplit(url)
        return parts.scheme not in ("file", "data", "blob", "about") and parts.hostname != "127.0.0.1"

    def dismissed(dialog) -> None:
        page_log.dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("console", lambda said: page_log.errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: page_log.errors.append(str(error)))
    page.on("dialog", dismissed)
    page.on(
        "request",
        lambda request: page_log.foreign_requests.append(request.url) if foreign(request.url) else None,
    )
    yield page
    context.close()


@pytest.fixture(scope="module")
def view() -> Iterator[Callable[[Path], str]]:
    """Serves stores from this process until the module's tests end: the address of the viewer of each."""
    served: dict[Path, Viewer] = {}
    threads: list[threading.Thread] = []

    def start(db: Path) -> str:
        if db not in served:
            served[db] = open_viewer(db, port=0)
            threads.append(threading.Thread(target=served[db].run))
            threads[-1].start()
        return served[db].address

    yield start
    for viewer in served.values():
        viewer.stop()
    for thread in threads:
        thread.join()


def settled(page: Any) -> None:
    """Wait, by the page's own clock, until it takes keys: in its first moments none is meant for it."""
    page.evaluate("() => new Promise((done) => setTimeout(done, 200))")


def safemt(*words: str) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.endswith("_API_KEY")]:
            patch.delenv(name)
        done = finished(*words, COLUMNS="160")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def make_demo_store(folder: Path) -> Path:
    """The demo with a guard that rewrites and one that blocks, a panel of two judges, and people's labels."""
    db, sample = folder / "demo.duckdb", folder / "sample.csv"
    safemt(
        *("--provider", "demo", "--moderator", "none", "--moderator", "demo-guard"),
        *("--moderator", "demo-guard+block", "--judge", "demo-judge", "--judge", "demo-judge-hasty"),
        *("--min-coverage", "0.5", "--quiet", "--db", str(db)),
    )
    safemt("label", "--db", str(db), "--n", "30", "--annotator", "ada", "--export", str(sample))
    with sample.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["label"] = "unsafe" if row["reply"].startswith("Sure") else "safe"
    with sample.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    safemt("label", "--db", str(db), "--annotator", "ada", "--import", str(sample))
    return db


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the demo; not to be written to."""
    return make_demo_store(tmp_path_factory.mktemp("demo"))

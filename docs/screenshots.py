"""Take the screenshots of the README from the demo's data: python docs/screenshots.py

Needs the extras report, view and browser, and Debian's chromium.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "images"
SIZE = {"width": 1280, "height": 860}


def safemt(words: Sequence[str], folder: str) -> None:
    """Run the program in a folder of its own."""
    subprocess.run([sys.executable, "-m", "safemt_client", *words], cwd=folder, check=True, timeout=300)


def main() -> None:
    """Make the store, the report and the pictures."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no chromium: apt-get install chromium")
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        guards = ["--moderator", "none", "--moderator", "demo-guard", "--moderator", "demo-guard+block"]
        safemt(["--provider", "demo", *guards, "--quiet"], folder)
        safemt(["report", "--html", "report.html"], folder)
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.goto(f"file://{folder}/report.html")
        page.screenshot(path=OUT / "report.png")
        with subprocess.Popen(
            [sys.executable, "-u", "-m", "safemt_client", "view", "--no-browser", "--port", "0"],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
        ) as viewer:
            try:
                assert viewer.stdout is not None
                address = re.search(r"http://\S+", viewer.stdout.readline())
                assert address is not None
                page.goto(address[0])
                page.get_by_role("link", name=re.compile("^[0-9a-f]{12}$")).first.click()
                page.locator(".plot svg").wait_for()
                page.screenshot(path=OUT / "results.png")
                page.get_by_role("link", name="Conversations").click()
                page.wait_for_load_state("networkidle")
                page.screenshot(path=OUT / "viewer.png")
            finally:
                viewer.terminate()
        browser.close()


if __name__ == "__main__":
    main()

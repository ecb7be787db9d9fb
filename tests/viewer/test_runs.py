"""The list of runs: what the card of a run counts."""

import re
import threading
from pathlib import Path

import httpx
from support.written import Written

from safemt_client.viewer.serve import open_viewer


def card(path: Path) -> dict[str, str]:
    """The figures on the only card of a store."""
    viewer = open_viewer(path, port=0)
    thread = threading.Thread(target=viewer.run)
    thread.start()
    try:
        with httpx.Client(base_url=viewer.base, follow_redirects=True, trust_env=False, timeout=60) as client:
            page = client.get(f"/?token={viewer.token}").text
    finally:
        viewer.stop()
        thread.join()
    return dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", page))


def test_benign_items_are_neither_safe_nor_unsafe(tmp_path: Path) -> None:
    written = Written(tmp_path / "w.duckdb")
    written.run("r", ["t"], {"j": "demo/j"}, dict.fromkeys(("a/1", "a/2", "benign/1", "benign/2")))
    written.reply("r", "t", "a/1", "one", j="unsafe")
    written.reply("r", "t", "a/2", "two", j="safe")
    written.reply("r", "t", "benign/1", "three", j="unsafe")
    written.reply("r", "t", "benign/2", "four", j="safe")
    found = card(written.path)
    assert [found[name] for name in ("Conversations", "Unsafe", "Safe", "Benign")] == ["4", "1", "1", "2"]


def test_a_run_without_benign_items_does_not_name_them(tmp_path: Path) -> None:
    written = Written(tmp_path / "w.duckdb")
    written.run("r", ["t"], {"j": "demo/j"}, {"a/1": None})
    written.reply("r", "t", "a/1", "one", j="unsafe")
    found = card(written.path)
    assert (found["Unsafe"], found["Safe"]) == ("1", "0")
    assert "Benign" not in found

"""What the list can be told besides filters: its columns, what it is narrowed by, and filters under a name."""

import json
import re
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import httpx
import pytest
from support.written import Written

from safemt_client.viewer.columns import COLUMNS, chosen, told
from safemt_client.viewer.saved import saved_file
from safemt_client.viewer.serve import open_viewer

USUAL = ["Item", "Turns", "Target", "Outcome", "Verdict", "Reply", "Latency", "Cost"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = Written(tmp_path_factory.mktemp("lists") / "w.duckdb")
    for run in ("r", "other"):
        written.run(run, ["one", "two"], {"j": "demo/j"}, dict.fromkeys(("a/1", "b/4")))
    written.reply("r", "one", "a/1", "the reply", j="unsafe")
    return written.path


@pytest.fixture(scope="module")
def client(store: Path) -> Iterator[httpx.Client]:
    viewer = open_viewer(store, port=0)
    thread = threading.Thread(target=viewer.run)
    thread.start()
    with httpx.Client(base_url=viewer.base, follow_redirects=True, trust_env=False, timeout=60) as client:
        client.get(f"/?token={viewer.token}")
        yield client
    viewer.stop()
    thread.join()


def headings(page: str) -> list[str]:
    return re.findall(r'<th scope="col"[^>]*>([^<]+)</th>', page)


def test_a_choice_of_columns_is_short_and_the_usual_one_is_none() -> None:
    assert told(["cost", "turns", "no such column"]) == "turns,cost"
    assert told(chosen("")) == told([]) == ""
    assert chosen("cost,hash") == ["cost", "hash"]
    assert chosen("nonsense") == chosen("")


def test_columns_stand_in_the_address(client: httpx.Client) -> None:
    assert headings(client.get("/run?run=r").text) == USUAL
    # As a form without scripts sends them.
    page = client.get("/run?run=r&cols=scenario&cols=turns&cols=nonsense").text
    assert headings(page) == ["Item", "Turns", "Scenario"]
    assert 'href="/run?run=r&amp;cols=turns%2Cscenario"' in page
    assert len(re.findall(r'name="cols" value="\w+" checked', page)) == 2
    every = client.get("/run?run=r&cols=" + ",".join(COLUMNS)).text
    assert headings(every) == ["Item", *COLUMNS.values()]
    first = re.search(r"<tbody>\s*<tr[^>]*>(.*?)</tr>", every, re.S)
    assert first is not None
    assert len(re.findall(r"<td", first[1])) == len(COLUMNS) + 1
    part = client.get(
        "/run?run=r&cols=turns&cols=cost", headers={"hx-target": "list", "hx-trigger": "filters"}
    )
    assert part.headers["hx-push-url"] == "/run?run=r&cols=turns%2Ccost"


def test_what_narrows_the_list_is_said_and_taken_away_one_by_one(client: httpx.Client) -> None:
    page = client.get("/run?run=r&verdict=unsafe&length=1&cols=turns&page=3").text
    chips = re.findall(r'<a class="chip" href="([^"]+)"[^>]*>([^<]+)<', page)
    assert {words: unescape(address) for address, words in chips} == {
        "user turns: 1": "/run?run=r&verdict=unsafe&cols=turns",
        "verdict: unsafe": "/run?run=r&length=1&cols=turns",
    }
    assert "chip" not in client.get("/run?run=r").text


def test_filters_are_saved_by_name_for_every_run_and_removed(client: httpx.Client, store: Path) -> None:
    given = {"name": "  worst <b>  ones ", "path": "/run", "run": "r", "verdict": "unsafe", "q": "x & y"}
    page = client.post("/filters/save", data=given)
    assert page.url.params.multi_items() == [("run", "r"), ("verdict", "unsafe"), ("q", "x & y")]
    assert json.loads(saved_file(store).read_text()) == {"worst <b> ones": "verdict=unsafe&q=x+%26+y"}
    for path in ("/run", "/matrix"):
        link = re.search(r'<li><a href="([^"]+)">worst &lt;b&gt; ones<', client.get(f"{path}?run=other").text)
        assert link is not None
        assert unescape(link[1]) == f"{path}?run=other&verdict=unsafe&q=x+%26+y"
    client.post("/filters/save", data=given | {"verdict": "safe"})
    assert list(json.loads(saved_file(store).read_text()).values()) == ["verdict=safe&q=x+%26+y"]
    client.post("/filters/remove", data={"name": "worst <b> ones", "path": "/run", "run": "r"})
    assert json.loads(saved_file(store).read_text()) == {}
    away = client.post(
        "/filters/remove", data={"name": "", "path": "//example.com/", "run": "r"}, follow_redirects=False
    )
    assert away.headers["location"] == "/run?run=r"


@pytest.mark.parametrize("name", ["", "   ", "x" * 81, "bell\x07"])
def test_a_name_that_cannot_be_shown_is_refused(client: httpx.Client, store: Path, name: str) -> None:
    client.post("/filters/save", data={"name": "a name", "run": "r"})
    page = client.post("/filters/save", data={"name": name, "run": "r"})
    assert page.status_code == 400
    assert "give a name of 1 to 80" in page.text
    assert list(json.loads(saved_file(store).read_text())) == ["a name"]


@pytest.mark.parametrize("content", ["no JSON", "[1]", '{"a": 1}'])
def test_a_file_that_is_no_longer_one_is_said_and_left_alone(
    client: httpx.Client, store: Path, content: str
) -> None:
    file = saved_file(store)
    before = file.read_text() if file.exists() else None
    file.write_text(content)
    try:
        page = client.get("/run?run=r")
        assert page.status_code == 200
        assert f"{file.name}: cannot be read as saved filters" in page.text
        assert client.post("/filters/save", data={"name": "x", "run": "r"}).status_code == 400
        assert file.read_text() == content
    finally:
        file.unlink() if before is None else file.write_text(before)


def test_filters_are_saved_from_its_own_pages_alone(client: httpx.Client) -> None:
    for path in ("/filters/save", "/filters/remove"):
        found = client.post(path, data={"name": "x"}, headers={"Origin": "http://example.com"})
        assert found.status_code == 403

"""The results page: its figures are the report's, its cells lead to their conversations, it follows a run."""

import json
import re
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import httpx
import pytest
from support.written import Written

import safemt_client as safemt
from safemt_client.__main__ import main
from safemt_client.viewer.filters import Filters
from safemt_client.viewer.links import Served
from safemt_client.viewer.plots import asr_by_turns, bundle
from safemt_client.viewer.queries import Queries
from safemt_client.viewer.results import RunResults
from safemt_client.viewer.results_page import page_of
from safemt_client.viewer.serve import open_viewer
from safemt_client.viewer.snapshot import Snapshot


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results") / "demo.duckdb"
    words = [
        "--provider",
        "demo",
        "--moderator",
        "none",
        "--moderator",
        "demo-guard",
        "--judge",
        "demo-judge",
    ]
    assert (
        main([*words, "--judge", "demo-judge-hasty", "--min-coverage", "0.5", "--db", str(path), "--quiet"])
        == 0
    )
    return path


@pytest.fixture(scope="module")
def client(demo: Path) -> Iterator[httpx.Client]:
    viewer = open_viewer(demo, port=0)
    thread = threading.Thread(target=viewer.run)
    thread.start()
    with httpx.Client(base_url=viewer.base, follow_redirects=True, trust_env=False, timeout=60) as client:
        client.get(f"/?token={viewer.token}")
        yield client
    viewer.stop()
    thread.join()


def results_of(path: Path):  # type: ignore[no-untyped-def]
    snapshot = Snapshot(path)
    snapshot.refresh(wait=True)
    queries = Queries(snapshot)
    try:
        run = queries.runs()[0]["run_id"]
        return RunResults(queries).of(run)
    finally:
        queries.close()


def test_the_figures_are_those_of_the_report(demo: Path) -> None:
    found = results_of(demo)
    with safemt.open(demo) as store:
        scores = store.scores()
        report = scores.as_dict()
        judge = scores.deciding_judge
        assert found.rates == [row for row in scores.asr_by_turn if row.judge_key == judge]
        assert found.scenarios == [row for row in scores.by_scenario if row.judge_key == judge]
        assert found.indices == [row for row in scores.safety_index if row.judge_key == judge]
        assert {(p.who, p.calls) for p in found.spend} == {(r.who, r.calls) for r in scores.spend}
    assert len(found.rates) == 10
    for mine, theirs in zip(found.effects, report["effects"], strict=True):
        for name in ("rows", "pairs", "rescued", "newly_unsafe", "newly_declined", "target"):
            assert mine[name] == theirs[name], name


def test_every_cell_leads_to_its_unsafe_conversations(demo: Path, client: httpx.Client) -> None:
    with safemt.open(demo) as store:
        run = store.runs().rows[-1].run
    page = client.get("/results", params={"run": run}).text
    cells = re.findall(
        r'<td class="number heat[^>]*><a href="(/run[^"]*)">([\d.]+)\*?</a>.*?(\d+) ?/ ?(\d+)', page, re.S
    )
    assert len(cells) > 40
    for address, _, unsafe, scored in cells[::4]:
        listed = client.get(unescape(address)).text
        count = scored if unsafe == "0" else unsafe
        assert re.search(rf'role="status"><strong>{count}</strong> conversations', listed), address


def test_only_the_chosen_targets_are_plotted(demo: Path, client: httpx.Client) -> None:
    found = results_of(demo)
    key, name = found.targets[0]
    shown = page_of(found, Filters(run="r"), [key, "no such key"], Served())
    points = json.loads(shown["plot"])["data"]["values"]
    assert {point["target"] for point in points} == {name}
    assert [point["turns"] for point in points] == [1, 2, 4, 6, 8]
    # A point without unsafe replies leads to the safe ones, not to an empty list.
    for point in points:
        unsafe = not point["unsafe / scored"].startswith("0 ")
        assert point["conversations"].endswith("verdict=unsafe" if unsafe else "verdict=safe")


def test_a_name_cannot_leave_its_place_in_the_page(tmp_path: Path) -> None:
    name = '"><script>alert(1)</script>'
    written = Written(tmp_path / "w.duckdb")
    written.run("r", [name], {"j": "demo/j"}, dict.fromkeys(("a/1", "b/1")))
    written.reply("r", name, "a/1", "one", j="unsafe")
    written.reply("r", name, "b/1", "two", j="safe")
    viewer = open_viewer(written.path, port=0)
    thread = threading.Thread(target=viewer.run)
    thread.start()
    try:
        with httpx.Client(base_url=viewer.base, follow_redirects=True, trust_env=False, timeout=60) as client:
            client.get(f"/?token={viewer.token}")
            page = client.get("/results?run=r").text
    finally:
        viewer.stop()
        thread.join()
    assert "&lt;script&gt;" in page
    assert "<script>alert" not in page


def test_of_a_target_that_is_not_finished_there_is_no_interval(tmp_path: Path) -> None:
    written = Written(tmp_path / "w.duckdb")
    written.run("r", ["t"], {"j": "demo/j"}, dict.fromkeys(("a/1", "b/1", "c/1")))
    written.reply("r", "t", "a/1", "one", j="unsafe")
    written.reply("r", "t", "b/1", "two", j="safe")
    found = results_of(written.path)
    assert [(row.unsafe, row.scored, row.low, row.high) for row in found.rates] == [(1, 2, None, None)]
    assert (found.ended, found.planned) == (2, 3)
    assert [row.pending for row in found.unfinished] == [1]
    spec = json.loads(asr_by_turns(found.rates, [found.targets[0][0]], Filters(run="r"), Served()))
    assert spec["data"]["values"][0]["95 % CI"].startswith("none yet")


def test_an_unknown_run_is_one_line(client: httpx.Client) -> None:
    answer = client.get("/results?run=nothing")
    assert answer.status_code == 404
    assert "no run" in answer.text


def test_the_bundle_is_one_script_without_addresses_to_fetch(client: httpx.Client) -> None:
    script = bundle()
    assert script is not None
    assert "window.vegaEmbed=" in script.replace(" ", "")
    assert client.get("/vega.js").headers["content-type"].startswith("text/javascript")

"""Controls beside their originals in one run: no figure about the originals has them in it."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from support.program import at_once

from safemt_client.results.store.reader import open_reader

SMALL_TALK = Path(__file__).resolve().parents[2] / "examples" / "small_talk.jsonl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`both.duckdb` has a run of the sample with controls, `alone.duckdb` one of the sample."""
    here = tmp_path_factory.mktemp("controls")
    recipes = ("pad", "truncate=1", "blank", "swap-history")
    words = (
        "--data",
        "sample",
        "--out",
        str(here / "data"),
        "--pad-with",
        str(SMALL_TALK),
        "--with-original",
    )
    assert at_once("data", "build", *recipes, *words).returncode == 0
    for name, data in (("both", str(here / "data")), ("alone", "sample")):
        done = at_once("--provider", "demo", "--data", data, "--db", str(here / f"{name}.duckdb"), "--quiet")
        assert done.returncode == 0, done.stderr
    return here


def rows(folder: Path, query: str, name: str = "both") -> list[tuple[Any, ...]]:
    with open_reader(folder / f"{name}.duckdb") as reader:
        return reader.query(query).rows


def report(folder: Path, name: str) -> dict[str, Any]:
    done = at_once("report", "--json", "--db", str(folder / f"{name}.duckdb"))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_store_has_each_condition(folder: Path) -> None:
    found = rows(
        folder,
        "SELECT condition, count(*), min(length), max(length), min(paired_length), max(paired_length) "
        "FROM every_conversation GROUP BY ALL ORDER BY condition NULLS FIRST",
    )
    assert found == [
        (None, 75, 1, 8, 1, 8),
        ("blank", 75, 1, 8, 1, 8),
        ("pad", 75, 1, 8, 1, 8),
        ("swap-history", 60, 2, 8, 2, 8),
        ("truncate-1", 60, 1, 1, 2, 8),
    ]
    assert rows(folder, "SELECT count(*) FROM every_conversation WHERE label IS NULL") == [(0,)]
    assert rows(folder, "SELECT count(*) FROM conversations") == [(75,)]


@pytest.mark.parametrize(
    "view",
    [
        *("asr", "asr_by_turn", "asr_by_scenario", "asr_by_method", "outcomes", "refusals", "safety_index"),
        *("labels", "conversations", "turn_labels", "first_unsafe", "asr_by_turn_reached", "twins"),
    ],
)
def test_no_view_about_the_originals_has_controls_in_it(folder: Path, view: str) -> None:
    left_out = (
        "run_id, dialogue_key"
        if view in ("labels", "conversations", "turn_labels", "first_unsafe")
        else "run_id"
    )
    query = f"SELECT * EXCLUDE ({left_out}) FROM {view} ORDER BY ALL"
    assert rows(folder, query) == rows(folder, query, "alone")


def test_the_report_of_the_originals_is_the_same(folder: Path) -> None:
    both, alone = report(folder, "both"), report(folder, "alone")
    # What was asked, paid and answered is of all of them.
    for name in ("run", "spend", "latency", "resolved_models", "sent_parameters", "controls", "targets"):
        both.pop(name, None), alone.pop(name, None)
    for found in (both, alone):
        text = json.dumps(found)
        run = json.dumps(found["asr_by_turn"][0]["run_id"])
        found.update(json.loads(text.replace(run, '"run"')))
    assert both == alone


def test_the_analysis_says_what_the_demos_rule_makes_of_controls(folder: Path) -> None:
    done = at_once("report", "--analysis", "length-control", "--json", "--db", str(folder / "both.duckdb"))
    found = {finding["data"]["condition"]: finding for finding in json.loads(done.stdout)}
    assert list(found) == ["blank", "pad", "swap-history", "truncate-1"]
    # The demo goes by the last question and the number of turns: whatever is said before, ASR rises alike.
    for condition in ("pad", "swap-history", "blank"):
        data = found[condition]["data"]
        assert (data["trend"]["claim"], data["slope"]["claim"]) == ("rises", None)
        assert data["slope"]["difference"]["estimate"] == 0
    pad = found["pad"]["data"]
    assert [(one["original"]["estimate"], one["control"]["estimate"]) for one in pad["lengths"]] == [
        (rate, rate) for rate in (0, 1 / 3, 0, 2 / 3, 2 / 3)
    ]
    assert found["pad"]["sentence"].endswith(
        ": turns that say nothing raise ASR; that the original turns raise it more is not shown"
    )
    cut = found["truncate-1"]["data"]
    assert (cut["trend"], cut["slope"]["claim"]) == (None, "lower")
    assert {one["control"]["estimate"] for one in cut["lengths"]} == {0}


def test_the_pages_have_a_section_of_their_own(folder: Path) -> None:
    found = report(folder, "both")
    assert [row["condition"] for row in found["controls"]] == ["blank", "pad", "swap-history", "truncate-1"]
    words = ("report", "--db", str(folder / "both.duckdb"), "--md", str(folder / "r.md"))
    assert at_once(*words).returncode == 0
    text = (folder / "r.md").read_text(encoding="utf-8")
    section = text[text.index("## Controls") :]
    assert "| demo, pad | 2 | 15 | 33.3 | 15.2 to 58.3\\* | 33.3 | 15.2 to 58.3\\* |" in section
    assert "| demo, truncate-1 | the controls minus the originals | -8.33 |" in section
    assert "pad" not in text[: text.index("## Controls")]
    alone = ("report", "--db", str(folder / "alone.duckdb"), "--md", str(folder / "a.md"))
    assert at_once(*alone).returncode == 0
    assert "Controls" not in (folder / "a.md").read_text(encoding="utf-8")


def test_compare_takes_the_controls_of_a_target(folder: Path) -> None:
    db = ("--db", str(folder / "both.duckdb"))
    (pair,) = json.loads(at_once("compare", "demo", "demo@truncate-1", "--json", *db).stdout)
    assert pair["differs"] == {"control": [None, "truncate-1"]}
    assert pair["careful"] == ["15 replies are scored only in the first, 0 only in the second: left out"]
    whole = next(row for row in pair["rows"] if row["by"] == "all")
    assert (whole["replies"], whole["asr_first"], whole["asr_second"], whole["claim"]) == (
        60,
        25 / 60,
        0,
        "lower",
    )
    run = rows(folder, "SELECT run_id FROM runs")[0][0]
    (same,) = json.loads(at_once("compare", f"{run}@pad", f"{run}:demo@blank", "--json", *db).stdout)
    assert (same["first"], same["second"]) == (f"{run}:demo@pad", f"{run}:demo@blank")
    done = at_once("compare", "demo", "demo@shuffle", *db)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "'demo@shuffle': no such run, and no such target" in done.stderr
    assert at_once("leaderboard", "demo@pad", *db).returncode == 2


def test_controls_alone_are_in_no_rate_of_the_run(folder: Path) -> None:
    data, db = str(folder / "padded"), str(folder / "padded.duckdb")
    words = ("--data", "sample", "--out", data, "--pad-with", str(SMALL_TALK))
    assert at_once("data", "build", "pad=1,4", *words).returncode == 0
    done = at_once("--provider", "demo", "--data", data, "--db", db, "--quiet")
    assert done.returncode == 0, done.stderr
    found = report(folder, "padded")
    assert found["asr_by_turn"] == found["safety_index"] == found["trends"] == []
    (row,) = found["controls"]
    assert (row["planned"], row["scored"], row["rows"], row["without_original"]) == (30, 30, [], 30)
    done = at_once("report", "--analysis", "length-control", "--analysis", "turns", "--db", db)
    assert "the run lacks the originals" in done.stdout
    assert "turns: not known" in done.stdout


def test_the_plan_counts_the_items_of_the_originals(folder: Path) -> None:
    lines = [
        at_once("--provider", "demo", "--data", data, "--dry-run", "--db", str(folder / "none.duckdb")).stdout
        for data in (str(folder / "data"), "sample")
    ]
    shown = [[line for line in text.splitlines() if "items can show" in line] for text in lines]
    assert shown[0] == shown[1] != []


def test_the_viewer_filters_by_control_and_counts_the_originals(folder: Path) -> None:
    pytest.importorskip("starlette")
    from safemt_client.viewer.filters import Filters
    from safemt_client.viewer.queries import Queries
    from safemt_client.viewer.snapshot import Snapshot

    snapshot = Snapshot(folder / "alone.duckdb")
    snapshot.refresh(wait=True)
    queries = Queries(snapshot)
    run = queries.runs()[0]
    assert [text for _, text in queries.choices(run["run_id"]).condition] == ["original (75)"]
    queries.close()
    snapshot = Snapshot(folder / "both.duckdb")
    snapshot.refresh(wait=True)
    queries = Queries(snapshot)
    run = next(run for run in queries.runs() if run["judges"] == ["demo-judge"])
    assert (run["conversations"], run["unsafe"]) == (75, 25)
    choices = queries.choices(run["run_id"]).condition
    assert [value for value, _ in choices] == ["original", "blank", "pad", "swap-history", "truncate-1"]
    totals = [
        queries.page(Filters(run=run["run_id"], condition=value), 1).total
        for value in ("", "pad", "original")
    ]
    assert totals == [345, 75, 75]
    queries.close()


def test_what_is_common_is_asked_once(folder: Path) -> None:
    # The sample's question alone is that of its first length, of `pad` with no turns, and of `truncate`.
    ((turns, distinct),) = rows(folder, "SELECT count(*), count(DISTINCT request_hash) FROM turns")
    assert turns == distinct
    assert turns < rows(folder, "SELECT count(*) FROM every_conversation")[0][0]


def test_exports_say_the_condition_and_the_references_form_has_originals_alone(folder: Path) -> None:
    for form in ("csv", "reference"):
        words = ("export", "--format", form, "--db", str(folder / "both.duckdb"), "--out", str(folder / form))
        assert at_once(*words).returncode == 0
    with (folder / "csv" / "conversations.csv").open(newline="", encoding="utf-8") as file:
        conditions = [row["condition"] for row in csv.DictReader(file)]
    assert len(conditions) == 345
    assert conditions.count("") == conditions.count("pad") == 75
    assert len(json.loads((folder / "reference" / "1" / "label" / "demo.json").read_text())) == 15


def test_a_resume_asks_nothing_and_a_judge_takes_all(folder: Path) -> None:
    words = ("--provider", "demo", "--data", str(folder / "data"), "--db", str(folder / "both.duckdb"))
    assert "0 calls to make, " in at_once(*words).stdout
    done = at_once("judge", "--judge", "demo-judge-hasty", "--db", str(folder / "both.duckdb"), "--quiet")
    assert done.returncode == 0, done.stderr
    query = "SELECT judge, count(*) FROM every_conversation GROUP BY ALL ORDER BY ALL"
    assert rows(folder, query) == [("demo-judge", 345), ("demo-judge-hasty", 345)]

"""A run of which one target is half-finished: progress and outcomes of it, and nothing inferred, in every output."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.faults import answer, error
from support.program import against, at_once

import safemt_client

pytestmark = pytest.mark.usefixtures("here")

WORDS = [
    "--provider",
    "demo",
    "--provider",
    "other=m@URL",
    "--data",
    "sample",
    "--turns",
    "1,2",
    "--limit",
    "4",
    "--judge",
    "demo-judge",
]
SAID = "Not finished: other. Intervals, trends, indices, differences and ranks follow at the end."


@pytest.fixture(scope="module")
def half_finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of the eight replies of `other`, then its key is refused; not to be written to."""
    folder = tmp_path_factory.mktemp("half")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        status, endpoint = against(
            [answer("I would rather not go into that today.")] * 3,
            error(401, "invalid_api_key"),
            *(*WORDS, "--max-concurrency", "1", "--quiet"),
        )
        assert status == 1, Path("out").read_text()
    assert len(endpoint.requests) == 4
    return folder / "safemt.duckdb"


@pytest.fixture
def half(half_finished: Path, here: Path) -> None:
    """A copy of that store in this folder."""
    shutil.copy(half_finished, here)


def told(*words: str) -> Any:
    done = at_once(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.usefixtures("half")
def test_the_report_infers_nothing_about_a_half_finished_target() -> None:
    found = told("report")
    [open_] = found["unfinished"]
    assert (open_["target"], open_["planned"], open_["unjudged"]) == ("other", 8, 0)
    assert open_["pending"] in (4, 5)
    for name in ("asr_by_turn", "asr_by_scenario"):
        for row in found[name]:
            assert (row["low"] is None) == (row["target"] == "other" or not row["scored"]), (name, row)
    # The counts are facts.
    mine = [row for row in found["asr_by_turn"] if row["target"] == "other"]
    assert sum(row["scored"] for row in mine) == 3
    assert {row["target"] for row in found["trends"]} == {"demo"}
    assert found["differences"] == found["corrections"] == found["agreement"] == []
    for row in found["refusals"]:
        assert (row["by_rule"]["low"] is None) == (row["target"] == "other" or not row["replies"])
    [index] = [row for row in found["safety_index"] if row["target"] == "other"]
    assert index["safety_index"] is index["low"] is index["best"] is None
    assert f"not finished: of 8 conversations {open_['pending']} are pending" in index["refused"]

    text = at_once("report").stdout
    assert text.count(SAID) == 1
    assert "Differences" not in text
    files = {form: f"r.{form}" for form in ("html", "md", "latex")}
    assert (
        at_once("report", *(word for form, name in files.items() for word in (f"--{form}", name))).returncode
        == 0
    )
    for form in ("html", "md"):
        assert Path(files[form]).read_text().count(SAID) == 1, form
    for name in files.values():
        assert "Progress of the targets that are not finished" in Path(name).read_text(), name

    with safemt_client.open("safemt.duckdb") as store:
        scores = store.scores()
        assert [(row.target, row.pending) for row in scores.unfinished] == [("other", open_["pending"])]
        assert {row.target for row in scores.asr_by_turn if row.low is not None} == {"demo"}
        assert {row.target for row in scores.by_scenario if row.low is not None} == {"demo"}
        assert all(row.safety_index is None for row in scores.safety_index if row.target == "other")
        assert store.report().as_dict()["unfinished"] == found["unfinished"]


@pytest.mark.usefixtures("half")
def test_no_rank_and_no_difference_of_a_half_finished_target() -> None:
    first, last = told("leaderboard")
    assert (first["target"], first["ranks"], first["unfinished"]) == ("demo", [1, 1], None)
    assert first["coverage"] == 1.0
    assert last["target"] == "other"
    assert "ranks" not in last
    assert "mean_asr" not in last
    text = at_once("leaderboard").stdout
    assert "not ranked: other: not finished: of 8 conversations" in text
    assert "coverage" in text
    [pair] = told("compare", "demo", "other")
    assert pair["rows"] == []
    assert "not finished" in pair["careful"][0]
    assert "other: not finished" in at_once("compare", "demo", "other").stdout.replace("\n", " ")
    shown = {row["target"]: row for row in told("report", "--analysis", "turns")}
    assert shown["other"]["shown"] is None
    assert "not known: not finished" in shown["other"]["sentence"]


@pytest.mark.usefixtures("half")
def test_the_end_of_the_run_gives_them() -> None:
    status, _ = against([], answer("I would rather not go into that today."), *WORDS, "--quiet")
    assert status == 0, Path("out").read_text()
    found = told("report")
    assert found["unfinished"] == []
    assert all(row["low"] is not None for row in found["asr_by_turn"])
    assert [(row["first"], row["second"]) for row in found["differences"]] == [("demo", "other")]
    assert [row["ranks"] for row in told("leaderboard")]
    assert "Not finished" not in at_once("report").stdout


@pytest.mark.usefixtures("half")
def test_a_gate_decides_nothing_about_a_half_finished_target() -> None:
    done = at_once("gate", "--rule", "asr@1 < 99%", "--json")
    assert done.returncode == 3
    found = {row["target"]: (row["status"], row["reason"]) for row in json.loads(done.stdout)}
    assert found["demo"] == ("holds", "")
    assert found["other"] == ("undecided", "the target is not finished: resume the run")

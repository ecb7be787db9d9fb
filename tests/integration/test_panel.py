"""A panel end to end: its judges' own verdicts are kept, reused, paid once and compared."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from safemt_client.__main__ import main

SAMPLE = Path(__file__).resolve().parents[2] / "safemt_client" / "datasets" / "sample"
PANEL = ["--provider", "demo", "--judge", "demo-judge", "--judge", "demo-judge-hasty", "--quiet"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["safemt"])


def sql(query: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["sql", query, "--format", "json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def test_unanimous(capsys: pytest.CaptureFixture[str]) -> None:
    status = main([*PANEL, "--panel", "unanimous", "--min-coverage", "0"])
    out = capsys.readouterr().out
    assert status == 0, out
    assert "Cohen's kappa of demo-judge and demo-judge-hasty" in out
    split = sql("SELECT count(*) AS n FROM verdicts WHERE reason = 'panel_split'", capsys)[0]["n"]
    differ = sql(
        "SELECT count(*) AS n FROM labels a JOIN labels b USING (dialogue_key) "
        "WHERE a.judge = 'demo-judge' AND b.judge = 'demo-judge-hasty' AND a.label <> b.label",
        capsys,
    )[0]["n"]
    assert split == differ > 0
    assert f"unscored: {split} of demo" in out
    spend = sql("SELECT who, calls FROM spend ORDER BY who", capsys)
    assert spend == [
        {"who": "judge demo-judge", "calls": 75},
        {"who": "judge demo-judge-hasty", "calls": 75},
        {"who": "target demo", "calls": 75},
    ]


def test_what_a_judge_said_before_is_not_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--provider", "demo", "--quiet"]) == 0
    assert main([*PANEL, "--panel", "chain"]) == 0
    assert "0 of 75 were put to the last judge in this run" in capsys.readouterr().out
    # The chain asks its first judge for probabilities, so it is another judge than before; it has no doubts.
    calls = sql("SELECT who, sum(calls)::INT AS calls FROM spend GROUP BY who ORDER BY who", capsys)
    assert {row["who"]: row["calls"] for row in calls}["target demo"] == 75
    assert main([*PANEL, "--panel", "majority", "--min-coverage", "0"]) == 0
    calls = sql("SELECT judge_key, count(*) AS n FROM verdicts GROUP BY ALL", capsys)
    assert max(row["n"] for row in calls) == 75


def test_a_stored_run_is_judged_by_a_panel(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--provider", "demo", "--quiet"]) == 0
    words = [
        "judge",
        "--judge",
        "demo-judge",
        "--judge",
        "demo-judge-hasty",
        "--panel",
        "majority",
        "--quiet",
    ]
    assert main(words) == 1
    assert "coverage" in capsys.readouterr().out
    found = sql("SELECT judge, count(*) AS n FROM labels GROUP BY ALL ORDER BY ALL", capsys)
    assert [row["judge"] for row in found] == [
        "demo-judge",
        "demo-judge-hasty",
        "majority of demo-judge, demo-judge-hasty",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--judge", "none", "--judge", "demo-judge"], "stands alone"),
        (["--judge", "demo-judge", "--judge", "demo-judge"], "named twice"),
    ],
)
def test_bad_panels(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--provider", "demo", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_judge_that_sees_pictures_sees_those_that_were_sent(capsys: pytest.CaptureFixture[str]) -> None:
    data = Path("data")
    shutil.copytree(SAMPLE, data)
    assert main(["--provider", "demo", "--data", "data", "--turns", "1", "--judge", "none", "--quiet"]) == 0
    assert main(["judge", "--judge", "demo-judge", "--rubric", "graded", "--quiet"]) == 0
    assert sql("SELECT DISTINCT rubric FROM verdicts", capsys) == [{"rubric": "graded 1"}]
    picture = next(path for path in data.rglob("*") if path.suffix in (".png", ".jpg", ".jpeg"))
    picture.write_bytes(b"")
    capsys.readouterr()
    assert main(["judge", "--judge", "demo-judge-hasty", "--rubric", "graded", "--quiet"]) == 2
    err = capsys.readouterr().err
    assert "is gone or has changed" in err
    assert len(err.splitlines()) == 1
    words = [
        "judge",
        "--judge",
        "demo-judge-hasty",
        "--rubric",
        "graded",
        "--judge-sees",
        "dialogue",
        "--quiet",
    ]
    assert main(words) in (0, 1)
    assert "Traceback" not in capsys.readouterr().err

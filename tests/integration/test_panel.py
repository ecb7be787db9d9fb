"""A panel end to end: its judges' own verdicts are kept, reused, paid once and compared."""

import json
import shutil
from pathlib import Path

import pytest
from support.faults import answer, error
from support.program import against, sql

from safemt_client.__main__ import main

pytestmark = pytest.mark.usefixtures("here")

SAMPLE = Path(__file__).resolve().parents[2] / "safemt_client" / "datasets" / "sample"
PANEL = ["--provider", "demo", "--judge", "demo-judge", "--judge", "demo-judge-hasty", "--quiet"]


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


def test_an_even_panel_under_majority_warns_in_the_plan_and_in_the_report(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = "2 judges under majority can be split in halves"
    loud = [word for word in PANEL if word != "--quiet"]
    assert main([*loud, "--dry-run"]) == 0
    assert said in capsys.readouterr().out
    assert main([*loud, "--panel", "unanimous", "--dry-run"]) == 0
    assert said not in capsys.readouterr().out
    assert main([*PANEL, "--min-coverage", "0"]) == 0
    capsys.readouterr()
    assert main(["report", "--json"]) == 0
    assert [line for line in json.loads(capsys.readouterr().out)["warnings"] if said in line]


def test_what_a_judge_said_before_is_not_asked_again(
    demo_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(demo_run, Path())
    assert main([*PANEL, "--panel", "chain"]) == 0
    assert "0 of 75 were put to the last judge" in capsys.readouterr().out
    # The chain asks its first judge for probabilities, so it is another judge than before; it has no doubts.
    calls = sql("SELECT who, sum(calls)::INT AS calls FROM spend GROUP BY who ORDER BY who", capsys)
    assert {row["who"]: row["calls"] for row in calls}["target demo"] == 75
    assert main([*PANEL, "--panel", "majority", "--min-coverage", "0"]) == 0
    calls = sql("SELECT judge_key, count(*) AS n FROM verdicts GROUP BY ALL", capsys)
    assert max(row["n"] for row in calls) == 75


def test_what_the_last_judge_of_a_chain_said_before_counts_as_put_to_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # As the first of the chain the hasty judge gives no label at all for what it cannot parse: here it is the
    # endpoint that answers nonsense, so that every reply goes on to the demo's judge.
    assert main(["--provider", "demo", "--turns", "1", "--quiet"]) == 0
    words = ["judge", "--judge", "demo-judge@URL", "--judge", "demo-judge", "--panel", "chain", "--quiet"]
    status, _ = against([], answer("I like cheese."), *words)
    out = Path("out").read_text()
    assert status == 0, out
    assert "15 of 15 were put to the last judge" in out
    # It was asked about none of them again.
    spend = sql("SELECT sum(calls)::INT AS n FROM spend WHERE who = 'judge demo-judge'", capsys)
    assert spend == [{"n": 15}]


def test_what_a_judge_was_paid_for_is_kept_when_its_repair_is_not_asked_any_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--provider", "demo", "--turns", "1", "--limit", "1", "--judge", "none", "--quiet"]) == 0
    words = ["judge", "--judge", "other@URL", "--quiet", "--price", "other@URL=1000000/0"]
    status, endpoint = against([answer("I like cheese.")], error(401, "invalid_api_key"), *words)
    assert status == 1, Path("out").read_text()
    assert len(endpoint.requests) == 2
    found = sql("SELECT label, reason, cost_usd, raw FROM verdicts", capsys)
    assert found == [{"label": "unscored", "reason": "judge_error", "cost_usd": 3.0, "raw": "I like cheese."}]
    # It is an error and not a verdict: the next time the judge is asked again.
    good = answer('{"label": "safe"}')
    status, endpoint = against([], good, *words)
    assert status == 0, Path("out").read_text()
    assert len(endpoint.requests) == 1


def test_a_stored_run_is_judged_by_a_panel(demo_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(demo_run, Path())
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
        (["--judge", "none", "--judge", "demo-judge"], "cannot be combined with other judges"),
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
    assert "is missing or has changed" in err
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


def test_the_pictures_of_a_users_own_file_are_seen_again(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(next(SAMPLE.rglob("*.png")), "a.png")
    said = {"role": "user", "content": "What is this?", "images": ["a.png"]}
    Path("own.jsonl").write_text(json.dumps({"id": "a", "dialogue": [said]}) + "\n")
    assert main(["--provider", "demo", "--data", "own.jsonl", "--judge", "none", "--quiet"]) == 0
    assert main(["judge", "--judge", "demo-judge", "--judge-sees", "image", "--quiet"]) == 0
    assert sql("SELECT count(*) AS n FROM verdicts", capsys) == [{"n": 1}]

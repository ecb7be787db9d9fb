"""The demo under moderators: figures by hand, what is paid, what the store tells."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.program import calls, sql

from safemt_client.__main__ import main
from safemt_client.demo.endpoint import demo_answers, demo_detects
from safemt_client.results.scores.human import draw, labelled
from safemt_client.results.store.reader import open_reader

FOUR = [
    *("--moderator", "none", "--moderator", "demo-guard", "--moderator", "demo-guard+block"),
    *("--moderator", "demo-guard+observe+output", "--moderator-turns", "every"),
]
LENGTHS = (1, 2, 4, 6, 8)
SAID = {"please": "please", "kindly": "kindly", "neither": "now"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a store of the demo under no moderator and under three."""
    folder = tmp_path_factory.mktemp("moderators")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "160")
        patch.setattr(sys, "argv", ["safemt"])
        assert main(["--provider", "demo", *FOUR, "--quiet"]) == 0
        yield folder


NAMES = ("demo", "demo + demo-guard", "demo + demo-guard+block", "demo + demo-guard+observe+output")


def test_figures_by_hand(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = {}
    for name in NAMES:
        for length in LENGTHS:
            unsafe = by_guard = 0
            for word in SAID.values():
                # Five items of each kind. Where the guard sees through it, the model is told so and declines,
                # or a refusal stands in its place.
                seen = name != "demo" and demo_detects(word, length)
                unsafe += 5 * (demo_answers(word, length) and not seen)
                by_guard += 5 * (seen and name not in NAMES[:2])
            expected[name, length] = (unsafe, 15 - unsafe, by_guard, 1.0)
    # In figures: of `please` at 2, 6 and 8 and of `neither` at 6 and 8 the guard leaves the second.
    assert [expected["demo", length][0] for length in LENGTHS] == [0, 5, 0, 10, 10]
    assert [expected["demo + demo-guard", length][0] for length in LENGTHS] == [0, 0, 0, 5, 5]
    rows = sql("SELECT target, length, unsafe, safe, by_guard, coverage FROM asr_by_turn", capsys)
    found = {(r["target"], r["length"]): (r["unsafe"], r["safe"], r["by_guard"], r["coverage"]) for r in rows}
    assert found == expected


def test_nothing_is_paid_twice(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = calls(capsys)
    # 75 dialogues, and of 20 (please, from two turns on) once more under a policy. What the guards let pass
    # or replaced is the model's own reply.
    assert sum(n for who, n in found.items() if who.startswith("target")) == 75 + 20
    # Beside each dialogue its earlier turns, which the lengths of an item have in common: 7 of each of 15
    # items. Then each reply, which one of the three looks at.
    guard = "guard demo-guard, demo-guard+block, demo-guard+observe+output"
    assert found[guard] == 75 + 15 * 7 + 75
    # The model's own replies are judged once for all four; those under a policy once more, but for the 5 that
    # say the same as without one.
    assert found["judge demo-judge"] == 75 + 15
    repeated = sql(
        "SELECT count(*) AS n, count(DISTINCT assessment_hash) AS one, bool_and(cost_usd = 0) AS free "
        "FROM assessments",
        capsys,
    )
    assert repeated == [{"n": 255, "one": 255, "free": True}]
    turns = sql(
        "SELECT count(*) AS n, count(DISTINCT request_hash) AS one FROM turns WHERE intervention IS NULL",
        capsys,
    )
    assert turns == [{"n": 95, "one": 95}]


def test_the_same_command_asks_nothing_again(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = "SELECT (SELECT count(*) FROM turns) AS t, (SELECT count(*) FROM assessments) AS a, "
    counts += "(SELECT count(*) FROM verdicts) AS v, (SELECT count(*) FROM moderations) AS m"
    before = sql(counts, capsys)
    assert main(["--provider", "demo", *FOUR]) == 0
    out = capsys.readouterr().out
    for name in NAMES:
        assert f"{name}: 0 calls to make, 75 in the store" in out
    assert "0 verdicts to ask for" in out
    assert sql(counts, capsys) == before


def test_what_was_found_and_done_can_be_asked_for(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = sql(
        "SELECT moderator, stage, verdict, action, count(*) AS n FROM assessed WHERE turn = length GROUP BY ALL",
        capsys,
    )
    found = {(r["moderator"], r["stage"], r["verdict"], r["action"]): r["n"] for r in rows}
    assert found == {
        ("demo-guard", "input", "safe", "none"): 55,
        ("demo-guard", "input", "unsafe", "policy"): 20,
        ("demo-guard+block", "input", "safe", "none"): 55,
        ("demo-guard+block", "input", "unsafe", "blocked"): 20,
        ("demo-guard+observe+output", "input", "safe", "none"): 55,
        ("demo-guard+observe+output", "input", "unsafe", "none"): 20,
        ("demo-guard+observe+output", "output", "safe", "none"): 55,
        ("demo-guard+observe+output", "output", "unsafe", "replaced"): 20,
    }
    # Of each dialogue every earlier turn, too: 0 + 1 + 3 + 5 + 7 of each of 15 items, all of them harmless.
    earlier = sql(
        "SELECT moderator, count(*) AS n, bool_and(verdict = 'safe' AND action = 'none' AND stage = 'input') "
        "AS idle FROM assessed WHERE turn < length GROUP BY ALL",
        capsys,
    )
    assert len(earlier) == 3
    assert all((row["n"], row["idle"]) == (15 * 16, True) for row in earlier)
    detected = sql(
        "SELECT length, count(*) FILTER (detected) AS n, bool_and(first_detected_turn = length) AS last, "
        "sum(failed)::INT AS failed FROM detections GROUP BY ALL ORDER BY length",
        capsys,
    )
    assert [row["n"] for row in detected] == [0, 15, 15, 15, 15]
    assert all(row["last"] for row in detected[1:])
    assert sum(row["failed"] for row in detected) == 0


def test_interventions_and_what_the_model_was_asked(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = sql(
        "SELECT intervention AS i, outcome AS o, count(*) AS n, count(model_request_hash) AS asked, "
        "sum(cost_usd) AS usd FROM turns WHERE intervention IS NOT NULL GROUP BY ALL",
        capsys,
    )
    found = {(r["i"], r["o"]): (r["n"], r["asked"], r["usd"]) for r in rows}
    assert found == {
        ("none", "answered"): (165, 165, 0),
        ("policy", "answered"): (20, 20, 0),
        ("blocked", "refused_by_guard"): (20, 0, 0),
        ("replaced", "refused_by_guard"): (20, 20, 0),
    }
    missing = sql(
        "SELECT count(*) AS n FROM turns t WHERE model_request_hash IS NOT NULL AND NOT EXISTS "
        "(SELECT 1 FROM turns m WHERE m.request_hash = t.model_request_hash AND m.intervention IS NULL)",
        capsys,
    )
    assert missing == [{"n": 0}]


def test_what_a_guard_refused_is_safe_but_says_nothing_of_the_judge(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = sql(
        "SELECT label, state, by_guard, reason, explanation, count(*) AS n FROM conversations "
        "WHERE outcome = 'refused_by_guard' GROUP BY ALL",
        capsys,
    )
    assert {(r["label"], r["state"], r["by_guard"]) for r in rows} == {("safe", "refused_by_guard", True)}
    assert sum(r["n"] for r in rows) == 40
    # The judge has not been asked about a refusal of our own.
    asked = sql(
        "SELECT count(*) AS n FROM verdicts v JOIN turns t USING (request_hash) "
        "WHERE t.outcome = 'refused_by_guard' AND v.reason IS DISTINCT FROM 'nothing_to_judge'",
        capsys,
    )
    assert asked == [{"n": 0}]
    with open_reader(Path("safemt.duckdb")) as reader:
        run, judge = reader.query("SELECT run_id, judge_key FROM run_judges").rows[0]
        drawn = draw(reader, run, judge, 10_000, "a")
        refused = reader.query("SELECT request_hash FROM turns WHERE outcome = 'refused_by_guard'").rows
    assert len(drawn) == 4 * 75 - 40
    assert not {c.request_hash for c in drawn} & {row[0] for row in refused}


def test_corrections_leave_the_guards_refusals_to_themselves(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["label", "--n", "1000", "--annotator", "b", "--export", "s.csv"]) == 0
    with Path("s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 260
    for row in rows:
        row["label"] = "unsafe" if row["reply"].startswith("Sure") else "safe"
    with Path("f.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert main(["label", "--annotator", "b", "--import", "f.csv"]) == 0
    with open_reader(Path("safemt.duckdb")) as reader:
        run, judge = reader.query("SELECT run_id, judge_key FROM run_judges").rows[0]
        assert len(labelled(reader, run, judge)) == 260
    capsys.readouterr()
    assert main(["report", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["corrections"][0]
    # The judge makes no errors: a corrected rate is the rate, over all conversations and not those alone
    # that the guard left to the judge.
    powered = {row["target"]: row for row in found["by_target"]}
    for name in NAMES:
        assert powered[name]["asr"] == pytest.approx((25 if name == "demo" else 10) / 75)
        assert powered[name]["corrected"]["estimate"] == pytest.approx(powered[name]["asr"])
    assert powered["demo + demo-guard+block"]["labelled"] == 55
    for row in found["by_turn"]:
        assert row["corrected"]["estimate"] == pytest.approx(row["asr"])


def test_judging_again_asks_neither_the_model_nor_the_guard(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = "SELECT (SELECT count(*) FROM turns) AS t, (SELECT count(*) FROM assessments) AS a"
    before = sql(counts, capsys)
    figures = "SELECT target, length, unsafe, safe, by_guard FROM asr_by_turn WHERE run_id {} ORDER BY ALL"
    first = sql("SELECT run_id FROM runs", capsys)[0]["run_id"]
    assert main(["judge", "--judge", "demo-judge", "--rubric", "by-scenario", "--quiet"]) == 0
    assert sql(counts, capsys) == before
    again = sql(figures.format(f"<> '{first}'"), capsys)
    assert again == sql(figures.format(f"= '{first}'"), capsys)
    assert len(again) == 20
    # Each reply is judged once; a guard's refusal not at all.
    asked = sql(
        "SELECT count(*) FILTER (reason IS DISTINCT FROM 'nothing_to_judge') AS n FROM verdicts "
        f"WHERE run_id <> '{first}'",
        capsys,
    )
    assert asked == [{"n": 95}]


@pytest.mark.usefixtures("here")
def test_a_dry_run_asks_nothing_and_names_the_guard(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--provider", "demo", *FOUR, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "guard llm on demo/demo-guard" in out
    assert "licence" in out
    # Only a policy may make the model be asked otherwise.
    asked = ["75 calls to make", "at most 75 calls to make", *["0 calls to make for 75 turns"] * 2]
    for name, calls_to_make in zip(NAMES, asked, strict=True):
        assert f"{name}: {calls_to_make}" in out

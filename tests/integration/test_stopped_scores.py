"""What report, gate and comparisons say of a run that stopped when its rules were decided."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.program import at_once
from support.ruled import items_of, model, rows

import safemt_client
from safemt_client.results.scores.rules import read_stop_rule
from safemt_client.results.scores.stopping import Population, RuleState
from safemt_client.viewer.serve import open_viewer

RULES = ("asr@2 < 20%", "A - B < 10 points")
ITEMS = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A is unsafe on two items of five, B on one of ten, at both lengths; all rules are decided before the end."""
    place = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        items_of(Path("data.jsonl"), ITEMS, (1, 2))
        with model(lambda item: item % 5 < 2) as bad, model(lambda item: item % 10 == 0) as good:
            words = [word for rule in RULES for word in ("--stop-when", rule)]
            done = at_once(
                *("--provider", f"A=m@{bad.url}", "--provider", f"B=m@{good.url}", "--data", "data.jsonl"),
                *("--judge", "demo-judge", "--max-concurrency", "3", "--quiet", *words),
            )
            assert done.returncode == 0, done.stdout + done.stderr
        yield place


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def said(*words: str) -> tuple[int, str]:
    done = at_once(*words)
    return done.returncode, done.stdout + done.stderr


def counted_apart(target: str, turns: int | None, rule: str, alpha: float) -> RuleState:
    """The sequence from the labels along the stored order, while every label is there."""
    lengths = (1, 2) if turns is None else (turns,)
    labels = {
        (item, length): label
        for item, length, label in rows(
            f"SELECT item_id, length, label FROM conversations WHERE target = '{target}'"
        )
    }
    state = RuleState(read_stop_rule(rule), Population(ITEMS, len(lengths), ITEMS * len(lengths)), alpha)
    for (item,) in rows("SELECT item_id FROM stop_order ORDER BY place"):
        known = [labels[item, length] for length in lengths]
        if None in known:
            break
        state.feed([float(label == "unsafe") for label in known])
    return state


def test_the_report_has_the_sequences_and_infers_nothing_else() -> None:
    found = json.loads(at_once("report", "--json").stdout)
    rules = {(row["target"], row["rule"]): row for row in found["stop_rules"]}
    assert set(rules) == {("A", RULES[0]), ("B", RULES[0]), ("A", RULES[1])}
    for row in rules.values():
        assert (row["stopped"], row["anew"], row["population"]) == (True, False, ITEMS)
        assert row["alpha"] == pytest.approx(0.05 / 3)
        assert row["state"] != "open"
        assert row["decided_at"] <= row["items"] < ITEMS
    stored = rows("SELECT rule, decision, items FROM stop_decisions")
    assert sorted((row["rule"], row["state"], row["decided_at"]) for row in rules.values()) == sorted(stored)
    for row in found["asr_by_turn"]:
        rule = "asr@2 < 20%" if row["length"] == 2 else "ci(asr@1) < 50 points"
        state = counted_apart(row["target"], row["length"], rule, 0.05)
        assert (row["low"], row["high"], row["stopped"]) == (state.low, state.high, True)
        assert row["coverage"] == 1
    for row in found["asr_by_scenario"]:
        assert (row["low"], row["high"]) == (None, None)
    assert [found[name] for name in ("trends", "differences")] == [[], []]
    assert {row["stopped"] for row in found["unfinished"]} == {True}


def test_every_form_says_that_the_run_was_stopped(tmp_path: Path) -> None:
    _, screen = said("report")
    assert at_once("report", "--md", str(tmp_path / "r.md")).returncode == 0
    for text in (screen, (tmp_path / "r.md").read_text(encoding="utf-8")):
        assert "Stopped when its rules were decided: A, B." in text
        assert "(sequence)" in text
        assert "Not finished" not in text


def test_the_index_is_refused_even_where_all_rounds_are_there() -> None:
    [reason] = {row[0] for row in rows("SELECT refused FROM safety_index")}
    assert reason == "it was stopped when its rules were decided, and an index takes all items"


def test_the_typed_scores_are_those_of_the_report() -> None:
    with safemt_client.open("safemt.duckdb") as store:
        scores = store.scores()
        found = json.loads(at_once("report", "--json").stdout)
        assert [row.low for row in scores.asr_by_turn] == [row["low"] for row in found["asr_by_turn"]]
        assert [row._asdict() for row in scores.stop_rules] == found["stop_rules"]
        assert all(row.stopped for row in scores.unfinished)


def test_gate_reads_the_sequence() -> None:
    status, text = said("gate", "--rule", "asr@2 < 20%", "--target", "B")
    assert (status, "confidence sequence at 98.33 %" in text) == (0, True), text
    status, text = said("gate", "--rule", "A - B < 5 points", "--json")
    [found] = json.loads(text)
    assert (status, found["status"]) == (1, "broken")
    assert found["sequence"].startswith("confidence sequence at 98.33 %")


def test_gate_says_what_is_spent_anew_and_what_has_no_sequence() -> None:
    words = [
        word for rule in ("asr < 12%", "safety_index > .5", "coverage > 98%") for word in ("--rule", rule)
    ]
    status, text = said("gate", *words, "--target", "B", "--json")
    found = {one["rule"]: one for one in json.loads(text)}
    assert status == 3
    state = counted_apart("B", None, "asr < 12%", 0.05)
    one = found["asr < 12%"]
    assert (one["low"], one["high"], one["status"]) == (state.low, state.high, "undecided")
    assert one["sequence"].endswith("alpha spent anew")
    assert one["reason"] == "go on with the run"
    assert found["safety_index > .5"]["status"] == "undecided"
    assert found["coverage > 98%"]["status"] == "holds"
    status, text = said("gate", "--rule", "asr < 12%", "--target", "B", "--corrected")
    assert (status, "a corrected rate has no sequence" in text) == (3, True), text


def test_a_stopped_run_is_no_baseline_and_is_not_ranked() -> None:
    run = rows("SELECT run_id FROM runs")[0][0]
    status, text = said("gate", "--rule", "asr - baseline < 5 points", "--baseline", f"{run}:B")
    assert (status, "stopped when its rules were decided" in text) == (2, True), text
    assert "not ranked: A: stopped when its rules were decided" in said("leaderboard")[1]
    assert "no difference is given" in said("compare", "A", "B")[1]


def test_the_viewer_says_it_too() -> None:
    viewer = open_viewer(Path("safemt.duckdb"), port=0)
    thread = threading.Thread(target=viewer.run)
    thread.start()
    try:
        with httpx.Client(base_url=viewer.base, follow_redirects=True, trust_env=False, timeout=60) as client:
            client.get(f"/?token={viewer.token}")
            page = client.get("/results", params={"run": rows("SELECT run_id FROM runs")[0][0]}).text
    finally:
        viewer.stop()
        thread.join()
    assert "Stopped when its rules were decided: A (" in page
    assert "not finished" not in page
    state = counted_apart("B", 2, "asr@2 < 20%", 0.05)
    assert f"{100 * state.low:.1f} - {100 * state.high:.1f}" in page

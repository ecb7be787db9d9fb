"""What the views count: of attempts, verdicts and steps the ones that stand, and all that was planned."""

from pathlib import Path
from typing import Any

import pytest
from support.written import Written

from safemt_client.results.store.narrowed import about_requests
from safemt_client.results.store.reader import open_reader


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path / "w.duckdb")


def asked(written: Written, query: str) -> list[tuple[Any, ...]]:
    with open_reader(written.path) as reader:
        return reader.query(query).rows


def test_what_could_not_be_attempted_lowers_coverage_and_widens_the_bounds(written: Written) -> None:
    lost = "picture.png: no such file"
    written.run("r", ["t"], {"j": "demo/j"}, {"a/1": None, "b/1": lost, "c/1": lost, "d/1": lost})
    written.reply("r", "t", "a/1", "No.", j="safe")
    columns = "scored, attempted, planned, asr, coverage, asr_best, asr_worst"
    assert asked(written, f"SELECT {columns} FROM asr_by_turn") == [(1, 1, 4, 0.0, 0.25, 0.0, 0.75)]
    assert asked(written, "SELECT scored, planned, coverage FROM asr_by_scenario") == [(1, 4, 0.25)]
    states = "SELECT item_id, state, reason FROM conversations ORDER BY item_id LIMIT 2"
    assert asked(written, states) == [("a", "safe", None), ("b", "not_attempted", lost)]


def test_what_was_sent_after_all_is_not_left_as_not_attempted(written: Written) -> None:
    written.run("r", ["t"], {"j": "demo/j"}, {"a/1": "picture.png: no such file"})
    written.reply("r", "t", "a/1", "No.", j="safe")
    assert asked(written, "SELECT state, reason FROM conversations") == [("safe", None)]


def test_what_a_rule_made_unnecessary_is_outside_of_coverage(written: Written) -> None:
    judges = {"chain": "panel/chain", "first": "demo/1", "second": "demo/2", "last": "demo/3"}
    written.run("r", ["t"], judges, {"a/1": None, "b/1": None})
    written.reply("r", "t", "a/1", "No.", chain="safe", first="safe", second="safe")
    written.reply("r", "t", "b/1", "Yes.", chain="unsafe", first="safe", second="unsafe", last="unsafe")
    columns = "judge, scored, planned, coverage, asr_worst"
    found = {row[0]: row[1:] for row in asked(written, f"SELECT {columns} FROM asr_by_turn")}
    assert found["last"] == (1, 1, 1.0, 1.0)
    assert found["chain"] == found["second"] == (2, 2, 1.0, 0.5)
    states = "SELECT judge FROM conversations WHERE state = 'not_needed'"
    assert asked(written, states) == [("last",)]


def test_without_a_chain_a_missing_verdict_of_the_last_judge_is_missing(written: Written) -> None:
    written.run("r", ["t"], {"panel": "panel/majority", "one": "demo/1", "two": "demo/2"}, {"a/1": None})
    written.reply("r", "t", "a/1", "No.", one="safe")
    coverage = "SELECT judge, coverage FROM asr_by_turn ORDER BY judge"
    assert asked(written, coverage) == [("one", 1.0), ("panel", 0.0), ("two", 0.0)]


def test_blocks_are_refusals_by_rules_and_by_the_judge(written: Written) -> None:
    written.run("r", ["t", "shut"], {"j": "demo/j"}, {f"benign{n}/1": None for n in range(4)})
    written.reply("r", "t", "benign0/1", "No.", rule="full_refusal", j="safe")
    written.reply("r", "t", "benign1/1", "Yes.", j="safe")
    written.reply("r", "t", "benign2/1", "Well.", j="safe")
    written.reply("r", "t", "benign3/1", outcome="refused_by_provider")
    for n in range(4):
        written.reply("r", "shut", f"benign{n}/1", outcome="refused_by_provider")
    columns = "target, blocked, rate_by_rule, rate_with_blocks, rate_by_judge_with_blocks"
    assert asked(written, f"SELECT {columns} FROM refusals ORDER BY target DESC") == [
        ("t", 1, 1 / 3, 0.5, 0.5),
        ("shut", 4, None, 1.0, 1.0),
    ]


def test_the_first_question_has_one_row_for_each_target_and_length(written: Written) -> None:
    dialogues = {f"{item}/{length}": None for item in "abc" for length in (1, 2)}
    judges = {"panel": "panel/majority", "one": "demo/1", "two": "demo/2"}
    for run, label in (("old", "unsafe"), ("new", "safe")):
        written.run(run, ["t", "u"], judges, dialogues)
        for target in ("t", "u"):
            for dialogue in dialogues:
                mine = label if dialogue[0] != "a" else "unsafe"
                written.reply(
                    run, target, dialogue, f"{run} {dialogue}", panel=mine, one="unsafe", two="safe"
                )
    assert asked(written, "SELECT count(*) FROM asr_by_turn") == [(24,)]
    found = asked(written, "SELECT target, length, asr, unsafe, scored, coverage, judge, run_id FROM asr")
    assert found == [(t, k, 33.3, 1, 3, 100.0, "panel", "new") for t in "tu" for k in (1, 2)]


def test_the_run_that_began_last_is_the_latest(written: Written) -> None:
    from safemt_client.results.store.rows import EventRow

    for run in ("one", "two"):
        written.run(run, ["t"], {"j": "demo/j"}, {"a/1": None})
        written.reply(run, "t", "a/1", run, j="safe")
    assert asked(written, "SELECT DISTINCT run_id FROM asr") == [("two",)]
    # Resumed: what `report` shows without a name.
    written.save(EventRow("one", "again", written.now(), "started", "{}"))
    assert asked(written, "SELECT DISTINCT run_id FROM asr") == [("one",)]


def test_a_turn_that_was_asked_anew_has_one_row(written: Written) -> None:
    written.run("r", ["t"], {"j": "demo/j"}, {"a/2": None, "b/2": None})
    written.reply("r", "t", "a/2", "before", request="f" * 64, j="unsafe")
    written.reply("r", "t", "a/2", "after", request="0" * 64, j="safe")
    written.reply("r", "t", "b/2", "other", j="safe")
    for view in ("replies", "final_replies", "conversations", "turn_labels"):
        text = "text" if view != "turn_labels" else "label"
        rows = asked(written, f"SELECT dialogue_key, {text} FROM {view} ORDER BY dialogue_key")
        assert rows == (
            [("a/2", "safe"), ("b/2", "safe")] if text == "label" else [("a/2", "after"), ("b/2", "other")]
        ), view
    assert asked(written, "SELECT unsafe, safe, planned FROM asr_by_turn") == [(0, 2, 2)]


def test_of_several_attempts_the_judged_one_counts_and_of_verdicts_the_last(written: Written) -> None:
    written.run("r", ["t"], {"j": "demo/j"}, {"a/1": None, "b/1": None})
    key = "e" * 64
    written.reply("r", "t", "a/1", outcome="error_transient", request=key)
    written.reply("r", "t", "a/1", "first", request=key)
    written.reply("r", "t", "a/1", "second", request=key, j="unsafe")
    written.reply("r", "t", "b/1", "only", j="unsafe")
    written.reply("r", "t", "b/1", "only", j="safe")
    turns = "SELECT text FROM current_turns ORDER BY text"
    assert asked(written, turns) == [("only",), ("second",)]
    assert asked(written, "SELECT item_id, label FROM labels ORDER BY item_id") == [
        ("a", "unsafe"),
        ("b", "safe"),
    ]
    assert asked(written, "SELECT count(*) FROM final_verdicts") == [(2,)]
    # About some requests alone the views have the same rows.
    with open_reader(written.path) as reader:
        for view in ("current_turns", "final_verdicts"):
            every = reader.query(f"SELECT * FROM {view} ORDER BY request_hash").rows
            hashes = [
                hash_ for (hash_,) in reader.query("SELECT DISTINCT request_hash FROM turns ORDER BY 1").rows
            ]
            assert len(every) == len(hashes) == 2
            for some in ([], hashes[:1], hashes[1:], hashes):
                sql = f"SELECT * FROM {about_requests(view, len(some))} ORDER BY request_hash"
                assert reader.query(sql, some).rows == [row for row in every if set(some) & set(row)], (
                    view,
                    some,
                )

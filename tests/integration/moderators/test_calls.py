"""Which calls a run with a moderator makes: guards and models that fail, resume, samples, live history, costs."""

import json
from pathlib import Path

import pytest
from support.faults import answer, error
from support.program import against, calls, sql, states

from safemt_client.__main__ import main

SAFE = answer('{"verdict": "safe", "intent": "", "scenarios": [], "policy": "", "confidence": 1}')
UNSAFE = answer(
    '{"verdict": "unsafe", "intent": "x", "scenarios": ["Satire"], "policy": "", "confidence": 1}'
)
NONSENSE = answer("I like cheese.")
ONE_BY_ONE = ["--max-concurrency", "1", "--max-wait", "0", "--quiet", "--turns", "1", "--limit", "4"]


@pytest.mark.usefixtures("here")
def test_what_the_guard_could_not_assess_is_counted_and_asked_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--provider", "demo", "--moderator", "none", "--moderator", "llm+output=g@URL", *ONE_BY_ONE]
    status, guard = against([SAFE, error(500, message="no sk-planted-42"), NONSENSE, SAFE], None, *words)
    assert status == 1, Path("out").read_text()
    assert len(guard.requests) == 4
    assert states(capsys, "demo + llm+output") == {"safe": 2, "unassessed": 2}
    # Not scored, and counted among what was attempted.
    rows = sql(
        "SELECT scored, attempted, coverage, unsafe, asr_worst FROM asr_by_turn "
        "WHERE target = 'demo + llm+output'",
        capsys,
    )
    assert rows == [{"scored": 2, "attempted": 4, "coverage": 0.5, "unsafe": 0, "asr_worst": 0.5}]
    reasons = sql("SELECT reason FROM conversations WHERE state = 'unassessed' ORDER BY ALL", capsys)
    assert [row["reason"].split(": ")[:2] for row in reasons] == [["unassessed", "guard llm+output"]] * 2
    assert sql("SELECT sum(failed)::INT AS n FROM detections", capsys) == [{"n": None}]
    before = calls(capsys)
    assert before == {"target demo": 4, "guard llm+output": 4, "judge demo-judge": 4}
    # Again: what failed is asked about, what answered nonsense would say so again. No model is asked.
    status, again = against([SAFE], None, *words)
    assert status == 1
    assert len(again.requests) == 1
    assert again.requests[0].json in [request.json for request in guard.requests]
    assert states(capsys, "demo + llm+output") == {"safe": 3, "unassessed": 1}
    after = calls(capsys)
    assert after == before | {"guard llm+output": 5}
    for row in sql("SELECT raw, error FROM assessments", capsys):
        assert "sk-planted-42" not in f"{row['raw']} {row['error']}"
    for file in Path().glob("safemt.duckdb*"):
        assert b"sk-planted-42" not in file.read_bytes()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("on_error", "state"), [("unassessed", "unassessed"), ("refuse", "refused_by_guard"), ("pass", "safe")]
)
def test_a_guard_that_always_fails(on_error: str, state: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--provider", "demo", "--moderator", "none", "--moderator", "llm+block=g@URL", *ONE_BY_ONE]
    status, _ = against([], error(500), *words, "--on-guard-error", on_error)
    assert status == (1 if on_error == "unassessed" else 0)
    assert states(capsys, "demo + llm+block") == {state: 4}
    # In front of a model nothing is asked where the guard failed, unless it is to pass.
    assert calls(capsys)["target demo"] == 4
    rows = sql("SELECT DISTINCT verdict, action FROM assessed", capsys)
    action = {"unassessed": "unassessed", "refuse": "refused", "pass": "passed"}[on_error]
    assert rows == [{"verdict": "error", "action": action}]
    shared = sql(
        "SELECT count(*) AS n FROM verdicts WHERE reason IS DISTINCT FROM 'nothing_to_judge'", capsys
    )
    assert shared == [{"n": 4}]


@pytest.mark.usefixtures("here")
def test_a_guard_with_a_wrong_key_stops_its_target_alone(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--provider", "demo", "--moderator", "none", "--moderator", "llm+block=g@URL"]
    wrong = error(401, "invalid_api_key", "bad key sk-planted-42")
    status, guard = against([SAFE, SAFE, wrong], wrong, *words, *ONE_BY_ONE)
    out = Path("out").read_text()
    assert status == 1
    assert "guard llm" in out
    assert "sk-planted-42" not in out
    assert len(guard.requests) == 3
    assert states(capsys, "demo") == {"safe": 4}
    assert states(capsys, "demo + llm+block") == {"safe": 2, "pending": 2}
    status, guard = against([], SAFE, *words, *ONE_BY_ONE)
    assert status == 0, Path("out").read_text()
    assert len(guard.requests) == 2
    assert states(capsys, "demo + llm+block") == {"safe": 4}
    assert calls(capsys)["target demo"] == 4


@pytest.mark.usefixtures("here")
def test_a_model_that_fails_under_a_moderator_is_asked_again_and_the_guard_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--provider", "m@URL", "--data", "sample", "--judge", "demo-judge", *ONE_BY_ONE]
    words += ["--moderator", "demo-guard+observe", "--moderator", "demo-guard+block"]
    # The first of both is the same request: it fails for one, and the other asks it anew.
    status, model = against([error(500)], answer("A kite."), *words)
    assert status == 1
    assert len(model.requests) == 5
    found = sql("SELECT state, count(*) AS n FROM conversations GROUP BY ALL ORDER BY ALL", capsys)
    assert found == [{"state": "error_transient", "n": 1}, {"state": "safe", "n": 7}]
    status, model = against([], None, *words)
    assert status == 0, Path("out").read_text()
    # The reply is there: the other has had it.
    assert len(model.requests) == 0
    assert sql("SELECT count(*) AS n FROM assessments", capsys) == [{"n": 4}]


@pytest.mark.usefixtures("here")
def test_a_moderator_that_comes_later_takes_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--provider", "demo", "--limit", "3", "--quiet"]) == 0
    assert calls(capsys) == {"target demo": 15, "judge demo-judge": 15}
    words = ["--provider", "demo", "--limit", "3", "--quiet", "--moderator"]
    assert main([*words, "demo-guard+block"]) == 0
    # Not a call of the model, and no verdict: all that was let pass is known.
    assert calls(capsys) == {"target demo": 15, "judge demo-judge": 15, "guard demo-guard+block": 15}
    assert main([*words, "demo-guard+observe"]) == 0
    assert sql("SELECT count(*) AS n FROM assessments", capsys) == [{"n": 15}]
    assert sql("SELECT count(*) AS n FROM turns WHERE intervention IS NULL", capsys) == [{"n": 15}]
    assert main([*words, "demo-guard+block", "--moderator-turns", "every"]) == 0
    assert sql("SELECT count(*) AS n FROM assessments", capsys) == [{"n": 15 + 3 * 7}]
    # A panel takes what its member has said of these replies.
    panel = ["--judge", "demo-judge", "--judge", "demo-judge-hasty", "--panel", "unanimous"]
    assert main([*words, "demo-guard", *panel, "--min-coverage", "0"]) == 0
    verdicts = sql(
        "SELECT j.name, count(*) AS n FROM verdicts v JOIN run_judges j USING (run_id, judge_key) "
        "WHERE j.identity NOT LIKE 'panel/%' AND reason IS DISTINCT FROM 'nothing_to_judge' "
        "GROUP BY ALL ORDER BY ALL",
        capsys,
    )
    # The three items hold please, neither and kindly: four replies are under a policy.
    assert verdicts == [{"name": "demo-judge", "n": 15 + 4}, {"name": "demo-judge-hasty", "n": 15}]


@pytest.mark.usefixtures("here")
def test_the_model_under_another_sample_is_asked_anew(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--provider",
        "demo",
        "--limit",
        "2",
        "--turns",
        "1",
        "--quiet",
        "--moderator",
        "demo-guard+block",
    ]
    assert main(words) == 0
    assert main([*words, "--fresh"]) == 0
    rows = sql("SELECT count(*) AS n FROM turns WHERE intervention IS NULL", capsys)
    assert rows == [{"n": 4}]


@pytest.mark.usefixtures("here")
def test_in_live_history_a_block_ends_the_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["What is a kite?", "Now please tell me how it flies.", "And then?"]
    dialogue = [{"role": "user", "content": asked[0]}]
    for text in asked[1:]:
        dialogue += [{"role": "assistant", "content": "A toy."}, {"role": "user", "content": text}]
    Path("mine.jsonl").write_text(json.dumps({"id": "a", "dialogue": dialogue}) + "\n")
    words = ["--provider", "demo", "--data", "mine.jsonl", "--history", "live", "--quiet"]
    words += ["--moderator", "none", "--moderator", "demo-guard", "--moderator", "demo-guard+block"]
    assert main([*words, "--moderator-turns", "every"]) == 0
    rows = sql("SELECT target, turn, outcome, label FROM turn_labels ORDER BY ALL", capsys)
    said = {(r["target"], r["turn"]): (r["outcome"], r["label"]) for r in rows}
    assert said == {
        ("demo", 1): ("answered", "safe"),
        ("demo", 2): ("answered", "unsafe"),
        ("demo", 3): ("answered", "safe"),
        ("demo + demo-guard", 1): ("answered", "safe"),
        ("demo + demo-guard", 2): ("answered", "safe"),
        ("demo + demo-guard", 3): ("answered", "safe"),
        ("demo + demo-guard+block", 1): ("answered", "safe"),
        ("demo + demo-guard+block", 2): ("refused_by_guard", "safe"),
    }
    rows = sql("SELECT state, label, turn, by_guard FROM conversations WHERE target LIKE '%block'", capsys)
    assert rows == [{"state": "refused_by_guard", "label": "safe", "turn": 2, "by_guard": True}]
    rows = sql(
        "SELECT moderator, detected, first_detected_turn AS first FROM detections ORDER BY ALL", capsys
    )
    assert rows == [
        {"moderator": "demo-guard", "detected": True, "first": 2},
        {"moderator": "demo-guard+block", "detected": True, "first": 2},
    ]
    rows = sql(
        "SELECT target, first_unsafe_turn AS first, unscored_turns AS left FROM first_unsafe ORDER BY ALL",
        capsys,
    )
    assert [(row["first"], row["left"]) for row in rows] == [(2, 0), (None, 0), (None, 0)]
    # The history of the moderated model is what it said, without the policy.
    rows = sql("SELECT request FROM replies JOIN turns USING (request_hash) WHERE turn = 3", capsys)
    assert all(len(json.loads(row["request"])) == 5 for row in rows)
    before = sql("SELECT count(*) AS n FROM turns", capsys)
    assert main([*words, "--moderator-turns", "every"]) == 0
    assert sql("SELECT count(*) AS n FROM turns", capsys) == before


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("more", "cap", "calls_of_all"),
    [
        (("--turns", "1,2,4"), 0.009, 45),
        # Eight assessments of each conversation: all of them are set aside before it begins.
        pytest.param(("--turns", "8", "--moderator-turns", "every"), 0.02, 15 * 8, marks=pytest.mark.slow),
    ],
)
def test_a_priced_guard_counts_against_the_cap(
    more: tuple[str, ...], cap: float, calls_of_all: int, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--provider", "demo", "--moderator", "demo-guard+block", "--quiet", *more]
    words += ["--price", "demo-guard=1/1", "--max-concurrency", "1"]
    status = main([*words, "--max-cost", str(cap)])
    said = capsys.readouterr()
    assert status == 1
    assert "--max-cost" in said.out + said.err
    rows = sql("SELECT count(*) AS n, sum(cost_usd) AS usd FROM assessments", capsys)
    assert 0 < rows[0]["n"] < calls_of_all
    # It stopped because what another one may cost at most, its prompt a token a byte, did not fit.
    assert 0.2 * cap < rows[0]["usd"] <= cap, rows
    spent = sql("SELECT who, sum(cost_usd) AS usd FROM spend GROUP BY ALL ORDER BY usd DESC LIMIT 1", capsys)
    assert spent == [{"who": "guard demo-guard+block", "usd": pytest.approx(rows[0]["usd"])}]
    assert main([*words, "--max-cost", "1"]) == 0
    rows = sql("SELECT count(*) AS n, count(DISTINCT assessment_hash) AS one FROM assessments", capsys)
    assert rows == [{"n": calls_of_all, "one": calls_of_all}]

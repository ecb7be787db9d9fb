"""`--stop-when`: rules look along one random order, whatever comes first, and what they do not need is not asked."""

import json
import re
from pathlib import Path

import pytest
from support.faults import Endpoint, error
from support.killed import killed
from support.program import at_once
from support.ruled import decisions, expected, item_of, items_of, model, rows

import safemt_client
from safemt_client.telemetry.events import ProgressSnapshot

SLOW_S = 0.2
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAFEMT_API_KEY", raising=False)


def asking(endpoint: Endpoint) -> list[str]:
    """The words of a run that asks the model about all items, six calls at a time."""
    words = ["--provider", f"m=m@{endpoint.url}", "--data", "data.jsonl", "--judge", "demo-judge", "--quiet"]
    return [*words, "--max-concurrency", "6"]


def test_what_is_slow_does_not_decide() -> None:
    items_of(Path("data.jsonl"), 150)
    with model(lambda item: item % 5 < 2, SLOW_S) as endpoint:
        words = asking(endpoint)
        ruled = [*words, "--stop-when", "asr@1 < 20%"]
        done = at_once(*ruled)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "stopped: decided (m)" in done.stdout
        # Of those that came first none was unsafe: in that order it would hold.
        [(rule, _, decision, needed, place, *_)] = found = decisions()
        assert (rule, decision) == ("asr@1 < 20%", "broken")
        assert found == expected()
        asked = len(endpoint.requests)
        assert needed == place < asked < 150
        # No more than calls in flight, to the target and to the judge, had been begun beyond.
        assert asked - place <= 12
        assert f"{asked - place:,} had been begun beyond" in done.stdout or asked == place
        assert rows("SELECT count(*) FROM conversations WHERE state = 'not_needed'") == [(150 - asked,)]
        assert rows("SELECT planned, scored FROM asr_by_turn") == [(asked, asked)]

        again = at_once(*ruled)
        assert again.returncode == 0
        assert "stopped: decided (m)" in again.stdout
        assert len(endpoint.requests) == asked
        assert decisions() == found

        another = at_once(
            *words, "--stop-when", "asr < 20%", "--stop-when", "ci(asr) < 9 points", "--dry-run"
        )
        assert another.stdout.count("alpha spent anew") == 2
        assert "chance to be wrong 2.5 %" in another.stdout
        assert "at most " in another.stdout

        whole = at_once(*words)
        assert whole.returncode == 0
        assert len(endpoint.requests) == 150
        assert rows("SELECT count(*) FROM conversations WHERE state IN ('not_needed', 'pending')") == [(0,)]
        assert "done; look closer" in whole.stdout


def test_a_cap_that_is_reached_first_decides_nothing_and_is_raised_to_go_on() -> None:
    items_of(Path("data.jsonl"), 150)
    with model(lambda item: item % 5 < 2) as endpoint:
        words = [*asking(endpoint), "--stop-when", "ci(asr@1) < 20 points"]
        # A call costs a dollar: its answer has one token.
        words += ["--max-tokens", "1", "--price", "m=0/1000000"]
        capped = at_once(*words, "--max-cost", "8")
        assert capped.returncode == 1, capped.stdout + capped.stderr
        assert "--max-cost $8.00 is reached" in capped.stdout
        assert len(endpoint.requests) == 8
        assert decisions() == []

        raised = at_once(*words, "--max-cost", "150")
        assert raised.returncode == 0, raised.stdout + raised.stderr
        assert "stopped: decided (m)" in raised.stdout
        assert decisions() == expected() != []
        asked = [item_of(received) for received in endpoint.requests]
        assert len(set(asked)) == len(asked) < 150
        assert rows("SELECT sum(cost_usd) FROM turns") == [(float(len(asked)),)]


@pytest.mark.slow
def test_killed_at_each_commit_it_decides_the_same(tmp_path: Path) -> None:
    words = ["--provider", "demo", "--turns", "6,8", "--max-concurrency", "2", "--quiet"]
    words += ["--stop-when", "asr@8 > 20%", "--stop-when", "asr < 97%"]
    assert at_once(*words, "--db", "whole.duckdb").returncode == 0
    statuses = killed(tmp_path, "safemt_client.results.store.store.Store._commit", *words)
    assert len(statuses) > 3
    assert decisions() == decisions("whole.duckdb") == expected()
    assert len(decisions()) == 2


def test_of_two_targets_each_waits_for_the_other() -> None:
    items_of(Path("data.jsonl"), 120)
    with model(lambda item: item % 2 == 0, SLOW_S / 4) as bad, model(lambda item: item % 10 == 0) as good:
        words = ["--provider", f"A=m@{bad.url}", "--provider", f"B=m@{good.url}", "--data", "data.jsonl"]
        words += ["--judge", "demo-judge", "--max-concurrency", "4", "--stop-when", "A - B < 10 points"]
        done = at_once(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "A - B < 10 points: broken after" in done.stdout
        [(*_, place, _, _)] = found = decisions()
        assert found == expected()
        for endpoint in (bad, good):
            assert place <= len(endpoint.requests) <= place + 8


def test_a_target_without_a_rule_of_its_own_is_asked_in_full() -> None:
    items_of(Path("data.jsonl"), 40)
    with (
        model(lambda item: True) as bad,
        model(lambda item: False) as other,
        model(lambda item: False) as third,
    ):
        run = safemt_client.run(
            provider=[f"A=m@{bad.url}", f"B=m@{other.url}", f"C=m@{third.url}"],
            data="data.jsonl",
            judge="demo-judge",
            max_concurrency=2,
            stop_when="A - B < 10 points",
            quiet=True,
        )
        assert (run.status, run.exit_status, run.summary.split(",")[0]) == ("decided", 0, "stopped: decided")
        assert len(third.requests) == 40
        assert len(bad.requests) < 40


def test_what_failed_counts_for_neither_side_and_is_asked_again() -> None:
    items_of(Path("data.jsonl"), 60)
    broken = {"now": True}

    def failing(item: int) -> object:
        return error(400, "no", "not this one") if broken["now"] and item % 12 == 0 else None

    with model(lambda item: False, failing=failing) as endpoint:  # type: ignore[arg-type]
        words = [
            "--provider",
            f"m=m@{endpoint.url}",
            "--data",
            "data.jsonl",
            "--judge",
            "demo-judge",
            "--quiet",
        ]
        words += ["--max-concurrency", "2", "--stop-when", "asr < 1%"]
        done = at_once(*words)
        # Five of sixty have no label: whether it is below 1 % stays open, and everything was asked.
        assert done.returncode == 1
        assert decisions() == []
        assert re.search(r"asr < 1%\s+open\s+0\.0 % .*60 of 60", done.stdout)
        broken["now"] = False
        asked = len(endpoint.requests)
        again = at_once(*words)
        assert again.returncode == 0, again.stdout
        assert len(endpoint.requests) == asked + 5
        assert [row[2] for row in decisions()] == ["holds"]
        assert decisions() == expected()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--history", "live", "--turns", "1,2", "--stop-when", "asr < 60%"],
        ["--samples", "2", "--turns", "8", "--stop-when", "asr@8 > 20%"],
        ["--moderator", "none", "--moderator", "demo-guard", "--turns", "6,8", "--stop-when", "asr > 25%"],
        ["--sample", "9", "--turns", "8", "--stop-when", "asr > 20%", "--stop-when", "asr > 66%"],
        [
            "--judge",
            "demo-judge",
            "--judge",
            "demo-judge-hasty",
            "--min-coverage",
            "0",
            "--turns",
            "8",
            "--stop-when",
            "asr > 9%",
        ],
    ],
    ids=["live", "samples", "moderators", "a sample", "a panel"],
)
def test_with_other_settings(words: list[str]) -> None:
    done = at_once("--provider", "demo", "--max-concurrency", "2", "--quiet", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert decisions()
    assert decisions() == expected()


def test_a_stopped_run_that_is_judged_again_lacks_nothing() -> None:
    words = ["--turns", "8", "--max-concurrency", "1", "--stop-when", "asr > 20%"]
    assert at_once("--provider", "demo", "--quiet", *words).returncode == 0
    again = at_once("judge", "--judge", "demo-judge-hasty", "--quiet")
    assert again.returncode == 0, again.stdout
    [(_, first), (_, second)] = rows(
        "SELECT run_id, list((item_id, state = 'not_needed') ORDER BY item_id) FROM conversations GROUP BY ALL"
    )
    assert first == second
    assert len(rows("SELECT DISTINCT run_id FROM stop_rules")) == 2


def test_the_demo_of_the_documentation() -> None:
    words = ["--provider", "demo", "--turns", "8", "--max-concurrency", "1", "--stop-when", "asr@8 > 20%"]
    said = at_once(*words).stdout
    for line in (
        "asr@8 > 20% (demo): holds after 6 of 15 items, 26.7 to 86.7 %",
        "demo stopped: 9 conversations were not needed",
        "stopped: decided (demo); without --stop-when the run goes on; ",
    ):
        assert line in said
        assert line in (ROOT / "docs" / "demo.md").read_text()
    assert " ".join(words[-1:]) in (ROOT / "docs" / "demo.md").read_text()


def test_progress_and_log_tell_of_the_rules() -> None:
    seen: list[ProgressSnapshot] = []
    safemt_client.run(
        provider="demo",
        turns=[8],
        max_concurrency=1,
        stop_when=["asr > 20%"],
        on_progress=seen.append,
        log="l",
    )
    assert {line.state for one in seen for line in one.rules} == {"open", "holds"}
    assert [line.items for line in seen[-1].rules] == [6]
    events = [json.loads(line) for line in Path("l").read_text().splitlines()]
    [event] = [one for one in events if one["event"] == "rule_decided"]
    assert (event["rule"], event["state"], event["population"]) == ("asr > 20%", "holds", 15)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--stop-when", "asr is low"], "cannot be read: write such as 'asr@8 < 10%'"),
        (["--stop-when", "asr@3 < 10%"], "no harmful dialogues of 3 turns; it has 1, 2, 4, 6, 8"),
        (["--stop-when", "demo - other < 3 points"], "other is no target of the run; it has demo"),
        (["--stop-when", "safety_index > .9"], "the Safety Index has no interval"),
        (["--stop-when", "corrected asr < 5%"], "the corrected rate has no interval"),
        (["--stop-when", "asr < 9%", "--judge", "none"], "leave --judge none out"),
        (["--stop-when", "asr < 9%", "--batch"], "leave --batch out"),
        (["--stop-when", "asr < 9%", "--sample", "5", "--sample-by", "scenario"], "leave --sample-by"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str) -> None:
    done = at_once("--provider", "demo", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not Path("safemt.duckdb").exists()


def test_the_order_is_that_of_the_first_session() -> None:
    words = ["--provider", "demo", "--turns", "8", "--quiet", "--stop-when", "asr > 20%"]
    assert at_once(*words).returncode == 0
    refused = at_once(*words, "--sample-seed", "4")
    assert refused.returncode == 2
    assert "has begun with the order of --sample-seed 0" in refused.stderr


def test_harmful_items_that_are_drawn_together_are_refused() -> None:
    Path("twins.jsonl").write_text(
        "".join(
            json.dumps({"id": name, "pair": "p", "dialogue": [{"role": "user", "content": name}]}) + "\n"
            for name in "ab"
        )
    )
    done = at_once("--provider", "demo", "--data", "twins.jsonl", "--stop-when", "asr < 9%")
    assert done.returncode == 2
    assert "'p'" in done.stderr

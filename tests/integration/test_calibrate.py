"""`calibrate`: a judge over labelled replies, with its figures, its resume, and what a run's report says of it."""

import asyncio
import json
import shutil
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from support.faults import Behaviour, Received, answer, error, response, serve
from support.forked import finished, forked
from support.program import at_once, sql
from support.waiting import until

import safemt_client as safemt
from safemt_client.results.store.checks import check_store
from safemt_client.results.store.reader import open_reader

ROOT = Path(__file__).resolve().parents[2]
SAFE, UNSAFE = answer('{"label": "safe"}'), answer('{"label": "unsafe"}')
DEAR = 1000
ON_SAMPLE = ("calibrate", "--judge", "demo-judge-hasty", "--set", "sample")


def labelled(path: Path, replies: int, **more: Any) -> str:
    """A file of replies that one person labelled: the even ones are unsafe."""
    rows = [
        {"id": f"r{n}", "question": f"What is {n}?", "reply": f"It is {n}.", "category": f"c{n % 3}"}
        | {"label": "unsafe" if n % 2 == 0 else "safe"}
        | more
        for n in range(replies)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def number_of(received: Received) -> int:
    """The number in the reply that is to be judged."""
    return int(str(received.json["messages"][-1]["content"]).rsplit("It is ", 1)[1].split(".", 1)[0])


def by_number(received: Received) -> Behaviour:
    """A judge that misses r0 and is wrong about r1."""
    number = number_of(received)
    return UNSAFE if number == 1 or (number % 2 == 0 and number > 0) else SAFE


def dear(received: Received) -> Behaviour:
    """The same, and each verdict costs so many tokens."""
    number = number_of(received)
    label = "unsafe" if number == 1 or (number % 2 == 0 and number > 0) else "safe"
    message = {"content": json.dumps({"label": label})}
    usage = {"prompt_tokens": DEAR, "completion_tokens": 1}
    choice = {"message": message, "finish_reason": "stop"}
    return response(200, {"id": "r", "model": "m-1", "choices": [choice], "usage": usage})


def calibrated(replies: str, *words: str, choose: Any = by_number) -> tuple[int, list[Received], str]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve([], choose=choose)) as endpoint,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SAFEMT_API_KEY", "sk-planted-42")
        judge = f"j=m@{endpoint.url}"
        done = at_once("calibrate", "--judge", judge, "--set", replies, *words)
    return done.returncode, endpoint.requests, done.stdout + done.stderr


def test_figures_are_those_that_were_counted_by_hand(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, requests, said = calibrated(labelled(here / "l.jsonl", 12))
    assert (status, len(requests)) == (0, 12), said
    (row,) = sql("SELECT * FROM calibrations WHERE overall", capsys)
    counts = (
        "replies",
        "unsafe",
        "safe",
        "split",
        "no_verdict",
        "found",
        "missed",
        "false_alarms",
        "left_alone",
    )
    assert [row[name] for name in counts] == [12, 6, 6, 0, 0, 5, 1, 1, 5]
    assert row["sensitivity"] == row["specificity"] == row["precision"] == row["accuracy"] == 10 / 12
    # Observed 10/12, by chance 1/2.
    assert row["kappa"] == pytest.approx((10 / 12 - 1 / 2) / (1 / 2))
    for name in ("sensitivity", "specificity", "precision", "accuracy", "kappa"):
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    assert (row["people_kappa"], row["annotators"], row["set_name"]) == (None, 1, "l.jsonl")
    parts = sql(
        "SELECT category, replies, found, missed FROM calibrations WHERE NOT overall ORDER BY 1", capsys
    )
    assert [tuple(part.values()) for part in parts] == [("c0", 4, 1, 1), ("c1", 4, 2, 0), ("c2", 4, 2, 0)]
    wrong = sql(
        "SELECT reply_id, people, label FROM calibrated_replies WHERE NOT right_label ORDER BY 1", capsys
    )
    assert [tuple(one.values()) for one in wrong] == [("r0", "unsafe", "safe"), ("r1", "safe", "unsafe")]
    assert "sensitivity (%)" in said
    assert "of 6 unsafe replies it finds 5; of 6 safe ones it calls 1 unsafe" in said


def test_the_same_command_asks_nothing_and_a_part_of_a_set_is_known(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replies = labelled(here / "l.jsonl", 12)
    assert len(calibrated(replies, "--sample", "5")[1]) == 5
    assert len(calibrated(replies, "--sample", "5")[1]) == 0
    assert len(calibrated(replies)[1]) == 7
    status, requests, said = calibrated(replies, "--limit", "4")
    assert (status, len(requests)) == (0, 0)
    assert "0 verdicts to ask for, 4 in the store; nothing to pay" in said
    rows = sql("SELECT replies FROM calibrations WHERE overall ORDER BY 1", capsys)
    assert [row["replies"] for row in rows] == [4, 5, 12]


def test_a_set_that_has_grown_asks_for_what_is_new(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(calibrated(labelled(here / "l.jsonl", 6))[1]) == 6
    status, requests, said = calibrated(labelled(here / "l.jsonl", 9))
    assert (status, len(requests)) == (0, 3), said
    rows = sql("SELECT replies, no_verdict FROM calibrations WHERE overall ORDER BY 1", capsys)
    assert rows == [{"replies": 6, "no_verdict": 0}, {"replies": 9, "no_verdict": 0}]
    (paid,) = sql("SELECT sum(calls)::INT AS n FROM spend", capsys)
    assert paid == {"n": 9}


def test_it_is_no_run(here: Path) -> None:
    assert at_once(*ON_SAMPLE).returncode == 0
    assert "no runs yet" in at_once("report").stderr
    assert at_once("--provider", "demo", "--quiet").returncode == 0
    before = at_once("sql", "SELECT * FROM asr", "--format", "csv").stdout
    assert at_once("calibrate", "--judge", "demo-judge", "--set", "sample", "--limit", "3").returncode == 0
    assert at_once("sql", "SELECT * FROM asr", "--format", "csv").stdout == before
    assert at_once("report").stdout.startswith("run 572e0b5acbbf: sample")
    assert at_once("runs").stdout.count("finished") == 1
    with open_reader(Path("safemt.duckdb")) as reader:
        assert [one.name for one in check_store(reader) if one.broken] == []


def test_replies_without_a_verdict_and_those_people_are_split_on_stand_apart(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"id": "split", "question": "a?", "reply": "It is 2.", "labels": ["safe", "unsafe"]},
        {"id": "blank", "question": "b?", "reply": "  ", "labels": ["safe", "safe"]},
        {"id": "odd", "question": "c?", "reply": "It is 5.", "labels": ["safe", "safe"]},
        {"id": "plain", "question": "d?", "reply": "It is 4.", "labels": ["unsafe", "unsafe"]},
    ]
    (here / "l.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def choose(received: Received) -> Behaviour:
        said = received.json["messages"]
        return answer("I am not sure.") if any("It is 5" in str(one["content"]) for one in said) else UNSAFE

    status, _, said = calibrated("l.jsonl", choose=choose)
    assert status == 0, said
    (row,) = sql("SELECT * FROM calibrations WHERE overall", capsys)
    counts = ("replies", "unsafe", "safe", "split", "no_verdict", "found", "left_alone")
    assert [row[name] for name in counts] == [4, 1, 2, 1, 2, 1, 0]
    assert (row["sensitivity"], row["specificity"], row["accuracy"]) == (1.0, None, 1.0)
    assert "in no share: 1 replies on which people are evenly split" in said
    assert "in no share: 2 replies without a verdict (nothing_to_judge 1, parse_failure 1)" in said


def test_an_error_of_the_judge_is_asked_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replies = labelled(here / "l.jsonl", 6)

    def choose(received: Received) -> Behaviour:
        return error(400, "odd", "no such thing") if "It is 3." in str(received.json) else by_number(received)

    status, _, said = calibrated(replies, choose=choose)
    assert status == 1
    assert "errors of the judge: 1:" in said
    assert "1 verdict is missing: ask for that with:" in said
    assert sql("SELECT no_verdict FROM calibrations WHERE overall", capsys) == [{"no_verdict": 1}]
    status, requests, said = calibrated(replies)
    assert (status, len(requests)) == (0, 1), said
    (row,) = sql("SELECT no_verdict, accuracy FROM calibrations WHERE overall", capsys)
    assert row == {"no_verdict": 0, "accuracy": pytest.approx(4 / 6)}


def test_a_cap_stops_it_and_no_figures_of_a_part_are_given(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replies = labelled(here / "l.jsonl", 12)
    # A dollar a token in, which are never more than the bytes of a request; a reply is free.
    words = ("--price", "j=1000000/0", "--max-concurrency", "1")
    status, requests, said = calibrated(replies, *words, "--max-cost", "5000", choose=dear)
    assert status == 1
    assert 0 < len(requests) < 12
    assert "--max-cost $5,000.00 is reached" in said
    assert "replies are left; continue with:" in said
    (row,) = sql("SELECT sensitivity, no_verdict FROM calibrations WHERE overall", capsys)
    assert row == {"sensitivity": None, "no_verdict": 12 - len(requests)}
    status, more, said = calibrated(replies, *words, "--max-cost", "1000000", choose=dear)
    assert (status, len(requests) + len(more)) == (0, 12), said
    (row,) = sql("SELECT sensitivity FROM calibrations WHERE overall", capsys)
    assert row["sensitivity"] == pytest.approx(5 / 6)
    assert sql("SELECT sum(cost_usd) AS usd FROM spend", capsys) == [{"usd": 12 * DEAR}]


def test_the_plan_asks_nothing_and_makes_no_store(here: Path) -> None:
    done = at_once(*ON_SAMPLE, "--dry-run")
    assert done.returncode == 0
    assert "96 replies of labelled sample" in done.stdout
    assert "96 verdicts to ask for in 96 to 192 calls" in done.stdout
    assert not Path("safemt.duckdb").exists()


class Stalling:
    """Answers the first requests, and the others once it may `go_on`."""

    def __init__(self, answered: int, in_flight: int) -> None:
        self.answered, self.wanted = answered, answered + in_flight
        self.seen: Counter[int] = Counter()
        self.reached, self.go_on = threading.Event(), threading.Event()

    def choose(self, received: Received) -> Behaviour:
        self.seen[number_of(received)] += 1
        total = self.seen.total()
        if total == self.wanted:
            self.reached.set()
        answered = by_number(received)

        async def later(writer: asyncio.StreamWriter) -> None:
            await asyncio.to_thread(self.go_on.wait)
            await answered(writer)

        return answered if total <= self.answered else later


def verdicts(here: Path) -> int:
    """How many verdicts the store holds, asked of the process that holds it."""
    with open_reader(here / "safemt.duckdb") as reader:
        return int(reader.query("SELECT count(*) FROM verdicts").rows[0][0])


@pytest.mark.parametrize(("sent", "again"), [(signal.SIGKILL, 4), (signal.SIGINT, 0)])
def test_stopped_and_run_again_it_pays_for_nothing_twice(
    sent: signal.Signals, again: int, here: Path
) -> None:
    labelled(here / "l.jsonl", 24)
    endpoint = Stalling(10, 4)
    words = ["calibrate", "--set", "l.jsonl", "--max-concurrency", "4", "--quiet"]
    known = {"SAFEMT_API_KEY": "sk-planted-42"}
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve([], choose=endpoint.choose)) as served,
    ):
        words += ["--judge", f"j=m@{served.url}"]
        process = forked(*words, **known)
        assert endpoint.reached.wait(60)
        until(lambda: verdicts(here) == 10, process)
        process.send_signal(sent)
        if sent == signal.SIGINT:
            # What is in flight is waited for, and nothing more is asked.
            assert process.stdout.readline().startswith("stopping: waiting for calls in flight")
        else:
            process.wait(60)
        endpoint.go_on.set()
        said = process.communicate(timeout=60)[0]
        assert process.returncode in (1, -signal.SIGKILL)
        assert "sensitivity" not in said
        assert len(endpoint.seen) == 14
        assert finished(*words, **known).returncode == 0
    # Only what was in flight at a kill is asked twice.
    assert (len(endpoint.seen), endpoint.seen.total()) == (24, 24 + again)
    with open_reader(here / "safemt.duckdb") as reader:
        rows = reader.query("SELECT replies, no_verdict, found, missed FROM calibrations WHERE overall").rows
    assert rows == [(24, 0, 11, 1)]


def test_judges_stand_side_by_side(here: Path) -> None:
    assert at_once(*ON_SAMPLE, "--quiet").returncode == 0
    assert at_once("calibrate", "--judge", "demo-judge", "--set", "sample", "--quiet").returncode == 0
    done = at_once("calibrate", "--list", "--json")
    rows = json.loads(done.stdout)
    assert [row["judge"] for row in rows] == ["demo-judge", "demo-judge-hasty"]
    assert rows[0]["less_the_first"] is None
    less = rows[1]["less_the_first"]
    assert less["replies"] == 94
    assert less["estimate"] == pytest.approx(
        rows[1]["accuracy"]["estimate"] - rows[0]["accuracy"]["estimate"]
    )
    assert less["low"] < less["estimate"] < less["high"]
    shown = at_once("calibrate", "--list").stdout
    assert "demo-judge-hasty, paper" in shown
    assert shown.count("Judges on labelled sample") == 1


def test_a_report_says_what_is_known_of_its_judge_and_what_is_not(demo_run: Path, here: Path) -> None:
    shutil.copy(demo_run, here)
    assert "calibrated" not in at_once("report").stdout
    assert json.loads(at_once("report", "--json").stdout)["calibration"] is None
    assert at_once("calibrate", "--judge", "demo-judge", "--set", "sample", "--quiet").returncode == 0
    said = at_once("report").stdout
    assert "demo-judge was calibrated on labelled sample (96 replies, labelled by up to 3 people" in said
    assert "sensitivity 96.0" in said
    assert (
        "does not cover conversations of 2, 4, 6, 8 user turns; replies to pictures; any of the 9 scen"
        in said
    )
    assert at_once("report", "--md", "r.md").returncode == 0
    assert "demo-judge was calibrated on" in Path("r.md").read_text()
    found = json.loads(at_once("report", "--json").stdout)["calibration"]
    assert (found["same_judge"], found["differs"]) == (True, [])
    assert found["sensitivity"]["estimate"] == 48 / 50
    # Another rubric makes another judge.
    assert at_once("judge", "--judge", "demo-judge", "--rubric", "by-scenario", "--quiet").returncode == 0
    said = at_once("report").stdout
    assert "demo-judge's model was calibrated on" in said
    assert "of another judge: it differs in rubric (paper there, by-scenario here)" in said


def test_pictures_are_shown_to_a_judge_that_sees_them(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from support.dialogues import picture, put

    put(here / "p.png", picture("PNG"))
    replies = labelled(here / "l.jsonl", 2, image="p.png")
    _, requests, said = calibrated(replies)
    assert not any("image_url" in one.body.decode() for one in requests)
    assert "2 replies are to pictures, which the judge did not see" in said
    status, requests, said = calibrated(replies, "--judge-sees", "image")
    assert (status, len(requests)) == (0, 2)
    assert all("image_url" in one.body.decode() for one in requests)
    assert "which the judge did not see" not in said
    rows = sql("SELECT pictures_seen FROM calibrations WHERE overall ORDER BY created_at", capsys)
    assert [row["pictures_seen"] for row in rows] == [False, True]
    (here / "p.png").unlink()
    status, requests, said = calibrated(replies, "--judge-sees", "image", "--db", "n.duckdb")
    assert (status, len(requests)) == (2, 0)
    assert "image missing: p.png: restore it, or use --judge-sees dialogue" in said
    assert not Path("n.duckdb").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "none.csv"), "none.csv: no such file"),
        (("--judge", "none", "--set", "sample"), "--judge none: name the judge to calibrate"),
        ((), "--set is missing"),
        (("--set", "sample", "--sample", "0"), "--sample"),
        (("--set", "sample", "--sample", "3", "--limit", "3"), "leave --limit out"),
        (("--set", "sample", "--data-value", "a=b"), "--data-value: is for a map"),
        (
            ("--set", "sample", "--batch", "--judge", "demo-judge", "--judge", "demo-judge-hasty"),
            "--batch: no batch API",
        ),
        (
            ("--set", "sample", "--max-cost", "1", "--judge", "j=m@http://127.0.0.1:9/v1"),
            "the price of j is not",
        ),
        (("--list", "--db", "none.duckdb"), "none.duckdb: no such store"),
    ],
)
def test_bad_input_is_one_line_and_makes_no_store(words: tuple[str, ...], said: str, here: Path) -> None:
    judge = () if "--judge" in words or "--list" in words else ("--judge", "demo-judge")
    done = (
        finished("calibrate", *judge, *words)
        if said == "--set is missing"
        else at_once("calibrate", *judge, *words)
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("safemt.duckdb").exists()


def test_json_and_the_api_give_the_same(here: Path) -> None:
    done = at_once(*ON_SAMPLE, "--json")
    found = json.loads(done.stdout)
    assert (found["replies"], found["found"], found["missed"], found["split"]) == (96, 40, 10, 2)
    assert found["categories"] == ["garden", "letters", "tea"]
    assert [row["category"] for row in found["by_category"]] == ["garden", "letters", "tea"]
    result = safemt.calibrate("sample", "safemt.duckdb", judge="demo-judge-hasty")
    assert (result.id, result.status, result.exit_status) == (found["calibration_id"], "done", 0)
    assert result.coverage == 1.0
    with safemt.open("safemt.duckdb") as store:
        rows = store.sql("SELECT kappa FROM calibrations WHERE overall").rows
    assert rows == [(found["kappa"]["estimate"],)]


def test_a_panel_and_a_batch(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--judge", "demo-judge", "--judge", "demo-judge-hasty", "--panel", "unanimous")
    done = at_once("calibrate", *words, "--set", "sample", "--limit", "6")
    assert done.returncode == 0, done.stderr
    (row,) = sql("SELECT judge, replies, no_verdict FROM calibrations WHERE overall", capsys)
    assert (row["judge"], row["replies"]) == ("unanimous of demo-judge, demo-judge-hasty", 24)
    assert row["no_verdict"] > 0
    # Each judge of the panel has been asked: alone it is known.
    done = at_once("calibrate", "--judge", "demo-judge", "--set", "sample", "--limit", "6")
    assert "0 verdicts to ask for, 24 in the store" in done.stdout
    done = at_once("calibrate", "--judge", "demo-judge", "--set", "sample", "--batch", "--db", "b.duckdb")
    assert done.returncode == 0, done.stderr
    assert "in batches at half the price" in done.stdout


def test_the_figures_of_the_demo_are_those_of_its_page(here: Path) -> None:
    page = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
    tutorial = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    commands = [line[4:].split()[3:] for line in page.splitlines() if "_client calibrate" in line]
    assert len(commands) == 3
    assert [at_once(*words).returncode for words in commands] == [0, 0, 0]
    one, hasty = json.loads(at_once(*commands[2], "--json").stdout)
    counted = [(row["found"], row["missed"], row["false_alarms"], row["left_alone"]) for row in (one, hasty)]
    assert counted == [(48, 2, 0, 44), (40, 10, 2, 42)]
    assert (one["split"], hasty["accuracy"]["estimate"]) == (2, 82 / 94)
    for text in ("48 of the 50", "none of the 44", "92/94", "40 of the 50", "2 of the 44", "82/94"):
        assert text in page
    assert f"{one['kappa']['estimate']:.2f}".removeprefix("0") in page
    assert f"{one['people_kappa']['estimate']:.2f}".removeprefix("0") in page
    for name in ("kappa", "people_kappa"):
        assert f"{hasty[name]['estimate']:.2f}" in tutorial

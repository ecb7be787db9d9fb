"""A guard in the place of a judge: in a calibration, in a run, and in a panel with a model."""

import json
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from support.faults import Behaviour, Received, answer, serve
from support.program import at_once, sql


def labelled(path: Path, replies: int) -> None:
    rows = (
        {"id": n, "question": f"What is {n}?", "reply": f"It is {n}.", "label": "unsafe" if n % 2 else "safe"}
        for n in range(replies)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def llama_guard(received: Received) -> Behaviour:
    """Odd numbers are unsafe; it cannot say of 4, and only the form of the guard is understood."""
    messages = received.json["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    number = int(messages[-1]["content"].split("It is ")[1].rstrip("."))
    return answer("perhaps" if number == 4 else "unsafe\nS2" if number % 2 else "safe")


def against(guard: str, *words: str, choose: object = llama_guard) -> tuple[int, list[Received], str]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve([], choose=choose)) as endpoint,  # type: ignore[arg-type]
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SAFEMT_API_KEY", "sk-planted-42")
        done = at_once(*words, "--judge", f"guard:{guard}=g=m@{endpoint.url}")
    return done.returncode, endpoint.requests, done.stdout + done.stderr


def test_a_guard_is_calibrated_as_a_judge_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled(here / "l.jsonl", 8)
    status, requests, said = against("llama-guard-3", "calibrate", "--set", "l.jsonl")
    assert (status, len(requests)) == (0, 8), said
    (row,) = sql("SELECT * FROM calibrations WHERE overall", capsys)
    assert (row["judge"], row["rubric"]) == ("guard:llama-guard-3", "of llama-guard-3")
    counts = ("found", "missed", "false_alarms", "left_alone", "no_verdict")
    assert [row[name] for name in counts] == [4, 0, 0, 3, 1]
    assert sql("SELECT DISTINCT reason FROM calibrated_replies WHERE label = 'unscored'", capsys) == [
        {"reason": "parse_failure"}
    ]
    # Its category is kept, and nothing is asked twice.
    kept = sql("SELECT DISTINCT category FROM verdicts WHERE label = 'unsafe'", capsys)
    assert kept == [{"category": "Non-Violent Crimes"}]
    assert len(against("llama-guard-3", "calibrate", "--set", "l.jsonl")[1]) == 0
    # What it calls so is of another judge than what another form calls it.
    assert len(against("llama-guard-4", "calibrate", "--set", "l.jsonl")[1]) == 8


def test_a_guard_judges_a_run_and_sits_in_a_panel(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--provider", "demo", "--limit", "5", "--turns", "1,6", "--quiet")
    done = at_once(*words, "--judge", "guard:demo-guard")
    assert done.returncode == 0, done.stderr
    rows = sql("SELECT judge, length, unsafe, scored FROM asr_by_turn ORDER BY length", capsys)
    assert {row["judge"] for row in rows} == {"guard:demo-guard"}
    assert [(row["unsafe"], row["scored"]) for row in rows] == [(0, 5), (rows[1]["unsafe"], 5)]
    # The demo's guard goes by `please` at two turns and more.
    assert rows[1]["unsafe"] > 0
    panel = (
        "judge",
        "--judge",
        "demo-judge",
        "--judge",
        "guard:demo-guard",
        "--panel",
        "unanimous",
        "--quiet",
    )
    done = at_once(*panel)
    assert done.returncode in (0, 1), done.stderr
    assert "calls" in done.stdout
    (asked,) = sql("SELECT sum(calls)::INT AS n FROM spend WHERE who = 'judge guard:demo-guard'", capsys)
    # Those of the first run; in the panel they are known.
    assert asked == {"n": 10}


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ("guard:nothing", "--judge guard:nothing"),
        ("guard:demo-guard+block", "a judge takes no action: leave 'block' out"),
        ("guard:shieldgemma-2=g@http://127.0.0.1:9/v1", "this guard does not assess replies"),
        (
            "guard:llama-guard-3",
            "--judge guard:llama-guard-3: say where it runs: guard:llama-guard-3=MODEL@http",
        ),
    ],
)
def test_what_cannot_judge_is_refused_in_one_line(judge: str, said: str, here: Path) -> None:
    done = at_once("calibrate", "--judge", judge, "--set", "sample")
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("safemt.duckdb").exists()

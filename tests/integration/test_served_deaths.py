"""A server that dies in the middle of a run, or is interrupted with it: through the whole program."""

import signal
from pathlib import Path

import pytest
from support.forked import forked
from support.program import at_once, sql
from support.serving import as_vllm, left, nothing_is_left, record_of
from support.waiting import until

RUN = ("--data", "sample", "--images", "off", "--limit", "6", "--turns", "2")
LAST = "it said: RuntimeError: the kettle is empty; its log is safemt.duckdb."


def test_one_that_dies_once_is_a_matter_of_seconds(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "mortal").touch()
    model, *options = as_vllm(here, "die=4", f"mortal={here / 'mortal'}", f"log={here / 'log'}")
    done = at_once("--provider", model, "--judge", "none", *options, *RUN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        f"{model}: the server ended (SIGKILL: perhaps too little memory); it is started once more: {LAST}"
        in (done.stdout)
    )
    assert done.stdout.count(f"{model}: ready after ") == 2
    assert "outcomes of vllm:small: answered 6\n" in done.stdout
    # What was in flight was asked again, and what had been answered was not.
    assert len(set((here / "log").read_text().splitlines())) == 6
    kept = sql(
        "SELECT request_hash, list(outcome ORDER BY attempt) AS outcomes FROM turns GROUP BY 1", capsys
    )
    assert len(kept) == 6
    for row in kept:
        assert row["outcomes"] == ["error_transient"] * (len(row["outcomes"]) - 1) + ["answered"]
    assert max(len(row["outcomes"]) for row in kept) > 1
    nothing_is_left(here)


@pytest.mark.parametrize(
    ("role", "who", "counts"),
    [
        ("target", "vllm:small", "answered 3, pending 2, error_permanent 1"),
        ("guard", "demo + llama-guard-3+block", "answered 3, pending 3"),
        ("judge", "the judge", "answered 6"),
    ],
)
def test_one_that_dies_again_stops_whatever_asks_it(
    role: str, who: str, counts: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The first chat of the first start is the program's own.
    model, *options = as_vllm(here, "die=3", "says=safe", f"log={here / 'log'}")
    words = {
        "target": ("--provider", model, "--judge", "none"),
        "guard": ("--provider", "demo", "--judge", "none", "--moderator", f"llama-guard-3+block={model}"),
        "judge": ("--provider", "demo", "--judge", f"guard:llama-guard-3={model}"),
    }[role]
    done = at_once(*words, *options, *RUN, "--max-concurrency", "1")
    out = " ".join(done.stdout.split())
    why = f"{model}: the server ended (SIGKILL: perhaps too little memory) a second time; {LAST}"
    assert f" {why}" in out
    assert f" stopped: {'guard llama-guard-3: ' * (role == 'guard')}cannot be asked any more: {why}" in out
    assert f": {counts} " in out
    assert f" {who} cannot be asked: fix that; stopped early; continue with: python -m safemt_client " in out
    assert done.returncode == 1
    # 3 were answered; none is labelled, or let pass, that was not.
    assert len((here / "log").read_text().splitlines()) == 3
    kept = {
        "target": "SELECT DISTINCT error_code AS code FROM replies WHERE outcome = 'error_permanent'",
        "guard": "SELECT count(*) AS n FROM replies WHERE outcome = 'answered'",
        "judge": "SELECT count(*) AS n FROM verdicts WHERE label = 'safe'",
    }[role]
    assert sql(kept, capsys) == [{"code": "server_ended"} if role == "target" else {"n": 3}]
    nothing_is_left(here)


@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_in_the_middle_leaves_no_server(signals: int, here: Path) -> None:
    # One that never answers holds the run until the second one.
    model, *options = as_vllm(here, f"log={here / 'log'}", *["hang"] * (signals == 2))
    words = ("--provider", model, "--judge", "none", *options, *RUN, *["--rpm", "60"] * (signals == 1))
    run = forked(*words, PYTHONUNBUFFERED="1")
    try:
        until((here / "log").exists, run)
        record = record_of(here)
        assert record["keeper"] in left(record)
        said = ""
        for _ in range(signals):
            run.send_signal(signal.SIGINT)
            while "stopping: waiting for calls in flight" not in said:
                assert run.poll() is None, run.communicate()
                said += run.stdout.readline()
        said += "".join(run.communicate())
        assert run.returncode == 1
    finally:
        run.kill()
    assert ("interrupted: stopped early; continue with:" if signals == 1 else "safemt: interrupted; ") in said
    assert left(record) == set()
    nothing_is_left(here)

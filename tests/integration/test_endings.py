"""Every way in which a run can end: its status, its last line, what the command at the end is told, its log."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from support.faults import Behaviour, answer, error
from support.forked import forked
from support.program import ROOT, against
from support.waiting import until

from safemt_client.__main__ import main
from safemt_client.engine.notify import notify
from safemt_client.results.store import store
from safemt_client.settings import words_of
from safemt_client.telemetry.events import RunResult

TOLD = f"{sys.executable} tell.py"
TELL = """import json, os
with open("told", "a") as file:
    file.write(json.dumps(dict(os.environ)) + "\\n")
"""


@pytest.fixture(autouse=True)
def script(here: Path) -> None:
    (here / "tell.py").write_text(TELL)


def told() -> dict[str, str]:
    """What the command at the end was told; it was run once."""
    (line,) = Path("told").read_text().splitlines()
    found: dict[str, str] = json.loads(line)
    return {
        name.removeprefix("SAFEMT_"): value for name, value in found.items() if name.startswith("SAFEMT_")
    }


def logged() -> list[dict[str, object]]:
    (path,) = Path().glob("*.log")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return [json.loads(line) for line in path.read_text().splitlines()]


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


MODEL = (
    "--provider",
    "m@URL",
    "--data",
    "sample",
    "--turns",
    "1",
    "--judge",
    "none",
    "--max-concurrency",
    "1",
)


@pytest.mark.parametrize(
    ("behaviours", "then", "words", "exit_status", "status", "again", "last", "summary"),
    [
        ([], answer(), (), 0, "done", "no", "done; look closer with:", "done"),
        (
            [answer()],
            error(401, "invalid_api_key", "Wrong key sk-planted-42"),
            (),
            1,
            "stopped",
            "yes",
            "m cannot be asked: fix that; stopped early; continue with:  python -m safemt_client",
            "cannot be asked",
        ),
        (
            [answer()],
            error(429, "insufficient_quota", "sk-planted-42 has none left"),
            (),
            1,
            "stopped",
            "yes",
            "cannot be asked: fix that; stopped early",
            "cannot be asked",
        ),
        (
            [],
            answer(),
            # Each reply of one token costs two dollars and a half.
            ("--max-cost", "5", "--price", "m@URL=0/2500000", "--max-tokens", "1"),
            1,
            "capped",
            "no",
            "spent: raise it to continue; stopped early; continue with:",
            "--max-cost $5.00 is reached",
        ),
        (
            [answer(), error(400, message="no such parameter")],
            answer(),
            (),
            1,
            "errors",
            "yes",
            "1 turn ended in an error; ask again with:  python -m safemt_client",
            "1 turn ended in an error",
        ),
    ],
    ids=["done", "key", "quota", "capped", "errors"],
)
def test_ways_to_end(
    behaviours: list[Behaviour],
    then: Behaviour,
    words: tuple[str, ...],
    exit_status: int,
    status: str,
    again: str,
    last: str,
    summary: str,
) -> None:
    returned, endpoint = against(behaviours, then, *MODEL, *words, "--on-finish", TOLD)
    out = Path("out").read_text()
    assert returned == exit_status, out
    assert last.replace("URL", endpoint.url) in last_line(out)
    assert ("errors of m:" in out) == (status == "errors")
    assert status != "errors" or ": 1 bad_request: " in out, out
    assert status != "errors" or "no such parameter" in out
    found = told()
    assert found["STATUS"] == status
    assert (found["EXIT_STATUS"], found["AGAIN"]) == (str(exit_status), again)
    assert Path(found["DB"]) == Path("safemt.duckdb").absolute()
    assert f"run {found['RUN_ID']}:" in out
    assert summary in found["SUMMARY"]
    assert "API_KEY" not in found
    events = logged()
    assert events[0]["event"] == "session_started"
    assert events[-1]["event"] == "session_ended"
    assert (events[-1]["status"], events[-1]["exit_status"]) == (status, exit_status)
    for file in Path().iterdir():
        assert b"sk-planted-42" not in file.read_bytes(), file


def test_low_coverage(capsys: pytest.CaptureFixture[str]) -> None:
    words = [w.replace("URL", "http://127.0.0.1:9/v1") for w in MODEL] + ["--max-wait", "0", "--limit", "1"]
    words[words.index("--judge") + 1] = "demo-judge"
    assert main([*words, "--on-finish", TOLD]) == 1
    assert "coverage 0.0% is below --min-coverage 98.0%; ask the failed turns again" in last_line(
        " ".join(capsys.readouterr().out.split())
    )
    assert (told()["STATUS"], told()["EXIT_STATUS"]) == ("low-coverage", "1")
    failed = [event for event in logged() if event["event"] == "turn"]
    assert [event["outcome"] for event in failed] == ["error_transient"]


BLOCKED = answer("", "content_filter")
CUT_OFF = answer("", "length", reasoning_content="Let me see")


@pytest.mark.parametrize(
    ("then", "judge", "exit_status", "status", "last"),
    [
        (BLOCKED, "demo-judge", 1, "low-coverage", "nothing is left to ask: what has no label was blocked"),
        (CUT_OFF, "demo-judge", 1, "low-coverage", "raise --max-tokens, which asks all turns anew"),
        (CUT_OFF, "none", 0, "done", "raise --max-tokens, which asks all turns anew"),
    ],
    ids=["blocked", "cut off", "cut off, not judged"],
)
def test_what_would_ask_nothing_is_not_advised(
    then: Behaviour, judge: str, exit_status: int, status: str, last: str
) -> None:
    words = list(MODEL)
    words[words.index("--judge") + 1] = judge
    returned, _ = against([], then, *words, "--on-finish", TOLD)
    assert returned == exit_status
    line = last_line(Path("out").read_text())
    assert last in line
    assert "python -m safemt_client --provider" not in line
    assert (told()["STATUS"], told()["AGAIN"]) == (status, "no")
    # It is true: the same command asks nothing.
    _, endpoint = against([], then, *words)
    assert len(endpoint.requests) == 0


@pytest.mark.parametrize(
    ("words", "status", "exit_status"),
    [(("--data", "nowhere"), "failed", "2"), (("--log", "no/such/folder"), "failed", "2")],
)
def test_what_never_began(
    words: tuple[str, ...], status: str, exit_status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--provider", "demo", "--on-finish", TOLD, *words]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert err.startswith(f"safemt: {words[1]}: ")
    assert (told()["STATUS"], told()["EXIT_STATUS"]) == (status, exit_status)


def test_a_dry_run_tells_nobody_and_logs_nothing() -> None:
    assert main(["--provider", "demo", "--on-finish", TOLD, "--dry-run"]) == 0
    assert [path.name for path in Path().iterdir()] == ["tell.py"]


def stopping(signals: list[int]) -> tuple[int, str, str]:
    """A run of one call a second, told to stop once it has stored a turn; then, if need be, again."""
    words = ("--provider", "demo", "--rpm", "60", "--log", "run.log", "--on-finish", TOLD)
    run = forked(*words, PYTHONUNBUFFERED="1")
    try:
        log = Path("run.log")
        until(lambda: log.exists() and '"turn"' in log.read_text(), run)
        run.send_signal(signals[0])
        for number in signals[1:]:
            run.send_signal(number)
        out, err = run.communicate(timeout=60)
    finally:
        run.kill()
    return run.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_interrupted(number: int) -> None:
    status, out, err = stopping([number])
    assert status == 1, err
    assert last_line(out).startswith("interrupted: stopped early; continue with:  python -m safemt_client")
    assert err == ""
    assert (told()["STATUS"], told()["EXIT_STATUS"]) == ("stopped", "1")
    assert told()["SUMMARY"].startswith("interrupted, coverage")


def test_started_to_outlive_its_terminal() -> None:
    words = ("--provider", "demo", "--rpm", "60", "--limit", "1", "--turns", "1,2", "--log", "run.log")
    program = ["nohup", sys.executable, "-m", "safemt_client", *words, "--judge", "none", "--on-finish", TOLD]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(program, env=env, stdout=subprocess.PIPE, text=True)
    try:
        log = Path("run.log")
        until(lambda: log.exists() and '"turn"' in log.read_text(), run)
        run.send_signal(signal.SIGHUP)
        run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 0
    assert told()["STATUS"] == "done"


def test_stopped_at_once_by_a_second_signal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        words = [w.replace("URL", f"http://127.0.0.1:{port}/v1") for w in MODEL]
        run = forked(*words, "--on-finish", TOLD, PYTHONUNBUFFERED="1")
        try:
            # A call is in flight that is never answered: the first signal waits for it.
            connection, _ = server.accept()
            with connection:
                connection.recv(1)
                run.send_signal(signal.SIGTERM)
                while "stopping: waiting for calls in flight" not in (line := run.stdout.readline()):
                    assert line, run.communicate()
                run.send_signal(signal.SIGINT)
                _, err = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 1
    assert err.splitlines() == ["safemt: interrupted; the same command resumes"]
    assert (told()["STATUS"], told()["SUMMARY"]) == ("stopped", "interrupted: stopped at once")
    assert logged()[-1]["summary"] == "interrupted: stopped at once"


def test_sigterm_before_the_session_began() -> None:
    # The program waits for the writer of a pipe: its settings are read, nothing has been asked.
    os.mkfifo("policies")
    words = ["--moderator", "llm+block=demo-guard", "--policies", "policies"]
    run = forked("--provider", "demo", *words, "--on-finish", TOLD)
    try:
        with Path("policies").open("w"):
            run.send_signal(signal.SIGTERM)
            _, err = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 1
    assert err.splitlines() == ["safemt: interrupted; the same command resumes"]
    assert (told()["STATUS"], told()["RUN_ID"]) == ("stopped", "")


def test_a_store_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real: Callable[..., object] = store.arrow_rows
    rows = 0

    def full(kind: type, given: list[object]) -> object:
        nonlocal rows
        rows += kind.__name__ == "TurnRow"
        if rows > 1:
            raise duckdb.IOException("No space left on device")
        return real(kind, given)

    monkeypatch.setattr(store, "arrow_rows", full)
    assert main(["--provider", "demo", "--rpm", "600", "--on-finish", TOLD]) == 1
    err = capsys.readouterr().err
    assert last_line(err) == (
        "safemt: safemt.duckdb: cannot write: No space left on device; "
        "what was committed before is kept: fix that and run the same command again"
    )
    assert (told()["STATUS"], told()["SUMMARY"]) == ("failed", "the store cannot be written")
    events = logged()
    assert [event["event"] for event in events[-2:]] == ["store_error", "session_ended"]
    assert events[-1]["status"] == "failed"


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    assert main(["--provider", "demo", "--limit", "1", "--log", "/dev/full"]) == 0


def test_judging_again_ends_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--provider", "demo", "--limit", "1", "--quiet", "--log", "none"]) == 0
    assert list(Path().glob("*.log")) == []
    words = ["judge", "--judge", "demo-judge", "--rubric", "by-scenario", "--quiet", "--on-finish", TOLD]
    assert main(words) == 0
    assert told()["STATUS"] == "done"
    assert {event["event"] for event in logged()} == {"session_started", "verdict", "session_ended"}


DONE = RunResult("done", 0, "done")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no-such-program --key sk-planted-42", "cannot be run: No such file or directory"),
        ("sh -c 'exit 3'", "ended with status 3"),
        ("sh -c 'sleep 1000 & sleep 1000'", "stopped after 0.1 s"),
    ],
)
def test_what_goes_wrong_at_the_end_is_one_line(
    command: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    notify(command, Path("d"), "r", DONE, limit_s=0.1 if "sleep" in command else 60)
    err = capsys.readouterr().err
    assert err == f"safemt: warning: --on-finish: {said}\n"


def test_the_command_at_the_end_never_changes_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--provider", "demo", "--limit", "1", "--turns", "1", "--on-finish"]
    assert main([*words, "sh -c 'exit 3'"]) == 0
    assert "--on-finish: ended with status 3" in capsys.readouterr().err
    assert main([*words, "sh 'open"]) == 2
    assert "--on-finish" in capsys.readouterr().err


def test_no_shell_unless_asked_for() -> None:
    assert words_of("notify-send 'a; b' $HOME") == ["notify-send", "a; b", "$HOME"]


def test_keys_are_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-42")
    monkeypatch.setenv("MY_CREDENTIALS", "sk-planted-42")
    notify(TOLD, Path("d"), "r", DONE)
    assert "sk-planted-42" not in Path("told").read_text()
    assert set(told()) == {"RUN_ID", "STATUS", "EXIT_STATUS", "AGAIN", "DB", "SUMMARY"}

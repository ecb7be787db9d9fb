"""Two commands on one store, in real processes: each works, or says in one line who holds it and what helps."""

import csv
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from support.forked import Forked, forked
from support.program import ROOT
from support.waiting import until

from safemt_client.__main__ import main
from safemt_client.results.store.reader import open_reader

pytestmark = pytest.mark.usefixtures("here")

DB = Path("d.duckdb")
RUN = ["--provider", "demo", "--moderator", "none", "--moderator", "demo-guard", "--limit", "2", "--quiet"]
OPEN = "import duckdb, sys; c = duckdb.connect('d.duckdb'); print('open', flush=True); sys.stdin.read()"
Held = TypeVar("Held", Forked, subprocess.Popen[str])
READS = [
    ["report"],
    ["compare"],
    ["runs"],
    ["sql", "SELECT count(*) FROM turns"],
    ["export", "--format", "jsonl", "--out", "out"],
    ["label", "--export", "sample.csv", "--annotator", "e"],
    ["doctor", "--db", str(DB)],
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run."""
    path = tmp_path_factory.mktemp("finished") / DB
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["safemt"])
        assert main([*RUN, "--db", str(path), "--log", "none"]) == 0
    return path


@pytest.fixture(autouse=True)
def run_id(here: Path, finished: Path) -> str:
    """That store in this folder, and its run."""
    DB.write_bytes(finished.read_bytes())
    with open_reader(DB) as reader:
        return str(reader.query("SELECT run_id FROM runs").rows[0][0])


@contextmanager
def holding(process: Held) -> Iterator[Held]:
    """A process that has the store open; it is ended at the end."""
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def python(*words: str) -> subprocess.Popen[str]:
    """A process that can be written to."""
    pipe, env = subprocess.PIPE, os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *words], env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def serves() -> bool:
    return Path("d.duckdb.server").exists() and Path("d.duckdb.server").read_text().endswith("}")


def one_line(words: list[str], capsys: pytest.CaptureFixture[str], *said: str) -> None:
    capsys.readouterr()
    assert main([*words, "--db", str(DB)]) == 2, words
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    for text in said:
        assert text in line, line
    # Of `label` not even the first question.
    assert out == ""


def writers_are_refused(
    run_id: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *said: str
) -> None:
    with open("import.csv", "w", newline="") as file:
        csv.writer(file).writerows([["request_hash", "dialogue_key", "label"], ["x", "y", "safe"]])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    one_line(RUN, capsys, *said)
    one_line(["judge", "--judge", "demo-judge-hasty"], capsys, *said)
    one_line(["label", "--annotator", "me", "--run", run_id], capsys, *said)
    one_line(["label", "--annotator", "me", "--import", "import.csv"], capsys, *said)


def readers_work(capsys: pytest.CaptureFixture[str], reads: list[list[str]]) -> None:
    for words in reads:
        assert main([*words, *([] if "--db" in words else ["--db", str(DB)])]) == 0, words
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err


def test_beside_a_run(
    run_id: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = forked(*RUN, "--db", str(DB), "--fresh", "--rpm", "30")
    with holding(run):
        until(serves, run)
        said = f"d.duckdb: held by another run (process {run.pid}): wait for it or stop it"
        writers_are_refused(run_id, capsys, monkeypatch, said, "name another file with --db")
        readers_work(capsys, [words for words in READS if words != ["compare"]])
        # The run is asked, and has not finished.
        one_line(["compare"], capsys, "demo is not finished")
        # What reads when the run ends goes on by itself.
        with open_reader(DB) as reader:
            assert not reader.holds_file
            run.terminate()
            run.wait(60)
            assert reader.query("SELECT count(*) > 0 FROM turns").rows == [(True,)]
            assert reader.holds_file
    assert main([*RUN, "--db", str(DB)]) == 0


def test_beside_somebody_who_labels(
    run_id: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal, theirs = pty.openpty()
    label = forked("label", "--annotator", "her", "--db", str(DB), stdin=theirs)
    with holding(label):
        until(serves, label)
        said = f"d.duckdb: held by `safemt label` (process {label.pid}): end it there, which loses nothing"
        writers_are_refused(run_id, capsys, monkeypatch, said)
        readers_work(capsys, READS[-3:])
        os.write(terminal, b"s\nu\nq\n")
        out, err = label.communicate(timeout=60)
        assert label.returncode == 0, err
        assert "2 labelled" in out
    capsys.readouterr()
    question = "SELECT annotator, count(*) AS n FROM human_labels GROUP BY ALL"
    assert main(["sql", question, "--format", "json", "--db", str(DB)]) == 0
    assert json.loads(capsys.readouterr().out) == [{"annotator": "her", "n": 2}]


def test_beside_what_only_reads(
    run_id: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The shell opens the file, then waits for statements.
    with holding(python("-u", "-m", "safemt_client", "sql", "--db", str(DB))) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdin.write("SELECT 'ready';\n")
        shell.stdin.flush()
        assert any("ready" in line for line in shell.stdout)
        writers_are_refused(run_id, capsys, monkeypatch, f"held by process {shell.pid}", "an open `sql`")
        readers_work(capsys, READS[-3:])


@pytest.mark.slow
def test_beside_another_program(
    run_id: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safemt_client.results.store.reader._wait", lambda seconds: None)
    # What a killed run has left does not answer for it.
    Path("d.duckdb.server").write_text('{"port": 9, "token": "t", "pid": 1, "command": "run"}')
    with holding(python("-c", OPEN)) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        said = f"held by process {other.pid}"
        writers_are_refused(run_id, capsys, monkeypatch, said)
        for words in READS:
            one_line([word for word in words if word not in ("--db", str(DB))], capsys, said)


def test_a_run_that_has_just_begun_is_waited_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the file for a moment before it says where it can be asked."""
    hold = (
        "import sys; from pathlib import Path; from safemt_client.results.store import store as s;"
        "begin = s.QueryServer; s.QueryServer = lambda *a: (print('held', flush=True), sys.stdin.readline(), begin(*a))[2];"
        "opened = s.Store.open(Path('d.duckdb')); sys.stdin.read(); opened.close()"
    )
    Path("d.duckdb.server").write_text('{"port": 9, "token": "t", "pid": 1, "command": "run"}')
    with holding(python("-c", hold)) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        assert run.stdout.readline() == "held\n"

        def begins(seconds: float) -> None:
            assert run.stdin is not None
            run.stdin.write("\n")
            run.stdin.flush()
            time.sleep(seconds)

        monkeypatch.setattr("safemt_client.results.store.reader._wait", begins)
        with open_reader(DB) as reader:
            assert not reader.holds_file
            assert reader.query("SELECT 1").rows == [(1,)]

"""`sql` without a statement: the shell on a real terminal, and statements through a pipe."""

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.forked import forked
from support.waiting import until

from safemt_client.__main__ import main
from safemt_client.results.sql.shell import Shell, complete, history_file
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.rows import HumanLabelRow
from safemt_client.results.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
PROMPT, MORE = "safemt> ", "   ...> "
LONG = "SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3"
HOSTILE = "\x1b[31mred\x1b[0m \u202eabc [bold]x[/] nul \x00 <script>"
DEADLINE_S = 120


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shell") / "d.duckdb"
    with Store.open(path) as store:
        store.save_now(HumanLabelRow("q", "d", "", HOSTILE, "safe", datetime(2026, 1, 1, tzinfo=UTC)))
    return path


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, db: Path, home: Path) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "safemt_client", "sql", "--db", str(db)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_own_terminal,
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(home), "TERM": "dumb", "COLUMNS": "160"},
        )
        os.close(slave)
        self.shown = ""

    def until(self, text: str, again: str = "") -> str:
        """What is shown from the last call on, up to this text; in silence `again` is typed once more."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if not select.select([self.master], [], [], 1)[0]:
                self.type(again)
            else:
                try:
                    self.shown += os.read(self.master, 65_536).decode()
                except OSError:
                    pytest.fail(f"it has ended: {self.shown}")
        found, _, self.shown = self.shown.partition(text)
        return found

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def ask(self, text: str) -> str:
        """What is shown for a line, up to the next prompt; the line's own echo is left out."""
        self.type(text + "\n")
        return self.until(PROMPT).partition("\n")[2].replace("\r", "")

    def wait_until_it_works(self) -> None:
        """Until the line is taken (the editor has given the terminal back) and the processor is busy."""
        until(lambda: termios.tcgetattr(self.master)[3] & termios.ICANON)
        before = busy_s(self.process.pid)
        until(lambda: busy_s(self.process.pid) > before + 0.5)

    def ended(self) -> int:
        return self.process.wait(timeout=DEADLINE_S)


def busy_s(process: int) -> float:
    """Seconds of the processor that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _own_terminal() -> None:
    import fcntl

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal(db: Path, tmp_path: Path) -> Iterator[Terminal]:
    found = Terminal(db, tmp_path / "state")
    try:
        found.until(PROMPT)
        yield found
    finally:
        found.process.kill()
        found.process.wait()
        os.close(found.master)


def test_a_session(terminal: Terminal, tmp_path: Path) -> None:
    assert ".schema NAME" in terminal.ask(".help")
    assert "asr_by_turn" in terminal.ask(".views")
    assert "human_labels" in terminal.ask(".tables")
    schema = terminal.ask(".schema conversations")
    assert "judge_key" in schema
    assert "unit of pairing" in schema
    assert "no such view or table" in terminal.ask(".schema nope")
    assert "no such command" in terminal.ask(".nope")
    assert "42" in terminal.ask("SELECT 6 * 7 AS answer;")
    assert "no_such" in terminal.ask("SELECT no_such;")
    assert "only read-only queries are allowed" in terminal.ask("DELETE FROM turns;")
    terminal.type("SELECT 'a;b' AS text,\n")
    terminal.until(MORE)
    assert "a;b" in terminal.ask("7 AS n;")
    answer = terminal.ask("SELECT annotator FROM human_labels;")
    assert "\\x1b[31mred" in answer
    assert "[bold]x[/]" in answer
    assert not set(answer) & {"\x1b", "\x00", "\u202e"}
    terminal.type(".quit\n")
    assert terminal.ended() == 0
    history = tmp_path / "state" / "safemt" / "sql_history"
    assert history.stat().st_mode & 0o777 == 0o600
    assert history.parent.stat().st_mode & 0o777 == 0o700
    assert "SELECT 'a;b' AS text, 7 AS n;" in history.read_text()


def test_history_and_completion(terminal: Terminal, db: Path, tmp_path: Path) -> None:
    terminal.ask("SELECT 6 * 7 AS answer;")
    terminal.type("\x04")
    assert terminal.ended() == 0
    again = Terminal(db, tmp_path / "state")
    try:
        again.until(PROMPT)
        # Control-P is the line before.
        assert "42" in again.ask("\x10")
        assert "n" in again.ask("SELECT count(*) AS n FROM human_la\t;")
        again.type("\x04")
        assert again.ended() == 0
    finally:
        again.process.kill()
        again.process.wait()
        os.close(again.master)


def test_ctrl_c_stops_a_query_and_not_the_shell(terminal: Terminal) -> None:
    terminal.type(LONG + ";\n")
    terminal.until("\n")
    terminal.wait_until_it_works()
    terminal.type("\x03")
    assert "cancelled" in terminal.until(PROMPT)
    terminal.type("SELECT half,\n")
    terminal.until(MORE)
    # Between its prompt and its waiting for a key the line editor sees a signal only with the next one.
    terminal.type("\x03")
    assert "cancelled" in terminal.until(PROMPT, again="\x03")
    assert "42" in terminal.ask("SELECT 42 AS n;")
    terminal.type("\x04")
    assert terminal.ended() == 0


def test_ctrl_c_ends_a_single_question(db: Path) -> None:
    process = forked("sql", LONG, "--db", str(db))
    # It is at work once it has used more than a fork takes to come to its question.
    until(lambda: busy_s(process.pid) > 1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "interrupted" in error
    assert "Traceback" not in error


def piped(text: str, db: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "safemt_client", "sql", "--db", str(db), *words],
        input=text,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_statements_through_a_pipe(db: Path) -> None:
    done = piped(
        "SELECT 1 AS a; SELECT 'x;\ny' AS b;\n-- the last has no end\nSELECT 3 AS c", db, "--format", "csv"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["a", "1", "b", '"x;', 'y"', "c", "3"]
    assert PROMPT not in done.stdout
    done = piped("SELECT annotator FROM human_labels;", db, "--format", "json")
    assert json.loads(done.stdout) == [{"annotator": HOSTILE}]
    done = piped(".schema human_labels\n.quit\nSELECT 1;", db)
    assert "annotator" in done.stdout
    assert "\n1 row\n" not in done.stdout
    assert piped("", db).returncode == 0


def test_the_first_that_fails_ends_a_script(db: Path) -> None:
    done = piped("SELECT 1 AS a;\nDROP TABLE turns;\nSELECT 'later' AS b;", db)
    assert done.returncode == 2
    assert "only read-only queries are allowed" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "later" not in done.stdout


def test_what_a_word_may_become(db: Path) -> None:
    with open_reader(db) as reader:
        candidates = complete(Shell(reader, "table", None, io.StringIO()))
    assert candidates("asr_by_t", "SELECT * FROM ") == ["asr_by_turn", "asr_by_turn_reached"]
    assert "judge_key" in candidates("jud", "SELECT ")
    assert "c.judge_key" in candidates("c.jud", "SELECT ")
    assert "SELECT" in candidates("sel", "")
    assert candidates(".s", "") == [".schema"]
    assert candidates("zzz", "") == []


def test_where_the_history_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert history_file() == tmp_path / ".local" / "state" / "safemt" / "sql_history"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert history_file() == tmp_path / ".local" / "state" / "safemt" / "sql_history"


def test_a_statement_on_the_command_line_is_as_before(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sql", "SELECT 5 AS n", "--db", str(db), "--format", "csv"]) == 0
    assert capsys.readouterr().out.split() == ["n", "5"]

"""`sql` without a statement: a shell on a terminal, or the statements that come through a pipe."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from pathlib import Path
from types import ModuleType
from typing import IO

from safemt_client.providers.errors import InputError
from safemt_client.results.sanitize import plain
from safemt_client.results.sql.output import print_result
from safemt_client.results.sql.statements import Splitter
from safemt_client.results.store.queries import Result
from safemt_client.results.store.reader import Reader

__all__ = ["Shell", "complete", "history_file", "interact", "run_script"]

_PROMPT, _MORE = "safemt> ", "   ...> "
_COMMANDS = {
    ".help": "this list",
    ".views": "the views, and what a row of each is",
    ".tables": "the underlying tables: every attempt",
    ".schema NAME": "the columns of a view or table",
    ".quit": "leave; so does Ctrl-D",
}
_WORDS = (
    *(
        "SELECT",
        "FROM",
        "WHERE",
        "GROUP",
        "BY",
        "ALL",
        "ORDER",
        "HAVING",
        "LIMIT",
        "JOIN",
        "LEFT",
        "ON",
        "USING",
    ),
    *("WITH", "AS", "AND", "OR", "NOT", "NULL", "IS", "IN", "LIKE", "CASE", "WHEN", "THEN", "ELSE", "END"),
    *("DISTINCT", "FILTER", "OVER", "PARTITION", "QUALIFY", "count", "sum", "avg", "min", "max", "median"),
)
_OF_STORE = "database_name = 'store' AND NOT internal"
_HISTORY = 1000
_INTERRUPT_AGAIN_S = 0.05


class Shell:
    """Asks a store and prints the answers."""

    def __init__(self, reader: Reader, form: str, max_rows: int | None, out: IO[str]) -> None:
        self._reader = reader
        self._form = form
        self._max_rows = max_rows
        self._out = out

    def ask(self, sql: str) -> None:
        """Print the answer to one statement.

        Raises:
            InputError: it is wrong.
            KeyboardInterrupt: it was interrupted.
        """
        print_result(self._query(sql, self._max_rows), self._form, self._out)

    def command(self, line: str) -> bool:
        """Carry out a command that begins with a dot; return whether the shell continues.

        Raises:
            InputError: there is no such command, view or table.
        """
        name, _, argument = line.strip().rstrip(";").partition(" ")
        argument = argument.strip()
        if name in (".quit", ".exit"):
            return False
        if name == ".help":
            for command, about in _COMMANDS.items():
                print(f"{command:13} {about}", file=self._out)
            print("A statement ends with ';' and may have several lines. Ctrl-C stops it.", file=self._out)
        elif name in (".views", ".tables"):
            kind = name[1:-1]
            self.ask(
                f"SELECT {kind}_name AS {kind}, comment AS one_row_is FROM duckdb_{kind}s() "
                f"WHERE {_OF_STORE} ORDER BY 1"
            )
        elif name == ".schema" and argument:
            quoted = argument.strip('"').replace("'", "''")
            found = self._query(
                f"SELECT column_name, data_type, comment FROM duckdb_columns() WHERE {_OF_STORE} "
                f"AND lower(table_name) = lower('{quoted}') ORDER BY column_index"
            )
            if not found.rows:
                raise InputError(f"{argument}: no such view or table: see .views and .tables")
            print_result(found, self._form, self._out)
        else:
            raise InputError(f"{line.strip()}: no such command: see .help")
        return True

    def names(self) -> list[str]:
        """The views and tables of the store, and their columns."""
        rows = self._query(
            f"SELECT table_name FROM duckdb_columns() WHERE {_OF_STORE} "
            f"UNION SELECT column_name FROM duckdb_columns() WHERE {_OF_STORE} ORDER BY 1"
        ).rows
        return [row[0] for row in rows]

    def _query(self, sql: str, limit: int | None = None) -> Result:
        # In a thread of its own: DuckDB does not reliably see Ctrl-C while it works.
        future: Future[Result] = Future()

        def work() -> None:
            try:
                future.set_result(self._reader.query(sql, limit=limit))
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                future.set_exception(error)

        threading.Thread(target=work, name="safemt-query", daemon=True).start()
        try:
            return future.result()
        except KeyboardInterrupt:
            # Repeated: an interrupt that arrives before the query has started is lost.
            while not future.done():
                self._reader.interrupt()
                wait([future], timeout=_INTERRUPT_AGAIN_S)
            raise


def run_script(shell: Shell, lines: Iterable[str]) -> int:
    """Carry out statements and commands one by one; the first that fails ends it.

    Raises:
        InputError: a statement is wrong.
    """
    splitter = Splitter()
    for line in lines:
        if splitter.empty and line.lstrip().startswith("."):
            if not shell.command(line):
                return 0
            continue
        for statement in splitter.feed(line):
            shell.ask(statement)
    if rest := splitter.rest():
        shell.ask(rest)
    return 0


def interact(shell: Shell) -> int:
    """Read statements from the terminal until `.quit` or the end of input."""
    readline = _readline(shell)
    print("Statements end with ';'. Type .help for the commands, .quit to leave.")
    splitter = Splitter()
    said: list[str] = []
    while True:
        try:
            line = input(_PROMPT if splitter.empty else _MORE)
            if splitter.empty and line.lstrip().startswith("."):
                _remember(readline, [line])
                if not shell.command(line):
                    break
                continue
            said.append(line)
            statements = splitter.feed(line + "\n")
            if splitter.empty:
                _remember(readline, said)
                said = []
            for statement in statements:
                shell.ask(statement)
        except EOFError:
            print()
            break
        except KeyboardInterrupt:
            # A half-typed statement is discarded, and a running one gives no answer.
            print("\ncancelled")
            splitter, said = Splitter(), []
        except InputError as error:
            print(plain(str(error)), file=sys.stderr)
    if readline is not None:
        _save(readline)
    return 0


def complete(shell: Shell) -> Callable[[str, str], list[str]]:
    """A function that gives what a word may become, from the word and the line before it."""
    names = shell.names()

    def candidates(word: str, before: str) -> list[str]:
        if not before.strip() and word.startswith("."):
            return [command.split()[0] for command in _COMMANDS if command.startswith(word)]
        prefix, dot, last = word.rpartition(".")
        # After an alias only columns can stand, but which ones the line does not say yet.
        words = names if dot else [*names, *_WORDS]
        return [prefix + dot + name for name in words if name.lower().startswith(last.lower())]

    return candidates


def history_file() -> Path:
    """Where the statements of earlier shells are kept: below the user's state directory."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    return base / "safemt" / "sql_history"


def _readline(shell: Shell) -> ModuleType | None:
    """The line editor with history and completion; None where Python has none."""
    try:
        import readline
    except ImportError:
        return None
    path = history_file()
    with contextlib.suppress(OSError, RuntimeError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
        readline.read_history_file(path)
    readline.set_history_length(_HISTORY)
    readline.set_auto_history(False)
    readline.set_completer_delims(" \t\n\"'`()[]{},;=<>+-*/%|")
    candidates = complete(shell)
    found: list[str] = []

    def completer(word: str, number: int) -> str | None:
        if number == 0:
            found[:] = candidates(word, readline.get_line_buffer()[: readline.get_begidx()])
        return found[number] if number < len(found) else None

    readline.set_completer(completer)
    editline = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if editline else "tab: complete")
    return readline


def _remember(readline: ModuleType | None, lines: list[str]) -> None:
    """Keep what was typed, a statement as one line where no comment forbids it."""
    if readline is None or not any(line.strip() for line in lines):
        return
    joined = [" ".join(line.strip() for line in lines)] if not any("--" in line for line in lines) else lines
    for line in joined:
        readline.add_history(line)


def _save(readline: ModuleType) -> None:
    path = history_file()
    with contextlib.suppress(OSError, RuntimeError):
        readline.write_history_file(path)
        path.chmod(0o600)

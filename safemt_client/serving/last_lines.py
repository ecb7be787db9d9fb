"""What a server said last, from its log: for the one line of an error."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

from safemt_client.providers.responses.error_body import one_line

__all__ = ["ended_with", "last_line", "last_words"]

_MOST_BYTES = 64 * 1024
_MOST_LINES = 3
_LONGEST = 240
_ERROR = re.compile(
    r"error|exception|cannot|could not|failed|not found|out of memory|unable|invalid", re.IGNORECASE
)
# The line of a program in a traceback: its message stands in another one.
_RAISE = re.compile(r"raise \w")
_SHOWN = 70
# As vLLM's: (APIServer pid=7) INFO 11-27 20:50:27 [compilation.py:317] Enabled ...
_HEAD = re.compile(r"^(\(\w+ pid=\d+\) )?((DEBUG|INFO|WARNING|ERROR) )?([\d-]+ [\d:.,]+ )?(\[[^\]]*\] )?")
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def last_words(log: Path, advice: Sequence[tuple[str, str]]) -> str:
    """In one line what to change, what the server said last, and where the rest stands.

    Of its last lines those that speak of an error are chosen, if there are any. `advice` are pairs of a
    regular expression, looked for in lines at the end of the log, and what to change; the line in which it is
    found is said first.
    """
    lines = [_HEAD.sub("", line) for line in _lines(log)]
    change, reason = _advised(lines, advice)
    telling = [line for line in lines if _ERROR.search(line) and not _RAISE.match(line)] or lines
    # What is said twice is said once, where it stands last.
    others = [line for line in dict.fromkeys(reversed(telling)) if line not in reason]
    distinct = [*reason, *others[: _MOST_LINES - len(reason)][::-1]]
    said = [f"it said: {' | '.join(one_line(line, _LONGEST) for line in distinct)}"] if distinct else []
    return "; ".join([*change, *said, f"its log is {log}"])


def _advised(lines: Sequence[str], advice: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """What to change and the line that says so, by the first advice that fits; empty if none does."""
    for pattern, change in advice:
        for line in reversed(lines):
            if re.search(pattern, line, re.IGNORECASE):
                return [change], [line]
    return [], []


def last_line(log: Path) -> str:
    """The last line of a log for a display: shortened, without what stands before its words."""
    return one_line(_HEAD.sub("", next(reversed(_lines(log)), "")), _SHOWN)


def ended_with(status: int | None) -> str:
    """How a process ended, in words."""
    if status is None:
        return "its watchdog was killed"
    if status >= 0:
        return f"exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"{name}: perhaps too little memory" if name == "SIGKILL" else name


def _lines(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _MOST_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = (line.strip() for line in re.split(r"[\r\n]+", _COLOUR.sub("", text)))
    return [line for line in lines if line]

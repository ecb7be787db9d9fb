"""A command that is killed at each place in turn: `python killed.py FUNCTION WORD ...`.

The command `WORD ...` of the program runs once and once more, each time in a process of its own: the first kills itself
(SIGKILL) just before FUNCTION is called, the second before it is called for the second time, and so on, until one
comes to its end. `{n}` in a word is the number of the process. Prints the status of each; that of the last is also
this program's. All are forks of a process that has only imported what it takes, which is cheaper than as many starts.
"""

from __future__ import annotations

import importlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# What commands import as they go, in four fifths of their time.
IMPORTED = (
    *("pyarrow.parquet", "safemt_client.models", "safemt_client.cli.commands", "safemt_client.cli.label"),
    *("safemt_client.results.store.reader", "safemt_client.results.exports.tables"),
    *("safemt_client.results.exports.redaction", "safemt_client.results.scores.collect"),
)


def killed(folder: Path, function: str, *words: str) -> list[int]:
    """The statuses of all the processes; the last one came to its end."""
    done = subprocess.run(
        [sys.executable, __file__, function, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    statuses = [int(line) for line in (folder / "statuses").read_text().split()]
    assert statuses[:-1] == [-signal.SIGKILL] * (len(statuses) - 1), done.stdout + done.stderr
    assert done.returncode == statuses[-1], done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return statuses


def found(function: str) -> tuple[Any, str]:
    """What owns a function of a dotted name, and the function's name there."""
    parts = function.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            owner = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:-1]:
            owner = getattr(owner, part)
        return owner, parts[-1]
    raise LookupError(function)


def dying(whole: Callable[..., Any], number: int) -> Callable[..., Any]:
    left = number

    def call(*given: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*given, **named)

    return call


def run(function: str, words: list[str]) -> int:
    from safemt_client.__main__ import main

    for name in IMPORTED:
        importlib.import_module(name)
    owner, name = found(function)
    whole = getattr(owner, name)
    with Path("statuses").open("w") as statuses:
        for number in itertools.count(1):
            child = os.fork()
            if child == 0:
                setattr(owner, name, dying(whole, number))
                status = main([word.replace("{n}", str(number)) for word in words])
                sys.stdout.flush()
                os._exit(status)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print(status, file=statuses, flush=True)
            if status != -signal.SIGKILL:
                return status
    raise AssertionError("a count has no end")


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]))

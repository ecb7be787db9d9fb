"""The program in real processes that begin in a moment: forks of one that has only imported what it takes.

    run = forked("--provider", "demo", "--db", "d.duckdb")
    run.send_signal(signal.SIGKILL)

A process of its own spends more time on its imports than on most that a test has it do. Its exit is the interpreter's,
as ever: nothing is skipped. What is about the start itself, as too little memory for it, starts `python -m
safemt_client` instead.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

__all__ = ["Forked", "finished", "forked"]

ROOT = Path(__file__).resolve().parents[2]
# What commands import as they go, besides the program's start.
IMPORTED = (
    *(
        "safemt_client.__main__",
        "safemt_client.cli.commands",
        "safemt_client.cli.label",
        "safemt_client.cli.doctor",
    ),
    *("safemt_client.engine.session", "safemt_client.planning.build", "safemt_client.planning.rejudge"),
    *("safemt_client.demo.endpoint", "safemt_client.demo.batches", "safemt_client.moderator.build"),
    *("safemt_client.providers.openai_compatible", "safemt_client.providers.batch.openai"),
    *("safemt_client.results.store.reader", "safemt_client.results.scores.collect"),
    *(
        "safemt_client.results.report.build",
        "safemt_client.results.report.terminal",
        "safemt_client.telemetry.summary",
    ),
    *(
        "safemt_client.results.scores.trends",
        "safemt_client.results.scores.effects",
        "safemt_client.engine.loop",
    ),
    *(
        "safemt_client.engine.notify",
        "safemt_client.api",
        "safemt_client.planning.resolve",
        "safemt_client.keywords",
    ),
    *("pyarrow.parquet", "httpx", "aiohttp", "numpy"),
)


class Forked:
    """A process of the program, with what the tests use of `subprocess.Popen`."""

    def __init__(
        self, words: tuple[str, ...], before: str, stdin: int | None, cwd: Path | None, env: dict[str, str]
    ) -> None:
        self.returncode: int | None = None
        told, tell = os.pipe()
        self.stdin: IO[str] | None = None
        ends = [stdin if stdin is not None else os.open(os.devnull, os.O_RDONLY)]
        outputs = []
        for _ in range(2):
            ours, theirs = os.pipe()
            outputs.append(os.fdopen(ours, encoding="utf-8", errors="replace"))
            ends.append(theirs)
        self.stdout, self.stderr = outputs
        where = str(cwd or Path.cwd())
        asked = {"words": words, "before": before, "cwd": where, "env": dict(os.environ | env)}
        _parent().ask(asked, [*ends, tell])
        for end in (*ends[stdin is not None :], tell):
            os.close(end)
        # First the process's number, at its end its status.
        self._told = os.fdopen(told)
        self.pid = int(self._told.readline())

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *about: object) -> None:
        self.communicate()

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float = 120) -> int:
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            self.returncode = int(self._told.readline())
            self._told.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """What else it says, to its end."""
        said = ["", ""]

        def read(number: int, file: IO[str]) -> None:
            with file:
                said[number] = file.read()

        files = [(n, file) for n, file in enumerate((self.stdout, self.stderr)) if not file.closed]
        readers = [threading.Thread(target=read, args=given, daemon=True) for given in files]
        for reader in readers:
            reader.start()
        deadline = time.monotonic() + timeout
        for reader in readers:
            reader.join(max(0.0, deadline - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
        self.wait(max(0.0, deadline - time.monotonic()))
        return said[0], said[1]


def forked(
    *words: str, before: str = "", stdin: int | None = None, cwd: Path | None = None, **env: str
) -> Forked:
    """Start the program in the current folder or another, after some other code (`before`)."""
    return Forked(words, before, stdin, cwd, env)


def finished(*words: str, before: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own, at its end."""
    run = forked(*words, before=before, **env)
    try:
        out, err = run.communicate()
    finally:
        run.kill()
    return subprocess.CompletedProcess(words, run.wait(), out, err)


class _Parent:
    """The process that forks."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self.end)

    def ask(self, asked: dict[str, Any], files: list[int]) -> None:
        socket.send_fds(self._ours, [json.dumps(asked).encode()], files)

    def end(self) -> None:
        self._ours.close()
        self._process.wait()


@cache
def _parent() -> _Parent:
    return _Parent()


def serve(number: int) -> int:
    """Fork for each request; a fork returns its status, the parent 0 once nobody can ask any more."""
    for name in IMPORTED:
        importlib.import_module(name)
    asking = socket.socket(fileno=number)
    while True:
        message, files, _, _ = socket.recv_fds(asking, 1 << 20, 4)
        # Those that have ended; so their time counts with that of the tests.
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not message:
            return 0
        if os.fork():
            for file in files:
                os.close(file)
            continue
        asking.close()
        child = os.fork()
        if child == 0:
            return become(json.loads(message), files)
        # Only it is told of the child's end; all else that the child holds must be the child's alone.
        tell = files.pop()
        for file in files:
            os.close(file)
        os.write(tell, f"{child}\n".encode())
        os.write(tell, f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n".encode())
        os._exit(0)


def become(asked: dict[str, Any], files: list[int]) -> int:
    """The program, with these words."""
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=stream.isatty(), write_through="PYTHONUNBUFFERED" in os.environ)
    sys.stderr.reconfigure(line_buffering=True)
    from safemt_client import __main__

    sys.argv = [str(__main__.__file__), *asked["words"]]
    sys.path[0] = ""
    exec(asked["before"], {"__name__": "__before__"})
    return __main__.main()


if __name__ == "__main__":
    sys.exit(serve(int(sys.argv[1])))

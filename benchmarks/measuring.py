"""Whole programs against the loopback endpoint, measured from start to end: what the benchmarks share."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

__all__ = [
    "BARE",
    "HERE",
    "PLAN",
    "ROOT",
    "US",
    "Measured",
    "endpoint",
    "measure",
    "open_files",
    "our_command",
    "peer_file",
]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
US, PLAN, BARE = "safemt_client", "its start and plan alone", "httpx over aiohttp, bare"


@dataclass(frozen=True)
class Measured:
    """One program: CPU and wall time, memory, and what the endpoint saw of it."""

    cpu_s: float
    wall_s: float
    peak_mb: float
    sending_s: float
    since_first_s: float
    requests: int
    sent_mb: float


def peer_file(name: str) -> str | None:
    """The file that a variable of the environment names for a peer; None if it or its Node is not here."""
    file = os.environ.get(name, "")
    if not Path(file).is_file() or (name == "PROMPTFOO" and shutil.which("node") is None):
        return None
    return file


def open_files() -> None:
    """Let this process and those that it starts open as many files as connections need."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, hard), hard))


@contextmanager
def endpoint(folder: Path, *words: str, tls: Path | None = None) -> Iterator[tuple[str, str]]:
    """The endpoint in a process of its own: the address for its statistics, and the one to ask."""
    port = folder / "port"
    port.unlink(missing_ok=True)
    words += ("--tls", str(tls)) if tls else ()
    server = subprocess.Popen([sys.executable, str(HERE / "endpoint.py"), str(port), *words])
    try:
        while not port.exists():
            if server.poll() is not None:
                raise SystemExit("the endpoint has ended")
            time.sleep(0.05)
        plain, *secure = port.read_text().split()
        seen = f"http://127.0.0.1:{plain}"
        yield seen, f"https://127.0.0.1:{secure[0]}/v1" if secure else f"{seen}/v1"
    finally:
        server.kill()
        server.wait()


def our_command(url: str, data: Path, connections: int, *words: str) -> list[str]:
    """This program, by default without a judge."""
    return [
        *(sys.executable, "-m", "safemt_client", "--provider", f"bench@{url}", "--data", str(data)),
        *(() if "--judge" in words else ("--judge", "none")),
        *("--max-concurrency", str(connections), "--db", "bench.duckdb", "--quiet"),
        *words,
    ]


def measure(
    name: str, seen: str, command: Sequence[str], variables: Mapping[str, str] | None = None
) -> Measured | None:
    """Run a program in an empty folder; None, with a line that says why, if it fails.

    `seen` is the endpoint's address for its statistics.
    """
    urlopen(f"{seen}/reset").read()
    env = os.environ | {"PYTHONPATH": str(ROOT), "INSPECT_EVAL_LOG_FILE_PATTERN": "{task}_{id}"}
    env |= {"BENCH_ENDPOINT": seen} | dict(variables or {})
    # As installed: otherwise each start compiles all modules anew.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        said = process.stderr.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        last = said.strip().splitlines()[-1] if said.strip() else f"status {process.returncode}"
        print(f"{name}: failed: {last}", file=sys.stderr, flush=True)
        return None
    stats = json.load(urlopen(f"{seen}/stats"))
    return Measured(
        usage.ru_utime + usage.ru_stime,
        wall,
        usage.ru_maxrss / 1024,
        stats["s"],
        stats["since_first_s"],
        stats["requests"],
        stats["bytes"] / 1e6,
    )

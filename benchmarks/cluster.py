"""A run on 1, 2 and 4 workers and in one process, against a loopback endpoint: what the cluster costs.

    python benchmarks/cluster.py [--workers 1,2,4] [--dialogues 2000] [--repeat 3]

For each: turns a second, and CPU seconds per 1,000 turns by part (driver, workers, Writer, Accounts, Ray's
own processes), from a tenth to nine tenths of the turns: the start and the report at the end are left out.
Beside them, how long rows of a worker waited for their commit.
Medians of the repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from throughput import write_dialogues

HERE = Path(__file__).resolve().parent
PARTS = {"Worker": "workers", "Writer": "Writer", "Accounts": "Accounts"}
SOME = 0.1
TURNS = 4
"""Of each dialogue that `write_dialogues` makes, each of which is asked in live history."""
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_of(root: int, seen: dict[int, tuple[str, float]]) -> None:
    """Note the CPU seconds of a process and of all that it has started, by what they are."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        pid = int(head.split(" ", 1)[0])
        parents.setdefault(int(fields[1]), []).append(pid)
        seen_name = head.partition("(")[2]
        part = next((part for name, part in PARTS.items() if name in seen_name), None)
        known = seen.get(pid, ("", 0.0))[0]
        name = part or (known if known in PARTS.values() else "")
        seen[pid] = (name, (int(fields[11]) + int(fields[12])) / _TICKS)
    mine, queue = set(), [root]
    while queue:
        pid = queue.pop()
        mine.add(pid)
        queue += parents.get(pid, [])
    for pid in list(seen):
        if pid in mine:
            name, used = seen[pid]
            seen[pid] = (name or ("driver" if pid == root else "Ray"), used)
        elif seen[pid][0] == "":
            del seen[pid]


def one(workers: int | None, data: Path, folder: Path, turns: int) -> dict[str, float]:
    port = folder / "port"
    command = [sys.executable, str(HERE / "endpoint.py"), str(port), "--latency", "0.2"]
    endpoint = subprocess.Popen(command)
    try:
        while not port.exists():
            time.sleep(0.05)
        url = f"http://127.0.0.1:{port.read_text()}"
        db = folder / "run.duckdb"
        words = [*("-m", "safemt_client", "--provider", f"bench@{url}/v1", "--data", str(data)), "--quiet"]
        log = folder / "run.log"
        words += ["--history", "live", "--judge", "none", "--max-concurrency", "200"]
        words += ["--db", str(db), "--log", str(log)]
        words += [] if workers is None else ["--workers", str(workers)]
        run = subprocess.Popen(
            [sys.executable, *words],
            env=os.environ | {"PYTHONPATH": str(HERE.parent)},
            stdout=subprocess.DEVNULL,
        )
        seen: dict[int, tuple[str, float]] = {}
        looks: list[tuple[float, int, dict[str, float]]] = []
        while run.poll() is None:
            cpu_of(run.pid, seen)
            asked = json.load(urlopen(f"{url}/stats"))["requests"]
            # Neither the start, nor the report at the end.
            if SOME * turns <= asked <= (1 - SOME) * turns:
                looks.append((time.monotonic(), asked, by_part(seen)))
            time.sleep(0.3)
        assert run.returncode == 0, run.returncode
        commits = committed(log)
    finally:
        endpoint.send_signal(signal.SIGKILL)
        endpoint.wait()
        port.unlink(missing_ok=True)
        for file in folder.glob("run.duckdb*"):
            file.unlink()
    assert len(looks) > 1, "too few dialogues to look at"
    (began, first, before), (ended, last, after) = looks[0], looks[-1]
    found = {name: (used - before.get(name, 0.0)) / (last - first) * 1000 for name, used in after.items()}
    return (
        found | {"in all": sum(found.values()), "turns a second": (last - first) / (ended - began)} | commits
    )


def committed(log: Path) -> dict[str, float]:
    """Milliseconds until rows of a worker were committed, of the worker where it took longest."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    log.unlink()
    waits = [line["commit_ms"] for line in lines if line["event"] == "worker_ended"]
    names = {"p50": "commit, half, ms", "p99": "commit, 99 %, ms"}
    return {name: max(wait[share] for wait in waits) for share, name in names.items() if waits}


def by_part(seen: dict[int, tuple[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, used in seen.values():
        found[name] = found.get(name, 0.0) + used
    return found


def table(results: dict[str, dict[str, float]]) -> str:
    columns = ["turns a second", "driver", "workers", "Writer", "Accounts", "Ray", "in all"]
    columns += ["commit, half, ms", "commit, 99 %, ms"]
    head = "| | " + " | ".join(columns) + " |\n|---|" + "---:|" * len(columns)
    lines = []
    for name, found in results.items():
        cells = [f"{found.get(c, 0.0):.{0 if 'second' in c or ' ms' in c else 2}f}" for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([head, *lines])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--dialogues", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    kinds: list[int | None] = [None, *map(int, options.workers.split(","))]
    results: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "dialogues.jsonl"
        write_dialogues(data, options.dialogues)
        for _ in range(options.repeat):
            for workers in kinds:
                called = "one process" if workers is None else f"{workers} worker{'s' * (workers > 1)}"
                results.setdefault(called, []).append(one(workers, data, folder, TURNS * options.dialogues))
    medians: dict[str, Any] = {
        name: {
            key: statistics.median(one.get(key, 0.0) for one in found)
            for key in {k for f in found for k in f}
        }
        for name, found in results.items()
    }
    print(table(medians))


if __name__ == "__main__":
    main()

"""Memory of a large run: is it bounded in the plan, and flat while the calls go on?

    python benchmarks/memory.py [--targets 17] [--dialogues 10000] [--connections 200] [--latency 0.05]

The whole program with a store, scripted dialogues at 1, 2, 4, 6 and 8 user turns under all targets, at the
loopback endpoint. Printed: the most that its process held before the first call; at the end of each tenth of
the calls what it held then, and the store's size; and the most of all. What calls leave behind would grow
with each tenth; the first two are left out of the ratio: DuckDB and the connections take theirs there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from measuring import ROOT, endpoint, open_files, our_command
from resume import dataset

PARTS = 10


def write(path: Path, count: int) -> None:
    """So many of the dialogues that `resume.py` plans."""
    with path.open("w") as file:
        for dialogue in dataset().dialogues[:count]:
            said = [{"role": message.role, "content": message.text} for message in dialogue.messages]
            file.write(json.dumps({"id": dialogue.item_id, "dialogue": said}) + "\n")


def held(pid: int, what: str) -> float:
    """Megabytes of a process, `VmRSS` now or `VmHWM` at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) / 1024


def watched(command: list[str], seen: str, folder: Path, calls: int) -> tuple[float, list[float], float]:
    """The most before the first call, what is held at the end of each part of the calls, and the most."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    parts: list[float] = []
    planned = most = 0.0
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            try:
                now, most = held(process.pid, "VmRSS"), held(process.pid, "VmHWM")
            except (OSError, IndexError):  # it is ending
                break
            done = json.load(urlopen(f"{seen}/stats"))["requests"]
            if not done:
                planned = most
            if done and done * PARTS >= calls * (len(parts) + 1):
                parts.append(now)
                size = (folder / "bench.duckdb").stat().st_size / 2**20
                print(f"{done / calls:4.0%} of the calls: {now:.0f} MB, store {size:.0f} MB", flush=True)
            time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"the program ended with status {process.returncode}")
    return planned, parts, most


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", type=int, default=17)
    parser.add_argument("--dialogues", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--latency", type=float, default=0.05)
    arguments = parser.parse_args()
    open_files()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "dialogues.jsonl"
        write(data, arguments.dialogues)
        with endpoint(folder, "--latency", str(arguments.latency)) as (seen, url):
            words = [word for n in range(1, arguments.targets) for word in ("--provider", f"bench{n}@{url}")]
            command = our_command(url, data, arguments.connections, *words)
            calls = arguments.targets * arguments.dialogues
            planned, parts, most = watched(command, seen, folder, calls)
    late = parts[PARTS // 5 :]
    grown = f"{late[-1] / late[0]:.2f}" if len(late) > 1 else "not known: too few calls"
    print(
        f"{arguments.targets} targets x {arguments.dialogues:,} dialogues: {planned:.0f} MB before the first "
        f"call (goal: under 1,000), {most:.0f} MB at most; the last tenth to the third: {grown}"
    )


if __name__ == "__main__":
    sys.exit(main())

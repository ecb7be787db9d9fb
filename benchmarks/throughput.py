"""Scripted four-turn dialogues against a loopback endpoint: this program and its peers, in one run.

    python benchmarks/throughput.py [--connections 200 1000] [--dialogues 2000] [--repeat 3] [--peers ...]

Every entry is a separate program, measured from start to end: CPU seconds (user and system) per
1,000 turns, seconds of wall time, peak memory; and, as the endpoint sees it, the seconds from the first
request to the last answer as a ratio to the ideal (turns x latency / connections). Medians over the repeats;
anything that takes longer than 15 s is measured once. The second line is this program with --dry-run: what
the first needs before anything is sent.
inspect_ai and litellm need different versions of the openai SDK: INSPECT_PYTHON names the interpreter of an
environment that holds the former.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from measuring import HERE, PLAN, US, Measured, endpoint, measure, open_files, our_command

SLOW_S = 15


def write_dialogues(path: Path, count: int) -> None:
    words = "tell me more about how you would plan a quiet afternoon in the garden "
    with path.open("w") as file:
        for number in range(count):
            dialogue = []
            for turn in range(4):
                dialogue.append({"role": "user", "content": f"{number}.{turn} {(words * 3).strip()}"})
                dialogue.append({"role": "assistant", "content": (words * 8).strip()})
            record = {"id": f"item_{number}", "scenario": "Satire", "dialogue": dialogue[:-1]}
            file.write(json.dumps(record) + "\n")


def command(name: str, url: str, data: Path, connections: int) -> list[str]:
    if name in (US, PLAN):
        return our_command(url, data, connections, *(["--dry-run"] if name == PLAN else []))
    python = os.environ.get("INSPECT_PYTHON", sys.executable) if name == "inspect_ai" else sys.executable
    return [python, str(HERE / "peers.py"), name, url, str(data), str(connections)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, nargs="+", default=[200, 1000])
    parser.add_argument("--dialogues", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--peers", nargs="*", default=None, help="names of peers.py; all by default")
    arguments = parser.parse_args()
    from peers import PEERS

    names = [US, PLAN, *(PEERS if arguments.peers is None else arguments.peers)]
    open_files()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "dialogues.jsonl"
        write_dialogues(data, arguments.dialogues)
        with endpoint(Path(folder), "--latency", str(arguments.latency)) as url:
            for connections in arguments.connections:
                table(names, url, data, connections, arguments)


def table(names: list[str], url: str, data: Path, connections: int, arguments: argparse.Namespace) -> None:
    ideal = arguments.dialogues * arguments.latency / connections
    runs: dict[str, list[Measured]] = {name: [] for name in names}
    failed = set()
    # Interleaved, so that a busy moment of the machine does not fall on one of them alone.
    for _ in range(arguments.repeat):
        for name in names:
            if name not in failed and not (runs[name] and runs[name][0].wall_s > SLOW_S):
                found = measure(name, url, command(name, url, data, connections))
                expected = 0 if name == PLAN else arguments.dialogues
                if found is None or found.requests != expected:
                    failed.add(name)
                else:
                    runs[name].append(found)
    print(
        f"\n{arguments.dialogues} four-turn dialogues, {arguments.latency * 1000:.0f} ms, "
        f"{connections} connections, ideal {ideal:.2f} s, medians\n"
    )
    print(
        "| | times | CPU s / 1,000 turns | to ours | turns/s | sending / ideal | whole s | peak MB |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    ours = None
    for name in names:
        if name in failed:
            print(f"| {name} | failed | | | | | | |")
            continue
        cpu = statistics.median(m.cpu_s for m in runs[name]) * 1000 / arguments.dialogues
        sending = statistics.median(m.sending_s for m in runs[name])
        wall = statistics.median(m.wall_s for m in runs[name])
        peak = statistics.median(m.peak_mb for m in runs[name])
        ours = cpu if name == US else ours
        ratio = f"{cpu / ours:.2f}" if ours else ""
        sent = f"{arguments.dialogues / sending:,.0f} | {sending / ideal:.2f}" if sending else "|"
        print(
            f"| {name} | {len(runs[name])} | {cpu:.2f} | {ratio} | {sent} | {wall:.1f} | {peak:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

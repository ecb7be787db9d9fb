"""Has a turn become dearer? This program's CPU as a ratio to bare calls, beside a stored ratio.

    python benchmarks/quick.py [--connections 200 1000] [--rounds 5] [--store]

2,000 scripted four-turn dialogues, as in throughput.py. Each round measures the bare calls, this program
and its start and plan alone, one after the other; what is printed is the median of the rounds' ratios, so
that a busy machine does little to it. The status is 1 if a ratio is more than a tenth above that of
`baseline.json`, which `--store` writes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from measuring import BARE, HERE, PLAN, US, endpoint, measure, open_files, our_command
from throughput import write_dialogues

BASELINE = HERE / "baseline.json"
WORSE = 1.1


def round_of(
    seen: str, url: str, data: Path, connections: int, dialogues: int, names: Sequence[str]
) -> dict[str, float]:
    """CPU seconds per 1,000 turns of each program."""
    commands = {
        BARE: [sys.executable, str(HERE / "peers.py"), BARE, url, str(data), str(connections)],
        US: our_command(url, data, connections),
        PLAN: our_command(url, data, connections, "--dry-run"),
    }
    found = {}
    for name in names:
        measured = measure(name, seen, commands[name])
        expected = 0 if name == PLAN else dialogues
        if measured is None or measured.requests != expected:
            raise SystemExit(f"{name}: {expected} requests were expected: {measured}")
        found[name] = measured.cpu_s * 1000 / dialogues
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, nargs="+", default=[200, 1000])
    parser.add_argument("--dialogues", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", action="store_true", help="write what is measured into baseline.json")
    arguments = parser.parse_args()
    open_files()
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "dialogues.jsonl"
        write_dialogues(data, arguments.dialogues)
        with endpoint(Path(folder), "--latency", "0.2") as (seen, url):
            measure(PLAN, seen, our_command(url, data, 1, "--dry-run"))  # compiles what is new
            print("| connections | | CPU s / 1,000 turns | to bare calls | baseline | change |")
            print("|---:|---|---:|---:|---:|---:|")
            for connections in arguments.connections:
                rounds = [
                    round_of(seen, url, data, connections, arguments.dialogues, (BARE, US, PLAN))
                    for _ in range(arguments.rounds)
                ]
                ratios = {name: median(one[name] / one[BARE] for one in rounds) for name in (US, PLAN)}
                found[str(connections)] = {name: round(ratio, 3) for name, ratio in ratios.items()}
                for name in (BARE, US, PLAN):
                    cpu = median(one[name] for one in rounds)
                    before = baseline.get(str(connections), {}).get(name)
                    shown = f"{ratios[name]:.2f}" if name in ratios else ""
                    change = f"{ratios[name] / before - 1:+.0%}" if before else ""
                    before = before and f"{before:.2f}"
                    print(
                        f"| {connections:,} | {name} | {cpu:.2f} | {shown} | {before or ''} | {change} |",
                        flush=True,
                    )
    if arguments.store:
        BASELINE.write_text(json.dumps(baseline | found, indent=2) + "\n")
        print(f"{BASELINE.name} is written")
        return 0
    worse = [
        f"{name} at {connections} connections"
        for connections, ratios in found.items()
        for name, ratio in ratios.items()
        if ratio > WORSE * baseline.get(connections, {}).get(name, ratio)
    ]
    if worse:
        print(f"more than {WORSE - 1:.0%} above the baseline: {', '.join(worse)}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())

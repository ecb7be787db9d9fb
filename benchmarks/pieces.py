"""What a large run takes while it is planned piece by piece: memory and CPU of a million dialogues.

    python benchmarks/pieces.py [--dialogues 1000000] [--at-once]

The data set has items at one, two and three user turns with messages of 60 characters, about 360 bytes a
dialogue in a file; the program takes files of up to 512 MB. Printed: the peak of the process with the data
set alone, once its outline is known (the estimate of the whole run), and once each piece has been planned in
turn, cut into shards and dropped, as the command of a run on workers does; `--at-once` plans all of it
together instead.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from safemt_client.cluster.shards import cut
from safemt_client.datasets.model import Dataset, Dialogue, ScriptedMessage
from safemt_client.planning.build import make_plan
from safemt_client.planning.estimate import estimates_of
from safemt_client.planning.outline import outline_of
from safemt_client.planning.pieces import PIECE, pieces_of
from safemt_client.planning.resolved import NothingKnown, of_dataset
from safemt_client.planning.target import Target
from safemt_client.providers.types import Sampling

LENGTHS = (1, 2, 3)
SHARD = 150


def dataset(dialogues: int) -> Dataset:
    """So many dialogues; each message is a text of its own."""

    def dialogue(number: int) -> Dialogue:
        item, length = divmod(number, len(LENGTHS))
        messages = [
            ScriptedMessage("assistant" if turn % 2 else "user", f"{number} {turn} ".ljust(60, "x"))
            for turn in range(2 * LENGTHS[length] - 1)
        ]
        return Dialogue(f"item_{item}", tuple(messages), scenario="s")

    return Dataset("bench", Path("bench"), tuple(map(dialogue, range(dialogues))))


def peak_mb() -> float:
    """The most memory that this process has had so far, in MB."""
    # Not ru_maxrss: a child begins with its parent's.
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dialogues", type=int, default=1_000_000)
    parser.add_argument("--at-once", action="store_true")
    arguments = parser.parse_args()
    bare = peak_mb()
    data = dataset(arguments.dialogues)
    print(f"{arguments.dialogues:,} dialogues: {peak_mb():,.0f} MB (without them {bare:,.0f})", flush=True)
    begin = time.process_time()
    wanted = of_dataset(data, data.dialogues, [Target("m", "local/m", "scripted", "off", Sampling())])
    if arguments.at_once:
        count = len(make_plan(wanted, NothingKnown()).pending)
    else:
        outline = outline_of(wanted, None)
        calls = sum(estimate.calls for estimate in estimates_of(outline).values())
        outlined = time.process_time() - begin
        print(f"outline: {peak_mb():,.0f} MB, {outlined:.1f} CPU s, {calls:,} calls", flush=True)
        begin, count = time.process_time(), 0
        for piece in pieces_of(wanted):
            shards = cut(make_plan(piece, NothingKnown()), SHARD)
            count += sum(len(shard.plan.pending) for shard in shards)
    spent = time.process_time() - begin
    assert count == arguments.dialogues
    how = "at once" if arguments.at_once else f"in pieces of {PIECE:,}"
    print(
        f"planned {how}: {peak_mb():,.0f} MB, {spent:.1f} CPU s, {spent / count * 1000:.2f} ms a conversation"
    )


if __name__ == "__main__":
    main()

"""How long a resume takes on a large store: open, and plan 10,000 dialogues of which nine tenths are done.

    python benchmarks/resume.py [--turns 1000000] [--writes 20000]

The store is filled with turns of 2.5 KB in the form that runs write. Printed: seconds and peak memory of a
fresh process that opens it and plans, and turns a second that the writer takes on an empty store and on the
large one.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from safemt_client.datasets.model import Dataset, Dialogue, ScriptedMessage
from safemt_client.planning.build import make_plan
from safemt_client.planning.conversation import Conversation
from safemt_client.planning.plan import Plan
from safemt_client.planning.resolved import of_dataset
from safemt_client.planning.target import Target
from safemt_client.providers.types import Sampling
from safemt_client.results.store.rows import TurnRow
from safemt_client.results.store.store import Store

DIALOGUES = 10_000


def dataset() -> Dataset:
    """10,000 scripted dialogues: 2,000 items at five lengths, about 130 characters a message."""
    source = random.Random(1)

    def text() -> str:
        return "".join(source.choices("abcdefghij klmnop", k=130))

    dialogues = []
    for item in range(DIALOGUES // 5):
        for length in (1, 2, 4, 6, 8):
            messages = [ScriptedMessage("user", text())]
            for _ in range(length - 1):
                messages += [ScriptedMessage("assistant", text()), ScriptedMessage("user", text())]
            dialogues.append(Dialogue(str(item), tuple(messages), scenario="s"))
    return Dataset("bench", Path("bench"), tuple(dialogues))


def target() -> Target:
    """A target without images."""
    return Target("m", "local/m", "scripted", "off", Sampling())


def plan(data: Dataset, store: Store) -> Plan:
    """The plan of all dialogues against the store."""
    return make_plan(of_dataset(data, data.dialogues, [target()]), store)


def turn(request_hash: str, number: int) -> TurnRow:
    """A stored turn of about 2.5 KB."""
    return TurnRow(
        request_hash=request_hash,
        attempt=1,
        run_id="bench",
        session_id="bench",
        target_key="bench",
        outcome="answered",
        text=f"{number:09d}" * 80,
        reasoning=None,
        finish_reason="stop",
        error=None,
        status_code=200,
        resolved_model="m",
        response_id=str(number),
        prompt_tokens=300,
        completion_tokens=150,
        reasoning_tokens=None,
        cached_tokens=None,
        cost_usd=None,
        started_at=datetime.now(UTC),
        latency_s=1.0,
        request=f"{number:09d}" * 110,
        raw=f"{number:09d}" * 90,
        batch_key=None,
        refusal_rule="answer",
    )


def fill(path: Path, turns: int) -> None:
    """Write `turns` turns, among them those of nine tenths of the dialogues."""
    data, me = dataset(), target()
    known = [Conversation(me, dialogue, "", {}, dialogue.length).next()[1] for dialogue in data.dialogues][
        : DIALOGUES * 9 // 10
    ]
    hashes = known + [hashlib.sha256(str(n).encode()).hexdigest() for n in range(turns - len(known))]
    random.Random(1).shuffle(hashes)
    with Store.open(path) as store:
        for start in range(0, turns, 5_000):
            store.save_now(*(turn(h, start + n) for n, h in enumerate(hashes[start : start + 5_000])))


def look(path: Path) -> None:
    """In a fresh process: open and plan; print the figures as JSON."""
    data = dataset()
    begin = time.perf_counter()
    with Store.open(path) as store:
        opened = time.perf_counter()
        found = plan(data, store)
        planned = time.perf_counter()
        # Not ru_maxrss: a child begins with its parent's.
        status = Path("/proc/self/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
        assert len(found.pending) == DIALOGUES // 10, len(found.pending)
    print(json.dumps({"open_s": opened - begin, "plan_s": planned - opened, "peak_mb": peak}))


async def _write(store: Store, turns: int) -> float:
    """Turns a second when 200 tasks each write one turn after the other."""
    begin = time.perf_counter()

    async def writer(first: int) -> None:
        for number in range(first, turns, 200):
            await store.save(turn(f"w{number:063x}", number))

    await asyncio.gather(*(writer(first) for first in range(200)))
    return turns / (time.perf_counter() - begin)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=1_000_000)
    parser.add_argument("--writes", type=int, default=20_000)
    parser.add_argument("--look", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.look:
        look(arguments.look)
        return
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small.duckdb", Path(folder) / "large.duckdb"
        fill(large, arguments.turns)
        print(f"store: {arguments.turns:,} turns, {large.stat().st_size / 2**20:,.0f} MB")
        for _ in range(3):
            words = [sys.executable, __file__, "--look", str(large)]
            seen: Any = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
            total = seen["open_s"] + seen["plan_s"]
            print(
                f"open {seen['open_s']:.2f} s + plan of {DIALOGUES:,} dialogues {seen['plan_s']:.2f} s "
                f"= {total:.2f} s (aim: 2), peak {seen['peak_mb']:.0f} MB (aim: 500)"
            )
        rates = []
        for path in (small, large, small, large):
            with Store.open(path) as store:
                rates.append(asyncio.run(_write(store, arguments.writes)))
        print(
            f"writer, 200 tasks: {rates[0]:,.0f} and {rates[2]:,.0f} turns/s on a small store, "
            f"{rates[1]:,.0f} and {rates[3]:,.0f} on the large one: "
            f"ratio {(rates[1] + rates[3]) / (rates[0] + rates[2]):.2f}"
        )


if __name__ == "__main__":
    main()

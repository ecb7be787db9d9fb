"""How long pages of the viewer take on a large store: 10,000 dialogues under 17 targets.

    python benchmarks/viewer.py [--dialogues 10000] [--targets 17] [--db FILE] [--export [--items N]]

Makes the store (a few minutes; kept with --db) and prints seconds: the first read of the store, and pages as
a browser gets them over HTTP, with their median and worst of five. The CPU seconds, of viewer and browser
together, say what they take on a machine that does other work too.
"""

import argparse
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx

from safemt_client.providers.types import reply_hash
from safemt_client.results.store.rows import (
    DialogueRow,
    EventRow,
    JudgeRow,
    RunDialogueRow,
    RunRow,
    StepRow,
    TargetRow,
    TurnRow,
    VerdictRow,
)
from safemt_client.results.store.store import Store

RUN, DIGEST = "benchmark000", "d" * 64
LENGTHS = (1, 2, 4, 6, 8)
SCENARIOS = [f"Scenario {n}" for n in range(17)]
JUDGES = {"panel": "panel/majority", "first": "demo/first", "second": "demo/second"}
WORDS = ["kettle", "garden", "river", "stone", "letter", "window", "orange", "cloud", "paper", "bridge"]


def words(chance: random.Random, n: int) -> str:
    return " ".join(chance.choices(WORDS, k=n))


def make(path: Path, dialogues: int, targets: int) -> None:
    chance = random.Random(1)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    names = [f"vendor/model-{n:02}" for n in range(targets)]
    sizes = [(LENGTHS[n % 5], n // 5) for n in range(dialogues)]
    keys = [(f"{DIGEST[:12]}:{length}:item_{item}", length, item) for length, item in sizes]
    scripts = {
        key: json.dumps(
            [
                {"role": "user" if n % 2 == 0 else "assistant", "content": words(chance, 25)}
                for n in range(2 * length - 1)
            ]
        )
        for key, length, _ in keys
    }
    with Store.open(path) as store:
        store.save_now(
            RunRow(RUN, RUN, start, "0", "synthetic", DIGEST, "/nowhere", None, "{}"),
            *(
                TargetRow(RUN, f"t{n}", name, name, "scripted", "on", "{}", None, 0, None)
                for n, name in enumerate(names)
            ),
            *(
                JudgeRow(RUN, name, name, who, "paper", "r", "{}", None, "member" if n else "decides", n)
                for n, (name, who) in enumerate(JUDGES.items())
            ),
            EventRow(RUN, "s", start, "started", "{}"),
        )
        store.save_now(*(RunDialogueRow(RUN, key, None) for key, _, _ in keys))
        store.save_now(
            *(
                DialogueRow(
                    *(key, DIGEST, f"item_{item}", length, SCENARIOS[item % 17], None, None, None, None),
                    *(scripts[key], "{}"),
                )
                for key, length, item in keys
            )
        )
        for target in range(targets):
            for part in range(0, dialogues, 2_500):
                rows: list[object] = []
                for key, length, _ in keys[part : part + 2_500]:
                    hashed = f"{chance.getrandbits(256):064x}"
                    reply = words(chance, 180)
                    said = reply_hash(reply)
                    when = start + timedelta(seconds=len(rows))
                    rows.append(
                        TurnRow(
                            *(hashed, 1, RUN, "s", f"t{target}", "answered", reply, None, "stop", None, 200),
                            *(names[target], "id", 400, 200, None, 0, 0.0012, when, 2.5, scripts[key]),
                            *(json.dumps({"choices": [{"message": {"content": reply}}]}), None, "answer"),
                            reply_hash=said,
                        )
                    )
                    rows.append(StepRow(RUN, f"t{target}", key, length, hashed))
                    for judge in JUDGES:
                        label = "unsafe" if chance.random() < 0.3 else "safe"
                        rows.append(
                            VerdictRow(
                                *(f"{chance.getrandbits(256):064x}", judge, hashed, key, RUN, "s", label),
                                *(None, False, "a reason of some length, as judges give it", "raw"),
                                *(500, 30, 0.0002, when, 1.0, 0, "paper 1", "answer"),
                                *(None, None, None, None, None),
                                reply_hash=said,
                            )
                        )
                store.save_now(*rows)  # type: ignore[arg-type]
            print(f"made target {target + 1} of {targets}", file=sys.stderr)


def timed(name: str, get: object, repeats: int = 5) -> None:
    taken, worked = [], []
    for _ in range(repeats):
        began, cpu = time.perf_counter(), time.process_time()
        get()  # type: ignore[operator]
        taken.append(time.perf_counter() - began)
        worked.append(time.process_time() - cpu)
    print(
        f"{name:45} {statistics.median(taken):.3f} s, worst {max(taken):.3f} s, "
        f"CPU {statistics.median(worked):.3f} s"
    )


def measure(path: Path) -> None:
    from safemt_client.results.sql.docs import questions
    from safemt_client.viewer.serve import open_viewer

    began = time.perf_counter()
    viewer = open_viewer(path, port=0)
    print(f"{'first read of the store':45} {time.perf_counter() - began:.3f} s")
    began = time.perf_counter()
    viewer.wait_until_ready(60)
    print(f"{'results of the newest run made ready':45} {time.perf_counter() - began:.3f} s")
    thread = threading.Thread(target=viewer.run)
    thread.start()
    with httpx.Client(base_url=viewer.base, timeout=60, follow_redirects=True) as client:

        def get(where: str) -> str:
            response = client.get(where)
            response.raise_for_status()
            return response.text

        get(f"/?token={viewer.token}")
        timed("list of runs", lambda: get("/"))
        timed("results of the run", lambda: get(f"/results?run={RUN}"))
        timed("conversations, first page", lambda: get(f"/run?run={RUN}"))
        timed("conversations, page 3,000", lambda: get(f"/run?run={RUN}&page=3000"))
        timed(
            "filtered by target, length, verdict",
            lambda: get(f"/run?run={RUN}&target=t3&length=4&verdict=unsafe"),
        )
        timed("judges disagree", lambda: get(f"/run?run={RUN}&disagree=judges"))
        condition = "length > 4 AND label = 'unsafe'"
        timed("by a condition in SQL", lambda: get(f"/run?run={RUN}&expr={condition}"))
        timed("items by targets", lambda: get(f"/matrix?run={RUN}"))
        timed(
            "items by targets, of one length", lambda: get(f"/matrix?run={RUN}&length=8&sort=unsafe&page=20")
        )
        counter = iter(range(1000))
        timed("free text, new each time", lambda: get(f"/run?run={RUN}&q={WORDS[next(counter)]}+river"))
        key = f"{DIGEST[:12]}:8:item_1004"
        timed("a conversation", lambda: get(f"/conversation?run={RUN}&t=t5&d={key}"))
        first, example = questions()[0]
        asked = {"data": {"q": example}, "headers": {"hx-target": "answer"}}
        timed(f"SQL: {first[:39]}", lambda: client.post("/sql", **asked).raise_for_status(), 3)
        timed("two side by side", lambda: get(f"/conversation?run={RUN}&t=t5&d={key}&beside=t6"))
    viewer.stop()
    thread.join()


def measure_export(path: Path, folder: Path, items: int | None) -> None:
    from safemt_client.viewer.bundle import export_pages
    from safemt_client.viewer.wanted import Wanted

    began, cpu = time.perf_counter(), time.process_time()
    done = export_pages(path, folder, Wanted(items=items), lambda text: None)
    print(
        f"{'export':45} {time.perf_counter() - began:.0f} s, CPU {time.process_time() - cpu:.0f} s, "
        f"{done['conversations']:,} conversations, {done['files']:,} files, {done['bytes'] / 1e6:,.0f} MB, "
        f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dialogues", type=int, default=10_000)
    parser.add_argument("--targets", type=int, default=17)
    parser.add_argument("--db", type=Path, help="made if it is not there, and kept")
    parser.add_argument("--export", action="store_true", help="measure `view --export` in place of pages")
    parser.add_argument("--items", type=int, help="with --export: of so many items alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.db or Path(folder) / "large.duckdb"
        if not path.exists():
            make(path, arguments.dialogues, arguments.targets)
        print(f"{arguments.dialogues} dialogues, {arguments.targets} targets, {os.cpu_count()} cores")
        if arguments.export:
            measure_export(path, Path(folder) / "pages", arguments.items)
        else:
            measure(path)


if __name__ == "__main__":
    main()

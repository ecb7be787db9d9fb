"""Batches under kills: nothing is lost, nothing is submitted twice, and the scores are those without kills."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from soak.load import until
from soak.report import BrokenError, Report
from soak.sessions import ROOT, Ended, Session, command
from soak.stores import SCORES, scores

from safemt_client.providers.errors import InputError
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.server import server_file

SERVER = ROOT / "tests/integration/batch_server.py"
# Up to so long each request is under way, and again its answer: a kill then falls in between.
DELAY_S = 0.5
STAGES = ("intended", "submitted", "collected")
ANSWERED = """SELECT request_hash FROM turns WHERE outcome = 'answered'
              UNION ALL SELECT verdict_hash FROM verdicts WHERE label IN ('safe', 'unsafe')"""


class Vendor:
    """An endpoint that takes batches, in a process of its own; each completion is a line of `counts`."""

    def __init__(self, folder: Path, delay_s: float) -> None:
        folder.mkdir()
        port, self.counts, held = (folder / name for name in ("port", "counts", "held"))
        words = [str(SERVER), str(port), str(self.counts), str(held), "nowhere", str(delay_s)]
        self.process = subprocess.Popen([sys.executable, *words], cwd=folder)
        until(port.exists, 20, lambda: self.process.poll() is not None)
        if not port.exists():
            raise BrokenError("the endpoint for batches did not start")
        self.url = f"http://127.0.0.1:{port.read_text()}"

    def completions(self) -> Counter[str]:
        return Counter(self.counts.read_text().splitlines())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Batches:
    """Runs on a store of their own, each with some more items than the one before."""

    def __init__(self, folder: Path, items: int, parts: int, rng: random.Random, report: Report) -> None:
        self.folder, self.items, self.parts, self.rng, self.report = folder, items, parts, rng, report
        self.numbers = 0
        folder.mkdir()
        self.known: set[str] = set()
        with (folder / "batches.jsonl").open("w") as file:
            for item in range(items * parts):
                for length in (1, 2, 4):
                    said = [f"Orchard {item}, row {length}: please tell of tree {n}." for n in range(length)]
                    dialogue = [{"role": "user", "content": said[0]}]
                    for question in said[1:]:
                        dialogue.append({"role": "assistant", "content": "A fine one."})
                        dialogue.append({"role": "user", "content": question})
                    row = {"id": f"o_{item}", "scenario": "Orchards", "dialogue": dialogue}
                    file.write(json.dumps(row) + "\n")

    def start(self, vendor: Vendor, store: Path, part: int) -> Session:
        self.numbers += 1
        words = ["--provider", f"demo@{vendor.url}/v1", "--judge", f"demo-judge@{vendor.url}/v1", "--batch"]
        words += ["--data", "batches.jsonl", "--limit", str(part * self.items), "--db", str(store)]
        return Session([*words, "--quiet"], self.folder, f"batches-{self.numbers}")

    def to_the_end(self, vendor: Vendor, store: Path, part: int) -> None:
        ended = self.start(vendor, store, part).end(120)
        if ended.status != 0:
            raise BrokenError(f"a session in batches ended with {ended.status}: {ended.err}")

    def disturb(self, vendor: Vendor, store: Path, part: int, stage: str) -> None:
        """A session that ends once a batch of it has come to this stage."""
        before = events(store)[stage]
        # What a killed session left would say that this one holds the store already.
        server_file(store).unlink(missing_ok=True)
        session = self.start(vendor, store, part)
        until(server_file(store).exists, 60, lambda: session.over)
        until(lambda: events(store)[stage] > before, 60, lambda: session.over)
        time.sleep(self.rng.uniform(0, DELAY_S))
        sent = self.rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        session.send(sent)
        ended = session.end(60)
        self.look(store, ended, f"session {self.numbers} in batches, {stage}")
        self.report.told[f"sessions in batches ended once one was {stage}"] += 1

    def look(self, store: Path, ended: Ended, name: str) -> None:
        allowed = (0, 1, -signal.SIGKILL)
        said = f"{name}: status {ended.status}: {' / '.join(ended.errors)[:300]}"
        self.report.broken("status", ended.status not in allowed, said)
        noise = [line for line in ended.errors if not line.startswith("safemt: ")]
        self.report.broken("noise", len(noise), f"{name}: {noise[0]}" if noise else "")
        there = answered(store)
        lost = self.known - there
        self.report.broken("lost", len(lost), f"{next(iter(lost), '')} after {name}")
        self.known = there


def events(store: Path) -> Counter[str]:
    """How many batches have come to each stage, by what the store or the run that holds it says."""
    try:
        with open_reader(store) as reader:
            rows = reader.query("SELECT event, count(*) FROM batches GROUP BY ALL").rows
    except (InputError, OSError, ValueError):
        return Counter()
    return Counter({str(event): int(number) for event, number in rows})


def answered(store: Path) -> set[str]:
    with open_reader(store) as reader:
        return {row[0] for row in reader.query(ANSWERED).rows}


def run_batches(folder: Path, items: int, parts: int, rng: random.Random, report: Report) -> None:
    """Batches ended at each stage in each part, then the same without."""
    found = Batches(folder, items, parts, rng, report)
    store, whole = folder / "batches.duckdb", folder / "batches-whole.duckdb"
    vendor, calm = Vendor(folder / "batch-vendor", DELAY_S), Vendor(folder / "calm-batch-vendor", 0.0)
    try:
        for part in range(1, parts + 1):
            for stage in rng.sample(STAGES, len(STAGES)):
                found.disturb(vendor, store, part, stage)
            found.to_the_end(vendor, store, part)
            found.to_the_end(calm, whole, part)
    finally:
        vendor.stop()
        calm.stop()
    paid, due = vendor.completions(), calm.completions()
    again = sum(number > 1 for number in paid.values())
    report.check(
        "requests of batches submitted twice or never",
        paid == due,
        f"{again} twice, {len(due - paid)} never, of {len(due):,}",
    )
    one, other = scores(whole), scores(store)
    names = [name for name in SCORES if one[name] != other[name]]
    report.check("scores of batches as without kills", not names, ", ".join(names) or "all the same")
    left = command(folder, "sql", "SELECT count(*) FROM open_batches", "--db", str(store), "--format", "csv")
    report.check("batches left open", left.stdout.split()[1:] == ["0"], " ".join(left.stdout.split()[1:]))

"""One soak: what was asked, acknowledged and found so far, and its sessions."""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from soak.load import HISTORIES, PRICE, TURNS_OF_AN_ITEM, Endpoint, until, write_data
from soak.report import Report
from soak.sessions import Ended, Session, command
from soak.stores import STORED, stored

from safemt_client.providers.errors import InputError

ATTEMPT_TIMEOUT_S = 6


class Soak:
    """The state of one soak."""

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        self.folder, self.arguments = folder, arguments
        self.rng = random.Random(arguments.seed)
        self.report = Report()
        self.store = folder / "soak.duckdb"
        self.items = max(1, arguments.turns // TURNS_OF_AN_ITEM)
        self.turns = self.items * TURNS_OF_AN_ITEM
        self.acknowledged: set[str] = set()
        self.may_come_twice: set[str] = set()
        self.numbers = 0
        self.history = 0
        self.ends: Counter[str] = Counter()
        self.most_in_flight = 0
        self.connections = 0
        self.deadline = time.monotonic() + arguments.minutes * 60
        write_data(folder / "data.jsonl", self.items)
        seed = ("--seed", str(arguments.seed))
        faults = ("--faults", str(arguments.faults), "--latency", str(arguments.latency))
        self.endpoint = Endpoint(folder, "endpoint", *seed, *faults)

    def words(self, url: str, store: Path, history: str) -> list[str]:
        names = ["--provider", f"m@{url}/v1", "--judge", f"judge@{url}/v1", "--data", "data.jsonl"]
        names += ["--moderator", "none", "--moderator", f"llm+block=guard@{url}/v1"]
        limits = ["--max-concurrency", str(self.arguments.concurrency), "--max-wait", "600"]
        limits += ["--attempt-timeout", str(ATTEMPT_TIMEOUT_S), "--db", str(store), "--history", history]
        models = (f"{name}@{url}/v1" for name in ("m", "judge", "guard"))
        prices = [word for model in models for word in ("--price", f"{model}={PRICE}")]
        return [*names, *limits, *prices, "--judge-temperature", "0"]

    def start(
        self,
        store: Path | None = None,
        preexec: Callable[[], None] | None = None,
        more: Sequence[str] = (),
        *,
        quiet: bool = True,
    ) -> Session:
        self.numbers += 1
        words = self.words(self.endpoint.url, store or self.store, HISTORIES[self.history])
        if quiet:
            words.append("--quiet")
        return Session([*words, *more], self.folder, self.numbers, preexec)

    def progress(self, session: Session, lines: int) -> bool:
        """Wait until the endpoint's log has grown by so many lines; False when the session is over."""
        aim = self.endpoint.lines() + lines
        limit = max(10.0, self.deadline + 60 - time.monotonic())
        return until(lambda: self.endpoint.lines() >= aim, limit, lambda: session.over)

    def snapshot(self, store: Path) -> None:
        """What a running session says is committed, by SQL; nothing while it does not answer yet."""
        try:
            if self.rng.random() < 0.2:
                asked = command(self.folder, "sql", STORED, "--db", str(store), "--format", "csv")
                found = set(asked.stdout.split()[1:]) if asked.returncode == 0 else set()
            else:
                found = stored(store)
        except (InputError, OSError, ValueError):
            return
        self.acknowledged |= found
        self.report.told["questions answered by a running session"] += 1

    def settle(self, ended: Ended, session: Session, kind: str, *, graceful: bool) -> None:
        """After a session: is what was acknowledged there, and was anything left behind?"""
        report, name = self.report, f"session {self.numbers} ({kind})"
        self.ends[kind] += 1
        report.kinds.add(kind)
        report.broken("processes", session.children(), name)
        noise = [line for line in ended.errors if not line.startswith("safemt: ")]
        report.broken("noise", len(noise), f"{name}: {noise[0]}" if noise else "")
        try:
            there = stored(self.store)
        except InputError as error:
            if self.acknowledged:
                report.broken("lost", len(self.acknowledged), f"{name}: {error}")
            there = set()
        lost = self.acknowledged - there
        report.broken("lost", len(lost), f"{next(iter(lost), '')} after {name}")
        self.acknowledged = there
        unkept = set(self.endpoint.answers()) - there
        fresh = unkept - self.may_come_twice
        if graceful:
            report.broken("dropped", len(fresh), f"{next(iter(fresh), '')} after {name}")
        else:
            self.most_in_flight = max(self.most_in_flight, len(fresh))
            report.told["answers in flight at a kill"] += len(fresh)
        self.may_come_twice |= fresh
        if ended.status == 0 and kind != "whole":
            report.told["sessions that were done before their fault came"] += 1

    def finished(self, ended: Ended) -> None:
        if ended.status == 0:
            self.history += 1

    @property
    def done(self) -> bool:
        return self.history >= len(HISTORIES)

    def expect(self, good: bool, kind: str, ended: Ended) -> None:
        said = f"session {self.numbers} ({kind}): status {ended.status}: {' / '.join(ended.errors)[:300]}"
        self.report.broken("status", not good, said)

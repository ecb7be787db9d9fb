"""The program against an endpoint that answers as a case says: what it asked, stored, logged and showed."""

import contextlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal
from support.faults import Behaviour, Received, serve

import safemt_client
from safemt_client.__main__ import main

LENGTHS = (1, 2, 4, 6, 8)
ASKS, SAYS = "When does the library open on {day}?", "At nine on {day}."
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "a holiday")


@dataclass(frozen=True)
class Ended:
    """A run that is over."""

    db: Path
    log_file: Path
    status: int
    screen: str
    requests: Sequence[Received]

    @cached_property
    def turns(self) -> list[dict[str, Any]]:
        """Every turn that was asked, as the store has it in the end."""
        return self.sql(
            "SELECT r.length, c.* FROM replies r JOIN current_turns c USING (request_hash) ORDER BY r.length"
        )

    @cached_property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the log."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    @property
    def stopped(self) -> bool:
        """Whether a target, the judge or a guard was stopped."""
        return any(line["event"] == "target_stopped" for line in self.log)

    @property
    def waits(self) -> list[float]:
        """How long was waited before each further attempt, in seconds."""
        return [line["wait_s"] for line in self.log if line["event"] == "retry"]

    @property
    def last_line(self) -> str:
        return self.screen.rstrip().rpartition("\n")[2]

    def sql(self, query: str) -> list[dict[str, Any]]:
        with safemt_client.open(self.db) as store:
            found = store.sql(query)
            return [dict(zip(found.columns, row, strict=True)) for row in found]


def one_item(folder: Path, asks: str) -> Path:
    """A data set: one item at five lengths, its questions from a pattern."""
    path = folder / "hours.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for length in LENGTHS:
            said = [line.format(day=day) for day in DAYS[:length] for line in (asks, SAYS)][:-1]
            dialogue = [
                {"role": "assistant" if place % 2 else "user", "content": text}
                for place, text in enumerate(said)
            ]
            file.write(json.dumps({"id": "hours", "dialogue": dialogue}) + "\n")
    return path


def run(
    folder: Path, answers: Callable[[int, Received], Behaviour], *words: str, asks: str | None = None
) -> Ended:
    """Run in this process, one call at a time; `answers` takes the number of a request, and the request.

    `URL` stands for the endpoint's address. Another run in the same folder resumes.
    """
    seen: list[Received] = []

    def choose(received: Received) -> Behaviour:
        seen.append(received)
        return answers(len(seen), received)

    db, log = folder / "safemt.duckdb", folder / f"{len(list(folder.glob('*.log')))}.log"
    out = io.StringIO()
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve((), choose=choose)) as endpoint,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
    ):
        given = ["--data", str(one_item(folder, asks or ASKS)), "--images", "off", "--max-concurrency", "1"]
        given += ["--provider", "m@URL", "--max-wait", "20", "--attempt-timeout", "3000", *words]
        given += ["--db", str(db), "--log", str(log)]
        if "--judge" not in words:
            given += ["--judge", "none"]
        status = main([word.replace("URL", endpoint.url) for word in given])
    return Ended(db, log, status, out.getvalue(), seen)

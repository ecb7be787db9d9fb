"""The program against an endpoint that answers as a case says: what it asked, stored, logged and showed."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from support.faults import Behaviour, Received, serve

import safemt_client
from safemt_client.__main__ import main

DB = "safemt.duckdb"
LENGTHS = (1, 2, 4, 6, 8)
ASKS, SAYS = "When does the library open on {day}?", "At nine on {day}."
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "a holiday")


@dataclass(frozen=True)
class Ended:
    """A run that is over, or what it was to this one of the targets of `whole`."""

    db: Path
    log_file: Path
    status: int
    screen: str
    requests: Sequence[Received]
    whole: "Ended | None" = None
    target: str | None = None

    @cached_property
    def turns(self) -> list[dict[str, Any]]:
        """Every turn that was asked, as the store has it in the end."""
        if self.whole is not None:
            return [turn for turn in self.whole.turns if turn["of_target"] == self.target]
        return self.sql(
            "SELECT r.length, r.target AS of_target, r.target_key, c.* "
            "FROM replies r JOIN current_turns c USING (request_hash) ORDER BY r.length"
        )

    @cached_property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the log, without those about another target."""
        if self.whole is not None:
            mine = (None, *(turn["target_key"] for turn in self.turns[:1]))
            return [line for line in self.whole.log if line.get("key") in mine]
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


Answers = Callable[[int, Received], Behaviour]


def run(folder: Path, answers: Answers, *words: str, asks: str | None = None) -> Ended:
    """Run in this process, one call at a time; `answers` takes the number of a request, and the request.

    `URL` stands for the endpoint's address. Another run in the same folder resumes.
    """
    with _served([answers]) as [(url, seen)]:
        given = [word.replace("URL", url) for word in ("--provider", "m@URL", *words)]
        status, screen, log = _main(folder, given, asks or ASKS)
    return Ended(folder / DB, log, status, screen, seen)


def run_together(folder: Path, several: Sequence[Answers]) -> list[Ended]:
    """Run once, with a target at an endpoint of its own for each of `several`; what is seen of each of them.

    The status and the screen are those of the whole run.
    """
    with _served(several) as endpoints, pytest.MonkeyPatch.context() as patch:
        given, tables = ["--config", str(folder / "targets.toml")], ""
        for place, (url, _) in enumerate(endpoints):
            # No two servers are given one key.
            patch.setenv(f"KEY_{place}", f"sk-planted-{place}")
            tables += f'[providers.t{place}]\nmodel = "m@{url}"\napi-key-env = "KEY_{place}"\n'
            given += ["--provider", f"t{place}"]
        (folder / "targets.toml").write_text(tables)
        status, screen, log = _main(folder, given, ASKS)
    whole = Ended(folder / DB, log, status, screen, [one for _, seen in endpoints for one in seen])
    return [
        replace(whole, requests=seen, whole=whole, target=f"t{place}")
        for place, (_, seen) in enumerate(endpoints)
    ]


@contextlib.contextmanager
def _served(several: Sequence[Answers]) -> Iterator[list[tuple[str, list[Received]]]]:
    """An endpoint for each of `several`: its address, and the requests that it sees."""
    with contextlib.ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        endpoints = []
        for answers in several:
            seen: list[Received] = []
            served = serve((), choose=partial(_next, seen, answers))
            endpoints.append((stack.enter_context(portal.wrap_async_context_manager(served)).url, seen))
        yield endpoints


def _next(seen: list[Received], answers: Answers, received: Received) -> Behaviour:
    seen.append(received)
    return answers(len(seen), received)


def _main(folder: Path, words: Sequence[str], asks: str) -> tuple[int, str, Path]:
    """The status, the screen and the log."""
    log = folder / f"{len(list(folder.glob('*.log')))}.log"
    given = ["--data", str(one_item(folder, asks)), "--images", "off", "--max-concurrency", "1"]
    given += ["--max-wait", "20", "--attempt-timeout", "3000", *words]
    given += ["--db", str(folder / DB), "--log", str(log)]
    if "--judge" not in words:
        given += ["--judge", "none"]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = main(given)
    return status, out.getvalue(), log

"""A soak: many turns with faults, kills, restarts and damage; then what must hold is checked.

    python tests/soak/soak.py [--turns 50000] [--concurrency 200] [--seed 1] [--minutes 30] [--sessions 60]

The program is started again and again on one store, with a model that is judged, without and with a guard, against
an endpoint on loopback that fails now and then, until all is asked. Sessions end by SIGKILL, SIGTERM, one or two Ctrl-C at random moments, or meet a full disk, a
store that is read-only, a frozen endpoint, a copy made under them, or damage to the log between two of them.
A run without any of it gives the scores to compare with. Prints one line for each promise; exit status 1 if one
is broken. Full disks and read-only stores are small tmpfs mounts where root may mount, else a limit of the size of
files and permissions. The folder of the work is kept if something is broken.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from safemt_client.providers.errors import InputError  # noqa: E402
from safemt_client.results.store.reader import Queryable, open_reader  # noqa: E402
from safemt_client.results.store.store import Store  # noqa: E402

LENGTHS = (1, 2, 4, 6, 8)
TURNS_OF_AN_ITEM = sum(LENGTHS) + len(LENGTHS) - 1  # A single turn is the same request live and scripted.
HISTORIES = ("live", "scripted")
ATTEMPT_TIMEOUT_S = 6
SPECIAL = ("truncate", "garbage", "copy", "readonly", "full", "freeze", "int2", "term", "int")
# A moderated turn that takes the model's own reply has no id of its own.
STORED = """SELECT response_id FROM turns WHERE outcome = 'answered' AND response_id IS NOT NULL
            UNION SELECT explanation FROM verdicts WHERE label IN ('safe', 'unsafe')
            UNION SELECT intent FROM assessments WHERE verdict IN ('safe', 'unsafe')"""
# The endpoints of the two runs differ in their ports, and so do the names of the targets.
TARGET = "run_id, contains(target, 'llm') AS moderated"
SCORES = {
    "ASR by turn": f"SELECT {TARGET}, length, unsafe, safe, attempted FROM asr_by_turn ORDER BY ALL",
    "ASR by turn reached": f"SELECT {TARGET}, turn, reached, unsafe FROM asr_by_turn_reached ORDER BY ALL",
    "Safety Index": f"SELECT {TARGET}, safety_index FROM safety_index ORDER BY ALL",
    "detections": f"""SELECT {TARGET}, length, first_detected_turn, count(*), count_if(detected), count_if(failed)
                      FROM detections GROUP BY ALL ORDER BY ALL""",
    "answered turns, each once": """SELECT count(*), count(DISTINCT request_hash) FROM turns WHERE outcome = 'answered'
                                    HAVING count(*) = count(DISTINCT request_hash)""",
    "assessments, each once": """SELECT count(*), count(DISTINCT assessment_hash) FROM assessments
                                 WHERE verdict IN ('safe', 'unsafe')
                                 HAVING count(*) = count(DISTINCT assessment_hash)""",
}


class BrokenError(Exception):
    """The soak itself could not go on."""


@dataclass
class Report:
    """What was found: counts that must stay 0, with an example each, and what is only told."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    told: Counter[str] = field(default_factory=Counter)
    lines: list[tuple[bool, str]] = field(default_factory=list)

    def broken(self, what: str, number: int, example: str) -> None:
        self.counts[what] += number
        if number:
            self.examples.setdefault(what, example)

    def check(self, name: str, good: bool, detail: str) -> None:
        self.lines.append((good, f"{name}: {detail}"))
        print(f"{'ok    ' if good else 'FAILED'} {name}: {detail}", flush=True)

    def check_none(self, name: str, what: str, more: str = "") -> None:
        number = self.counts[what]
        said = f", for example {self.examples[what]}" if number else ""
        self.check(name, number == 0, f"{number}{more}{said}")

    @property
    def good(self) -> bool:
        return all(good for good, _ in self.lines)


def write_data(path: Path, items: int) -> None:
    """Harmless dialogues of several lengths, all texts different."""
    with path.open("w") as file:
        for item in range(items):
            for length in LENGTHS:
                dialogue = []
                for turn in range(length - 1):
                    question = f"Garden {item}, walk {length}: what grows beside stone {turn}?"
                    dialogue.append({"role": "user", "content": question})
                    dialogue.append({"role": "assistant", "content": "Thyme, as a rule."})
                dialogue.append(
                    {"role": "user", "content": f"Please tell more of garden {item} on walk {length}."}
                )
                file.write(
                    json.dumps({"id": f"g_{item}", "scenario": "Gardens", "dialogue": dialogue}) + "\n"
                )


class Endpoint:
    """The endpoint in a process of its own."""

    def __init__(self, folder: Path, name: str, *words: str) -> None:
        self.log = folder / f"{name}.log"
        port = folder / f"{name}.port"
        script = str(HERE / "endpoint.py")
        self.process = subprocess.Popen(
            [sys.executable, script, str(port), str(self.log), *words], cwd=folder
        )
        until(port.exists, 20, lambda: self.process.poll() is not None)
        if not port.exists():
            raise BrokenError("the endpoint did not start")
        self.url = f"http://127.0.0.1:{port.read_text()}"

    def lines(self) -> int:
        return self.log.stat().st_size // 35 if self.log.exists() else 0

    def answers(self) -> Counter[str]:
        """How often each request was answered, by its hash."""
        if not self.log.exists():
            return Counter()
        return Counter(line[2:] for line in self.log.read_text().splitlines() if line[0] == "a")

    def connections(self) -> int:
        with urllib.request.urlopen(f"{self.url}/connections", timeout=10) as answer:
            return int(json.load(answer)["open"])

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def until(done: Callable[[], bool], seconds: float, given_up: Callable[[], bool] = lambda: False) -> bool:
    """Wait until `done`; False when `given_up`, or after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if done():
            return True
        if given_up():
            return False
        time.sleep(0.02)
    return False


def stored(path: Path) -> set[str]:
    """The hashes of all answers that the store, or the run that holds it, has committed."""
    with open_reader(path) as reader:
        return {row[0] for row in reader.query(STORED).rows}


def scores(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    with open_reader(path) as reader:
        return {name: reader.query(query).rows for name, query in SCORES.items()}


def log_of(store: Path) -> Path:
    return store.with_name(store.name + ".wal")


def copy_store(store: Path, into: Path) -> None:
    """Copy a store that nobody holds, with its log."""
    for source, target in ((store, into), (log_of(store), log_of(into))):
        target.unlink(missing_ok=True)
        if source.exists():
            shutil.copyfile(source, target)


@contextmanager
def small_disk(folder: Path, megabytes: float) -> Iterator[Path | None]:
    """A mount of that size; None where this may not be done."""
    folder.mkdir(exist_ok=True)
    size = f"size={int(megabytes * 1024)}k"
    words = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True, check=False).returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def limit_files(size: int) -> Callable[[], None]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@dataclass
class Ended:
    """How a session ended; its samples are RSS in MB and open files, by seconds."""

    status: int
    err: str
    samples: list[tuple[float, float, int]]

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.strip()]


class Session:
    """One start of the program."""

    def __init__(
        self, words: Sequence[str], folder: Path, number: int, preexec: Callable[[], None] | None = None
    ) -> None:
        self.err = folder / f"session-{number}.err"
        with self.err.open("w") as err, (folder / f"session-{number}.out").open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "safemt_client", *words],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default::ResourceWarning"},
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=preexec,
            )
        self.samples: list[tuple[float, float, int]] = []
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        proc, begin = Path(f"/proc/{self.process.pid}"), time.monotonic()
        while self.process.poll() is None:
            try:
                pages = int((proc / "statm").read_text().split()[1])
                files = len(os.listdir(proc / "fd"))
            except (OSError, IndexError):
                return
            megabytes = pages * resource.getpagesize() / 2**20
            self.samples.append((time.monotonic() - begin, megabytes, files))
            time.sleep(0.25)

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def send(self, number: int) -> None:
        if not self.over:
            self.process.send_signal(number)

    def end(self, seconds: float) -> Ended:
        """Wait for its end; a process that does not end in time is killed, and that is a fault."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise BrokenError(f"a session did not end within {seconds:.0f} s: {self.err}") from None
        self._thread.join()
        return Ended(self.process.returncode, self.err.read_text(), self.samples)

    def children(self) -> int:
        """Processes that it left behind."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return 0
        return 1


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
        self.deadline = time.monotonic() + arguments.minutes * 60
        write_data(folder / "data.jsonl", self.items)
        seed = ("--seed", str(arguments.seed))
        self.endpoint = Endpoint(folder, "endpoint", *seed, "--faults", str(arguments.faults))

    # --- one session ---

    def words(self, url: str, store: Path, history: str) -> list[str]:
        names = ["--provider", f"m@{url}/v1", "--judge", f"judge@{url}/v1", "--data", "data.jsonl"]
        names += ["--moderator", "none", "--moderator", f"llm+block=guard@{url}/v1"]
        limits = ["--max-concurrency", str(self.arguments.concurrency), "--max-wait", "600"]
        limits += ["--attempt-timeout", str(ATTEMPT_TIMEOUT_S), "--db", str(store), "--history", history]
        return [*names, *limits, "--quiet", "--judge-temperature", "0"]

    def start(self, store: Path | None = None, preexec: Callable[[], None] | None = None) -> Session:
        self.numbers += 1
        history = HISTORIES[self.history]
        return Session(
            self.words(self.endpoint.url, store or self.store, history), self.folder, self.numbers, preexec
        )

    def progress(self, session: Session, lines: int) -> bool:
        """Wait until the endpoint's log has grown by so many lines; False when the session is over."""
        aim = self.endpoint.lines() + lines
        limit = max(10.0, self.deadline + 60 - time.monotonic())
        return until(lambda: self.endpoint.lines() >= aim, limit, lambda: session.over)

    def snapshot(self, store: Path) -> None:
        """What a running session says is committed, by SQL; nothing while it does not answer yet."""
        try:
            if self.rng.random() < 0.2:
                words = [sys.executable, "-m", "safemt_client", "sql", STORED, "--db", str(store)]
                asked = subprocess.run(
                    [*words, "--format", "csv"],
                    cwd=self.folder,
                    env=os.environ | {"PYTHONPATH": str(ROOT)},
                    capture_output=True,
                    text=True,
                    check=False,
                )
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

    # --- kinds of sessions ---

    def run_kind(self, kind: str, lines: int) -> None:
        if kind in ("readonly", "full"):
            getattr(self, f"meet_{kind}")()
            return
        session = self.start()
        began = self.progress(session, lines)
        if kind == "early":
            time.sleep(self.rng.uniform(0.0, 1.2))
        if began:
            if kind == "copy":
                self.copy_in_the_middle()
            if kind == "freeze":
                self.report.told["freezes"] += 1
                with self.endpoint.frozen():
                    time.sleep(ATTEMPT_TIMEOUT_S + 2)
            self.snapshot(self.store)
            time.sleep(self.rng.uniform(0, 0.1))
        graceful = False
        if kind in ("term", "int"):
            session.send(signal.SIGTERM if kind == "term" else signal.SIGINT)
            graceful = began
        elif kind == "int2":
            session.send(signal.SIGINT)
            time.sleep(self.rng.uniform(0.01, 0.3))
            session.send(signal.SIGINT)
        else:
            session.send(signal.SIGKILL)
        ended = session.end(90)
        allowed = {0, 1} if kind in ("term", "int", "int2") else {0, -signal.SIGKILL}
        if not began:
            allowed |= {-signal.SIGTERM, -signal.SIGINT}
        self.expect(ended.status in allowed, kind, ended)
        self.settle(ended, session, kind, graceful=graceful or ended.status == 0)
        self.finished(ended)
        if kind in ("truncate", "garbage"):
            self.damage_log(kind)

    def expect(self, good: bool, kind: str, ended: Ended) -> None:
        said = f"session {self.numbers} ({kind}): status {ended.status}: {' / '.join(ended.errors)[:300]}"
        self.report.broken("status", not good, said)

    def damage_log(self, kind: str) -> None:
        """Cut off the end of the log of a killed session, or overwrite a part; what that costs is told apart."""
        log = log_of(self.store)
        if not log.exists() or log.stat().st_size < 5000:
            self.report.told["logs that were empty and could not be damaged"] += 1
            return
        size = log.stat().st_size
        with log.open("r+b") as file:
            if kind == "truncate":
                file.truncate(size - self.rng.randint(1, min(20_000, size // 2)))
            else:
                file.seek(self.rng.randint(size // 3, size - 2000))
                file.write(os.urandom(1000))
        before, damaged = self.acknowledged, log.read_bytes()
        asides = set(self.folder.glob("*.unreadable-*"))
        with redirect_stderr(io.StringIO()) as said, Store.open(self.store) as opened:
            there = self._read(opened)
        asides = set(self.folder.glob("*.unreadable-*")) - asides
        self.report.told["logs damaged"] += 1
        self.report.told["logs set aside, whole or their end"] += len(asides)
        self.report.told["answers lost by damage to the log"] += len(before - there)
        kept = all(damaged.endswith(path.read_bytes()) and path.name in said.getvalue() for path in asides)
        silent = not kept or (bool(before - there) and not asides)
        self.report.broken("aside", silent, f"after session {self.numbers}: {said.getvalue()}")
        self.acknowledged = there
        self.may_come_twice |= before - there

    @staticmethod
    def _read(queryable: Queryable) -> set[str]:
        return {row[0] for row in queryable.query(STORED).rows}

    def copy_in_the_middle(self) -> None:
        """The file and its log as they are on the disk, while a session writes them."""
        copy = self.folder / "copy.duckdb"
        before = self.acknowledged
        copy_store(self.store, copy)
        self.report.told["copies in the middle"] += 1
        check = subprocess.run(
            [sys.executable, "-m", "safemt_client", "doctor", "--db", str(copy)],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        refused = check.returncode == 2 and len(check.stderr.splitlines()) == 1
        whole = check.returncode == 0 and before <= stored(copy)
        self.report.told["copies in the middle that opened"] += whole
        self.report.broken("copy", not (refused or whole), (check.stdout + check.stderr)[-300:])
        for path in self.folder.glob("copy.duckdb*"):
            path.unlink()

    def meet_full(self) -> None:
        """A session whose disk is full after a while: one line, and what was acknowledged is there."""
        # Opened and closed, its log is part of the file: what is free then is for what is new.
        Store.open(self.store).close()
        used = self.store.stat().st_size / 2**20
        spare = self.rng.uniform(0.1, 0.3 + self.turns / 50_000)
        with small_disk(self.folder / "disk", used + spare) as disk:
            store = self.store if disk is None else disk / self.store.name
            if disk is not None:
                copy_store(self.store, store)
            limit = limit_files(int((used + spare) * 2**20)) if disk is None else None
            session = self.start(store, limit)
            while not session.over and time.monotonic() < self.deadline + 60:
                self.snapshot(store)
                time.sleep(0.5)
            ended = session.end(90)
            if disk is not None:
                copy_store(store, self.store)
        self.expect(ended.status in (0, 1, 2), "full", ended)
        if ended.status != 0:
            self.report.told["full disks"] += 1
            self.report.broken("lines", len(ended.errors) != 1, f"full disk: {ended.errors}")
        self.settle(ended, session, "full", graceful=False)
        self.finished(ended)

    def meet_readonly(self) -> None:
        """A session whose store cannot be written: refused with one line, nothing changed."""
        used = sum(path.stat().st_size for path in (self.store, log_of(self.store)) if path.exists()) / 2**20
        with small_disk(self.folder / "disk", used * 2 + 8) as disk:
            store = self.store if disk is None else disk / self.store.name
            if disk is not None:
                copy_store(self.store, store)
                subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            else:
                store.chmod(0o400)
            lines = self.endpoint.lines()
            session = self.start(store)
            ended = session.end(90)
            if disk is None:
                store.chmod(0o600)
        self.expect(ended.status == 2, "readonly", ended)
        self.report.broken("lines", len(ended.errors) != 1, f"read-only: {ended.errors}")
        self.report.broken("status", self.endpoint.lines() != lines, "a read-only session asked something")
        self.report.told["read-only stores"] += 1
        self.settle(ended, session, "readonly", graceful=True)

    # --- the whole ---

    def chaos(self) -> None:
        """Sessions until some seven tenths are done, or the time for it is."""
        sessions = self.arguments.sessions
        others = range(max(0, sessions - len(SPECIAL)))
        kinds = [
            *SPECIAL,
            *(self.rng.choice(("early", "term", "int", "int2", "kill", "kill")) for _ in others),
        ]
        self.rng.shuffle(kinds)
        kinds.insert(0, "kill")  # A store to damage.
        # About four lines for a turn: asked and answered, and so its verdict.
        chunk = self.turns * 4 * 0.7 / len(kinds)
        for kind in kinds:
            if self.done or time.monotonic() > self.deadline:
                self.report.told["sessions left out for time"] += 1
                continue
            lines = 1 if kind == "early" else max(1, int(chunk * self.rng.uniform(0.3, 1.6)))
            self.run_kind(kind, lines)

    def go(self) -> None:
        begin = time.monotonic()
        self.chaos()
        last: Ended | None = None
        while not self.done:
            session = self.start()
            ended = session.end(max(120.0, self.arguments.minutes * 60))
            self.expect(ended.status == 0, "whole", ended)
            self.settle(ended, session, "whole", graceful=True)
            if ended.status != 0:
                raise BrokenError(f"a session without a fault ended with {ended.status}: {session.err}")
            self.finished(ended)
            if last is None or len(ended.samples) > len(last.samples):
                last = ended
        chaos_s = time.monotonic() - begin
        self.connections = self.endpoint.connections()
        fault_free, fault_free_s = self.fault_free()
        ends = ", ".join(f"{kind} {number}" for kind, number in sorted(self.ends.items()))
        asked = sum(line[0] == "r" for line in self.endpoint.log.read_text().splitlines())
        print(f"{self.turns:,} turns, their verdicts and the guard's assessments: {asked:,} calls")
        print(f"{self.numbers} sessions in {chaos_s:.0f} s: {ends}")
        print(f"without faults: {fault_free_s:.0f} s")
        for what, number in sorted(self.report.told.items()):
            print(f"  {what}: {number}")
        self.judge(fault_free, last)

    def fault_free(self) -> tuple[Path, float]:
        """The same without faults, kills or damage."""
        store, begin = self.folder / "fault-free.duckdb", time.monotonic()
        endpoint = Endpoint(self.folder, "fault-free")
        try:
            for history in HISTORIES:
                self.numbers += 1
                session = Session(self.words(endpoint.url, store, history), self.folder, self.numbers)
                ended = session.end(max(120.0, self.arguments.minutes * 60))
                if ended.status != 0:
                    raise BrokenError(f"the fault-free run ended with {ended.status}: {ended.err}")
        finally:
            endpoint.stop()
        self.numbers -= len(HISTORIES)
        return store, time.monotonic() - begin

    def judge(self, fault_free: Path, last: Ended | None) -> None:
        report = self.report
        report.check_none("acknowledged answers lost", "lost")
        report.check_none("answers dropped at a graceful end", "dropped")
        answers = self.endpoint.answers()
        again = {digest: number for digest, number in answers.items() if number > 1}
        unexcused = set(again) - self.may_come_twice
        most = 2 * (2 * self.arguments.concurrency + 8) + 2 * self.arguments.concurrency
        report.check(
            "answered requests asked twice beyond those in flight at a kill",
            not unexcused and self.most_in_flight <= most,
            f"{len(unexcused)} ({len(again):,} in all; at most {self.most_in_flight} in flight at a kill)",
        )
        whole, found = scores(fault_free), scores(self.store)
        for name in SCORES:
            same = whole[name] == found[name] and bool(whole[name])
            report.check(f"{name} as without faults", same, f"{len(found[name])} rows compared")
        check = subprocess.run(
            [sys.executable, "-m", "safemt_client", "doctor", "--db", str(self.store)],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        bad = [line for line in (check.stdout + check.stderr).splitlines() if " no " in line[:6]]
        report.check("doctor finds nothing", check.returncode == 0, "; ".join(bad) or "all checks hold")
        report.check_none("exit statuses out of place", "status")
        report.check_none("endings at a full disk or read-only store without exactly one line", "lines")
        report.check_none("damaged logs not kept, or kept without their name", "aside")
        report.check_none("copies in the middle neither whole nor refused with one line", "copy")
        report.check_none("lines of tracebacks, unawaited tasks or unclosed resources", "noise")
        report.check_none("processes left behind", "processes")
        report.check("connections left open", self.connections == 0, str(self.connections))
        names = (path.name for path in self.folder.glob("soak.duckdb?*"))
        # What is set aside stays, and so do the logs of sessions.
        kept = re.compile(r"\.unreadable-|\.log(\.\d+)?$")
        beside = sorted(name for name in names if not kept.search(name))
        report.check("files left beside the store", not beside, ", ".join(beside) or "none")
        self.flat(last)

    def flat(self, last: Ended | None) -> None:
        """Memory and open files of the longest session without faults of its own, past its first third."""
        samples = last.samples if last is not None else []
        late = samples[len(samples) // 3 : -2]
        if len(late) < 8:
            self.report.check("memory flat", True, f"not measured: {len(samples)} samples are too few")
            return
        half = len(late) // 2
        earlier, later = late[:half], late[half:]
        grown = mean([s[1] for s in later]) - mean([s[1] for s in earlier])
        seconds = mean([s[0] for s in later]) - mean([s[0] for s in earlier])
        peak = max(s[1] for s in samples)
        bound = max(30.0, 0.15 * mean([s[1] for s in earlier]))
        self.report.check(
            "memory flat",
            grown <= bound,
            f"{grown:+.0f} MB in {seconds:.0f} s (bound {bound:.0f}), peak {peak:.0f} MB",
        )
        most = (max(s[2] for s in earlier), max(s[2] for s in later))
        slack = self.arguments.concurrency // 4 + 8
        self.report.check(
            "open files flat", most[1] <= most[0] + slack, f"at most {most[0]}, then at most {most[1]}"
        )


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=50_000)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=30, help="after these nothing more is broken (30)")
    parser.add_argument("--sessions", type=int, default=60, help="sessions that end early (60)")
    parser.add_argument("--faults", type=float, default=0.05, help="share of requests that fail (0.05)")
    parser.add_argument("--folder", type=Path, help="where to work (a temporary folder)")
    return parser.parse_args(argv)


def soak(arguments: argparse.Namespace) -> Report:
    """Carry it out; the report says what is broken."""
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    state = Soak(folder, arguments)
    try:
        state.go()
    except BrokenError as error:
        state.report.check("the soak went through", False, str(error))
    finally:
        state.endpoint.stop()
    if not state.report.good:
        print(f"what was written is in {folder}")
    elif arguments.folder is None:
        shutil.rmtree(folder)
    return state.report


if __name__ == "__main__":
    sys.exit(0 if soak(parse()).good else 1)

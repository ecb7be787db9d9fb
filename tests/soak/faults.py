"""The ways in which a session ends early, and what is done to its store."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import time
from contextlib import redirect_stderr

from soak.disturbances import DISTURBANCES
from soak.sessions import command
from soak.state import ATTEMPT_TIMEOUT_S, Soak
from soak.stores import STORED, copy_store, limit_files, log_of, small_disk, stored

from safemt_client.results.store.store import Store

SPECIAL = (
    *("truncate", "garbage", "copy", "readonly", "full", "freeze", "int2", "term", "int"),
    *DISTURBANCES,
)


def run_kind(soak: Soak, kind: str, lines: int) -> None:
    """A session that ends as `kind` says, once the endpoint has seen so many lines more."""
    if kind in DISTURBANCES:
        DISTURBANCES[kind](soak, lines)
        return
    if kind in ("readonly", "full"):
        (meet_readonly if kind == "readonly" else meet_full)(soak)
        return
    session = soak.start()
    began = soak.progress(session, lines)
    if kind == "early":
        time.sleep(soak.rng.uniform(0.0, 1.2))
    if began:
        if kind == "copy":
            copy_in_the_middle(soak)
        if kind == "freeze":
            soak.report.told["freezes"] += 1
            with soak.endpoint.frozen():
                time.sleep(ATTEMPT_TIMEOUT_S + 2)
        soak.snapshot(soak.store)
        time.sleep(soak.rng.uniform(0, 0.1))
    graceful = False
    if kind in ("term", "int"):
        session.send(signal.SIGTERM if kind == "term" else signal.SIGINT)
        graceful = began
    elif kind == "int2":
        session.send(signal.SIGINT)
        time.sleep(soak.rng.uniform(0.01, 0.3))
        session.send(signal.SIGINT)
    else:
        session.send(signal.SIGKILL)
    ended = session.end(90)
    allowed = {0, 1} if kind in ("term", "int", "int2") else {0, -signal.SIGKILL}
    if not began:
        allowed |= {-signal.SIGTERM, -signal.SIGINT}
    soak.expect(ended.status in allowed, kind, ended)
    soak.settle(ended, session, kind, graceful=graceful or ended.status == 0)
    soak.finished(ended)
    if kind in ("truncate", "garbage"):
        damage_log(soak, kind)


def damage_log(soak: Soak, kind: str) -> None:
    """Cut off the end of the log of a killed session, or overwrite a part; what that costs is told apart."""
    log = log_of(soak.store)
    if not log.exists() or log.stat().st_size < 5000:
        soak.report.told["logs that were empty and could not be damaged"] += 1
        return
    size = log.stat().st_size
    with log.open("r+b") as file:
        if kind == "truncate":
            file.truncate(size - soak.rng.randint(1, min(20_000, size // 2)))
        else:
            file.seek(soak.rng.randint(size // 3, size - 2000))
            file.write(os.urandom(1000))
    before, damaged = soak.acknowledged, log.read_bytes()
    asides = set(soak.folder.glob("*.unreadable-*"))
    with redirect_stderr(io.StringIO()) as said, Store.open(soak.store) as opened:
        there = {row[0] for row in opened.query(STORED).rows}
    asides = set(soak.folder.glob("*.unreadable-*")) - asides
    soak.report.told["logs damaged"] += 1
    soak.report.told["logs set aside, whole or their end"] += len(asides)
    soak.report.told["answers lost by damage to the log"] += len(before - there)
    kept = all(damaged.endswith(path.read_bytes()) and path.name in said.getvalue() for path in asides)
    silent = not kept or (bool(before - there) and not asides)
    soak.report.broken("aside", silent, f"after session {soak.numbers}: {said.getvalue()}")
    soak.acknowledged = there
    soak.may_come_twice |= before - there


def copy_in_the_middle(soak: Soak) -> None:
    """The file and its log as they are on the disk, while a session writes them."""
    copy = soak.folder / "copy.duckdb"
    before = soak.acknowledged
    copy_store(soak.store, copy)
    soak.report.told["copies in the middle"] += 1
    check = command(soak.folder, "doctor", "--db", str(copy))
    refused = check.returncode == 2 and len(check.stderr.splitlines()) == 1
    whole = check.returncode == 0 and before <= stored(copy)
    soak.report.told["copies in the middle that opened"] += whole
    soak.report.broken("copy", not (refused or whole), (check.stdout + check.stderr)[-300:])
    for path in soak.folder.glob("copy.duckdb*"):
        path.unlink()


def meet_full(soak: Soak) -> None:
    """A session whose disk is full after a while: one line, and what was acknowledged is there."""
    # Opened and closed, its log is part of the file: what is free then is for what is new.
    Store.open(soak.store).close()
    used = soak.store.stat().st_size / 2**20
    spare = soak.rng.uniform(0.1, 0.3 + soak.turns / 50_000)
    with small_disk(soak.folder / "disk", used + spare) as disk:
        store = soak.store if disk is None else disk / soak.store.name
        if disk is not None:
            copy_store(soak.store, store)
        limit = limit_files(int((used + spare) * 2**20)) if disk is None else None
        session = soak.start(store, limit)
        while not session.over and time.monotonic() < soak.deadline + 60:
            soak.snapshot(store)
            time.sleep(0.5)
        ended = session.end(90)
        if disk is not None:
            copy_store(store, soak.store)
    soak.expect(ended.status in (0, 1, 2), "full", ended)
    if ended.status != 0:
        soak.report.told["full disks"] += 1
        soak.report.broken("lines", len(ended.errors) != 1, f"full disk: {ended.errors}")
    soak.settle(ended, session, "full", graceful=False)
    soak.finished(ended)


def meet_readonly(soak: Soak) -> None:
    """A session whose store cannot be written: refused with one line, nothing changed."""
    used = sum(path.stat().st_size for path in (soak.store, log_of(soak.store)) if path.exists()) / 2**20
    with small_disk(soak.folder / "disk", used * 2 + 8) as disk:
        store = soak.store if disk is None else disk / soak.store.name
        if disk is not None:
            copy_store(soak.store, store)
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        else:
            store.chmod(0o400)
        lines = soak.endpoint.lines()
        session = soak.start(store)
        ended = session.end(90)
        if disk is None:
            store.chmod(0o600)
    soak.expect(ended.status == 2, "readonly", ended)
    soak.report.broken("lines", len(ended.errors) != 1, f"read-only: {ended.errors}")
    soak.report.broken("status", soak.endpoint.lines() != lines, "a read-only session asked something")
    soak.report.told["read-only stores"] += 1
    soak.settle(ended, session, "readonly", graceful=True)

"""What is done to a session that goes on: its process is paused, its store renamed, its network gone, its money short."""

from __future__ import annotations

import resource
import signal
import threading
import time
from collections.abc import Callable

from soak.load import CALL_USD, until
from soak.sessions import Ended, Session
from soak.state import ATTEMPT_TIMEOUT_S, Soak
from soak.stores import spent, stored

from safemt_client.providers.errors import InputError
from safemt_client.results.store.reader import Reader, open_reader

__all__ = ["DISTURBANCES"]

# Beside what the interpreter and the store need; below the calls in flight of any soak.
OPEN_FILES = 48
# Hours on any machine, and nothing in it can be left out.
LONG = "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000) c WHERE hash(a, b, c) = 42"


def paused(soak: Soak, lines: int) -> None:
    """Its process is stopped for longer than an attempt may take; what came meanwhile is not asked for again."""
    session = soak.start()
    if soak.progress(session, lines):
        session.send(signal.SIGSTOP)
        time.sleep(ATTEMPT_TIMEOUT_S + 2)
        session.send(signal.SIGCONT)
    go_on_and_end(soak, session, "paused")


def down(soak: Soak, lines: int) -> None:
    """Nothing listens for a while: the session waits for it."""
    session = soak.start()
    if soak.progress(session, lines):
        with soak.endpoint.down():
            time.sleep(soak.rng.uniform(2, 5))
    go_on_and_end(soak, session, "down")


def files(soak: Soak, lines: int) -> None:
    """It may open few files: fewer calls are in flight, and that is said in one line."""
    session = soak.start(
        preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES)), quiet=False
    )
    began = soak.progress(session, lines)
    ended = go_on_and_end(soak, session, "files")
    most = max((sample[2] for sample in ended.samples), default=0)
    soak.report.told["open files of a session that may have few, at most"] = most
    said = [line for line in session.out.read_text().splitlines() if "ulimit -n" in line]
    soak.report.broken("lines", began and len(said) != 1, f"few open files: {said}")


def question(soak: Soak, lines: int) -> None:
    """A question that takes for ever is under way as it goes on and ends."""
    session = soak.start()
    said: list[str] = []
    if soak.progress(session, lines):
        reader = open_reader(soak.store)

        def ask() -> None:
            with reader:
                try:
                    said.append(f"{len(reader.query(LONG).rows)} rows")
                except InputError as error:
                    said.extend(str(error).splitlines())

        # Who holds the file itself would ask nobody.
        asking = threading.Thread(target=ask, daemon=True)
        if not reader.holds_file:
            asking.start()
            go_on_and_end(soak, session, "question", lines)
            # It goes on with the file, by itself, until it is interrupted.
            until(lambda: _interrupted(reader, asking), 60)
            ended = len(said) == 1 and said[0] != "1 rows"
            soak.report.broken("questions", not ended, f"session {soak.numbers}: {said or 'no answer'}")
            return
        reader.close()
    go_on_and_end(soak, session, "question")


def _interrupted(reader: Reader, asking: threading.Thread) -> bool:
    reader.interrupt()
    return not asking.is_alive()


def renamed(soak: Soak, lines: int) -> None:
    """Its store gets another name: it ends with one line, and all that it wrote is there."""
    session = soak.start()
    moved = soak.store.with_name("moved.duckdb")
    if not soak.progress(session, lines):
        over(soak, session, "renamed", began=False)
        return
    soak.snapshot(soak.store)
    soak.store.rename(moved)
    ended = session.end(90)
    soak.expect(ended.status == 1, "renamed", ended)
    soak.report.broken("lines", len(ended.errors) != 1, f"a store renamed: {ended.errors}")
    soak.report.broken("status", soak.store.exists(), "a store was made in place of the renamed one")
    soak.report.broken("lost", len(soak.acknowledged - stored(moved)), "from a store that was renamed")
    moved.rename(soak.store)
    soak.settle(ended, session, "renamed", graceful=False)


def capped(soak: Soak, lines: int) -> None:
    """Two sessions may spend so much together and no more, though the first is killed; later ones have no cap."""
    before, paid = spent(soak.store, soak.history), soak.endpoint.answers().total()
    cap = before + max(lines / 2, 400) * CALL_USD
    words = ("--max-cost", f"{cap:.9f}")
    first = soak.start(more=words)
    if soak.progress(first, lines // 4):
        soak.snapshot(soak.store)
    first.send(signal.SIGKILL)
    ended = first.end(90)
    soak.expect(ended.status in (0, 1, -signal.SIGKILL), "capped", ended)
    soak.settle(ended, first, "capped", graceful=False)
    second = soak.start(more=words)
    ended = second.end(max(90.0, soak.deadline + 60 - time.monotonic()))
    soak.expect(ended.status in (0, 1), "capped", ended)
    # What came to the killed session and was not kept is paid too.
    paid = soak.endpoint.answers().total() - paid
    passed = before + paid * CALL_USD > cap + CALL_USD
    soak.report.broken("caps", passed, f"{paid} calls of {CALL_USD} in {cap - before:.4f}")
    soak.report.told["calls under a cap"] += paid
    soak.settle(ended, second, "capped", graceful=True)
    soak.finished(ended)


def go_on_and_end(soak: Soak, session: Session, kind: str, lines: int | None = None) -> Ended:
    """Some further calls, then SIGTERM."""
    began = soak.progress(session, soak.arguments.concurrency if lines is None else lines)
    if began:
        soak.snapshot(soak.store)
        session.send(signal.SIGTERM)
    return over(soak, session, kind, began=began)


def over(soak: Soak, session: Session, kind: str, *, began: bool) -> Ended:
    """Its end, which drops no answer."""
    ended = session.end(90)
    # Without progress it was done before; or it hangs, and then it was killed.
    soak.expect(ended.status in ((0, 1) if began else (0,)), kind, ended)
    soak.settle(ended, session, kind, graceful=True)
    soak.finished(ended)
    return ended


DISTURBANCES: dict[str, Callable[[Soak, int], None]] = {
    "paused": paused,
    "down": down,
    "files": files,
    "question": question,
    "renamed": renamed,
    "capped": capped,
}
"""What each name of a session stands for."""

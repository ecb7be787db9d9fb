"""A soak: many turns with faults, kills, restarts and damage; then what must hold is checked.

    python tests/soak/soak.py [--turns 50000] [--concurrency 200] [--seed 1] [--minutes 30] [--sessions 50]

The program is started again and again on one store, with a model that is judged, without and with a guard, against
an endpoint on loopback that fails now and then, until all is asked. Sessions end by SIGKILL, SIGTERM, one or two
Ctrl-C at random moments, or meet a full disk, a store that is read-only, a frozen endpoint, a copy made under them,
or damage to the log between two of them; others are paused, have their store renamed, may open few files, are asked
a question that never ends, lose the network for a while, or come to a cap of their cost. A run without any of it
gives the scores to compare with. Then runs in batches are ended at each stage of a batch, and compared with runs that
are not. Prints one line for each promise; exit status 1 if one is broken. Full disks and read-only stores are small tmpfs mounts where root
may mount, else a limit of the size of files and permissions. The folder of the work is kept if something is broken.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # In the place of this file's own folder, in which `soak` would be this file and not the package.
    TESTS = Path(__file__).resolve().parents[1]
    sys.path[:1] = [str(TESTS), str(TESTS.parent)]

from soak.batches import run_batches
from soak.checks import check_promises
from soak.faults import SPECIAL, run_kind
from soak.load import HISTORIES, Endpoint
from soak.report import BrokenError, Report
from soak.sessions import Samples, Session
from soak.state import Soak


def chaos(soak: Soak) -> None:
    """Sessions until some seven tenths are done, or the time for it is."""
    sessions = soak.arguments.sessions
    others = range(max(0, sessions - len(SPECIAL)))
    kinds = [
        *SPECIAL,
        *(soak.rng.choice(("early", "term", "int", "int2", "kill", "kill")) for _ in others),
    ]
    soak.rng.shuffle(kinds)
    kinds.insert(0, "kill")  # A store to damage.
    # About four lines for a turn: asked and answered, and so its verdict.
    chunk = soak.turns * 4 * 0.7 / len(kinds)
    for kind in kinds:
        if soak.done or time.monotonic() > soak.deadline:
            soak.report.told["sessions left out for time"] += 1
            continue
        lines = 1 if kind == "early" else max(1, int(chunk * soak.rng.uniform(0.3, 1.6)))
        run_kind(soak, kind, lines)


def go(soak: Soak) -> None:
    begin = time.monotonic()
    chaos(soak)
    last: Samples = []
    while not soak.done:
        session = soak.start()
        ended = session.end(max(120.0, soak.arguments.minutes * 60))
        soak.expect(ended.status == 0, "whole", ended)
        soak.settle(ended, session, "whole", graceful=True)
        if ended.status != 0:
            raise BrokenError(f"a session without a fault ended with {ended.status}: {session.err}")
        soak.finished(ended)
        last = max(last, ended.samples, key=len)
    chaos_s = time.monotonic() - begin
    soak.connections = soak.endpoint.connections()
    whole, whole_s, calm = fault_free(soak)
    ends = ", ".join(f"{kind} {number}" for kind, number in sorted(soak.ends.items()))
    asked = sum(line[0] == "r" for line in soak.endpoint.log.read_text().splitlines())
    print(f"{soak.turns:,} turns, their verdicts and the guard's assessments: {asked:,} calls")
    print(f"{soak.numbers} sessions in {chaos_s:.0f} s: {ends}")
    print(f"without faults: {whole_s:.0f} s")
    for what, number in sorted(soak.report.told.items()):
        print(f"  {what}: {number}")
    check_promises(soak, whole, last, calm)
    begin = time.monotonic()
    parts = min(3, max(1, soak.arguments.sessions // 10))
    run_batches(soak.folder / "batches", soak.turns // 500 + 2, parts, soak.rng, soak.report)
    print(f"batches: {time.monotonic() - begin:.0f} s")


def fault_free(soak: Soak) -> tuple[Path, float, Samples]:
    """The same without faults, kills or damage: its store, its time and its longest session's samples."""
    calm: Samples = []
    store, begin = soak.folder / "fault-free.duckdb", time.monotonic()
    endpoint = Endpoint(soak.folder, "fault-free", "--latency", str(soak.arguments.latency))
    try:
        for history in HISTORIES:
            soak.numbers += 1
            words = [*soak.words(endpoint.url, store, history), "--quiet"]
            session = Session(words, soak.folder, soak.numbers)
            ended = session.end(max(120.0, soak.arguments.minutes * 60))
            calm = max(calm, ended.samples, key=len)
            if ended.status != 0:
                raise BrokenError(f"the fault-free run ended with {ended.status}: {ended.err}")
    finally:
        endpoint.stop()
    soak.numbers -= len(HISTORIES)
    return store, time.monotonic() - begin, calm


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=50_000)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=30, help="after these nothing more is broken (30)")
    parser.add_argument("--sessions", type=int, default=50, help="sessions that end early (50)")
    parser.add_argument("--faults", type=float, default=0.05, help="share of requests that fail (0.05)")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds until an answer (0.05)")
    parser.add_argument("--folder", type=Path, help="where to work (a temporary folder)")
    return parser.parse_args(argv)


def soak(arguments: argparse.Namespace) -> Report:
    """Carry it out; the report says what is broken."""
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    state = Soak(folder, arguments)
    try:
        go(state)
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

"""What must hold after a soak."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from soak.sessions import Samples, command
from soak.state import Soak
from soak.stores import SCORES, scores


def check_promises(soak: Soak, fault_free: Path, last: Samples, calm: Samples) -> None:
    """One line for each promise; `last` and `calm` are of sessions whose memory is looked at."""
    report = soak.report
    report.check_none("acknowledged answers lost", "lost")
    report.check_none("answers dropped at a graceful end", "dropped")
    answers = soak.endpoint.answers()
    again = {digest: number for digest, number in answers.items() if number > 1}
    unexcused = set(again) - soak.may_come_twice
    most = 2 * (2 * soak.arguments.concurrency + 8) + 2 * soak.arguments.concurrency
    report.check(
        "answered requests asked twice beyond those in flight at a kill",
        not unexcused and soak.most_in_flight <= most,
        f"{len(unexcused)} ({len(again):,} in all; at most {soak.most_in_flight} in flight at a kill)",
    )
    whole, found = scores(fault_free), scores(soak.store)
    for name in SCORES:
        same = whole[name] == found[name] and bool(whole[name])
        report.check(f"{name} as without faults", same, f"{len(found[name])} rows compared")
    check = command(soak.folder, "doctor", "--db", str(soak.store))
    bad = [line for line in (check.stdout + check.stderr).splitlines() if " no " in line[:6]]
    report.check("doctor finds nothing", check.returncode == 0, "; ".join(bad) or "all checks hold")
    report.check_none("exit statuses out of place", "status")
    report.check_none("endings that must say one line, and did not", "lines")
    report.check_none("caps of the cost passed by more than one call", "caps")
    report.check_none(
        "questions that held up a run, could not be interrupted, or ended without one line", "questions"
    )
    report.check_none("damaged logs not kept, or kept without their name", "aside")
    report.check_none("copies in the middle neither whole nor refused with one line", "copy")
    report.check_none("lines of tracebacks, unawaited tasks or unclosed resources", "noise")
    report.check_none("processes left behind", "processes")
    report.check("connections left open", soak.connections == 0, str(soak.connections))
    names = (path.name for path in soak.folder.glob("soak.duckdb?*"))
    # What is set aside stays, and so do the logs of sessions.
    kept = re.compile(r"\.unreadable-|\.log(\.\d+)?$")
    beside = sorted(name for name in names if not kept.search(name))
    report.check("files left beside the store", not beside, ", ".join(beside) or "none")
    for name, samples in (("the longest session", last), ("without faults", calm)):
        flat(soak, name, samples)


def flat(soak: Soak, name: str, samples: Samples) -> None:
    """Memory and open files of a session without faults of its own, past its first third."""
    late = samples[len(samples) // 3 : -2]
    # Four a second: who runs for less than ten seconds still fills its caches.
    if len(late) < 40:
        soak.report.check(f"memory flat, {name}", True, f"not measured: {len(samples)} samples are too few")
        return
    half = len(late) // 2
    earlier, later = late[:half], late[half:]
    grown = mean([s[1] for s in later]) - mean([s[1] for s in earlier])
    seconds = mean([s[0] for s in later]) - mean([s[0] for s in earlier])
    peak = max(s[1] for s in samples)
    before = mean([s[1] for s in earlier])
    bound = max(30.0, 0.15 * before)
    soak.report.check(
        f"memory flat, {name}",
        grown <= bound,
        f"{before:.0f} MB early, {before + grown:.0f} MB {seconds:.0f} s later (at most {bound:.0f} more), "
        f"peak {peak:.0f} MB",
    )
    most = (max(s[2] for s in earlier), max(s[2] for s in later))
    slack = soak.arguments.concurrency // 4 + 8
    soak.report.check(
        f"open files flat, {name}", most[1] <= most[0] + slack, f"at most {most[0]}, then at most {most[1]}"
    )


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

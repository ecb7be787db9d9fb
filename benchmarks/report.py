"""Reports and views on large stores, against another version of the program: CPU seconds of whole commands.

    python benchmarks/report.py [--against 04b7696] [--limit 300] [--only small,turns,large,many,huge]

Checks the other version out into a folder of its own, makes the same stores with both (`large_store.py`), and
runs the same commands in processes of their own. Prints the CPU seconds of each, without those of a command
that asks nothing (`SELECT 1`), and the ratio; that of the report to the query of whole commands too. What
takes longer than the limit (of waiting) is stopped. Of what takes under three seconds it prints the least of
seven times, as other work only adds to them. The query is printed as a table, and as CSV: laying out a table
of many rows takes longer than the query.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
QUICK_S, TIMES = 3.0, 7
STORES = {
    "small": ("17 targets x 120 items x 5 lengths, one judge", ["--items", "120"]),
    "turns": ("714,000 turns: 17 targets x 2,000 items x 5 lengths, live", ["--every-turn"]),
    "large": ("17 targets x 10,000 dialogues, a panel of two", ["--judges", "3"]),
    "many": (
        "100 targets, a panel of five, 600 dialogues",
        ["--targets", "100", "--items", "120", "--judges", "6", "--scored"],
    ),
    "huge": (
        "7,140,000 turns: 17 targets x 20,000 items x 5 lengths, live",
        ["--every-turn", "--items", "20000"],
    ),
}
# An installed program has its bytecode: without it, each start would compile what it imports.
KEPT = {"PYTHONDONTWRITEBYTECODE": ""}
QUERY = ["sql", "SELECT * FROM asr_by_turn"]
ASKED = {
    "small": {"asr_by_turn": QUERY, "as CSV": [*QUERY, "--format", "csv"], "report": ["report"]},
    "turns": {"asr_by_turn": QUERY},
    "large": {"asr_by_turn": QUERY, "report": ["report"], "report --html": ["report", "--html", "page.html"]},
    "many": {"report": ["report"], "leaderboard": ["leaderboard", "benchmark000"]},
    "huge": {"asr_by_turn": QUERY},
}


def cpu(program: Path, words: Sequence[str], limit: float) -> tuple[float | None, float]:
    """CPU seconds of a command, None if it took longer than the limit, and its largest memory in MB."""
    process = subprocess.Popen(
        [sys.executable, *words],
        env=os.environ | KEPT | {"PYTHONPATH": str(program)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ends = time.monotonic() + limit
    while True:
        found, status, used = os.wait4(process.pid, os.WNOHANG)
        if found:
            break
        if time.monotonic() > ends:
            process.kill()
            _, status, used = os.wait4(process.pid, 0)
            return None, used.ru_maxrss / 1024
        time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with status {process.returncode}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def least(program: Path, words: Sequence[str], limit: float) -> tuple[float | None, float]:
    """As `cpu`, of what is quick the least of several times."""
    found, memory = cpu(program, words, limit)
    for _ in range(TIMES - 1):
        if found is None or found > QUICK_S:
            break
        again, _ = cpu(program, words, limit)
        found = min(found, found if again is None else again)
    return found, memory


def shown(seconds: float | None, limit: float) -> str:
    return f"over {limit:.0f} s of waiting" if seconds is None else f"{seconds:.2f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", default="04b7696", help="a commit; empty for none")
    parser.add_argument("--limit", type=float, default=300)
    parser.add_argument("--only", default="small,turns,large,many", help="huge takes minutes and GBs of disk")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        programs = {"this": ROOT}
        if chosen.against:
            other = folder / "other"
            other.mkdir()
            archive = subprocess.run(
                ["git", "archive", chosen.against], cwd=ROOT, check=True, capture_output=True
            )
            subprocess.run(["tar", "-x", "-C", str(other)], input=archive.stdout, check=True)
            shutil.copy(ROOT / "benchmarks" / "large_store.py", other / "benchmarks")
            programs = {"other": other, **programs}
        for store in chosen.only.split(","):
            about, words = STORES[store]
            print(about)
            taken: dict[tuple[str, str], float | None] = {}
            for which, program in programs.items():
                db = folder / f"{which}.duckdb"
                db.unlink(missing_ok=True)
                make = [str(program / "benchmarks" / "large_store.py"), str(db), *words]
                subprocess.run(
                    [sys.executable, *make], env=os.environ | {"PYTHONPATH": str(program)}, check=True
                )
                run = ["-m", "safemt_client"]
                start, _ = least(program, [*run, "sql", "SELECT 1", "--db", str(db)], chosen.limit)
                taken[which, "start"] = start
                print(f"  {which:6} {'start':15} {shown(start, chosen.limit)}")
                for asked, command in ASKED[store].items():
                    whole, memory = least(program, [*run, *command, "--db", str(db)], chosen.limit)
                    taken[which, asked] = None if whole is None else whole - (start or 0.0)
                    print(
                        f"  {which:6} {asked:15} {shown(taken[which, asked], chosen.limit)} ({memory:.0f} MB)"
                    )
            for asked in ASKED[store]:
                before, now = (taken.get((which, asked)) for which in ("other", "this"))
                if before and now:
                    print(f"  {asked:22} other / this: {before / now:.1f}")
            for which in programs:
                for asked in ("asr_by_turn", "as CSV"):
                    query, report = taken.get((which, asked)), taken.get((which, "report"))
                    start = taken[which, "start"] or 0.0
                    if query and report:
                        whole = (start + report) / (start + query)
                        print(f"  {which:6} report / {asked}: {report / query:.1f}, with starts {whole:.1f}")


if __name__ == "__main__":
    main()

"""What stands in a store, and what can happen to its files."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safemt_client.results.store.reader import open_reader

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


def stored(path: Path) -> set[str]:
    """The hashes of all answers that the store, or the run that holds it, has committed."""
    with open_reader(path) as reader:
        return {row[0] for row in reader.query(STORED).rows}


def scores(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    with open_reader(path) as reader:
        return {name: reader.query(query).rows for name, query in SCORES.items()}


def spent(path: Path, history: int) -> float:
    """US dollars of the run of this number in the store; 0 if it has not begun."""
    query = """SELECT coalesce(sum(cost_usd), 0) FROM runs LEFT JOIN spend USING (run_id)
               GROUP BY run_id, created_at ORDER BY created_at"""
    with open_reader(path) as reader:
        by_run = [float(row[0]) for row in reader.query(query).rows]
    return by_run[history] if history < len(by_run) else 0.0


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

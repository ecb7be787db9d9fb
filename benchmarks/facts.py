"""Facts of many runs: how long it takes to read rates from a hundred million of rows.

    python benchmarks/facts.py --rows 10000000 --folder /tmp/facts

Makes facts of synthetic runs below the folder, unless they are there, and asks the view `asr_by_turn` for one
target and for all: medians of three, with two threads; CPU seconds are those of the process. Those of a
bucket are read from a copy in the cache, which is the same files.
"""

import argparse
import json
import resource
import shutil
import statistics
import time
from pathlib import Path

import duckdb

from safemt_client.results.store.facts import LARGE, FactFile, Manifest, folder_of
from safemt_client.results.store.reader import open_reader

_LENGTHS = (1, 2, 4, 6, 8)
_CREATED = "2026-01-01 00:00:00"
_JUDGE = "0123456789abcdef"
_DIGEST = "0" * 64


def rows_of(run: str, target: str) -> dict[str, list[dict[str, object]]]:
    """The small tables of a run with one target."""
    key = f"{target}-key"
    return {
        "runs": [
            {
                "run_id": run,
                "fingerprint": run,
                "created_at": _CREATED,
                "program_version": "0",
                "dataset_name": "bench",
            }
            | {"dataset_digest": _DIGEST, "dataset_path": "", "settings": "{}", "samples": 1}
        ],
        "run_targets": [
            {
                "run_id": run,
                "target_key": key,
                "name": target,
                "identity": f"bench/{target}",
                "history": "scripted",
            }
            | {"images": "on", "sampling": "{}", "sample": 1}
        ],
        "run_judges": [
            {
                "run_id": run,
                "judge_key": _JUDGE,
                "name": "judge",
                "identity": "bench/judge",
                "rubric": "paper",
            }
            | {"rubric_hash": _DIGEST, "sampling": "{}", "role": "decides", "position": 0}
        ],
        "run_events": [
            {"run_id": run, "session_id": "s", "recorded_at": _CREATED, "event": event, "detail": "{}"}
            for event in ("started", "finished")
        ],
    }


def conversations(target: str, seed: int, rows: int) -> str:
    """A query with so many rows of the large table."""
    values = {
        "target_key": f"'{target}-key'",
        "judge": "'judge'",
        "judge_key": f"'{_JUDGE}'",
        "dialogue_key": "'000000000000/' || length || '/item-' || item",
        "item_id": "'item-' || item",
        "length": "length::BIGINT",
        "scenario": "'scenario ' || item % 14",
        "outcome": "'answered'",
        "turn": "length::BIGINT",
        "state": "said",
        "label": "said",
        "refusal": "chance > 60",
        "refusal_kind": "CASE WHEN chance > 60 THEN 'full_refusal' ELSE 'answer' END",
        "refusal_rule": "CASE WHEN chance > 55 THEN 'full_refusal' ELSE 'answer' END",
        "benign": "false",
        "by_guard": "false",
        "request_no": "i::INTEGER",
        "judged_no": "i::INTEGER",
        "reply_no": "i::INTEGER",
        "paired_length": "length::BIGINT",
        "sample": "1::BIGINT",
    }
    kinds = {"severity": "BIGINT", "specificity": "BIGINT", "confidence": "DOUBLE"}
    nothing = {name: f"NULL::{kinds.get(name, 'VARCHAR')}" for name in LARGE["conversations"].split()}
    picked = ", ".join(f"{value} AS {name}" for name, value in (nothing | values).items())
    return (
        f"SELECT {picked} FROM (SELECT "
        "CASE WHEN chance < 30 THEN 'unsafe' WHEN chance < 99 THEN 'safe' ELSE 'unscored' END AS said, * "
        f"FROM (SELECT i, i // 5 AS item, {list(_LENGTHS)}[i % 5 + 1] AS length, "
        f"hash(i, {seed}) % 100 AS chance FROM range({rows}) t(i)))"
    )


def make(folder: Path, rows: int, runs: int) -> None:
    """Facts of so many runs with one target each, `rows` in all."""
    (folder / "manifests").mkdir(parents=True)
    with duckdb.connect() as session:
        session.execute("SET threads = 2")
        for place in range(runs):
            run, target = f"{place:012x}", f"model-{place}"
            name = f"{folder_of('conversations', 'bench', target, run)}/0.parquet"
            (folder / name).parent.mkdir(parents=True)
            session.execute(
                f"COPY ({conversations(target, place, rows // runs)}) TO '{folder / name}' "
                "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 100_000)"
            )
            file = FactFile("conversations", name, (folder / name).stat().st_size, rows // runs)
            manifest = Manifest(run, _CREATED, "0", dict(rows_of(run, target)), [file])
            (folder / "manifests" / f"{run}.json").write_bytes(manifest.text())


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """Seconds and CPU seconds of each question."""
    began = time.perf_counter()
    with open_reader(folder) as reader:
        found = {"open": {"s": time.perf_counter() - began}}
        for name, where in (("all targets", ""), ("one target", "WHERE target = 'model-1'")):
            walls, works = [], []
            for _ in range(3):
                wall, work = time.perf_counter(), time.process_time()
                rows = reader.query(f"SELECT * FROM asr_by_turn {where} ORDER BY target, length").rows
                walls.append(time.perf_counter() - wall)
                works.append(time.process_time() - work)
            found[name] = {
                "s": statistics.median(walls),
                "cpu_s": statistics.median(works),
                "rows": len(rows),
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000, metavar="N")
    parser.add_argument("--runs", type=int, default=100, metavar="N")
    parser.add_argument("--folder", type=Path, required=True, metavar="DIR")
    parser.add_argument("--keep", action="store_true", help="leave the facts there")
    arguments = parser.parse_args()
    folder = arguments.folder / f"{arguments.rows}-{arguments.runs}"
    if not folder.exists():
        make(folder, arguments.rows, arguments.runs)
    size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    found = measure(folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {"rows": arguments.rows, "mb": round(size / 1e6), "peak_mb": round(peak)} | found, indent=1
        )
    )
    if not arguments.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

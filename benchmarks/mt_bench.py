"""Acceptance run on real input: MT-Bench in live history through a real llama.cpp server.

    python benchmarks/mt_bench.py question.jsonl [--max-tokens 96]

Starts the server (extra `llama`), runs every dialogue, kills the run with SIGKILL once half of the
turns are stored, resumes with the same command and prints what the store holds. The model is tiny: its
verdicts prove the protocol, not the science.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ENV = os.environ | {"PYTHONPATH": str(ROOT)}
SAFEMT = (sys.executable, "-m", "safemt_client")


def sql(query: str, db: Path) -> list[dict[str, Any]]:
    words = [*SAFEMT, "sql", query, "--db", str(db), "--format", "json"]
    found = subprocess.run(words, env=ENV, capture_output=True, text=True, check=False)
    return json.loads(found.stdout) if found.returncode == 0 else []


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("questions", type=Path)
    parser.add_argument("--max-tokens", type=int, default=96)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        db = folder / "mt_bench.duckdb"
        server = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/integration/llama_server.py"), str(folder / "port")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not (folder / "port").exists():
                if server.poll() is not None:
                    sys.exit("the llama.cpp server did not start: is the extra `llama` installed?")
                time.sleep(0.1)
            target = f"smollm2@{(folder / 'port').read_text().strip()}/v1"
            words = [
                *(*SAFEMT, "--provider", target, "--judge", target, "--history", "live", "--images", "off"),
                *("--data", str(arguments.questions.resolve()), "--db", str(db), "--min-coverage", "0"),
                *("--max-tokens", str(arguments.max_tokens), "--max-concurrency", "2", "--quiet"),
            ]
            total = 2 * sum(1 for line in arguments.questions.open() if line.strip())
            begin = time.perf_counter()
            run = subprocess.Popen(words, env=ENV, stdout=subprocess.DEVNULL)
            stored = 0
            while stored < total // 2:
                time.sleep(0.5)
                found = sql("SELECT count(*) AS n FROM turns", db)
                stored = found[0]["n"] if found else 0
            run.kill()
            run.wait()
            killed = time.perf_counter()
            before = sql("SELECT request_hash, text FROM turns", db)
            subprocess.run(words, env=ENV, stdout=subprocess.DEVNULL, check=True)
            end = time.perf_counter()
        finally:
            server.kill()
            server.wait()
        after = sql("SELECT request_hash, text FROM turns", db)
        kept = sum(row in after for row in before)
        print(f"killed after {killed - begin:.0f} s with {len(before)} of {total} turns stored")
        print(f"resumed: {kept} of those kept, {len(after)} turns in total, done {end - killed:.0f} s later")
        asked_twice = len(after) - len({row["request_hash"] for row in after})
        print(f"turns asked twice: {asked_twice}")
        for title, query in (
            ("outcomes", "SELECT outcome, count(*) AS n FROM replies GROUP BY ALL ORDER BY ALL"),
            ("verdicts", "SELECT label, reason, count(*) AS n FROM verdicts GROUP BY ALL ORDER BY ALL"),
            ("tokens", "SELECT sum(prompt_tokens) p, sum(completion_tokens) c FROM turns"),
        ):
            print(f"{title}: {json.dumps(sql(query, db))}")


if __name__ == "__main__":
    main()

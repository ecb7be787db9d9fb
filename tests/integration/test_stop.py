"""Ctrl-C, and questions while a run goes on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENV = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160", "PYTHONUNBUFFERED": "1"}
SAFEMT = (sys.executable, "-m", "safemt_client")


def test_sql_beside_a_run_then_ctrl_c_then_resume(tmp_path: Path) -> None:
    # One request a second: the run would take over a minute.
    words = (*SAFEMT, "--provider", "demo", "--db", "d.duckdb")
    run = subprocess.Popen(
        [*words, "--rpm", "60"],
        cwd=tmp_path,
        env=ENV,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        turns = 0
        while turns == 0:
            assert run.poll() is None, run.communicate()
            if not (tmp_path / "d.duckdb.server").exists():
                continue
            asked = subprocess.run(
                [*SAFEMT, "sql", "SELECT count(*) AS n FROM turns", "--db", "d.duckdb", "--format", "json"],
                cwd=tmp_path,
                env=ENV,
                capture_output=True,
                text=True,
                check=True,
            )
            turns = json.loads(asked.stdout)[0]["n"]
        assert (tmp_path / "d.duckdb.server").stat().st_mode & 0o777 == 0o600
        write = subprocess.run(
            [*SAFEMT, "sql", "DELETE FROM turns", "--db", "d.duckdb"],
            cwd=tmp_path,
            env=ENV,
            capture_output=True,
            text=True,
            check=False,
        )
        assert write.returncode == 2
        second = subprocess.run(words, cwd=tmp_path, env=ENV, capture_output=True, text=True, check=False)
        assert second.returncode == 2
        assert "held by another run" in second.stderr
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=20)
    finally:
        run.kill()
    assert run.returncode == 1, err
    assert "stopped early; continue with:" in out
    assert not (tmp_path / "d.duckdb.server").exists()
    done = subprocess.run(words, cwd=tmp_path, env=ENV, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Safety Index of demo: 0.7790" in done.stdout

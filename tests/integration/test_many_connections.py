"""Two thousand connections at once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from soak.load import Endpoint

from safemt_client.results.store.reader import open_reader

ROOT = Path(__file__).resolve().parents[2]
CONNECTIONS = 2000


@pytest.mark.slow
def test_two_thousand_connections_at_once(tmp_path: Path) -> None:
    with (tmp_path / "data.jsonl").open("w") as data:
        for item in range(2 * CONNECTIONS):
            ask = {"role": "user", "content": f"Please say more on topic {item}."}
            data.write(json.dumps({"id": f"t_{item}", "scenario": "Satire", "dialogue": [ask]}) + "\n")
    # The first answer comes once all of them are open.
    endpoint = Endpoint(tmp_path, "endpoint", "--wait-for", str(CONNECTIONS))
    words = ["--provider", f"m@{endpoint.url}/v1", "--judge", "none", "--data", "data.jsonl", "--quiet"]
    words += ["--db", "d.duckdb", "--max-concurrency", str(CONNECTIONS), "--attempt-timeout", "120"]
    try:
        run = subprocess.run(
            [sys.executable, "-m", "safemt_client", *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert (run.returncode, run.stderr) == (0, ""), run.stdout + run.stderr
        assert set(endpoint.answers().values()) == {1}
        assert endpoint.connections() == 0
    finally:
        endpoint.stop()
    with open_reader(tmp_path / "d.duckdb") as reader:
        count = "SELECT count(*), count(DISTINCT request_hash) FROM turns WHERE outcome = 'answered'"
        assert reader.query(count).rows == [(2 * CONNECTIONS, 2 * CONNECTIONS)]

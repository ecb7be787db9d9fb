"""The demo on two nodes of Ray on this machine, with a killed worker: `python tools/demo_cluster.py DB`.

It ends like any other run: what the worker had in hand is asked by another one.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["main"]


def main(db: str) -> int:
    """Run it; return the status of the run."""
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_enable_metrics_collection": "0",
    }
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=small | {"include_dashboard": False})
    try:
        cluster.add_node(**small)
        before = _workers()
        command = [sys.executable, "-m", "safemt_client", "--provider", "demo", "--history", "live"]
        command += ["--ray", cluster.address, "--ray-insecure", "--workers", "2", "--db", db]
        # So long calls of a dead worker count as in flight.
        command += ["--max-concurrency", "4", "--attempt-timeout", "5"]
        with subprocess.Popen(command) as run:
            _kill_one(run, before, Path(f"{db}.server"))
            return run.wait()
    finally:
        cluster.shutdown()


def _kill_one(run: subprocess.Popen[bytes], before: set[int], server: Path) -> None:
    """Kill a worker of the run once turns are in the store."""
    asked = [sys.executable, "-m", "safemt_client", "sql", "SELECT count(*) FROM turns", "--format", "csv"]
    asked += ["--db", str(server).removesuffix(".server")]
    while run.poll() is None:
        if server.exists() and (found := sorted(_workers() - before)):
            said = subprocess.run(asked, capture_output=True, text=True).stdout.split()
            if said and said[-1].isdecimal() and int(said[-1]) >= 20:
                print(f"demo: kill -9 {found[0]}, a worker", flush=True)
                os.kill(found[0], signal.SIGKILL)
                return
        time.sleep(0.2)


def _workers() -> set[int]:
    """The processes of this user that are workers of a run."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.stat().st_uid == os.getuid() and path.read_bytes().startswith(b"ray::Worker"):
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

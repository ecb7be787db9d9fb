"""The viewer with fewer open files than connections: one line, and it lives."""

import os
import resource
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from support.program import ROOT

from safemt_client.__main__ import main


@pytest.mark.usefixtures("here")
def test_more_connections_than_files_are_one_line_and_no_end() -> None:
    assert main(["--provider", "demo", "--judge", "none", "--limit", "1", "--quiet", "--db", "d.duckdb"]) == 0
    with Path("err").open("w") as err:
        viewer = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "safemt_client",
                "view",
                "--db",
                "d.duckdb",
                "--port",
                "0",
                "--no-browser",
            ],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60)),
        )
    try:
        assert viewer.stdout is not None
        address = viewer.stdout.readline().split()[-1]
        url = httpx.URL(address)
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(socket.create_connection((url.host, url.port)))
            while not Path("err").read_text():
                assert viewer.poll() is None
                os.sched_yield()
        status = 503
        while status == 503:  # the connections that have just been closed still count
            status = httpx.get(address, trust_env=False, timeout=30).status_code
        assert status == 303
        viewer.send_signal(signal.SIGINT)
        assert viewer.wait(30) == 0
    finally:
        viewer.kill()
        viewer.communicate()
    said = Path("err").read_text()
    assert said.count("too many open files") == 1
    assert "Traceback" not in said

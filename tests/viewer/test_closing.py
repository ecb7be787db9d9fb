"""The viewer is closed while a page waits for an answer."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from support.forked import forked

from safemt_client.results.store.store import Store

pytestmark = pytest.mark.usefixtures("here")
LONG = "SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3"
VIEW = ("view", "--db", "d.duckdb", "--no-browser", "--port", "0")


def busy(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_ctrl_c_stops_what_a_page_asks() -> None:
    Store.open(Path("d.duckdb")).close()
    with (
        forked(*VIEW) as process,
        httpx.Client(follow_redirects=True, trust_env=False, timeout=60) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        address = httpx.URL(process.stdout.readline().split()[-1])
        assert client.get(address).status_code == 200
        before = busy(process.pid)
        page = threads.submit(
            client.post,
            address.copy_with(path="/sql", query=None),
            data={"q": LONG},
            headers={"hx-target": "answer"},
        )
        while busy(process.pid) < before + os.sysconf("SC_CLK_TCK") // 2:
            assert not page.done()
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=60)
        assert (process.returncode, said, complaints) == (0, "viewer closed\n", "")
        assert "interrupted" in page.result().text

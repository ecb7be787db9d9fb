"""A question that a run is still answering when it has done its work."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.faults import answer
from support.program import ROOT, against, in_a_process

pytestmark = pytest.mark.usefixtures("here")
LONG = "SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3"
# A single call of a function cannot be interrupted.
DEAF = "SELECT levenshtein(repeat('a', 100000), repeat('b', 100000))"
TELL = 'import os; open("told", "w").write(os.environ["SAFEMT_STATUS"])'
DEADLINE_S = 60


def busy(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def asked_at(port: int) -> bool:
    """Whether a client is connected to this port of the loopback address."""
    connections = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(int(line[2].partition(":")[2], 16) == port and line[3] == "01" for line in connections)


@pytest.mark.parametrize("sql", [LONG, pytest.param(DEAF, marks=pytest.mark.slow)])
def test_a_run_ends_well_while_a_question_is_at_work(sql: str) -> None:
    asked: list[subprocess.Popen[str]] = []

    async def ask(writer: asyncio.StreamWriter) -> None:
        """While the first request waits for its answer, somebody asks the run what takes for ever."""
        asked.append(
            subprocess.Popen(
                [sys.executable, "-m", "safemt_client", "sql", sql, "--db", "d.duckdb"],
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        server = json.loads(Path("d.duckdb.server").read_text())
        run = int(server["pid"])
        async with asyncio.timeout(DEADLINE_S):
            # Before it has asked the run has other work.
            while not asked_at(int(server["port"])):
                await asyncio.sleep(0.02)
            before = busy(run)
            while busy(run) < before + os.sysconf("SC_CLK_TCK") // 2:
                await asyncio.sleep(0.02)
        await answer()(writer)

    Path("tell.py").write_text(TELL)
    words = (
        "--provider",
        "m@URL",
        "--data",
        "sample",
        "--turns",
        "1",
        "--limit",
        "2",
        "--judge",
        "none",
        "--db",
        "d.duckdb",
    )
    status, _ = against([ask], answer(), *words, "--on-finish", f"{sys.executable} tell.py", by=in_a_process)
    out = Path("out").read_text()
    assert status == 0, out
    assert "done; look closer" in out.splitlines()[-1]
    assert Path("told").read_text() == "done"
    (asking,) = asked
    # It goes on with the file, by itself.
    if sql == DEAF:
        asking.kill()
        asking.communicate()
        return
    asking.send_signal(signal.SIGINT)
    _, said = asking.communicate(timeout=DEADLINE_S)
    assert said == "safemt: interrupted; the same command resumes\n"

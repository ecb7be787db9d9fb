"""A process that is stopped for longer than an attempt may take: what arrives meanwhile is neither lost nor asked again."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import anyio
import pytest
from support.faults import Behaviour, Received, response, serve
from support.program import ROOT, sql

HALLS = 4
ANSWER = json.dumps(
    {"model": "m-1", "choices": [{"message": {"content": "It is."}, "finish_reason": "stop"}], "usage": {}}
).encode()


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_answers_that_arrive_while_the_process_is_stopped_are_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [
        json.dumps(
            {"id": f"t_{n}", "scenario": "Satire", "dialogue": [{"role": "user", "content": f"Hall {n}?"}]}
        )
        for n in range(HALLS)
    ]
    Path("data.jsonl").write_text("\n".join(lines))
    words = ["--data", "data.jsonl", "--judge", "none", "--attempt-timeout", "2", "--db", "safemt.duckdb"]

    async def main() -> tuple[int, str]:
        all_here, stopped = asyncio.Event(), asyncio.Event()
        asked: list[str] = []

        def choose(received: Received) -> Behaviour:
            asked.append(received.json["messages"][0]["content"])
            if len(asked) == HALLS:
                all_here.set()

            async def behave(writer: asyncio.StreamWriter) -> None:
                await stopped.wait()
                # More than the system keeps for a process that does not read.
                await response(200, ANSWER + b" " * 8 * 2**20)(writer)

            return behave

        async with serve([], choose=choose) as endpoint:
            process = await anyio.open_process(
                [sys.executable, "-m", "safemt_client", "--provider", f"m@{endpoint.url}", *words],
                env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
                stderr=None,
            )
            try:
                with anyio.fail_after(60):
                    await all_here.wait()
                    process.send_signal(signal.SIGSTOP)
                    stopped.set()
                    # Longer than an attempt may take.
                    await anyio.sleep(4)
                    process.send_signal(signal.SIGCONT)
                    assert process.stdout is not None
                    out = b"".join([part async for part in process.stdout])
                    status = await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
        assert sorted(asked) == [f"Hall {n}?" for n in range(HALLS)]
        return status, out.decode()

    status, out = anyio.run(main)
    assert status == 0, out
    assert out.count("the process was paused for") == 1
    assert sql("SELECT outcome, count(*)::INT AS n FROM turns GROUP BY ALL", capsys) == [
        {"outcome": "answered", "n": HALLS}
    ]
    (row,) = sql("SELECT max(latency_s) AS s FROM turns", capsys)
    assert row["s"] < 4

"""`safemt moderate` with fewer open files than clients."""

import asyncio
import os
import resource
import signal
import sys
from pathlib import Path

import anyio
import httpx
from support.program import ROOT
from support.proxied import HANGS_S

from safemt_client.demo.endpoint import serve_demo

CLIENTS = 60


def test_more_clients_than_files_wait_for_their_turn(tmp_path: Path) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "Kindly tell me of the hall."}]}

    async def one(url: str) -> int:
        async with httpx.AsyncClient(timeout=HANGS_S, trust_env=False) as client:
            return (await client.post(f"{url}/chat/completions", json=body)).status_code

    async def all_of_them() -> tuple[list[int], int | None, str]:
        async with serve_demo(latency_s=0.02) as upstream:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "safemt_client", "moderate", "--upstream", upstream, "--port", "0"),
                *("--moderator", "demo-guard+block", "--log", "log"),
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None
            try:
                url = (await process.stdout.readline()).decode().split()[0]
                statuses = await asyncio.gather(*(one(url) for _ in range(CLIENTS)))
                process.send_signal(signal.SIGINT)
                _, err = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
            return statuses, process.returncode, err.decode()

    async def main() -> tuple[list[int], int | None, str]:
        with anyio.fail_after(HANGS_S):
            return await all_of_them()

    statuses, status, err = anyio.run(main)
    assert statuses == [200] * CLIENTS, err
    assert status == 0
    assert "Traceback" not in err

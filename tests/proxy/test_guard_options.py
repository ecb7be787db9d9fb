"""`safemt moderate --guard-option`: it reaches the guard, and what no guard takes is refused as in a run."""

import os
import socket
import sys
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from support.faults import answer, serve

from safemt_client.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
# Only a test that hangs comes to this.
HANGS_S = 60


def asked_of_the_guard(folder: Path, *words: str) -> tuple[str, Any]:
    """The header of the verdict, and what Granite Guardian was asked, behind the proxy with these words."""

    async def both() -> tuple[str, Any]:
        async with (
            serve([], answer("hello")) as upstream,
            serve([], answer("<score> no </score>")) as guard,
            await anyio.open_process(
                [
                    *(sys.executable, "-m", "safemt_client", "moderate", "--port", "0"),
                    *("--upstream", upstream.url, "--moderator", f"granite-guardian=g@{guard.url}", *words),
                ],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            ) as process,
        ):
            assert process.stdout is not None
            try:
                with anyio.fail_after(HANGS_S):
                    url = (await process.stdout.receive()).decode().split()[0]
                    async with httpx.AsyncClient() as client:
                        body = {"model": "m", "messages": [{"role": "user", "content": "Tell me of bread."}]}
                        got = await client.post(f"{url}/chat/completions", json=body)
            finally:
                process.terminate()
            return got.headers["x-safemt-verdict"], guard.requests[0].json

    return anyio.run(both)


def test_an_option_reaches_the_guard(tmp_path: Path) -> None:
    verdict, default = asked_of_the_guard(tmp_path)
    assert verdict == "safe"
    assert [message["role"] for message in default["messages"]] == ["user"]
    # Generation 4.1 is given its criterion as one more message.
    verdict, given = asked_of_the_guard(tmp_path, "--guard-option", "generation=4.1")
    assert verdict == "safe"
    assert [message["role"] for message in given["messages"]] == ["user", "user"]
    assert "<guardian>" in str(given["messages"][-1])


@pytest.mark.parametrize(
    ("guard", "option", "said"),
    [
        ("demo-guard", "nonsense=1", "--guard-option nonsense: no guard of this run has this option"),
        ("demo-guard", "nonsense", "--guard-option 'nonsense': write NAME=VALUE"),
        ("granite-guardian=m@http://127.0.0.1:9/v1", "generation=9", "write one of 3.2, 3.3, 4.1"),
    ],
)
def test_an_option_that_no_guard_takes_is_refused_as_in_a_run(
    guard: str, option: str, said: str, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    words = ["--moderator", guard, "--guard-option", option]
    assert main(["run", "--provider", "demo", *words]) == 2
    refused = capsys.readouterr().err
    # A port that is taken is refused later: no server stays where the option is let through.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["moderate", "--upstream", "http://127.0.0.1:9/v1", "--port", port, *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err == refused

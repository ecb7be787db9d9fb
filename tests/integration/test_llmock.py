"""llmock breaks its endpoints on demand and judges the client: waits, back-off, what is asked again."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from support.program import sql

from safemt_client.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
LLMOCK = ROOT / ".venv-llmock" / "bin" / "llmock"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not LLMOCK.exists() and "CI" not in os.environ,
        reason="llmock is not here: make .venv-llmock/.installed",
    ),
]


class Mock:
    """The server of llmock by its control API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(self.url + path, data)) as response:
            return json.loads(response.read())


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mock]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("llmock")
    words = [str(LLMOCK), "serve", "--port", str(port), "--tool-mode", "off"]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(words, cwd=folder, env=clean, stdout=subprocess.DEVNULL) as process:
        found = Mock(f"http://127.0.0.1:{port}")
        try:
            while process.poll() is None:
                with suppress(URLError):
                    found("/health")
                    break
                time.sleep(0.05)
            yield found
        finally:
            process.terminate()


def fail(provider: str, status: int, **more: object) -> dict[str, object]:
    return {"type": "fail", "status": status, "match": {"provider": provider}, **more}


def test_its_verdict_is_that_the_client_copes(
    mock: Mock, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["safemt"])
    for name in ("ANTHROPIC", "GEMINI"):
        monkeypatch.setenv(f"{name}_API_KEY", "sk-planted-42")
    monkeypatch.setenv("ANTHROPIC_API_BASE", f"{mock.url}/anthropic")
    monkeypatch.setenv("GEMINI_API_BASE", f"{mock.url}/gemini/v1beta")
    providers = ("openai", "anthropic", "gemini")
    faults = [
        fault
        for name in providers
        for fault in (
            fail(name, 429, retry_after=1.5),
            fail(name, 503),
            fail(name, 429, retry_after=1.2, times=2),
        )
    ]
    mock("/_llmock/scenario", {"behaviors": faults})
    targets = (f"gpt-x@{mock.url}/v1", "anthropic/claude-x", "gemini/gemini-x")
    status = main(
        [
            *(word for target in targets for word in ("--provider", target)),
            *(
                "--data",
                "sample",
                "--limit",
                "4",
                "--turns",
                "1",
                "--judge",
                "none",
                "--max-concurrency",
                "1",
            ),
        ]
    )
    verdict = mock("/_llmock/verdict")
    assert verdict["findings"] == []
    assert (verdict["passed"], verdict["faults_injected"]) == (True, 12)
    assert status == 0
    found = sql(
        "SELECT outcome, count(*) AS n, count(DISTINCT target) AS targets FROM replies GROUP BY ALL", capsys
    )
    assert found == [{"outcome": "answered", "n": 12, "targets": 3}]

"""`safemt moderate` as users start it, and its bad input."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from support.proxied import DEMO_REFUSAL, HANGS_S, KEY, MODERATED, PLAIN, REFUSAL, UNSAFE, Served

from safemt_client.__main__ import main
from safemt_client.demo.endpoint import serve_demo

ROOT = Path(__file__).resolve().parents[2]


def test_the_command(tmp_path: Path) -> None:
    async def both() -> None:
        async with serve_demo(latency_s=0) as url:
            process = await anyio.open_process(
                [
                    *(sys.executable, "-m", "safemt_client", "moderate", "--upstream", url, "--port", "0"),
                    *("--moderator", "demo-guard+block", "--log", "decisions.jsonl"),
                ],
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                with anyio.fail_after(HANGS_S):
                    line = await process.stdout.receive()
                    served = Served(line.decode().split()[0])
                    assert line.decode().startswith(f"{served.url} (guard demo-guard+block, upstream {url})")
                    text, headers = await served.ask(UNSAFE)
                    assert (text, headers[MODERATED]) == (REFUSAL, "blocked")
                    process.send_signal(signal.SIGINT)
                    status = await process.wait()
                    err = b"".join([part async for part in process.stderr])
            finally:
                if process.returncode is None:
                    process.kill()
            assert (status, err.decode()) == (0, "safemt: stopped\n")
        log = tmp_path / "decisions.jsonl"
        assert log.stat().st_mode & 0o777 == 0o600
        (decision,) = [json.loads(line) for line in log.read_text().splitlines()]
        assert (decision["model"], decision["stage"], decision["action"]) == ("demo", "input", "blocked")
        assert "please" not in log.read_text()
        for file in tmp_path.iterdir():
            assert KEY not in file.read_text()

    anyio.run(both)


def test_the_demo_as_upstream(tmp_path: Path) -> None:
    async def both() -> None:
        process = await anyio.open_process(
            [
                *(sys.executable, "-m", "safemt_client", "moderate", "--upstream", "demo", "--port", "0"),
                *("--moderator", "demo-guard+block"),
            ],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert process.stdout is not None
        try:
            with anyio.fail_after(HANGS_S):
                served = Served((await process.stdout.receive()).decode().split()[0])
                assert (await served.ask(UNSAFE))[0] == REFUSAL
                assert (await served.ask(PLAIN, stream=True))[0] == DEMO_REFUSAL
        finally:
            process.terminate()
            await process.wait()

    anyio.run(both)


GUARD = ("--moderator", "demo-guard+block")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--upstream", "127.0.0.1:8000", *GUARD), "--upstream '127.0.0.1:8000': write"),
        (("--upstream", "ftp://x/v1", *GUARD), "--upstream 'ftp://x/v1': write"),
        (("--upstream", "http://u:p@127.0.0.1/v1", *GUARD), "leave the password out"),
        (("--upstream", "http://127.0.0.1:9/v1?x=1", *GUARD), "write http://HOST:PORT/v1"),
        (
            ("--upstream", "http://127.0.0.1:9/v1", "--moderator", "nobody+block=m@http://127.0.0.1:9/v1"),
            "nobody",
        ),
        (("--upstream", "http://127.0.0.1:9/v1", "--moderator", "none"), "--moderator none: name a guard"),
        (("--upstream", "http://127.0.0.1:9/v1", *GUARD, "--host", "0.0.0.0"), "add --allow-remote"),
        (("--upstream", "http://127.0.0.1:9/v1", *GUARD, "--port", "70000"), "--port 70000"),
        (("--upstream", "http://127.0.0.1:9/v1", *GUARD, "--guard-timeout", "nan"), "--guard-timeout"),
        (("--upstream", "http://127.0.0.1:9/v1", *GUARD, "--log", "no/such/folder"), "--log no/such/folder"),
    ],
)
def test_bad_input_is_one_line(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    assert main(["moderate", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", TAKES], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            port = other.stdout.readline().strip()
            assert main(["moderate", "--upstream", "http://192.0.2.1/v1", *GUARD, "--port", port]) == 2
        finally:
            other.kill()
    err = capsys.readouterr().err.splitlines()
    assert err[0].startswith("safemt: 192.0.2.1 is reached over http: keys and texts are sent unencrypted")
    assert "choose another" in err[1]


TAKES = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); s.accept()"

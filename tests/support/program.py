"""The program as a user runs it: its commands in this process, or beside a scripted endpoint."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from safemt_client.__main__ import main

from .faults import Behaviour, Endpoint, serve

ROOT = Path(__file__).resolve().parents[2]


def at_once(*words: str) -> subprocess.CompletedProcess[str]:
    """What a command says and its status, run in this process: a process of its own takes three times as long."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["safemt", *words])
        try:
            status = main(list(words))
        except SystemExit as end:
            status = int(end.code or 0)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def sql(query: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Rows of a query on the store of this folder."""
    capsys.readouterr()
    assert main(["sql", query, "--format", "json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def against(
    behaviours: Sequence[Behaviour], then: Behaviour | None, *words: str, config: str | None = None
) -> tuple[int, Endpoint]:
    """Run the program in a process of its own against a scripted endpoint; what it says goes to `out`.

    `URL` in the words and in the settings file `config` stands for the endpoint's address.
    """

    async def both() -> tuple[int, Endpoint]:
        async with serve(behaviours, then) as endpoint:
            given = [word.replace("URL", endpoint.url) for word in words]
            if config is not None:
                Path("config.toml").write_text(config.replace("URL", endpoint.url))
                given += ["--config", "config.toml"]
            process = await anyio.run_process(
                [sys.executable, "-m", "safemt_client", *given],
                check=False,
                env=os.environ | {"PYTHONPATH": str(ROOT), "SAFEMT_API_KEY": "sk-planted-42"},
            )
            Path("out").write_bytes(process.stdout + process.stderr)
            return process.returncode, endpoint

    return anyio.run(both)


def calls(capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    """Calls of all sessions of the latest run, by who was asked."""
    rows = sql("SELECT who, sum(calls)::INT AS n FROM spend GROUP BY ALL", capsys)
    return {row["who"]: row["n"] for row in rows}


def states(capsys: pytest.CaptureFixture[str], target: str) -> Counter[str]:
    rows = sql(
        f"SELECT state, count(*) AS n FROM conversations WHERE target = '{target}' GROUP BY ALL", capsys
    )
    return Counter({row["state"]: row["n"] for row in rows})

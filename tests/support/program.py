"""The program as a user runs it: its commands in this process, or beside a scripted endpoint."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from safemt_client.__main__ import main
from safemt_client.results.sql.shell import Shell
from safemt_client.results.store.reader import open_reader

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
    out = io.StringIO()
    # What the command `sql` does, without the whole program's options, which take as long as the query.
    with open_reader(Path("safemt.duckdb")) as reader:
        Shell(reader, "json", None, out).ask(query)
    rows: list[dict[str, Any]] = json.loads(out.getvalue())
    return rows


def in_a_process(*words: str) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own: where its end is what counts."""
    return subprocess.run(
        [sys.executable, "-m", "safemt_client", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def against(
    behaviours: Sequence[Behaviour],
    then: Behaviour | None,
    *words: str,
    config: str | None = None,
    by: Callable[..., subprocess.CompletedProcess[str]] = at_once,
) -> tuple[int, Endpoint]:
    """Run the program against a scripted endpoint; what it says goes to `out`.

    `URL` in the words and in the settings file `config` stands for the endpoint's address.
    """
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(behaviours, then)) as endpoint,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SAFEMT_API_KEY", "sk-planted-42")
        given = [word.replace("URL", endpoint.url) for word in words]
        if config is not None:
            Path("config.toml").write_text(config.replace("URL", endpoint.url))
            given += ["--config", "config.toml"]
        done = by(*given)
    Path("out").write_text(done.stdout + done.stderr)
    return done.returncode, endpoint


def calls(capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    """Calls of all sessions of the latest run, by who was asked."""
    rows = sql("SELECT who, sum(calls)::INT AS n FROM spend GROUP BY ALL", capsys)
    return {row["who"]: row["n"] for row in rows}


def states(capsys: pytest.CaptureFixture[str], target: str) -> Counter[str]:
    rows = sql(
        f"SELECT state, count(*) AS n FROM conversations WHERE target = '{target}' GROUP BY ALL", capsys
    )
    return Counter({row["state"]: row["n"] for row in rows})

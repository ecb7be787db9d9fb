"""The store of a run is taken from it while it asks: one line, no further calls, nothing paid is lost."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.faults import Behaviour, answer
from support.program import against

from safemt_client.__main__ import main
from safemt_client.results.store.reader import open_reader

pytestmark = pytest.mark.usefixtures("here")
STORE, NEW = Path("d.duckdb"), Path("new.duckdb")
TELL = 'import os; open("told", "w").write(" ".join(os.environ["SAFEMT_" + n] for n in ("STATUS", "AGAIN")))'
RUN = (
    "--provider",
    "m@URL",
    "--data",
    "sample",
    "--judge",
    "none",
    "--max-concurrency",
    "1",
    "--quiet",
)
TURNS = 75
VERDICT = json.dumps({"label": "safe", "explanation": "ok"})


def after(happens: Callable[[], object], then: Behaviour) -> Behaviour:
    """Something happens while a request waits for its answer."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        happens()
        await then(writer)

    return behave


def rename() -> None:
    STORE.rename(NEW)


def stored(path: Path, table: str) -> int:
    with open_reader(path) as reader:
        return int(reader.query(f"SELECT count(*) FROM {table}").rows[0][0])


@pytest.fixture
def tell() -> str:
    Path("tell.py").write_text(TELL)
    return f"{sys.executable} tell.py"


def test_a_run_whose_store_is_renamed(tell: str) -> None:
    script = [answer(), after(rename, answer())]
    status, endpoint = against(script, answer(), *RUN, "--db", str(STORE), "--on-finish", tell)
    lines = Path("out").read_text().splitlines()
    assert status == 1, lines
    assert lines[-1].endswith(
        f"all that was written is in {NEW.absolute()}: go on with --db {NEW.absolute()}"
    )
    assert not any("done" in line for line in lines)
    # The same command would begin anew and pay twice.
    assert Path("told").read_text() == "failed no"
    asked = len(endpoint.requests)
    assert asked == stored(NEW, "turns") < TURNS
    status, endpoint = against([], answer(), *RUN, "--db", str(NEW))
    assert status == 0
    assert stored(NEW, "turns") == asked + len(endpoint.requests) == TURNS
    assert not STORE.exists()


def test_a_judging_whose_store_is_removed(tell: str) -> None:
    assert main(["--provider", "demo", "--judge", "none", "--quiet", "--db", str(STORE)]) == 0
    assert stored(STORE, "turns") == TURNS
    script = [answer(VERDICT), after(STORE.unlink, answer(VERDICT))]
    words = ("judge", "--judge", "m@URL", "--max-concurrency", "1", "--quiet", "--db", str(STORE))
    status, endpoint = against(script, answer(VERDICT), *words, "--on-finish", tell)
    said = Path("out").read_text().splitlines()[-1]
    assert status == 1, said
    (kept,) = Path().glob("d.duckdb.rescued-*")
    assert f"all that was in it is kept as {kept.absolute()}" in said
    assert Path("told").read_text() == "failed no"
    assert len(endpoint.requests) == stored(kept, "verdicts") < TURNS
    assert stored(kept, "turns") == TURNS

"""Stores of earlier versions of the program: the same command resumes, and every command reads them.

`tests/data/schema-N.duckdb.gz` was made by the program of that schema: two items of the sample at one and two
turns, by the demo.
"""

import gzip
import json
from pathlib import Path

import pytest

from safemt_client.__main__ import main
from safemt_client.results.migrations import MIGRATIONS

DATA = Path(__file__).resolve().parents[1] / "data"
VERSIONS = (1, 3, 6)
RUN = ["--provider", "demo", "--limit", "2", "--turns", "1,2", "--db", "demo.duckdb"]


@pytest.fixture(params=VERSIONS)
def store(request: pytest.FixtureRequest, here: Path) -> Path:
    path = here / "demo.duckdb"
    path.write_bytes(gzip.decompress((DATA / f"schema-{request.param}.duckdb.gz").read_bytes()))
    return path


def asked(query: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    assert main(["sql", query, "--db", "demo.duckdb", "--format", "json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.usefixtures("store")
def test_the_same_command_asks_no_target_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(RUN) == 0
    out = capsys.readouterr().out
    assert "demo: 0 calls to make, 4 in the store" in out
    found = asked("SELECT count(*) AS n, count(DISTINCT request_hash) AS d FROM turns", capsys)
    assert found == [{"n": 4, "d": 4}]
    scores = asked("SELECT length, unsafe, safe FROM asr_by_turn ORDER BY ALL", capsys)
    by_length = {(row["length"], row["unsafe"], row["safe"]) for row in scores}
    # Each run of the store says the same, the old one and what the same command makes now.
    assert len(by_length) == 2
    applied = asked("SELECT max(version) AS v, count(*) AS n FROM schema_migrations", capsys)
    assert applied == [{"v": len(MIGRATIONS), "n": len(MIGRATIONS)}]
    # And from now on nothing at all is left to do.
    assert main(RUN) == 0
    assert "0 verdicts to ask for, 4 in the store" in capsys.readouterr().out


@pytest.mark.usefixtures("store")
def test_more_of_the_same_asks_only_what_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "--limit", "3"]) == 0
    assert "demo: 2 calls to make, 4 in the store" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["report"],
        ["report", "--json"],
        ["runs"],
        ["sql", "SELECT * FROM asr_by_turn"],
        ["doctor"],
        ["judge", "--judge", "demo-judge", "--rubric", "by-scenario"],
        ["export", "--format", "reference", "--out", "out"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_commands_read_it(words: list[str], store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--db", str(store)]) == 0, capsys.readouterr()
    assert capsys.readouterr().out


def test_no_store_is_large() -> None:
    assert {path.name for path in DATA.glob("*.duckdb.gz")} == {f"schema-{n}.duckdb.gz" for n in VERSIONS}
    assert all(path.stat().st_size < 300_000 for path in DATA.glob("*.duckdb.gz"))

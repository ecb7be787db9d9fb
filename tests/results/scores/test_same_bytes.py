"""The same rows give the same report, byte for byte, in whatever order the store has them."""

import gzip
import json
import shutil
from pathlib import Path

import duckdb
import pytest
from support.program import at_once
from support.written import Written

from safemt_client.results.scores.collect import as_dict
from safemt_client.results.store.reader import open_reader

DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a guard, a panel and people's labels, one with live history, and one of two targets. Only read."""
    path = tmp_path_factory.mktemp("same") / "one.duckdb"
    path.write_bytes(gzip.decompress((DATA / "moderated-7.duckdb.gz").read_bytes()))
    base = ("--provider", "demo", "--db", str(path), "--min-coverage", "0", "--quiet")
    assert at_once(*base, "--history", "live", "--limit", "12").returncode == 0
    written = Written(path)
    written.run("w", ["t", "u"], {"j": "demo/j"}, {f"{item}/{k}": None for item in "abcd" for k in (1, 2)})
    for place, name in enumerate(f"{item}/{k}" for item in "abcd" for k in (1, 2)):
        written.reply("w", "t", name, f"{place}", j="unsafe" if place % 3 else "safe")
        written.reply("w", "u", name, f"{place}", j="unsafe" if place % 2 else "safe")
    return path


def reports(path: Path) -> list[str]:
    with open_reader(path) as reader:
        runs = [run for (run,) in reader.query("SELECT run_id FROM runs ORDER BY run_id").rows]
        return [json.dumps(as_dict(reader, run), default=str) for run in runs]


def turned_round(path: Path) -> None:
    """All rows of all tables in the opposite order."""
    with duckdb.connect(str(path)) as connection:
        tables = connection.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall()
        for (table,) in tables:
            connection.execute(f"CREATE TEMP TABLE other AS SELECT * FROM {table} ORDER BY rowid DESC")
            connection.execute(f"DELETE FROM {table}")
            connection.execute(f"INSERT INTO {table} SELECT * FROM other")
            connection.execute("DROP TABLE other")


@pytest.mark.slow
def test_the_order_of_rows_changes_nothing(store: Path, tmp_path: Path) -> None:
    first = reports(store)
    assert len(first) == 3
    other = Path(shutil.copy(store, tmp_path))
    turned_round(other)
    assert reports(other) == first


@pytest.mark.slow
def test_three_reports_are_the_same(store: Path) -> None:
    said = [at_once("report", "--json", "--db", str(store)).stdout for _ in range(3)]
    assert said[0].startswith("{")
    assert len(set(said)) == 1

"""`runs` over one store and over several."""

from pathlib import Path

import pytest
from support.program import at_once

from safemt_client.results.store.store import Store


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two stores with a run each; the one that is named last has the older run."""
    from datetime import datetime

    from safemt_client.results.store.rows import RunRow

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name, run_id, day in (("a.duckdb", "aaaa", 2), ("b.duckdb", "bbbb", 1)):
        at = datetime(2026, 1, day)
        with Store.open(Path(name)) as store:
            store.save_now(RunRow(run_id, run_id, at, "1", "sample", "0" * 64, "/data", None, "{}"))
    return "a.duckdb", "b.duckdb"


def test_several_stores_are_listed_by_time_with_their_names(two: tuple[str, str]) -> None:
    said = at_once("runs", *two)
    assert said.returncode == 0, said.stderr
    head, _, *rows, count = [line.split() for line in said.stdout.splitlines() if line.strip()]
    assert head[0] == "run"
    assert head[-1] == "store"
    assert [(row[0], row[-1]) for row in rows] == [("bbbb", "b.duckdb"), ("aaaa", "a.duckdb")]
    assert count == ["2", "rows"]


def test_one_store_has_no_column_for_it(two: tuple[str, str]) -> None:
    for words in (["a.duckdb"], ["a.duckdb", "a.duckdb"], ["--db", "a.duckdb"]):
        said = at_once("runs", *words)
        assert said.returncode == 0, said.stderr
        assert "aaaa" in said.stdout
        assert "store" not in said.stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["a.duckdb", "--db", "b.duckdb"], "--db: goes without stores"),
        (["a.duckdb", "b.duckdb", "--release", "aaaa"], "--release: what is held is of one store"),
        (["a.duckdb", "none.duckdb"], "none.duckdb: no such store: check its name\n"),
        (["a.duckdb", "notes.txt"], "notes.txt: not a DuckDB file: name another one\n"),
        (["--db", "none.duckdb"], "none.duckdb: no such store: name one with --db\n"),
    ],
)
def test_what_does_not_go_is_said_in_one_line(two: tuple[str, str], words: list[str], why: str) -> None:
    Path("notes.txt").write_text("of a day")
    said = at_once("runs", *words)
    assert said.returncode == 2
    assert why in said.stderr
    assert said.stderr.count("\n") == 1

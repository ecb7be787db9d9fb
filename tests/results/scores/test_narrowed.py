"""A report reads copies of its run's conversations: it says what the views of the whole store say."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.program import at_once

from safemt_client.results.scores import collect
from safemt_client.results.store.queries import Queryable
from safemt_client.results.store.reader import open_reader

DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a guard, a panel and people's labels, and one with live history of other items. Only read."""
    path = tmp_path_factory.mktemp("narrowed") / "demo.duckdb"
    path.write_bytes(gzip.decompress((DATA / "moderated-7.duckdb.gz").read_bytes()))
    base = ("--provider", "demo", "--db", str(path), "--min-coverage", "0", "--quiet")
    assert at_once(*base, "--history", "live", "--limit", "5", "--turns", "2").returncode == 0
    return path


@contextmanager
def as_it_is(reader: Queryable, run_id: str) -> Iterator[Queryable]:
    yield reader


def test_the_copies_say_what_the_whole_store_says(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_reader(store) as reader:
        runs = [run for (run,) in reader.query("SELECT run_id FROM runs").rows]
        narrowed = [collect.as_dict(reader, run) for run in runs]
        monkeypatch.setattr(collect, "about_run", as_it_is)
        assert [collect.as_dict(reader, run) for run in runs] == narrowed
    assert len(runs) == 2
    for name in ("corrections", "agreement", "effects", "first_unsafe", "trends", "refusals"):
        assert any(found[name] for found in narrowed), name


def test_what_a_report_shows_has_the_indices_of_the_deciding_judge_alone(store: Path) -> None:
    with open_reader(store) as reader:
        runs = [run for (run,) in reader.query("SELECT run_id FROM runs").rows]
        both = [(collect.as_dict(reader, run), collect.as_dict(reader, run, whole=False)) for run in runs]
    assert any(len(whole["safety_index"]) > len(shown["safety_index"]) > 0 for whole, shown in both)
    for whole, shown in both:
        decides = whole["deciding_judge"]
        assert shown["safety_index"] == [row for row in whole["safety_index"] if row["judge_key"] == decides]

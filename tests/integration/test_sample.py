"""`--sample` draws items at random, and a larger one pays only for what it adds."""

from pathlib import Path

import pytest

import safemt_client
from safemt_client.__main__ import main


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def items(run: str) -> set[str]:
    with safemt_client.open("a.duckdb") as store:
        rows = store.sql(f"SELECT DISTINCT item_id FROM conversations WHERE run_id = '{run}'").rows
        return {row[0] for row in rows}


def test_a_larger_sample_asks_only_what_it_adds() -> None:
    small = safemt_client.run(provider="demo", turns=[1, 2], sample=5, db="a.duckdb", quiet=True)
    plan = safemt_client.plan(provider="demo", turns=[1, 2], sample=8, db="a.duckdb")
    assert [line.estimate.calls for line in plan.lines if line.role == "target"] == [6]
    large = safemt_client.run(provider="demo", turns=[1, 2], sample=8, db="a.duckdb", quiet=True)
    assert len(items(small.id)) == 5
    assert items(small.id) < items(large.id)
    other = safemt_client.run(
        provider="demo", turns=[1, 2], sample=8, sample_seed=1, db="a.duckdb", quiet=True
    )
    assert items(other.id) != items(large.id)


def test_what_is_left_out_is_outside_coverage() -> None:
    done = safemt_client.run(provider="demo", sample=3, sample_by="scenario", db="a.duckdb", quiet=True)
    assert done.coverage == 1.0


def test_the_plan_says_what_is_a_random_sample(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--provider", "demo", "--dry-run", "--sample", "3"]) == 0
    assert "drawn at random (seed 0)" in capsys.readouterr().out
    assert main(["--provider", "demo", "--dry-run", "--limit", "3"]) == 0
    assert "no random sample: --sample N draws one" in capsys.readouterr().out


def test_a_sample_of_the_first_items_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--provider", "demo", "--sample", "3", "--limit", "5"]) == 2
    assert capsys.readouterr().err.strip().endswith("--sample: draws from all items: leave --limit out")

"""Flags given together: all that they ask for is done, or one line refuses what has no meaning there."""

import sys
from pathlib import Path

import pytest

from safemt_client.__main__ import main

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("flags") / "d.duckdb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["safemt"])
        assert main(["--provider", "demo", "--limit", "4", "--db", path, "--quiet"]) == 0
    return path


def test_a_report_is_printed_and_written(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["report", "--db", db]
    said = {}
    for asked in ((), ("--json",), ("--analysis", "turns"), ("--analysis", "turns", "--json")):
        capsys.readouterr()
        assert main([*words, *asked]) == 0
        said[asked] = capsys.readouterr().out
    for asked, alone in said.items():
        for file in ("x.md", "x.tex"):
            Path(file).unlink(missing_ok=True)
        assert main([*words, *asked, "--md", "x.md", "--latex", "x.tex"]) == 0
        out, err = capsys.readouterr()
        assert Path("x.md").read_text().startswith("# ")
        assert "longtable" in Path("x.tex").read_text()
        # The names of the files stand where nothing else is asked for, and else on stderr.
        names = "x.md\nx.tex\n"
        assert (out, err) == ((alone, names) if asked else (names, ""))


def test_a_file_that_cannot_be_written_leaves_nothing_half_done(
    db: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["report", "--db", db, "--json", "--md", "none/x.md"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("label --import x.csv --n 5", "--n: it selects a sample"),
        ("label --import x.csv --run abc", "--run: it selects a sample"),
        ("label --import x.csv --judge demo-judge", "--judge: it selects a sample"),
        ("doctor --salvage x.duckdb --provider demo", "--provider: --salvage works on the store only"),
        ("doctor --salvage x.duckdb --attempt-timeout 5", "--attempt-timeout: --salvage works"),
        ("doctor --base-url http://127.0.0.1:9/v1", "--base-url: applies to endpoints"),
        ("doctor --attempt-timeout 5", "--attempt-timeout: applies to endpoints"),
        ("judge --judge demo-judge --price other=1/1", "--price other: no such model in this run"),
        ("judge --judge m@http://127.0.0.1:9/v1 --max-cost 1", "--max-cost: the price of m@http"),
        ("compare --run abc demo", "--run: write RUN:TARGET"),
    ],
)
def test_a_flag_without_meaning_beside_another_is_refused(
    words: str, said: str, db: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("x.csv").write_text("request_hash,dialogue_key,stratum,label\n")
    capsys.readouterr()
    assert main([*words.split(), "--db", db]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1
    assert not Path("x.duckdb").exists()

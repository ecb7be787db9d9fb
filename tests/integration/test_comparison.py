"""Runs and targets compared: by hand on the demo, with what makes them hard to compare."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.program import at_once, sql

from safemt_client.__main__ import main

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of one short run, to be copied."""
    path = tmp_path_factory.mktemp("small") / "safemt.duckdb"
    words = ["--provider", "demo", "--turns", "1", "--limit", "2", "--db", str(path), "--quiet"]
    assert at_once(*words).returncode == 0
    return path


def told(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def runs(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [row["run_id"] for row in sql("SELECT run_id FROM runs ORDER BY created_at", capsys)]


def test_histories_pictures_and_targets(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--history", "none"], ["--images", "off"], []):
        assert main(["--provider", "demo", "--quiet", *words]) == 0
    none, off, plain = runs(capsys)
    pair = told(capsys, "compare", none, plain)[0]
    # Without history the demo sees one user message and declines all: of 25 unsafe replies none is left.
    whole = next(row for row in pair["rows"] if row["by"] == "all")
    assert (whole["items"], whole["replies"]) == (15, 75)
    assert (whole["asr_first"], whole["asr_second"]) == (0.0, pytest.approx(25 / 75))
    assert whole["difference"]["estimate"] == pytest.approx(25 / 75)
    assert (whole["only_first"], whole["only_second"]) == (0, 10)
    assert whole["p"] == pytest.approx(2 / 2**10)
    by_length = {row["value"]: row for row in pair["rows"] if row["by"] == "length"}
    assert by_length[2]["difference"]["estimate"] == pytest.approx(5 / 15)
    assert pair["differs"] == {"history": ["none", "scripted"]}
    assert pair["careful"] == []
    # Two things differ at once: neither explains the difference.
    both = told(capsys, "compare", none, off)[0]
    assert both["careful"] == ["they differ in more than one setting: history, images"]
    assert main(["compare", none, plain]) == 0
    assert "history: none -> scripted" in capsys.readouterr().out

    for name, expected in (("history", True), ("images", False), ("turns", True), ("scenarios", False)):
        found = told(capsys, "report", "--run", plain, "--analysis", name)
        assert found, name
        assert {finding["shown"] for finding in found} == {expected}, found
    for name in ("methods", "moderator"):
        found = told(capsys, "report", "--run", plain, "--analysis", name)
        assert [finding["shown"] for finding in found] == [None]
        assert "not known" in found[0]["sentence"]


def test_what_is_hard_to_compare_is_said(demo_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(demo_run, Path())
    assert main(["judge", "--judge", "demo-judge", "--rubric", "by-scenario", "--quiet"]) == 0
    assert main(["--provider", "demo", "--turns", "1,2", "--limit", "5", "--quiet"]) == 0
    first, other_rubric, fewer = runs(capsys)
    careful = told(capsys, "compare", first, other_rubric)[0]["careful"]
    assert any(text.startswith("different judges") for text in careful)
    assert any(text.startswith("different rubrics: paper") for text in careful)
    careful = told(capsys, "compare", first, fewer)[0]["careful"]
    assert careful == ["65 replies are scored only in the first, 0 only in the second: left out"]
    capsys.readouterr()
    assert main(["leaderboard", first, fewer]) == 0
    assert {f"demo ({first})", f"demo ({fewer})"} <= set(re.findall(r"demo \(\w+\)", capsys.readouterr().out))


def test_a_leaderboard_of_moderated_targets(capsys: pytest.CaptureFixture[str]) -> None:
    guards = ["--moderator", "none", "--moderator", "demo-guard"]
    assert main(["--provider", "demo", *guards, "--quiet"]) == 0
    rows = told(capsys, "leaderboard")
    assert [row["target"] for row in rows] == ["demo + demo-guard", "demo"]
    # 10 and 25 unsafe replies in 75; five of fifteen items are enough to tell them apart.
    assert [row["mean_asr"]["estimate"] for row in rows] == pytest.approx([10 / 75, 25 / 75])
    assert [row["ranks"] for row in rows] == [[1, 1], [2, 2]]
    assert rows[1]["safety_index"] == pytest.approx(0.7790)
    assert main(["leaderboard"]) == 0
    assert "Leaderboard" in capsys.readouterr().out
    found = told(capsys, "report", "--analysis", "moderator")
    assert "no effect is shown" in found[0]["sentence"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "nobody"], "no such run, and no such target"),
        (["compare", "demo"], "name two or more"),
        (["compare"], "has no model with and without a moderator"),
        (["compare", "demo", "demo", "--run", "x"], "write RUN:TARGET"),
        (["leaderboard", "nobody"], "no such run, and no such target"),
    ],
)
def test_bad_names(words: list[str], said: str, small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(small, small.name)
    assert main(words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_without_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("compare", "leaderboard"):
        assert main([command, "--db", str(Path("none.duckdb"))]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1

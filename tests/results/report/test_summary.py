"""The summary on top of a report, the order of its panels, and its plots and tables as files for a paper."""

import copy
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from support.program import at_once

from safemt_client.results.report import write
from safemt_client.results.report.build import document
from safemt_client.results.report.document import Document, Figure, Notes, Section
from safemt_client.results.report.figures import write_plots
from safemt_client.results.scores.collect import as_dict
from safemt_client.results.store.reader import open_reader


@pytest.fixture(scope="module")
def found(demo_run: Path) -> dict[str, Any]:
    """The demo with a target of a lower and one of a higher rate beside it."""
    with open_reader(demo_run) as reader:
        made = as_dict(reader, None)
    for table in (
        "targets",
        "asr_by_turn",
        "asr_by_scenario",
        "safety_index",
        "trends",
        "endings",
        "outcomes",
    ):
        for row in list(made[table]):
            for name, rate in (("low", 0.0), ("high", 1.0)):
                other = copy.deepcopy(row)
                other["name" if table == "targets" else "target"] = name
                if table.startswith("asr_by"):
                    other |= {"asr": rate, "unsafe": int(rate * other["scored"])}
                if table == "safety_index":
                    other["safety_index"] = 0.9 - rate / 2
                made[table].append(other)
    return made


def sections(found: dict[str, Any]) -> dict[str, Section]:
    return {section.key: section for section in document(found).sections}


def figures(section: Section) -> list[Figure]:
    return [block for block in section.blocks if isinstance(block, Figure)]


def findings(found: dict[str, Any]) -> list[str]:
    notes = sections(found)["summary"].blocks[0]
    assert isinstance(notes, Notes)
    return list(notes.lines)


def test_a_report_begins_with_its_findings_a_leaderboard_and_a_heat_map(found: dict[str, Any]) -> None:
    assert document(found).sections[0].key == "summary"
    # The demo's rates are 0, 5, 0, 10 and 10 of 15.
    assert findings(found) == [
        "Mean ASR over the lengths goes from 0.0 % (low) to 100.0 % (high).",
        "ASR rises with the turns for all 3 targets.",
        "Safety Index: 0.9000 (low) to 0.4000 (high).",
    ]
    (figure,) = figures(sections(found)["summary"])
    dots, heat = figure.panels
    assert dots.options["order"] == heat.options["rows"] == ["low", "demo", "high"]
    assert [row["text"] for row in heat.data if row["row"] == "demo"] == ["0", "33", "0", "67", "67"]
    (row,) = (row for row in figure.table.rows if row[0] == "demo")
    assert row == ("demo", "33.3", "66.7", "41.7 to 84.8*", "0.7790", "0.5947 to 0.8967*")


def test_one_target_is_summed_up_by_its_own_figures(found: dict[str, Any]) -> None:
    alone = copy.deepcopy(found)
    for table in ("targets", "asr_by_turn", "safety_index", "trends", "endings"):
        alone[table] = [row for row in alone[table] if row.get("target", row.get("name")) == "demo"]
    first, second, third = findings(alone)
    assert first == (
        "demo: ASR 33.3 % on average over the lengths, 66.7 % (95 % CI: 41.7 to 84.8*) at 8 turns."
    )
    assert second.startswith("demo: ASR rises with the turns: on average +9.15 points per additional turn")
    assert third == "Safety Index: 0.7790 (demo)."


def test_targets_that_are_not_finished_are_not_ranked(found: dict[str, Any]) -> None:
    open_ = copy.deepcopy(found)
    open_["unfinished"] = [
        {"target": "high", "pending": 1, "waiting": 0, "unjudged": 0, "planned": 2, "stopped": False}
    ]
    assert findings(open_)[0] == "Mean ASR over the lengths goes from 0.0 % (low) to 33.3 % (demo)."


def test_targets_are_compared_over_the_lengths_that_all_have(found: dict[str, Any]) -> None:
    some = copy.deepcopy(found)
    some["asr_by_turn"] = [
        row for row in some["asr_by_turn"] if row["target"] != "high" or row["length"] in (1, 8)
    ]
    (figure,) = figures(sections(some)["summary"])
    assert {row[0]: row[1] for row in figure.table.rows} == {"low": "0.0", "demo": "33.3", "high": "100.0"}
    some["asr_by_turn"] = [
        row for row in some["asr_by_turn"] if row["target"] != "low" or row["length"] in (1, 2)
    ]
    (figure,) = figures(sections(some)["summary"])
    # Length 1 is the only one that all have.
    assert {row[0]: row[1] for row in figure.table.rows} == {"low": "0.0", "demo": "0.0", "high": "100.0"}


def test_panels_begin_with_the_highest_rate(found: dict[str, Any]) -> None:
    shown = sections(found)
    for key in ("asr", "scenarios"):
        assert [plot.title for plot in figures(shown[key])[0].panels] == ["high", "demo", "low"]


def test_a_reason_for_no_index_is_given_once(found: dict[str, Any]) -> None:
    refused = copy.deepcopy(found)
    for row in refused["safety_index"]:
        if row["target"] != "demo":
            row |= {"safety_index": None, "low": None, "high": None, "refused": "round 8 is missing"}
    section = sections(refused)["index"]
    lines = [line for block in section.blocks if isinstance(block, Notes) for line in block.lines]
    assert "No index for high, low: round 8 is missing." in lines
    (brief,) = section.brief
    assert isinstance(brief, Notes)
    assert [line for line in brief.lines if "none" in line] == [
        "Safety Index of high, low: none, because round 8 is missing"
    ]


def test_every_plot_is_written_as_svg_and_png(found: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")
    whole = document(found)
    (figure,) = figures(sections(found)["summary"])
    twice = Section("a", "A", [figure, figure])
    written = write_plots(Document(whole.title, [], [], [], [twice]), tmp_path / "new" / "plots")
    names = ["a-asr-at-8-turns-with-95-ci", "a-asr-by-number-of-user-turns"]
    names += [f"{name}-2" for name in names]
    assert [path.name for path in written] == [f"{name}.{form}" for name in names for form in ("svg", "png")]
    for path in written:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")
        else:
            assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_plots_of_a_run_are_written_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vl_convert")
    monkeypatch.chdir(tmp_path)
    assert at_once("--provider", "demo", "--quiet", "--turns", "1", "--limit", "1").returncode == 0
    done = at_once("report", "--plots", "plots")
    assert done.returncode == 0
    assert "plots/asr-demo.svg\nplots/asr-demo.png\n" in done.stdout
    Path("file").touch()
    assert "name another folder" in at_once("report", "--plots", "file").stderr


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not here")
def test_latex_compiles_by_itself_and_as_a_part(found: dict[str, Any], tmp_path: Path) -> None:
    hostile = copy.deepcopy(found)
    for row in hostile["asr_by_scenario"]:
        row["scenario"] = r"a_b & 50 % \input{x} #1 ~ ^ $x$ {é} × ± 模型 [y] -- `z'"
    (tmp_path / "tables.tex").write_text(write.latex_tables(hostile), encoding="utf-8")
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{textcomp,booktabs,longtable}"
        r"\begin{document}Before.\input{tables.tex}After.\end{document}"
    )
    for name in ("tables.tex", "paper.tex"):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", name],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-2000:]

"""The terminal shows the blocks of a report as they are, and nothing in them acts on the screen."""

import io

import pytest
from rich.console import Console

from safemt_client.results.report.document import Column, Document, Notes, Section, Table
from safemt_client.results.report.terminal import screen, show

COLUMNS = [Column("Target", numeric=False), Column("ASR"), Column("95 % CI"), Column("Unsafe/scored")]
NOTE = "* small sample"


def printed(*blocks: Notes | Table, width: int = 200) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    show(blocks, console)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_headings_are_small_and_intervals_without_signs_have_a_dash() -> None:
    rows = [("a to b", "33.3", "15.2 to 58.3*", "5/15"), ("B", "+1.0", "-2.0 to +4.0", "unknown")]
    _, _, head, _, first, second, *_ = printed(Table("Rates", COLUMNS, rows))
    assert head.split() == ["target", "ASR", "95", "%", "CI", "unsafe/scored"]
    assert first.split("  ")[0].strip() == "a to b"
    assert "15.2 - 58.3*" in first
    assert "-2.0 to +4.0" in second


@pytest.mark.parametrize(("cell", "explained"), [("0.0 to 20.4*", True), ("0.0 to 9.4", False)])
def test_an_asterisk_is_explained_where_there_is_one(cell: str, explained: bool) -> None:
    lines = printed(Table("Rates", COLUMNS, [("a", "0.0", cell, "0/15")], NOTE))
    assert (NOTE in lines) is explained


def test_a_narrow_terminal_loses_no_figure() -> None:
    rows = [("a model with a long name " * 3, "33.3", "15.2 to 58.3*", "5/15")]
    for width in (45, 60, 200):
        text = "\n".join(printed(Table("Rates", COLUMNS, rows), width=width))
        for figure in ("33.3", "15.2 - 58.3*", "5/15"):
            assert figure in text, width


def test_a_table_is_as_wide_as_its_widest_cells_whatever_their_letters() -> None:
    columns = [Column("Target", numeric=False), Column("ASR"), Column("Unsafe/scored")]
    rows = [("模型", "33.3", "5/15"), ("b", "100.0", "15/15")]
    assert printed(Table("Rates", columns, rows), width=40) == [
        "Rates",
        "",
        " target     ASR   unsafe/scored",
        " " + "─" * 30,
        " 模型      33.3            5/15",
        " b        100.0           15/15",
        "",
    ]
    # Where that is too wide, headings of figures take several lines; only then does a text wrap.
    narrow = printed(Table("Rates", columns, rows), width=25)
    assert narrow[2:5] == ["                unsafe/", " target    ASR   scored", " " + "─" * 22]
    assert narrow[5:7] == [" 模型     33.3     5/15", " b       100.0    15/15"]
    long = [("a model of a long name", "33.3", "5/15")]
    wrapped = printed(Table("Rates", columns, long), width=25)
    assert [line[:8].strip() for line in wrapped[5:9]] == ["a model", "of a", "long", "name"]


def test_where_figures_are_wider_than_the_terminal_lines_are_longer_and_nothing_is_cut() -> None:
    columns = [Column("Judge", numeric=False), Column("Target", numeric=False), *[Column("ASR")] * 4]
    cells = ("a judge", "a target", *["92.1 (75.7 to 100.0*)"] * 4)
    text = "\n".join(printed(Table("Rates", columns, [cells]), width=80))
    assert " a judge  a target  92.1 (75.7 to 100.0*)  92.1" in text
    assert text.count("100.0*)") == 4
    assert "…" not in text


def test_a_table_without_rows_is_its_headings() -> None:
    assert printed(Table("Rates", COLUMNS, []))[-2:] == [" " + "─" * 38, ""]


def test_what_a_model_wrote_is_only_text() -> None:
    bad = "[red]x[/red] [link=http://evil.example]y[/link] :smile: \x1b[31m \u202e"
    lines = printed(Notes([bad], careful=True), Table(bad, COLUMNS, [(bad, "1.0", "0.0 to 1.0", "1/1")]))
    shown = "[red]x[/red] [link=http://evil.example]y[/link] :smile: \\x1b[31m \\x202e"
    assert lines[0] == f"warning: {shown}"
    assert sum(shown in line for line in lines) == 3


def test_sections_are_shown_by_what_is_brief_and_figures_come_first() -> None:
    sections = [
        Section("spend", "Cost", [Notes(["of the page"])], [Notes(["spent"])]),
        Section("mine", "A section of one's own", [], [Notes(["mine"])]),
        Section("asr", "ASR", [Notes(["of the page"])], [Notes(["rates"])]),
        Section("repeat", "Repeat", [Notes(["of the page"])]),
    ]
    console = Console(file=io.StringIO(), width=80)
    screen(Document("title", ["run x"], [], [], sections), console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().split("\n")[:-1] == ["run x", "rates", "spent", "mine"]

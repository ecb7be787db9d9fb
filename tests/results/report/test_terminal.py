"""The terminal shows the blocks of a report as they are, and nothing in them acts on the screen."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from safemt_client.results.report.document import Column, Document, Notes, Section, Table
from safemt_client.results.report.terminal import screen, show
from safemt_client.results.screen import open_console

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


def test_where_figures_are_wider_than_the_terminal_the_columns_are_divided_and_nothing_is_cut() -> None:
    columns = [Column("Judge", numeric=False), Column("Target", numeric=False), *[Column("ASR")] * 4]
    cells = ("a judge", "a target", *["92.1 (75.7 to 100.0*)"] * 4)
    lines = printed(Table("Rates", columns, [cells]), width=80)
    assert lines.count(" a judge  a target  92.1 (75.7 to 100.0*)  92.1 (75.7 to 100.0*)") == 2
    assert max(map(len, lines)) <= 80


LENGTHS = [Column("Target", numeric=False), Column("Mean ASR"), *(Column(str(k)) for k in (1, 2, 4, 6, 8))]
LONG = ["an-organisation/a-model-of-a-long-name-7B-Instruct", "another/model-of-a-long-name-8B"]


def test_letters_stand_for_long_names_where_nothing_else_helps() -> None:
    rows = [(name, "12.5", *["100.0"] * 5) for name in (LONG[0], "short", LONG[1])]
    lines = printed(Table("Rates", LENGTHS, rows), width=60)
    assert [line.split()[0] for line in lines[4:7]] == ["A", "B", "C"]
    assert lines[7:10] == [f" A  {LONG[0]}", " B  short", f" C  {LONG[1]}"]
    # The same letters in every table that is shown with it.
    console = Console(file=io.StringIO(), width=60, force_terminal=False)
    show([Table("One", LENGTHS, rows), Table("Two", LENGTHS, rows[2:])], console)
    assert isinstance(console.file, io.StringIO)
    assert f" C  {LONG[1]}" in console.file.getvalue().split("Two")[1]
    assert max(map(len, printed(Table("Rates", LENGTHS, rows), width=200))) > 60


def test_the_numbers_of_turns_stay_together_where_columns_are_divided() -> None:
    columns = [LENGTHS[0], *(Column(name) for name in ("Mean ASR", "Index", "Coverage")), *LENGTHS[2:]]
    lines = printed(Table("Rates", columns, [("m", *["100.0"] * 8)]), width=44)
    heads = [line.split() for line in lines if "target" in line]
    assert heads[-1] == ["target", "1", "2", "4", "6", "8"]


def test_what_rows_share_stands_above_them_where_the_terminal_is_narrow() -> None:
    rows = [(name, str(k), "15.2 to 58.3*", "5/15") for name in LONG for k in (1, 2)]
    columns = [Column("Target", numeric=False), Column("Turns"), *COLUMNS[2:]]
    lines = printed(Table("Rates", columns, rows), width=60)
    assert lines[4] == f" {LONG[0]}"
    assert lines[5].split() == ["1", "15.2", "-", "58.3*", "5/15"]
    assert lines[7] == f" {LONG[1]}"
    assert max(map(len, lines)) <= 60


@given(
    st.integers(30, 120),
    st.lists(st.sampled_from([*LONG, "m", "a model of several words"]), min_size=1, max_size=6),
    st.integers(1, 9),
)
def test_a_table_fits_a_terminal_that_can_hold_one_of_its_figures(
    width: int, names: list[str], figures: int
) -> None:
    columns = [Column("Target", numeric=False), *(Column(f"Figure/{n}") for n in range(figures))]
    rows = [(name, *(f"{row}.{n} to 99.9*" for n in range(figures))) for row, name in enumerate(names)]
    lines = printed(Table("Rates", columns, rows), width=width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert all(f"{row}.{n} - 99.9*" in text for row in range(len(names)) for n in range(figures))


def test_a_sentence_breaks_between_words_on_a_terminal_alone() -> None:
    said = "  " + "several words and more of them " * 5
    on_terminal = Console(file=io.StringIO(), width=60, force_terminal=True, no_color=True)
    show([Notes([said])], on_terminal)
    assert isinstance(on_terminal.file, io.StringIO)
    lines = on_terminal.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    assert all(line.startswith("    several") or line.startswith("    ") for line in lines[1:])
    assert " ".join(" ".join(lines).split()) == said.strip()
    assert printed(Notes([said]), width=60) == [said.rstrip()]


def test_what_is_no_terminal_is_as_wide_as_its_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert open_console(io.StringIO()).width > 1000
    open_console(said := io.StringIO()).print("vllm:kite: starting")
    assert said.getvalue() == "vllm:kite: starting\n"
    monkeypatch.setenv("COLUMNS", "90")
    assert open_console(io.StringIO()).width == 90


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

"""Tables of two conditions: what is marked, claimed and listed."""

import io
from typing import Any

import pytest
from rich.console import Console

from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import Notes, Table
from safemt_client.results.report.sections.comparison import compared, differences
from safemt_client.results.report.terminal import show
from safemt_client.results.scores import wording
from safemt_client.results.stats.pairs import compared as rows_of

LENGTHS = (1, 2, 4, 6, 8)


def side(flags: dict[str, str]) -> dict[tuple[str, int], float]:
    value = {"u": 1.0, "s": 0.0, "?": float("nan")}
    return {
        (item, k): value[flag] for item, row in flags.items() for k, flag in zip(LENGTHS, row, strict=True)
    }


ROWS = rows_of(
    side({f"a{n:02}": "ususs" if n < 35 else "sssss" for n in range(40)}),
    side({f"a{n:02}": "?ssss" if n < 3 else "sssss" for n in range(40)}),
    {f"a{n:02}": "Satire" if n < 20 else "Bias" for n in range(40)},
)


def known(*pairs: tuple[str, str, list[dict[str, Any]]], listed: bool = True) -> ReportData:
    names = sorted({name for pair in pairs for name in pair[:2]})
    return ReportData(
        {
            "deciding_judge": "jk",
            "judges": [{"name": "j", "judge_key": "jk"}],
            "targets": [{"name": name} for name in names],
            "asr_by_turn": [],
            "endings": [],
            "pairs_of_targets": {"targets": 17, "pairs": 136, "listed": listed},
            "differences": [{"judge": "j", "first": a, "second": b, "rows": rows} for a, b, rows in pairs],
        }
    )


def test_a_row_says_on_what_it_is_and_what_it_claims() -> None:
    section = differences(known(("one", "two", ROWS)))
    assert section is not None
    (table,) = section.blocks
    assert isinstance(table, Table)
    names = [column.name for column in table.columns]
    cells = {row[1]: dict(zip(names, row, strict=True)) for row in table.rows}
    # 3 blocks: of 200 replies 197 are scored on both sides. The first's rate is of these; alone it has 70 of 200.
    assert cells["all"]["Items/replies"] == "40/197"
    assert (cells["all"]["First"], cells["all"]["Second"], cells["all"]["Diff."]) == ("34.0~", "0.0", "-34.0")
    assert (cells["all"]["Claim"], cells["all"]["Bounds"]) == ("lower", "-35.0 to -33.5")
    assert cells["2 turns"]["Claim"] == "none"
    assert cells["4 turns"]["First"] == "87.5"
    assert {"Satire", "Bias"} <= cells.keys()
    for word in ("~ not this side's rate", "p (Holm)", "Bounds"):
        assert word in table.note
    assert "unclear" not in table.note
    (brief,) = section.brief
    assert isinstance(brief, Table)
    assert [row[:3] for row in brief.rows] == [row[1:4] for row in table.rows]
    assert "all -35.0 to -33.5; 1 turn" in brief.note


def test_disagreement_is_marked_and_said() -> None:
    rows = [row | {"agrees": False, "claim": None} for row in ROWS]
    section = differences(known(("one", "two", rows)))
    assert section is not None
    (table,) = section.blocks
    assert isinstance(table, Table)
    assert {row[8] for row in table.rows} == {"unclear"}
    assert "nothing is claimed" in table.note
    said = wording.paired(rows[0], "raises", "lowers", "none")
    assert "nothing is claimed, as interval and test disagree about 0" in said
    assert "lowers" in wording.paired(ROWS[0], "raises", "lowers", "none")
    assert "with the 3 that are not scored in both it may be -35.0 to -33.5" in said
    assert "both rates are those of these replies" in said
    whole = rows_of(side({"a": "uuuuu"}), side({"a": "sssss"}), {})[0]
    assert "not scored" not in wording.paired(whole, "raises", "lowers", "none")
    assert "both rates" not in wording.paired(whole, "raises", "lowers", "none")
    assert "p < 1e-12" in wording.paired(ROWS[0] | {"p": 0.0}, "raises", "lowers", "none")


def test_many_pairs_are_only_counted() -> None:
    section = differences(known(("one", "two", ROWS), listed=False))
    assert section is not None
    for blocks in (section.blocks, section.brief):
        (note,) = blocks
        assert isinstance(note, Notes)
        assert "136 pairs of 17 targets" in note.lines[0]
        assert "report --json" in note.lines[0]


@pytest.mark.parametrize("width", [80, 200])
def test_a_terminal_of_eighty_columns_shows_every_figure(width: int) -> None:
    pair = {"first": "one", "second": "two", "differs": {}, "careful": [], "rows": ROWS}
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    show(compared([pair]), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "…" not in text
    for row in ROWS:
        change = row["difference"]
        assert f"{100 * change['low']:+.1f} to {100 * change['high']:+.1f}" in text
        assert f"{100 * change['estimate']:+.1f}" in text

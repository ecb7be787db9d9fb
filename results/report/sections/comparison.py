"""Two conditions on the same items: targets of a run, and what `compare` is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import (
    SMALL_NOTE,
    Block,
    Column,
    Notes,
    Section,
    Table,
    count,
    interval,
    percent,
    points,
    show,
    turns,
)
from safemt_client.results.scores.wording import CI

__all__ = ["BETTER", "compared", "differences", "pair_cells", "pair_columns", "pair_table", "signed"]

BETTER = "Better, worse: items with fewer, more unsafe replies."
_FEW = "* small sample: few items, or few that differ."
_SHOWN = 0.05
_RANK = {"all": 0, "length": 1, "scenario": 2}


def pair_columns(first: str, second: str) -> list[Column]:
    """The columns of `pair_cells`; `first` and `second` are what the two conditions are called."""
    names = ("Items", first, second, "Difference", CI, "Better/worse", "p (Holm)")
    return [Column("Of", numeric=False), *map(Column, names)]


def pair_cells(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Rows of `pairs.compared`: over all, then by number of turns, then by scenario."""
    return [
        (
            turns(row["value"]) if row["by"] == "length" else show(row["value"]),
            count(row["items"]),
            percent(row["asr_first"]),
            percent(row["asr_second"]),
            points(row["difference"]),
            signed(row["difference"]),
            f"{row['only_first']}/{row['only_second']}",
            f"{row['p_holm']:.2g}",
        )
        for row in sorted(rows, key=lambda row: _RANK[row["by"]])
    ]


def pair_table(caption: str, rows: Sequence[Mapping[str, Any]], first: str, second: str) -> Table:
    """A table of two conditions."""
    return Table(caption, pair_columns(first, second), pair_cells(rows), _FEW)


def signed(change: Mapping[str, Any]) -> str:
    """The interval of a difference, in points."""
    return interval(change["low"], change["high"], small=change["small"], signed=True)


def compared(pairs: Sequence[Mapping[str, Any]]) -> list[Block]:
    """What `scores.comparison` found: in what each two differ, what to be careful about, and the table."""
    blocks: list[Block] = []
    for pair in pairs:
        blocks.append(Notes([f"{show(pair['second'])} against {show(pair['first'])}"]))
        differs = [
            f"  {name}: {' -> '.join(show('none' if value is None else value) for value in values)}"
            for name, values in pair["differs"].items()
        ]
        blocks += [Notes(differs), Notes([show(text, 300) for text in pair["careful"]], careful=True)]
        if pair["rows"]:
            caption = "ASR of the first and the second (%), same items"
            blocks.append(pair_table(caption, pair["rows"], "First", "Second"))
        else:
            blocks.append(Notes(["  nothing to compare yet, or no item is scored in both"]))
    return [*blocks, Notes([BETTER])]


def differences(known: ReportData) -> Section | None:
    """Paired differences between the targets of a run: over all lengths, and on the terminal by length."""
    body = []
    brief = []
    for pair in known.rows("differences"):
        names = f"{known.target(pair['second'])} minus {known.target(pair['first'])}"
        shown = [row for row in pair["rows"] if row["by"] != "scenario" or row["p_holm"] < _SHOWN]
        lengths = [str(row["value"]) for row in shown if row["by"] == "length" and row["p_holm"] < _SHOWN]
        body += [
            (
                names,
                count(row["items"]),
                points(row["difference"]),
                signed(row["difference"]),
                f"{row['p']:.2g}",
                ", ".join(lengths) or "none",
            )
            for row in shown
            if row["by"] == "all"
        ]
        brief.append(pair_table(f"ASR of {names} (points), same items", shown, "First", "Second"))
    if not body:
        return None
    table = Table(
        "ASR of one target minus another's on the same items, all lengths together (points)",
        [
            Column("Targets", numeric=False),
            *map(Column, ("Items", "Difference", CI, "p", "Lengths where shown")),
        ],
        body,
        f"{SMALL_NOTE} p: sign test over items; lengths by McNemar's test, p (Holm) below .05.",
    )
    return Section("differences", "Differences between targets", [table], brief)

"""Two conditions on the same items: targets of a run, and what `compare` is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safemt_client.results.names import short_names
from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import (
    Block,
    Column,
    Notes,
    Section,
    Table,
    interval,
    percent,
    points,
    show,
    turns,
)
from safemt_client.results.scores.wording import CI

__all__ = ["compared", "differences", "every_pair", "pair_table", "signed"]

_FEW = "* small sample: few items, or few that differ."
_APART = "~ not this side's rate in the tables above, which has replies that the other lacks."
_UNCLEAR = "unclear: interval and test disagree about 0, so nothing is claimed."
_FAMILY = "p (Holm): corrected over all such rows of the pairs shown; a claim needs it below .05."
_BOUNDS = "were the unscored replies unsafe on one side and safe on the other"
Names = tuple[str, str, str]
_RANK = {"all": 0, "length": 1, "scenario": 2}


def pair_columns(first: str, second: str) -> list[Column]:
    """The columns of `pair_cells`; `first` and `second` are what the two conditions are called."""
    names = ("Items/replies", first, second, "Diff.", CI, "p", "Claim", "p (Holm)")
    return [Column("Of", numeric=False), *map(Column, names)]


def pair_cells(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Rows of `pairs.compared_pairs`: over all, then by number of turns, then by scenario."""
    return [
        (
            _of(row),
            f"{row['items']}/{row['replies']}",
            *(_rate(row, side) for side in ("first", "second")),
            points(row["difference"]),
            signed(row["difference"]),
            _p(row["p"]),
            claim(row),
            _p(row["p_holm"]),
        )
        for row in ordered(rows)
    ]


def ordered(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Over all, then by number of turns, then by scenario."""
    return sorted(rows, key=lambda row: _RANK[row["by"]])


def bounds(row: Mapping[str, Any]) -> str:
    """The least and the largest difference that the unscored replies of both sides allow."""
    return interval(row["bounds"]["low"], row["bounds"]["high"], signed=True)


def pair_note(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a table of these rows has to explain."""
    said = [
        (True, _FAMILY),
        (any(not _as_above(row, side) for row in rows for side in ("first", "second")), _APART),
        (any(not row["agrees"] for row in rows), _UNCLEAR),
        (any(row["difference"]["small"] for row in rows), _FEW),
    ]
    return " ".join(text for needed, text in said if needed)


def pair_table(caption: str, rows: Sequence[Mapping[str, Any]], first: str, second: str) -> Table:
    """A table of two conditions, narrow enough for a terminal; the bounds are in its note."""
    open_ = [row for row in ordered(rows) if row["bounds"]["replies"] > row["replies"]]
    said = "; ".join(f"{_of(row)} {bounds(row)}" for row in open_)
    note = pair_note(rows) + (f" Difference {_BOUNDS}: {said}." if said else "")
    return Table(caption, pair_columns(first, second), pair_cells(rows), note)


def every_pair(caption: str, pairs: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], names: Names) -> Table:
    """A wide table of several pairs, each with what it is called.

    `names` are those of its first column and of the two conditions.
    """
    called, first, second = names
    rows = [row for _, rows in pairs for row in rows]
    return Table(
        caption,
        [Column(called, numeric=False), *pair_columns(first, second), Column("Bounds")],
        [
            (name, *cells, bounds(row))
            for name, rows in pairs
            for row, cells in zip(ordered(rows), pair_cells(rows), strict=True)
        ],
        f"{pair_note(rows)} Bounds: the difference {_BOUNDS}.",
    )


def claim(row: Mapping[str, Any]) -> str:
    """What a row shows about the second against the first."""
    return "unclear" if not row["agrees"] else row["claim"] or "none"


def _of(row: Mapping[str, Any]) -> str:
    return turns(row["value"]) if row["by"] == "length" else show(row["value"])


def _rate(row: Mapping[str, Any], side: str) -> str:
    return percent(row[f"asr_{side}"]) + ("" if _as_above(row, side) else "~")


def _as_above(row: Mapping[str, Any], side: str) -> bool:
    """Whether a side's rate is that of all its replies, as in the tables of rates."""
    return bool(row[f"alone_{side}"]["asr"] == row[f"asr_{side}"])


def _p(value: float) -> str:
    return "<1e-12" if value < 1e-12 else f"{value:.2g}"


def signed(change: Mapping[str, Any]) -> str:
    """The interval of a difference, in points."""
    return interval(change["low"], change["high"], small=change["small"], signed=True)


def compared(pairs: Sequence[Mapping[str, Any]]) -> list[Block]:
    """What `scores.comparison` found: in what each two differ, what to be careful about, and the table."""
    blocks: list[Block] = []
    names = short_names(pair[side] for pair in pairs for side in ("first", "second"))
    for pair in pairs:
        blocks.append(Notes([f"{show(names[pair['second']])} against {show(names[pair['first']])}"]))
        differs = [
            f"  {name}: {' -> '.join(show('none' if value is None else value) for value in values)}"
            for name, values in pair["differs"].items()
        ]
        blocks += [Notes(differs), Notes([show(text, 300) for text in pair["careful"]], careful=True)]
        if pair["rows"]:
            caption = "ASR of the first and the second (%), same replies"
            blocks.append(pair_table(caption, pair["rows"], "First", "Second"))
        else:
            blocks.append(Notes(["  nothing to compare yet, or no item is scored in both"]))
    return blocks


def differences(known: ReportData) -> Section | None:
    """Paired differences between the targets of a run: over all, by length, and scenarios with a claim."""
    targets = known.found["pairs_of_targets"]
    if not targets["listed"]:
        few = (
            f"{targets['pairs']:,} pairs of {targets['targets']} targets are not listed: `compare` shows "
            "those that you name, `report --json` has all of them."
        )
        return Section("differences", "Differences between targets", [Notes([few])], [Notes([few])])
    pairs: list[tuple[str, Sequence[Mapping[str, Any]]]] = []
    for pair in known.rows("differences"):
        names = f"{known.target(pair['second'])} minus {known.target(pair['first'])}"
        rows = [row for row in pair["rows"] if row["by"] != "scenario" or claim(row) != "none"]
        pairs += [(names, rows)] if rows else []
    if not pairs:
        return None
    caption = "ASR of each two targets on the replies that both have scored (%), scenarios with a claim only"
    brief = [
        pair_table(f"ASR of {names} (%), same replies", rows, "First", "Second") for names, rows in pairs
    ]
    table = every_pair(caption, pairs, ("Targets", "First", "Second"))
    return Section("differences", "Differences between targets", [table], brief)

"""The section about controls: each condition against the originals, which all other sections are about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import (
    SMALL_NOTE,
    Block,
    Column,
    Notes,
    Section,
    Table,
    interval,
    marked,
    percent,
    show,
)
from safemt_client.results.report.sections.comparison import claim, every_pair
from safemt_client.results.scores import wording
from safemt_client.results.scores.wording import CI

__all__ = ["controls"]

_FAMILY = "p (Holm): corrected over all conditions and targets; a claim needs it and p below .05."


def controls(known: ReportData) -> Section | None:
    """What controls show; None where the run has none. They are in no figure of any other section."""
    rows = known.rows("controls")
    if not rows:
        return None
    notes = Notes([_sentence(row) for row in rows])
    return Section("controls", "Controls", [notes, *_tables(known, rows)], [notes])


def _sentence(row: Mapping[str, Any]) -> str:
    means = wording.control_means(row)
    return wording.control(row) + (f": {means}" if means else "")


def _tables(known: ReportData, rows: Sequence[Mapping[str, Any]]) -> Iterator[Block]:
    names = [f"{known.target(row['target'])}, {show(row['condition'])}" for row in rows]
    lengths = [cells for name, row in zip(names, rows, strict=True) for cells in _rates(name, row)]
    if lengths:
        columns = ("Turns of the original", "Items", "ASR original", CI, "ASR control", CI)
        yield Table(
            "Originals and controls, the same items (%)",
            [Column("Control", numeric=False), *map(Column, columns)],
            lengths,
            SMALL_NOTE,
        )
    pairs = [
        (name, [one for one in row["rows"] if one["by"] == "all" or claim(one) != "none"])
        for name, row in zip(names, rows, strict=True)
        if row["rows"]
    ]
    if pairs:
        caption = "ASR of the controls minus that of the originals (%), parts with a claim only"
        yield every_pair(caption, pairs, ("Control", "Original", "Control"))
    slopes = [cells for name, row in zip(names, rows, strict=True) for cells in _slopes(name, row)]
    if slopes:
        yield Table(
            "Change with the turns",
            [
                *(Column(name, numeric=False) for name in ("Control", "Of")),
                *map(Column, ("Points per additional turn", CI, "p", "Claim", "p (Holm)", "Items")),
            ],
            slopes,
            f"{SMALL_NOTE} {_FAMILY}",
        )


def _rates(name: str, row: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for one in row["lengths"]:
        sides = (one["original"], one["control"])
        yield (
            *(name, str(one["length"]), str(one["items"])),
            *(text for side in sides for text in (percent(side["estimate"]), _interval(side))),
        )


def _interval(side: Mapping[str, Any]) -> str:
    return interval(side["low"], side["high"], small=side["small"])


def _slopes(name: str, row: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, inner, of in (
        ("trend", "slope", "the controls, over their own turns"),
        ("slope", "difference", "the controls minus the originals"),
    ):
        found = row[key]
        if found is None:
            continue
        slope = found[inner]
        low, high = wording.per_turn(slope["low"]), wording.per_turn(slope["high"])
        yield (
            *(name, of, wording.per_turn(slope["estimate"])),
            marked(f"{low} to {high}", slope["small"]),
            f"{found['p']:.2g}",
            "unclear" if not found["agrees"] else found["claim"] or "none",
            f"{found['p_holm']:.2g}",
            str(found["items"]),
        )

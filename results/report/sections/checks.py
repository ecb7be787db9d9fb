"""Checks by a stronger judge: the run's rates as that judge would have given them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safemt_client.results.names import short_names
from safemt_client.results.report.document import (
    SMALL_NOTE,
    UNKNOWN,
    Block,
    Column,
    Notes,
    Table,
    estimate,
    interval,
    percent,
    show,
)
from safemt_client.results.scores.wording import CI, NOT_ESTIMABLE

__all__ = ["check_blocks", "needed_lines"]

_COLUMNS = ("Turns", "As judged", "Corrected", CI)


def check_blocks(found: Mapping[str, Any]) -> list[Block]:
    """What a check found: agreement of the two judges, and the rates that the stronger one would give."""
    every = {own["target"]: own for own in found["by_target"]}
    names = short_names((found["judge"], found["reference"], *every))
    judge, reference = show(names[found["judge"]]), show(names[found["reference"]])
    agreement = found["agreement"]
    agreed = (
        f"{NOT_ESTIMABLE} ({found['errors_not_estimable']})" if agreement is None else estimate(agreement)
    )
    missing = f"; {found['unscored']:,} without a label of {reference}" if found["unscored"] else ""
    line = (
        f"{judge} checked by {reference} on {found['drawn']:,} replies, most where it may be wrong (by "
        f"{show(found['basis'])}){missing}: agreement {agreed} (%, with {CI})"
    )
    rows = [_line(names, rate, str(rate["length"])) for rate in found["by_turn"]]
    rows += [_line(names, own, "all") for own in every.values()]
    table = Table(
        f"ASR as {reference} would have judged all replies (%)",
        [Column("Target", numeric=False), *map(Column, _COLUMNS), Column("Judge's errors", numeric=False)],
        rows,
        f"Estimated from the replies that {reference} was asked about. It stands in the place of people: "
        f"what people would say is another matter. {SMALL_NOTE}",
    )
    return [Notes([line]), table]


def _line(names: Mapping[str, str], rate: Mapping[str, Any], which: str) -> tuple[str, ...]:
    right = rate["corrected"]
    return (
        show(names[rate["target"]]),
        which,
        percent(rate["asr"]),
        NOT_ESTIMABLE if right is None else percent(right["estimate"]),
        UNKNOWN if right is None else interval(right["low"], right["high"], small=right["small"]),
        rate["judge_errors"] if right is not None else rate["not_estimable"],
    )


def needed_lines(rows: Sequence[Mapping[str, Any]], half: float, basis: str) -> list[str]:
    """How many labels it takes until each target's corrected rate is known to so many points."""
    names = short_names(row["target"] for row in rows)
    lines = [
        f"labels until a corrected rate over all lengths is known to ±{100 * half:g} points, by {basis}:"
    ]
    for row in rows:
        if row["labels"] is None:
            found = (
                f"not even all {row['replies']:,} replies are enough (±{100 * row['least']:.1f}): "
                "the run has too few items"
            )
        else:
            found = f"about {row['labels']:,} of {row['replies']:,} replies"
        lines.append(f"  {show(names[row['target']])}: {found}")
    return lines

"""What a planned number of items can show."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from safemt_client.providers.errors import InputError
from safemt_client.results.stats.power import (
    effective_replies,
    half_width,
    items_for_difference,
    items_for_half_width,
    smallest_difference,
)

__all__ = ["ASSUMED", "Power", "Spread", "Wanted", "as_dict", "power_of", "read_wanted"]

RATES = (0.05, 0.20, 0.50)


@dataclass(frozen=True)
class Spread:
    """How alike replies are: each from low to high, which are the same where a run has shown it.

    `rho` is the correlation of two replies to one item at different lengths, `apart` the share of replies
    that two targets without a difference label differently. `run_id` is the run that has shown `known`.
    """

    rho: tuple[float, float]
    apart: tuple[float, float]
    run_id: str | None = None
    known: tuple[str, ...] = ()


ASSUMED = Spread((0.3, 0.7), (0.05, 0.20))
"""Where no run has shown it: assumptions, and said to be."""


@dataclass(frozen=True)
class Power:
    """What `items` at `lengths` can show, in shares from 0 to 1; ranges follow those of `spread`.

    `one` and `all` are the half-widths of the ASR at one length and over all lengths, for each of `RATES`;
    `difference_one` and `difference_all` the smallest difference of two targets that is found about 3 times
    in 4 (None: no difference is). `effective` is how many independent replies those of all lengths are worth.
    """

    items: int
    lengths: int
    spread: Spread
    one: tuple[float, ...]
    all: tuple[tuple[float, float], ...]
    difference_one: tuple[float | None, float | None]
    difference_all: tuple[float | None, float | None]
    effective: tuple[float, float]


@dataclass(frozen=True)
class Wanted:
    """What a run is to show: a `difference`, or an interval of this `width` to either side, from 0 to 1."""

    kind: str
    size: float

    def items(self, lengths: int, spread: Spread) -> tuple[int | None, int | None]:
        """How many items it takes, at either end of `spread`; None: no number is enough."""
        if self.kind == "difference":
            few, many = (
                items_for_difference(self.size, apart, lengths, rho)
                for apart, rho in zip(spread.apart, spread.rho, strict=True)
            )
            return few, many
        ends = [items_for_half_width(self.size, RATES[-1], lengths, rho) for rho in spread.rho]
        return ends[0], ends[1]


def read_wanted(text: str) -> Wanted:
    """`difference 3` or `width 2`, in points.

    Raises:
        InputError: it is neither.
    """
    found = re.fullmatch(r"\s*(difference|width)\s+(\d+(?:\.\d+)?)\s*(?:%|points?)?\s*", text)
    if found is None or not 0 < float(found[2]) < 100:
        raise InputError(
            f"--want {text!r}: write 'difference POINTS' or 'width POINTS', such as \"difference 3\""
        )
    return Wanted(found[1], float(found[2]) / 100)


def power_of(items: int, lengths: int, spread: Spread = ASSUMED) -> Power:
    """What so many items, each asked at so many lengths, can show."""
    most, least = (effective_replies(items, lengths, rho) for rho in spread.rho)
    near, far = spread.apart
    return Power(
        items=items,
        lengths=lengths,
        spread=spread,
        one=tuple(half_width(rate, items) for rate in RATES),
        all=tuple((half_width(rate, most), half_width(rate, least)) for rate in RATES),
        difference_one=(smallest_difference(items, near), smallest_difference(items, far)),
        difference_all=(smallest_difference(most, near), smallest_difference(least, far)),
        effective=(least, most),
    )


def as_dict(found: Power) -> dict[str, Any]:
    """The figures as JSON has them."""
    return {
        "items": found.items,
        "lengths": found.lengths,
        "rates": RATES,
        "half_width_one_length": found.one,
        "half_width_all_lengths": found.all,
        "difference_one_length": found.difference_one,
        "difference_all_lengths": found.difference_all,
        "effective_replies": found.effective,
        "rho": found.spread.rho,
        "apart": found.spread.apart,
        "shown_by_run": found.spread.run_id,
        "assumed": [name for name in ("rho", "apart") if name not in found.spread.known],
    }

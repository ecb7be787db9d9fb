"""A simulated study of an interval: how often it contains the truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Study"]


@dataclass(frozen=True, slots=True)
class Study:
    """An interval under one design of a study. `simulate` makes so many of them and counts those that cover.

    `least` and `most` are the shares between which the coverage has to be; the slow test holds it to that.
    """

    interval: str
    """What the report calls it, and how it is made: `Safety Index, items resampled`."""
    design: str
    """Of what: `200 items of unequal risk at five lengths`."""
    simulate: Callable[[int], int]
    studies: int = 1000
    nominal: float = 0.95
    least: float = 0.93
    most: float = 0.97

    def error(self, covered: int) -> float:
        """The standard error of the simulated coverage; never 0, as a share of half a study more would have."""
        share = (covered + 0.5) / (self.studies + 1)
        return math.sqrt(share * (1 - share) / self.studies)

    def holds(self, covered: int) -> bool:
        """Whether the coverage is where it has to be."""
        return self.least <= covered / self.studies <= self.most

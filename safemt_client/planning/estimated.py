"""What a part of a run may take, and what two parts take together."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Estimate", "plus", "together"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one target or judge may take: calls at most, tokens and US dollars (None: price unknown).

    Ranges are from low to high. `calls` are requests: what several conversations ask alike counts once, and
    of a judge each member of a panel and the repair of each answer. `wanted` are the turns, verdicts or
    assessments that they are for, `least` the calls without repairs, and `each_usd` what a turn, verdict or
    assessment takes at the high end, without a repair. `at_most`: how many there are depends on what is said.
    """

    calls: int
    tokens: tuple[int, int]
    usd: tuple[float, float] | None
    wanted: int = 0
    least: int = 0
    each_usd: float | None = 0.0
    at_most: bool = False


def plus(one: Estimate, two: Estimate) -> Estimate:
    """What both take, for the verdicts of the first."""

    usd = each = None
    if one.usd is not None and two.usd is not None:
        usd = (one.usd[0] + two.usd[0], one.usd[1] + two.usd[1])
    if one.each_usd is not None and two.each_usd is not None:
        each = one.each_usd + two.each_usd
    return replace(
        one,
        calls=one.calls + two.calls,
        tokens=(one.tokens[0] + two.tokens[0], one.tokens[1] + two.tokens[1]),
        usd=usd,
        least=one.least + two.least,
        each_usd=each,
    )


def together(one: Estimate, two: Estimate) -> Estimate:
    """What two parts of a run take; the price of one call is the mean."""
    found, wanted = plus(one, two), one.wanted + two.wanted
    each = None
    if one.each_usd is not None and two.each_usd is not None:
        each = (one.each_usd * one.wanted + two.each_usd * two.wanted) / wanted if wanted else 0.0
    return replace(found, wanted=wanted, each_usd=each, at_most=one.at_most or two.at_most)

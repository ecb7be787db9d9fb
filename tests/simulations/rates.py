"""Rates, the Safety Index and the places on the leaderboard."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from simulations.study import Study

from safemt_client.results.scores.leaderboard import rank_ranges
from safemt_client.results.stats.intervals import bootstrap_weights, interval_of
from safemt_client.results.stats.safety_index import ROUNDS, factors, safety_index_interval
from safemt_client.results.stats.shares import wilson
from safemt_client.results.stats.shrunk import shrunk

__all__ = ["STUDIES"]

_ITEMS = 200
_DESIGN = "200 items of unequal risk at five lengths"


def _chances(items: int, source: np.random.Generator) -> np.ndarray:
    """Each item's chance of an unsafe reply at each length."""
    return source.beta(1, 3, (items, 1)) * 0.9 + 0.004 * np.array(ROUNDS)


@cache
def _index_and_pooled(studies: int) -> tuple[int, int]:
    source = np.random.default_rng(20)
    many = _chances(400_000, source)
    labels = (source.random(many.shape) < many).astype(float)
    truth = math.prod(factors(labels))
    pooled_truth = float(many.mean())
    weights = bootstrap_weights(_ITEMS, 1000)
    index = pooled = 0
    for _ in range(studies):
        chance = _chances(_ITEMS, source)
        labels = (source.random(chance.shape) < chance).astype(float)
        found = safety_index_interval(labels, resamples=1000)
        index += found.low <= truth <= found.high
        again = (weights @ labels.sum(axis=1)) / (weights.sum(axis=1) * len(ROUNDS))
        whole = interval_of(float(labels.mean()), again)
        pooled += whole.low <= pooled_truth <= whole.high
    return int(index), int(pooled)


def _wilson(rate: float, items: int, studies: int) -> int:
    unsafe = np.random.default_rng(22).binomial(items, rate, studies)
    bounds = [wilson(int(count), items) for count in unsafe]
    return sum(low <= rate <= high for low, high in bounds)


def _places(studies: int) -> int:
    source = np.random.default_rng(6)
    risks = np.array([0.2, 0.22, 0.25, 0.3, 0.3, 0.45])
    # The two of .3 may hold either of places 4 and 5.
    places = [(1, 1), (2, 2), (3, 3), (4, 5), (4, 5), (6, 6)]
    weights = bootstrap_weights(_ITEMS, 500)
    held = 0
    for _ in range(studies):
        own = source.normal(0, 0.1, (_ITEMS, 1))
        labels = (source.random((_ITEMS, len(risks))) < np.clip(risks + own, 0, 1)).astype(float)
        ranges = rank_ranges(labels.mean(axis=0), weights @ labels / _ITEMS, _ITEMS)
        held += all(
            best <= low and worst >= high for (best, worst), (low, high) in zip(ranges, places, strict=True)
        )
    return held


@cache
def _scenarios(studies: int) -> tuple[int, int]:
    """Of 17 scenarios with 7 items each at five lengths: the intervals of the highest, and of one at random."""
    source = np.random.default_rng(23)
    groups = np.repeat(np.arange(17), 7)
    top = any_ = 0
    for _ in range(studies):
        truth = source.beta(3, 7, 17)
        # Items of a scenario are of unequal risk.
        risk = source.beta(2 * truth[groups], 2 * (1 - truth[groups]))
        values = source.binomial(5, risk) / 5
        found = shrunk(values, groups)
        highest = max(range(17), key=lambda place: found[place].estimate)
        top += found[highest].low <= truth[highest] <= found[highest].high
        any_ += found[0].low <= truth[0] <= found[0].high
    return int(top), int(any_)


STUDIES = (
    *(
        Study(
            "ASR at one number of user turns (Wilson)",
            f"{items} items, ASR {100 * rate:g} %",
            lambda studies, rate=rate, items=items: _wilson(rate, items, studies),
            studies=20_000,
            least=0.925,
            most=0.985,
        )
        for rate in (0.05, 0.3)
        for items in (30, 200)
    ),
    Study("ASR over several lengths (items resampled)", _DESIGN, lambda n: _index_and_pooled(n)[1]),
    Study("Safety Index (items resampled)", _DESIGN, lambda n: _index_and_pooled(n)[0]),
    Study(
        "ASR of the highest of many scenarios (shrunk)",
        "17 scenarios of 7 items at five lengths",
        lambda n: _scenarios(n)[0],
    ),
    Study(
        "ASR of a scenario (shrunk)", "17 scenarios of 7 items at five lengths", lambda n: _scenarios(n)[1]
    ),
    Study(
        "Places on the leaderboard, all together",
        "6 targets, two of them alike, 200 items",
        _places,
        studies=400,
        most=1.0,
    ),
)

"""The trend over the turns, and false alarms of its test."""

from __future__ import annotations

from functools import cache

import numpy as np
from simulations.study import Study

from safemt_client.results.stats.safety_index import ROUNDS
from safemt_client.results.stats.trend import trend

__all__ = ["STUDIES"]


@cache
def _counts(items: int, rate: float, alike: float, slope: float, studies: int) -> tuple[int, int]:
    """How many intervals cover the slope, and how many p are below .05.

    Items are of unequal risk, on average `rate`, which rises by `slope` a turn; a label is that of the length
    before with probability `alike`.
    """
    source = np.random.default_rng([30, items])
    turns = np.array(ROUNDS) - np.mean(ROUNDS)
    covered = alarms = 0
    for _ in range(studies):
        risk = source.beta(2 * rate, 2 - 2 * rate, (items, 1)) * (1 - 2 * abs(slope) * turns[-1])
        chance = risk + slope * turns + abs(slope) * turns[-1]
        labels = (source.random(chance.shape) < chance).astype(float)
        for k in range(1, len(ROUNDS)):
            same = source.random(items) < alike
            labels[same, k] = labels[same, k - 1]
        found = trend(labels, ROUNDS)
        covered += found.slope.low <= slope <= found.slope.high
        alarms += found.p < 0.05
    return covered, alarms


_ALIKE = "neighbouring lengths alike in 80 of 100"


def _study(items: int, rate: float, alike: float, slope: float) -> Study:
    return Study(
        "Trend over the turns (items resampled)",
        f"{items} items, ASR {100 * rate:g} %, {'rising' if slope else _ALIKE}",
        lambda studies: _counts(items, rate, alike, slope, studies)[0],
        least=0.925,
        most=1.0,
    )


def _alarms(items: int, rate: float) -> Study:
    return Study(
        "False alarms of the trend's test (p < .05)",
        f"{items} items, ASR {100 * rate:g} %, {_ALIKE}",
        lambda studies: _counts(items, rate, 0.8, 0.0, studies)[1],
        nominal=0.05,
        least=0.01,
        most=0.07,
    )


STUDIES = (
    _study(60, 0.3, 0.8, 0.0),
    _study(200, 0.3, 0.8, 0.0),
    _study(200, 0.01, 0.8, 0.0),
    _study(200, 0.3, 0.0, 0.02),
    _alarms(60, 0.3),
    _alarms(200, 0.3),
)

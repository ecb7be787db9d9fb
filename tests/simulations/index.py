"""The Safety Index where few items are unsafe, or the replies to an item are alike."""

from __future__ import annotations

from functools import partial

import numpy as np
from simulations.study import Study

from safemt_client.results.stats.safety_index import ROUNDS, factors, safety_index_interval

__all__ = ["STUDIES"]

_MANY = 400_000


def _labels(items: int, rate: float, alike: float, source: np.random.Generator) -> np.ndarray:
    """Items of unequal risk, on average `rate`; a label is that of the round before with probability `alike`."""
    chance = source.beta(2 * rate, 2 - 2 * rate, (items, 1))
    labels = (source.random((items, len(ROUNDS))) < chance).astype(float)
    for k in range(1, len(ROUNDS)):
        same = source.random(items) < alike
        labels[same, k] = labels[same, k - 1]
    return labels


def _covered(items: int, rate: float, alike: float, studies: int) -> int:
    source = np.random.default_rng([40, items])
    exposure, consistency = factors(_labels(_MANY, rate, alike, source))
    covered = 0
    for _ in range(studies):
        found = safety_index_interval(_labels(items, rate, alike, source), resamples=1000)
        covered += found.low <= exposure * consistency <= found.high
    return covered


STUDIES = tuple(
    Study(
        "Safety Index (items resampled)",
        f"{items} items, ASR {100 * rate:g} %"
        + (", neighbouring lengths alike in 80 of 100" if alike else ""),
        partial(_covered, items, rate, alike),
        least=0.925,
        most=0.995,
    )
    for items, rate, alike in (
        (30, 0.05, 0.0),
        (60, 0.01, 0.0),
        (60, 0.3, 0.8),
        (200, 0.01, 0.8),
        (200, 0.9, 0.0),
    )
)

"""Differences of two sides on the same replies: their intervals, and how often their tests find what is not there."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from simulations.study import Study

from safemt_client.results.stats.pairs import compared

__all__ = ["STUDIES"]

LENGTHS = (1, 2, 4, 6, 8)
_CLUSTERED = "items of unequal risk at one to five lengths, riskier replies blocked more often"


def _chances(items: int, risk: float, change: float, source: np.random.Generator) -> np.ndarray:
    """Each item's chance of an unsafe reply on either side and at each length.

    A part of the items (a quarter) changes, by four times the mean change.
    """
    base = np.clip(source.beta(0.8, 0.8 * (1 / risk - 1), (items, 1)) + 0.01 * np.array(LENGTHS), 0, 0.9)
    changed = source.random((items, 1)) < 0.25
    return np.stack([base, np.clip(base + 4 * change * changed, 0, 1)])


def _labels(items: int, risk: float, change: float, source: np.random.Generator) -> np.ndarray:
    """Sides x items x lengths; an item has its first one to five lengths, and of these some are blocked."""
    chance = _chances(items, risk, change, source)
    # An item's replies on both sides have more in common than their chance: half of them share its luck.
    luck = np.where(
        source.random(chance.shape) < 0.5, source.random((1, items, 1)), source.random(chance.shape)
    )
    labels = (luck < chance).astype(float)
    has = np.arange(5) < source.integers(1, 6, items)[:, None]
    blocked = source.random(chance.shape) < 0.05 + 0.4 * chance
    return np.where(has & ~blocked, labels, np.nan)


def _side(labels: np.ndarray) -> dict[tuple[str, int], float]:
    return {
        (f"i{item:04}", length): float(row[place])
        for item, row in enumerate(labels)
        for place, length in enumerate(LENGTHS)
        if not np.isnan(row[place])
    }


@cache
def _truth(risk: float, change: float) -> tuple[float, float]:
    """The difference over all lengths, and at the first one."""
    first, second = _labels(2_000_000, risk, change, np.random.default_rng(40))
    both = ~np.isnan(first) & ~np.isnan(second)
    differ = np.where(both, second - first, 0.0)
    return float(differ.sum() / both.sum()), float(differ[:, 0].sum() / both[:, 0].sum())


@cache
def _studies(items: int, risk: float, change: float, studies: int) -> dict[str, int]:
    """How many intervals cover, how many tests are below .05, and how many rows claim something."""
    source = np.random.default_rng(41)
    truths = dict(zip(("all", "length"), _truth(risk, change), strict=True))
    found = dict.fromkeys([f"{what} {by}" for what in ("covers", "p", "claims") for by in truths], 0)
    for _ in range(studies):
        first, second = _labels(items, risk, change, source)
        rows = compared(_side(first), _side(second), {})
        for by, truth in truths.items():
            row: dict[str, Any] = next(row for row in rows if row["by"] == by)
            interval = row["difference"]
            found[f"covers {by}"] += interval["low"] <= truth <= interval["high"]
            found[f"p {by}"] += row["p"] < 0.05
            found[f"claims {by}"] += row["agrees"] and not interval["low"] <= 0 <= interval["high"]
    return found


def _study(name: str, items: int, risk: float, change: float, what: str, **rest: Any) -> Study:
    differ = f"{100 * change:+g} points on average" if change else "no difference"
    return Study(
        name,
        f"{items} {_CLUSTERED}, ASR {100 * risk:g} %, {differ}",
        lambda studies: _studies(items, risk, change, studies)[what],
        **rest,
    )


_OVER, _AT_ONE = "Difference over several lengths (items resampled)", "Difference at one length (Newcombe)"
STUDIES = (
    *(
        _study(name, items, risk, change, f"covers {by}", most=most)
        for name, by, most in ((_OVER, "all", 0.97), (_AT_ONE, "length", 0.985))
        for items, risk, change in ((200, 0.3, 0.05), (60, 0.3, 0.05), (200, 0.05, 0.0))
    ),
    *(
        _study(name, items, risk, 0.0, f"p {by}", nominal=0.05, least=0.0, most=0.065)
        for name, by in (
            ("False alarms of p over several lengths", "all"),
            ("False alarms of p at one length", "length"),
        )
        for items, risk in ((200, 0.3), (60, 0.3), (200, 0.05))
    ),
)

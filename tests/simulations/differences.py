"""Differences of two sides on the same replies: their intervals, and how often their tests find what is not there.

Items are of unequal risk, and have from one to five lengths. Of the luck of a reply half is that of its item and
side, or of its item. Replies are blocked the more often, the riskier they are.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from simulations.study import Study

from safemt_client.results.stats.pairs import compared

__all__ = ["STUDIES"]

LENGTHS = (1, 2, 4, 6, 8)
_BOTH, _ONE = "some replies blocked", "one side blocks 30 %, its riskier replies"
Design = tuple[int, float, float, str]
"""Items, about what ASR, by how much the second's is higher on average, and what is blocked."""


def _chances(items: int, risk: float, change: float, source: np.random.Generator) -> np.ndarray:
    """Each item's chance of an unsafe reply on either side and at each length.

    A part of the items (a quarter) changes, by four times the mean change.
    """
    base = np.clip(source.beta(0.8, 0.8 * (1 / risk - 1), (items, 1)) + 0.01 * np.array(LENGTHS), 0, 0.9)
    changed = source.random((items, 1)) < 0.25
    return np.stack([base, np.clip(base + 4 * change * changed, 0, 1)])


def _labels(design: Design, source: np.random.Generator) -> np.ndarray:
    """Sides x items x lengths, NaN where there is no such length or the reply is blocked."""
    items, risk, change, blocks = design
    chance = _chances(items, risk, change, source)
    shape = chance.shape
    luck = np.where(source.random(shape) < 0.5, source.random((1, items, 1)), source.random(shape))
    labels = (luck < chance).astype(float)
    has = np.arange(5) < source.integers(1, 6, items)[:, None]
    blocked = 0.05 + 0.4 * chance if blocks == _BOTH else np.stack([0 * chance[0], 0.9 * chance[1]])
    return np.where(has & (source.random(shape) >= blocked), labels, np.nan)


def _side(labels: np.ndarray) -> dict[tuple[str, int], float]:
    return {
        (f"i{item:04}", length): float(row[place])
        for item, row in enumerate(labels)
        for place, length in enumerate(LENGTHS)
    }


@cache
def _truths(design: Design) -> dict[str, float]:
    """The difference over all lengths, and at the first one."""
    if design[2] == 0:
        return {"all": 0.0, "length": 0.0}
    first, second = _labels((2_000_000, *design[1:]), np.random.default_rng(40))
    differ = second - first
    return {"all": float(np.nanmean(differ)), "length": float(np.nanmean(differ[:, 0]))}


@cache
def _studies(design: Design, studies: int) -> dict[str, int]:
    """How many intervals cover, and how many tests are below .05."""
    source = np.random.default_rng(41)
    truths = _truths(design)
    found = dict.fromkeys([f"{what} {by}" for what in ("covers", "p") for by in truths], 0)
    for _ in range(studies):
        first, second = _labels(design, source)
        rows = compared(_side(first), _side(second), {})
        for by, truth in truths.items():
            row = next(row for row in rows if row["by"] == by)
            found[f"covers {by}"] += row["difference"]["low"] <= truth <= row["difference"]["high"]
            found[f"p {by}"] += row["p"] < 0.05
    return found


def _study(name: str, design: Design, what: str, **rest: Any) -> Study:
    items, risk, change, blocks = design
    higher = f"{100 * change:+g} points" if change else "no difference"
    return Study(
        name,
        f"{items} items of unequal risk at one to five lengths, ASR {100 * risk:g} %, {higher}, {blocks}",
        lambda studies: _studies(design, studies)[what],
        **rest,
    )


_DIFFERENT: tuple[Design, ...] = ((200, 0.3, 0.05, _BOTH), (60, 0.3, 0.05, _BOTH), (200, 0.05, 0.0, _BOTH))
_ALIKE: tuple[Design, ...] = (*((items, 0.3, 0.0, _BOTH) for items in (60, 200)), (200, 0.3, 0.0, _ONE))
STUDIES = (
    *(_study("Difference over several lengths (items resampled)", one, "covers all") for one in _DIFFERENT),
    *(_study("Difference at one length (Newcombe)", one, "covers length", most=0.985) for one in _DIFFERENT),
    *(
        _study(f"False alarms of p {where} (p < .05)", one, f"p {by}", nominal=0.05, least=0.0, most=0.065)
        for where, by in (("over several lengths", "all"), ("at one length", "length"))
        for one in _ALIKE
    ),
)

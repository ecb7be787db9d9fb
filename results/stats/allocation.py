"""Which replies to label: each by its own chance, the greater the likelier the judge is wrong about it.

The variance of an estimate by inverse probability is least where chances follow the standard deviation of the
judge's error on each reply, sqrt(e (1 - e)) for a chance e of an error (J. Neyman, Journal of the Royal
Statistical Society 97 (1934), 558-625). No chance falls below a share of the equal one, as e is a guess.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST", "chances"]

Array = NDArray[np.float64]

LEAST = 0.5
"""No reply's chance is below this part of the one that it would have if all were as likely to be drawn."""

_SUREST = 0.001
"""No label is thought to be wrong, or right, with a smaller chance."""


def chances(errors: Array, size: float, least: float = LEAST) -> Array:
    """The chance of each reply to be drawn, so that `size` are on average; `errors` guesses the judge's.

    All are certain where there are no more than `size`.
    """
    count = len(errors)
    if count <= size:
        return np.ones(count)
    floor = least * size / count
    guessed = np.clip(errors, _SUREST, 1 - _SUREST)
    spread = np.sqrt(guessed * (1 - guessed))
    low, high = 0.0, 1 / float(spread.min())
    for _ in range(100):
        scale = (low + high) / 2
        found: Array = np.clip(scale * spread, floor, 1.0)
        low, high = (scale, high) if found.sum() < size else (low, scale)
    return np.clip(high * spread, floor, 1.0)

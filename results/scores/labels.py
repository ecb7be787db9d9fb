"""Labels of a run as numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Row", "item_means", "matrix", "value_of"]

_VALUES = {"safe": 0.0, "unsafe": 1.0}

Row = tuple[str, int, str | None]
"""Item, length and label."""


def matrix(rows: Sequence[Row], lengths: Sequence[int]) -> NDArray[np.float64]:
    """Labels as items x lengths, NaN where a reply is not scored."""
    places = {length: place for place, length in enumerate(lengths)}
    items = {item: place for place, item in enumerate(dict.fromkeys(row[0] for row in rows))}
    table = np.full((len(items), len(lengths)), np.nan)
    for item, length, label in rows:
        if length in places:
            table[items[item], places[length]] = value_of(label)
    return table


def item_means(labels: Mapping[tuple[str, int, int], float]) -> dict[tuple[str, int], float]:
    """By item and length the mean of the samples that are scored, NaN where none is."""
    found: dict[tuple[str, int], list[float]] = {}
    for (item, length, _), label in labels.items():
        found.setdefault((item, length), []).append(label)
    return {key: _mean(values) for key, values in found.items()}


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else np.nan


def value_of(label: str | None) -> float:
    """1 for unsafe, 0 for safe, NaN for anything else."""
    return _VALUES.get(label or "", np.nan)

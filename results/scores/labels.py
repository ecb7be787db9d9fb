"""Labels of a run as numbers."""

from __future__ import annotations

import math

__all__ = ["value_of"]

_VALUES = {"safe": 0.0, "unsafe": 1.0}


def value_of(label: str | None) -> float:
    """1 for unsafe, 0 for safe, NaN for anything else."""
    return _VALUES.get(label or "", math.nan)

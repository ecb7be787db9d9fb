"""How many labels it takes until a corrected rate is known to so many points, if they are drawn by chance.

The variance of such a rate has two parts. One is that of the run itself: its items are a sample, and no label
makes it smaller. The other is that of the labels, the sum of (1 / chance - 1) e (1 - e) over the replies, for
the guessed chances e of a wrong label; half a label of either kind is added as in `stats.weighted`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safemt_client.providers.errors import InputError
from safemt_client.results.scores.corrections import ItemCount, items_of
from safemt_client.results.scores.drawing import Drawable, Errors
from safemt_client.results.stats.allocation import chances
from safemt_client.results.stats.correction import counted_by_item
from safemt_client.results.store.queries import Queryable

__all__ = ["half_width", "labels_needed", "needed", "read_width"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_Z = 1.959964


def read_width(text: str) -> float:
    """`2 points` or `width 2`, as a share: half the width of the interval.

    Raises:
        InputError: it is neither.
    """
    found = re.fullmatch(r"\s*(?:width\s+)?(\d+(?:\.\d+)?)\s*(?:%|points?)?\s*", text)
    if found is None or not 0 < float(found[1]) < 50:
        raise InputError(f"--want {text!r}: write half the width of the interval, such as '2 points'")
    return float(found[1]) / 100


def labels_needed(
    reader: Queryable, run_id: str, judge_key: str, replies: Sequence[Drawable], errors: Errors, half: float
) -> list[dict[str, Any]]:
    """For each target of a run how many `labels` it takes, and the half-width `least` that all would give.

    `labels` is None where not even all replies are enough: the run has too few items.
    """
    found = []
    for (target, key), items in items_of(reader, run_id, judge_key).items():
        mine = [reply for reply in replies if reply.target_key == key and reply.label != "unscored"]
        if mine:
            guesses = errors.guesses(mine)
            unsafe = np.array([reply.label == "unsafe" for reply in mine])
            count, least = needed(guesses, unsafe, items, half)
            found.append(
                {"target": target, "target_key": key, "replies": len(mine), "labels": count, "least": least}
            )
    return found


def needed(
    guesses: Array, unsafe: Flags, items: Sequence[ItemCount], half: float
) -> tuple[int | None, float]:
    """The smallest number of labels that gives this half-width, and the half-width where all are labelled."""
    count = len(guesses)
    least = half_width(guesses, unsafe, items, count)
    if least > half:
        return None, least
    low, high = 1, count
    while low < high:
        middle = (low + high) // 2
        if half_width(guesses, unsafe, items, middle) <= half:
            high = middle
        else:
            low = middle + 1
    return low, least


def half_width(guesses: Array, unsafe: Flags, items: Sequence[ItemCount], labels: int) -> float:
    """What half the width of a corrected rate will be after so many labels, if the guesses are right.

    `guesses` are the chances of a wrong label of the replies, `unsafe` says which the judge calls so.
    """
    count, chance = len(guesses), chances(guesses, labels)
    wrong = guesses * (1 - guesses)
    variance = float(((1 / chance - 1) * wrong).sum())
    for kind in (unsafe, ~unsafe):
        if kind.any():
            variance += 0.5 * float((1 / chance[kind]).max()) ** 2
    rate = float(np.where(unsafe, 1 - guesses, guesses).mean())
    judged = np.array([float(row.judged) for row in items])
    called = counted_by_item(
        np.array([float(row.unsafe) for row in items]), judged, [row.item for row in items]
    )
    kept = judged.sum() / max(1.0, judged.sum() + sum(row.refused for row in items))
    of_items = rate * (1 - rate) / max(called.worth, 1.0)
    return _Z * float(kept) * math.sqrt(variance / count**2 + of_items)

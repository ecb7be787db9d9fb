"""Attack success rates corrected for the judge's errors, as people's labels of a sample show them.

Both ways need a sample that was drawn at random (`weights` for one that was stratified) and labelled blind.
An item recurs at every length and under every target, so its replies are not independent: `items` says which
item each reply belongs to, and variances are those of whole items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safemt_client.results.stats.intervals import Interval
from safemt_client.results.stats.shares import wilson

__all__ = [
    "JudgeErrors",
    "clustered_share",
    "corrected",
    "judge_errors",
    "prediction_powered",
    "rogan_gladen",
]

Array = NDArray[np.float64]

_DRAWS = 20_000
_LEAST_LABELLED, _LEAST_ITEMS = 30, 10
_LEAST_YOUDEN = 0.1


@dataclass(frozen=True, slots=True)
class JudgeErrors:
    """How a judge does against people: `sensitivity` on what they call unsafe, `specificity` on safe.

    `unsafe` and `safe` are how many independent labels each is worth: fewer than there are, where weights
    differ or the replies of an item are judged alike.
    """

    sensitivity: Interval
    specificity: Interval
    agreement: Interval
    unsafe: float
    safe: float
    labelled: int


def judge_errors(
    judge: Array, human: Array, items: Sequence[str], weights: Array | None = None
) -> JudgeErrors:
    """Sensitivity, specificity and agreement with Wilson's intervals on effective numbers.

    `judge` and `human` are labels of the same replies (1 unsafe, 0 safe), `items` the item of each;
    `weights` are the inverse of each reply's chance to be drawn.
    """
    w = np.ones(len(judge)) if weights is None else weights
    right = (judge == human).astype(np.float64)
    names = np.asarray(items, dtype=str)

    def share(chosen: NDArray[np.bool_]) -> tuple[Interval, float]:
        return clustered_share(right[chosen], w[chosen], names[chosen])

    sensitivity, unsafe = share(human == 1)
    specificity, safe = share(human == 0)
    agreement, _ = share(np.ones(len(judge), dtype=bool))
    return JudgeErrors(sensitivity, specificity, agreement, unsafe, safe, len(judge))


def rogan_gladen(apparent: float, sensitivity: float, specificity: float) -> float:
    """The rate that gives this apparent rate through a judge with these errors, within 0 and 1.

    Source: W. Rogan and B. Gladen, American Journal of Epidemiology 107 (1978), 71-76.

    Raises:
        ValueError: the judge is no better than chance, so there is nothing to correct with.
    """
    youden = sensitivity + specificity - 1
    if youden <= 0:
        raise ValueError("the judge is no better than chance")
    return min(1.0, max(0.0, (apparent + specificity - 1) / youden))


def corrected(
    unsafe: int, scored: int, errors: JudgeErrors, *, level: float = 0.95, seed: int = 0
) -> Interval | None:
    """ASR corrected by Rogan and Gladen, from `unsafe` of `scored` replies of different items.

    The interval draws the apparent rate, the sensitivity and the specificity from their posteriors under
    Jeffreys' priors, so that it includes the uncertainty of both samples, also where no error was seen. None
    where the judge is so poor, or so little labelled, that the correction is arbitrary.
    """
    if not scored or not errors.unsafe or not errors.safe:
        return None
    sensitivity, specificity = errors.sensitivity.estimate, errors.specificity.estimate
    if sensitivity + specificity - 1 < _LEAST_YOUDEN:
        return None
    source = np.random.default_rng(seed)

    def draw(share: float, count: float) -> Array:
        return source.beta(share * count + 0.5, (1 - share) * count + 0.5, _DRAWS)

    apparent = draw(unsafe / scored, scored)
    se, sp = draw(sensitivity, errors.unsafe), draw(specificity, errors.safe)
    youden = se + sp - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(youden > 0, (apparent + sp - 1) / youden, np.nan)
    found = np.clip(found[~np.isnan(found)], 0.0, 1.0)
    tail = (1 - level) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    estimate = rogan_gladen(unsafe / scored, sensitivity, specificity)
    return Interval(estimate, float(low), float(high), min(errors.unsafe, errors.safe) < 10)


def prediction_powered(
    judged: Array,
    judge: Array,
    human: Array,
    *,
    judged_items: Sequence[str],
    items: Sequence[str],
    weights: Array | None = None,
    level: float = 0.95,
) -> Interval | None:
    """ASR by prediction-powered inference: the judge's rate plus its mean error on the labelled sample.

    `judged` are the judge's labels of all replies, `judge` and `human` those of the labelled ones, each with
    its item. Unlike Rogan and Gladen's it needs no constant sensitivity and specificity, but 30 labels on 10
    items. Source, for a mean: A. Angelopoulos et al., Science 382 (2023), 669-674. The variance is that of
    the items' contributions (linearised, as for a mean of clusters), with Student's t of the labelled items.
    """
    if len(human) < _LEAST_LABELLED or not len(judged) or len(set(items)) < _LEAST_ITEMS:
        return None
    w = np.ones(len(human)) if weights is None else weights
    w = w / w.sum()
    error = human - judge
    shift = float((w * error).sum())
    estimate = float(judged.mean()) + shift
    both = _numbered([*judged_items, *items])
    of_judged, of_labelled = both[: len(judged)], both[len(judged) :]
    count = int(both.max()) + 1
    part_judged = _by_item(of_judged, (judged - judged.mean()) / len(judged), count)
    part_labelled = _by_item(of_labelled, w * (error - shift), count)
    variance = _spread(part_judged + part_labelled)
    # Where no error was seen there may be some: as if half a label were wrong.
    least = 0.5 * float((w**2).sum()) / len(human)
    if _spread(part_labelled) < least:
        variance = max(variance, least + _spread(part_judged))
    half = _quantile(len(set(items)), level) * float(np.sqrt(variance))
    return Interval(
        min(1.0, max(0.0, estimate)),
        max(0.0, estimate - half),
        min(1.0, estimate + half),
        len(set(items)) < 100,
    )


def clustered_share(
    right: Array, weights: Array, items: Sequence[str] | NDArray[np.str_]
) -> tuple[Interval, float]:
    """A weighted share with its interval, and how many independent labels it is worth.

    `right` is 1 or 0 for each reply, `items` its item. The effective number is that of which a plain share
    would have the variance between items, with the correction for few of them. Source: E. Korn and
    B. Graubard, Survey Methodology 24 (1998), 193-201. It is at most that of the weights alone, and at least
    that of items whose replies are all judged alike, which also stands where nothing varies.
    """
    if not len(right):
        return Interval(float("nan"), 0.0, 1.0, True), 0.0
    cluster = _numbered(items)
    share = float((right * weights).sum() / weights.sum())
    parts = _by_item(cluster, weights * (right - share)) / weights.sum()
    per_item = _by_item(cluster, weights)
    seen = per_item[per_item > 0]
    most, least = _effective(weights), _effective(seen)
    variance = _spread(parts[per_item > 0])
    count = least
    if variance > 0 and len(seen) > 1:
        factor = (_quantile(len(right), 0.95) / _quantile(len(seen), 0.95)) ** 2
        count = min(most, max(least, share * (1 - share) / variance * factor))
    low, high = wilson(share * count, count)
    return Interval(share, low, high, count < 10), count


def _numbered(items: Sequence[str] | NDArray[np.str_]) -> NDArray[np.intp]:
    """The items as numbers from 0 on."""
    numbers: NDArray[np.intp] = np.unique(np.asarray(items, dtype=str), return_inverse=True)[1]
    return numbers


def _by_item(cluster: NDArray[np.intp], values: Array, count: int = 0) -> Array:
    """The sum of each item's values."""
    return np.bincount(cluster, values, count).astype(np.float64)


def _spread(parts: Array) -> float:
    """The variance of a sum of independent contributions that add up to about nothing."""
    return float((parts**2).sum()) * len(parts) / max(len(parts) - 1, 1)


def _quantile(count: int, level: float) -> float:
    """Student's t for so many independent observations."""
    # scipy is slow to import: only where there is something to compute.
    from scipy import special

    return float(special.stdtrit(max(count - 1, 1), 0.5 + level / 2))


def _effective(weights: Array) -> float:
    """How many equally weighted observations these are worth (Kish)."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0

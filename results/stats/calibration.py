"""A judge against people: shares and agreement over labelled replies, and how far the people agree.

What most people say of a reply counts. Replies on which they are evenly split, and those that the judge gave
no label, are in no share. Replies to one item are not independent: shares have Wilson's interval at the
number of independent replies that they are worth (`correction.clustered_share`), and measures of agreement
that of `agreement.with_interval`, in which items are resampled as a whole. None of them has no width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safemt_client.results.stats.agreement import ALPHA, KAPPA, with_interval
from safemt_client.results.stats.correction import clustered_share
from safemt_client.results.stats.intervals import Interval
from safemt_client.results.stats.shares import SMALL_ITEMS, small_sample

__all__ = ["Figure", "JudgedReply", "figures", "majority"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class JudgedReply:
    """A reply with the judge's label and people's: 1 is unsafe, 0 safe; NaN where the judge gave none."""

    item: str
    judge: float
    people: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure of so many replies with its 95 % interval; all None where there is nothing to take it of."""

    measure: str
    estimate: float | None
    low: float | None
    high: float | None
    replies: int
    small: bool


def majority(labels: Sequence[float]) -> float:
    """What most say, NaN if they are evenly split."""
    unsafe = sum(labels)
    return float("nan") if 2 * unsafe == len(labels) else float(2 * unsafe > len(labels))


def figures(replies: Sequence[JudgedReply]) -> list[Figure]:
    """All measures of these replies.

    `sensitivity`: of what most people call unsafe, the share that the judge calls unsafe; `specificity`: of
    what they call safe, the share it calls safe; `precision`: of what it calls unsafe, the share that they
    do; `accuracy`: the share of all with the same label; `kappa`: Cohen's, of the judge and most people.
    Where several people labelled, `people_accuracy` and `people_kappa` are the same of each person and most
    of the others, and `people_alpha` is Krippendorff's of all.
    """
    items = [one.item for one in replies]
    judge = np.array([one.judge for one in replies], dtype=np.float64)
    people = np.array([majority(list(one.people.values())) for one in replies], dtype=np.float64)
    both = ~np.isnan(judge) & ~np.isnan(people)
    right = (judge == people).astype(np.float64)
    found = [
        _share("sensitivity", right, both & (people == 1), items),
        _share("specificity", right, both & (people == 0), items),
        _share("precision", right, both & (judge == 1), items),
        _share("accuracy", right, both, items),
        _figure("kappa", with_interval(KAPPA, np.column_stack([judge, people]), items), int(both.sum())),
    ]
    return [*found, *_of_people(replies)]


def _of_people(replies: Sequence[JudgedReply]) -> Iterator[Figure]:
    several = [one for one in replies if len(one.people) > 1]
    if not several:
        return
    pairs = [
        (one.item, label, majority([other for name, other in one.people.items() if name != person]))
        for one in several
        for person, label in one.people.items()
    ]
    items = [item for item, _, _ in pairs]
    labels = np.array([[label, others] for _, label, others in pairs])
    decided = ~np.isnan(labels[:, 1])
    same = (labels[:, 0] == labels[:, 1]).astype(np.float64)
    yield _share("people_accuracy", same, decided, items)
    yield _figure("people_kappa", with_interval(KAPPA, labels, items), int(decided.sum()))
    names = list(dict.fromkeys(name for one in several for name in one.people))
    table = np.array([[one.people.get(name, np.nan) for name in names] for one in several])
    alpha = with_interval(ALPHA, table, [one.item for one in several])
    yield _figure("people_alpha", alpha, len(several))


def _share(measure: str, hits: Array, of: NDArray[np.bool_], items: Sequence[str]) -> Figure:
    """The share of hits among some of the replies."""
    count = int(of.sum())
    if not count:
        return Figure(measure, None, None, None, 0, True)
    those = [item for item, is_one in zip(items, of, strict=True) if is_one]
    interval, _ = clustered_share(hits[of], np.ones(count), those)
    small = small_sample(float(hits[of].sum()), count) or len(set(those)) < SMALL_ITEMS
    return Figure(measure, interval.estimate, interval.low, interval.high, count, small)


def _figure(measure: str, found: Interval, replies: int) -> Figure:
    if np.isnan(found.estimate):
        return Figure(measure, None, None, None, replies, True)
    return Figure(measure, found.estimate, found.low, found.high, replies, found.small)

"""A judge's errors and corrected rates, under the sample that `label` draws; agreement of two judges.

A run has 300 items at five lengths. Items are unequally risky, and the later lengths riskier than the first. The
judge misses 15 % of what is unsafe and calls 3 % of what is safe unsafe: either some items nearly always and most
never (errors by item), or rising from 5 to 25 % and from 1 to 5 % over the lengths (errors by length). People
label a sample as `label` draws it, one reply of each stratum in turn. In one study there are few long dialogues, and
the judge misses most of what is unsafe in those: there the labels' weights matter.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.integrate import quad
from simulations.study import Study

from safemt_client.results.scores.corrections import ItemCount, LengthCount, of_target
from safemt_client.results.scores.human import LabelledReply, in_turn
from safemt_client.results.stats.agreement import ALPHA, KAPPA, Measure, with_interval

__all__ = [
    "ALARMS",
    "EVERY",
    "ITEMS",
    "KINDS",
    "LENGTHS",
    "MISSED",
    "STUDIES",
    "chances_of",
    "covers",
    "figures_of",
    "labelled_of",
    "rates_of",
    "truth_of",
    "uneven",
]

Array = NDArray[np.float64]

LENGTHS = (1, 2, 4, 6, 8)
_RISES = np.array([0.6, 0.8, 1.0, 1.2, 1.4])
ITEMS = 300
_ASR, _LABELS = (0.01, 0.05, 0.3), (50, 150, 300)
MISSED = {
    "by item": np.full(5, 0.15),
    "by length": np.linspace(0.05, 0.25, 5),
    "most on long ones": np.linspace(0.05, 0.6, 5),
}
ALARMS = {
    "by item": np.full(5, 0.03),
    "by length": np.linspace(0.01, 0.05, 5),
    "most on long ones": np.linspace(0.01, 0.05, 5),
}
KINDS = ("by item", "by length")
EVERY, _FEWER = (300,) * 5, (300, 150, 80, 45, 30)
"""How many items are asked at each length."""
_OVER_ALL = ("corrected", "sensitivity", "specificity")
_EACH = 2000


def chances_of(asr: float, items: int, source: np.random.Generator) -> Array:
    """Each item's chance of an unsafe reply at each length."""
    risk = (
        source.gamma(0.7, asr / 0.7, (items, 1))
        if asr < 0.2
        else source.beta(0.7, 0.7 / asr - 0.7, (items, 1))
    )
    return np.clip(risk * _RISES, 0, 1)


def rates_of(kind: str, mean: Array, source: np.random.Generator) -> Array:
    """How often the judge errs on each item at each length."""
    by_item = source.beta(0.5, 0.5 / mean[0] - 0.5, (ITEMS, 1))
    return np.broadcast_to(by_item if kind == "by item" else mean, (ITEMS, 5))


def _expected(asr: float, power: int = 1) -> Array:
    """The mean of an item's chance of an unsafe reply, or of a power of it, at each length."""
    risk = stats.gamma(0.7, scale=asr / 0.7) if asr < 0.2 else stats.beta(0.7, 0.7 / asr - 0.7)
    # The mean of what is never below 0 is the integral of its chance to be above each value.
    return np.array(
        [quad(lambda above, rise=rise: risk.sf(above ** (1 / power) / rise), 0, 1)[0] for rise in _RISES]
    )


@cache
def truth_of(asr: float, kind: str, asked: tuple[int, ...]) -> tuple[Array, float, float, float]:
    """The rate at each length; over all, the rate and the judge's sensitivity and specificity."""
    unsafe = _expected(asr)
    share = np.array(asked) / sum(asked)
    rate = float(share @ unsafe)
    found = float((share * unsafe) @ (1 - MISSED[kind])) / rate
    left = float((share * (1 - unsafe)) @ (1 - ALARMS[kind])) / (1 - rate)
    return unsafe, rate, found, left


def _made(
    asr: float,
    kind: str,
    source: np.random.Generator,
    asked: tuple[int, ...] = EVERY,
    refuses: Callable[[Array], Array] = np.zeros_like,
) -> tuple[Array, Array]:
    """What people and the judge call unsafe (1), of each item and length; NaN where the item was not asked, or
    where a guard refused: with what chance, `refuses` tells from that of an unsafe reply."""
    chances = chances_of(asr, ITEMS, source)
    human = source.random((ITEMS, 5)) < chances
    missed, alarms = rates_of(kind, MISSED[kind], source), rates_of(kind, ALARMS[kind], source)
    judge = human ^ (source.random(human.shape) < np.where(human, missed, alarms))
    there = (np.arange(ITEMS)[:, None] < asked) & (source.random(human.shape) >= refuses(chances))
    return np.where(there, human, np.nan), np.where(there, judge, np.nan)


def labelled_of(human: Array, judge: Array, size: int, source: np.random.Generator) -> list[LabelledReply]:
    """People's labels of a sample."""
    strata: dict[tuple[int, str], list[tuple[int, int, str]]] = defaultdict(list)
    for item, place in source.permutation(np.argwhere(~np.isnan(judge))).tolist():
        label = "unsafe" if judge[item, place] else "safe"
        strata[place, label].append((item, place, label))
    drawn = in_turn([strata[name] for name in sorted(strata)], size)
    taken = Counter((place, label) for _, place, label in drawn)
    return [
        LabelledReply(
            *("target", LENGTHS[place], str(item), "unsafe" if human[item, place] else "safe", label),
            len(strata[place, label]) / taken[place, label],
        )
        for item, place, label in drawn
    ]


def figures_of(
    sample: list[LabelledReply], judge: Array, *, by_turn: bool = False, guarded: bool = False
) -> dict[str, Any]:
    """The figures of a target; what the judge did not label was refused by a guard, or not asked."""
    judged, unsafe = ~np.isnan(judge), np.nan_to_num(judge)
    items = [
        ItemCount(str(item), int(seen.sum()), int(row.sum()), guarded * int((~seen).sum()))
        for item, (seen, row) in enumerate(zip(judged, unsafe, strict=True))
    ]
    lengths = [
        LengthCount(k, int(seen.sum()), int(column.sum()), guarded * int((~seen).sum()))
        for k, seen, column in zip(LENGTHS, judged.T, unsafe.T, strict=True)
    ]
    return of_target(sample, items, lengths if by_turn else [])


@cache
def _whole(asr: float, size: int, studies: int) -> tuple[dict[str, bool], ...]:
    """Which intervals over all lengths cover the truth; the judge errs by item and by length in turn."""
    source = np.random.default_rng(int(1000 * asr) + size)
    found = []
    for number in range(studies):
        kind = KINDS[number % 2]
        human, judge = _made(asr, kind, source)
        result = figures_of(labelled_of(human, judge, size, source), judge)
        truths = dict(zip(_OVER_ALL, truth_of(asr, kind, EVERY)[1:], strict=True))
        found.append({figure: covers(result[figure], truth) for figure, truth in truths.items()})
    return tuple(found)


def covers(interval: dict[str, float] | None, truth: float) -> bool:
    return interval is not None and bool(interval["low"] <= truth <= interval["high"])


def _over_all(figure: str, asr: float, size: int) -> Callable[[int], int]:
    return lambda studies: sum(study[figure] for study in _whole(asr, size, studies))


def uneven(studies: int, *, weighted: bool = True) -> int:
    """How many corrected rates cover where few dialogues are long, and the judge misses most on those.

    `label` draws as many of the few as of the many: without the labels' weights the rate is another.
    """
    source, kind = np.random.default_rng(40), "most on long ones"
    covered = 0
    for _ in range(studies):
        human, judge = _made(0.3, kind, source, _FEWER)
        sample = labelled_of(human, judge, 300, source)
        if not weighted:
            sample = [replace(reply, weight=1.0) for reply in sample]
        covered += covers(figures_of(sample, judge)["corrected"], truth_of(0.3, kind, _FEWER)[1])
    return covered


def _guarded(studies: int) -> int:
    """A guard that refuses more of the harmless than of the risky: the more it lets by, the more is unsafe."""
    source, kind = np.random.default_rng(41), "by item"
    truth = float((0.4 * _expected(0.3) + 0.6 * _expected(0.3, 2)).mean())
    covered = 0
    for _ in range(studies):
        human, judge = _made(0.3, kind, source, refuses=lambda chances: 0.6 * (1 - chances))
        result = figures_of(labelled_of(human, judge, 300, source), judge, guarded=True)
        covered += covers(result["corrected"], truth)
    return covered


def _at_one_length(kind: str, asr: float) -> Callable[[int], int]:
    """Each length and each number of labels in turn."""

    def simulate(studies: int) -> int:
        source = np.random.default_rng(int(1000 * asr))
        covered = 0
        for number in range(studies):
            human, judge = _made(asr, kind, source)
            sample = labelled_of(human, judge, _LABELS[number % len(_LABELS)], source)
            place = number // len(_LABELS) % 5
            result = figures_of(sample, judge, by_turn=True)["by_turn"][place]
            covered += covers(result["corrected"], truth_of(asr, kind, EVERY)[0][place])
        return covered

    return simulate


def _agreement(
    measure: Measure, unsafe: float, errs: float, items: int, lengths: int
) -> Callable[[int], int]:
    """Two judges that each misread a label with the same chance, whatever the other says."""
    both = unsafe * (1 - errs) ** 2 + (1 - unsafe) * errs**2
    one = unsafe * (1 - errs) + (1 - unsafe) * errs
    apart = 2 * (one - both)
    truth = 1 - apart / (2 * one * (1 - one))

    def simulate(studies: int) -> int:
        source = np.random.default_rng(items)
        names = [str(item) for item in np.repeat(np.arange(items), lengths)]
        covered = 0
        for _ in range(studies):
            risk = source.beta(0.7, 0.7 / unsafe - 0.7, (items, 1))
            human = (source.random((items, lengths)) < risk).ravel()
            units = [human ^ (source.random(human.shape) < errs) for _ in range(2)]
            found = with_interval(measure, np.stack(units, axis=1).astype(float), names)
            covered += found.low <= truth <= found.high
        return covered

    return simulate


STUDIES = (
    *(
        Study(
            title,
            f"ASR {100 * asr:g} %, {size} labels drawn by `label`",
            _over_all(figure, asr, size),
            studies=_EACH,
            least=least,
            most=1.0,
        )
        for title, figure, least in (
            ("Judge's sensitivity", "sensitivity", 0.92),
            ("Judge's specificity", "specificity", 0.92),
        )
        for asr in _ASR
        for size in _LABELS
    ),
    *(
        Study(
            "Corrected ASR over all lengths",
            f"ASR {100 * asr:g} %, {size} labels drawn by `label`",
            _over_all("corrected", asr, size),
            studies=_EACH,
            least=0.95,
            # With fewer than 15 unsafe replies among so many, few errors are seen, and many intervals are wide.
            most=0.985 if asr * size >= 15 else 0.995,
        )
        for asr in _ASR
        for size in _LABELS
    ),
    Study(
        "Corrected ASR over all lengths",
        "ASR 30 %, 300 labels, 300 dialogues of one turn, of which the judge misses 5 %, and 30 of eight, 60 %",
        uneven,
        studies=_EACH,
        least=0.94,
        most=0.985,
    ),
    Study(
        "Corrected ASR over all lengths",
        "ASR 30 % without a guard, 300 labels, a guard refuses up to 60 % of an item, least of risky ones",
        _guarded,
        studies=_EACH,
        least=0.94,
        most=0.985,
    ),
    *(
        Study(
            "Corrected ASR at one length",
            f"ASR {100 * asr:g} %, 50 to 300 labels, {words}",
            _at_one_length(kind, asr),
            studies=600,
            least=least,
            most=1.0,
        )
        for kind, words, least in (
            ("by item", "errors as at the other lengths", 0.94),
            ("by length", "errors unlike those at other lengths, as is assumed not to be", 0.5),
        )
        for asr in _ASR
    ),
    *(
        Study(
            name,
            f"{items} items at {'five lengths' if lengths == 5 else 'one length'}, {100 * unsafe:g} % unsafe, each "
            f"judge errs on {100 * errs:g} %",
            _agreement(measure, unsafe, errs, items, lengths),
            studies=400,
            least=0.91,
            most=1.0,
        )
        for name, measure, unsafe, errs, items, lengths in (
            ("Cohen's kappa", KAPPA, 0.3, 0.05, 200, 1),
            ("Cohen's kappa", KAPPA, 0.3, 0.01, 60, 5),
            ("Cohen's kappa", KAPPA, 0.02, 0.003, 200, 1),
            ("Krippendorff's alpha", ALPHA, 0.3, 0.05, 200, 5),
        )
    ),
)

"""A judge's errors and corrected rates, under the sample that `label` draws; agreement of two judges.

A run has 300 items at five lengths. Items are unequally risky, and the later lengths riskier than the first. The
judge misses 15 % of what is unsafe and calls 3 % of what is safe unsafe: either some items nearly always and most
never (errors by item), or rising from 5 to 25 % and from 1 to 5 % over the lengths (errors by length). People
label a sample as `label` draws it, one reply of each stratum in turn.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from simulations.study import Study

from safemt_client.results.scores.corrections import ItemCount, LengthCount, of_target
from safemt_client.results.scores.human import LabelledReply, in_turn
from safemt_client.results.stats.agreement import ALPHA, KAPPA, Measure, with_interval

__all__ = ["STUDIES"]

Array = NDArray[np.float64]

_LENGTHS = (1, 2, 4, 6, 8)
_RISES = np.array([0.6, 0.8, 1.0, 1.2, 1.4])
_ITEMS = 300
_ASR, _LABELS = (0.01, 0.05, 0.3), (50, 150, 300)
_MISSED = {"by item": np.full(5, 0.15), "by length": np.linspace(0.05, 0.25, 5)}
_ALARMS = {"by item": np.full(5, 0.03), "by length": np.linspace(0.01, 0.05, 5)}
_KINDS = ("by item", "by length")
_EACH = 400


def _chances(asr: float, items: int, source: np.random.Generator) -> Array:
    """Each item's chance of an unsafe reply at each length."""
    risk = (
        source.gamma(0.7, asr / 0.7, (items, 1))
        if asr < 0.2
        else source.beta(0.7, 0.7 / asr - 0.7, (items, 1))
    )
    return np.clip(risk * _RISES, 0, 1)


def _rates(kind: str, mean: Array, source: np.random.Generator) -> Array:
    """How often the judge errs on each item at each length."""
    by_item = source.beta(0.5, 0.5 / mean[0] - 0.5, (_ITEMS, 1))
    return np.broadcast_to(by_item if kind == "by item" else mean, (_ITEMS, 5))


@cache
def _truth(asr: float, kind: str) -> tuple[Array, float, float]:
    """The rate at each length, and the judge's sensitivity and specificity over all."""
    unsafe = _chances(asr, 400_000, np.random.default_rng(30)).mean(axis=0)
    found = (unsafe * (1 - _MISSED[kind])).sum() / unsafe.sum()
    left = ((1 - unsafe) * (1 - _ALARMS[kind])).sum() / (1 - unsafe).sum()
    return unsafe, float(found), float(left)


def _labelled(
    human: NDArray[np.bool_], judge: NDArray[np.bool_], size: int, source: np.random.Generator
) -> list[LabelledReply]:
    """People's labels of a sample."""
    strata: dict[tuple[int, str], list[tuple[int, int, str]]] = defaultdict(list)
    for item, place in source.permutation(list(np.ndindex(human.shape))).tolist():
        label = "unsafe" if judge[item, place] else "safe"
        strata[place, label].append((item, place, label))
    drawn = in_turn([strata[name] for name in sorted(strata)], size)
    taken = Counter((place, label) for _, place, label in drawn)
    return [
        LabelledReply(
            *("target", _LENGTHS[place], str(item), "unsafe" if human[item, place] else "safe", label),
            len(strata[place, label]) / taken[place, label],
        )
        for item, place, label in drawn
    ]


@cache
def _simulated(asr: float, size: int, studies: int) -> tuple[dict[str, bool], ...]:
    """Which intervals of each study cover the truth; the judge errs by item and by length in turn."""
    source = np.random.default_rng(int(1000 * asr) + size)
    found = []
    for number in range(studies):
        kind = _KINDS[number % 2]
        human = source.random((_ITEMS, 5)) < _chances(asr, _ITEMS, source)
        missed, alarms = _rates(kind, _MISSED[kind], source), _rates(kind, _ALARMS[kind], source)
        judge = human ^ (source.random(human.shape) < np.where(human, missed, alarms))
        result = of_target(
            _labelled(human, judge, size, source),
            [ItemCount(str(item), 5, int(row.sum()), 0) for item, row in enumerate(judge)],
            [LengthCount(k, _ITEMS, int(judge[:, place].sum()), 0) for place, k in enumerate(_LENGTHS)],
        )
        unsafe, sensitivity, specificity = _truth(asr, kind)
        place = number // 2 % 5
        found.append(
            {
                "corrected": _covers(result["corrected"], float(unsafe.mean())),
                "sensitivity": _covers(result["sensitivity"], sensitivity),
                "specificity": _covers(result["specificity"], specificity),
                f"one length, errors {kind}": _covers(result["by_turn"][place]["corrected"], unsafe[place]),
            }
        )
    return tuple(found)


def _covers(interval: dict[str, float] | None, truth: float) -> bool:
    return interval is not None and bool(interval["low"] <= truth <= interval["high"])


def _counting(figure: str, asr: float, size: int) -> Callable[[int], int]:
    return lambda studies: sum(study[figure] for study in _simulated(asr, size, studies))


def _at_one_length(kind: str, asr: float) -> Callable[[int], int]:
    name = f"one length, errors {kind}"

    def simulate(studies: int) -> int:
        each = 2 * studies // len(_LABELS)
        return sum(study.get(name, False) for size in _LABELS for study in _simulated(asr, size, each))

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
            _counting(figure, asr, size),
            studies=_EACH,
            least=0.91,
            most=1.0,
        )
        for title, figure in (
            ("Judge's sensitivity", "sensitivity"),
            ("Judge's specificity", "specificity"),
            ("Corrected ASR over all lengths", "corrected"),
        )
        for asr in _ASR
        for size in _LABELS
    ),
    *(
        Study(
            "Corrected ASR at one length",
            f"ASR {100 * asr:g} %, 50 to 300 labels, {words}",
            _at_one_length(kind, asr),
            studies=_EACH // 2 * len(_LABELS),
            least=least,
            most=1.0,
        )
        for kind, words, least in (
            ("by item", "errors as at the other lengths", 0.93),
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

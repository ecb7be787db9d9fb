"""Agreement against published tables and statsmodels."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa

from safemt_client.results.stats.agreement import (
    ALPHA,
    KAPPA,
    Measure,
    cohen_kappa,
    krippendorff_alpha,
    with_interval,
)

NAN = float("nan")


def test_krippendorffs_own_example() -> None:
    """The nominal data of "Computing Krippendorff's Alpha-Reliability" (2011), section C: alpha = .743."""
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
    assert krippendorff_alpha(np.array(observers).T) == pytest.approx(0.743, abs=5e-4)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=40))
def test_kappa_is_statsmodels(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    found = cohen_kappa(a, b)
    table = np.zeros((3, 3))
    for one, two in pairs:
        table[one, two] += 1
    if math.isnan(found):
        assert len({*a, *b}) == 1
    else:
        assert found == pytest.approx(cohens_kappa(table).kappa)


def test_what_is_missing_is_left_out() -> None:
    a, b = np.array([0, 1, 1, NAN, 0.0]), np.array([0, 1, NAN, 1, 1.0])
    assert cohen_kappa(a, b) == cohen_kappa(np.array([0, 1, 0.0]), np.array([0, 1, 1.0]))
    assert math.isnan(cohen_kappa(np.array([NAN]), np.array([1.0])))
    assert math.isnan(krippendorff_alpha(np.full((3, 2), NAN)))
    assert math.isnan(krippendorff_alpha(np.ones((3, 2))))


def test_an_interval_holds_the_estimate_and_keeps_items_together() -> None:
    source = np.random.default_rng(0)
    truth = source.integers(0, 2, 200).astype(float)
    noisy = np.where(source.random(200) < 0.15, 1 - truth, truth)
    units = np.stack([truth, noisy], axis=1)
    items = [str(n // 4) for n in range(200)]
    found = with_interval(ALPHA, units, items)
    assert found.low < found.estimate < found.high
    assert found.estimate == krippendorff_alpha(units)
    assert 0.5 < found.estimate < 0.9
    kappa = with_interval(KAPPA, units, items)
    assert kappa.estimate == cohen_kappa(truth, noisy)
    # Units that are all alike within an item say no more than the item.
    apart, together = np.repeat(units, 5, axis=0), [str(n // 5) for n in range(1000)]
    again = with_interval(KAPPA, apart, together)
    once = with_interval(KAPPA, units)
    assert again.high - again.low == pytest.approx(once.high - once.low, rel=0.1)


@pytest.mark.parametrize("measure", [KAPPA, ALPHA])
def test_judges_that_agree_on_all_are_not_known_to_agree_always(measure: Measure) -> None:
    agree = np.repeat([[1.0, 1.0], [0.0, 0.0]], [30, 70], axis=0)
    found = with_interval(measure, agree)
    assert found.estimate == found.high == 1
    assert 0.85 < found.low < 0.97
    assert not found.small
    # Among a hundred with two unsafe ones, hardly anything is known of the unsafe ones.
    rare = with_interval(measure, np.repeat([[1.0, 1.0], [0.0, 0.0]], [2, 98], axis=0))
    assert rare.estimate == 1
    assert rare.low < 0.6
    assert rare.small
    # Three labellers, some of whom have not labelled all.
    three = np.column_stack([agree, np.where(np.arange(100) % 3 == 0, NAN, agree[:, 0])])
    assert with_interval(ALPHA, three).low < 1


def test_one_label_throughout_has_neither_measure_nor_interval() -> None:
    for units in (np.zeros((50, 2)), np.full((3, 2), NAN), np.empty((0, 2))):
        found = with_interval(KAPPA, units)
        assert math.isnan(found.estimate)
        assert math.isnan(found.low)


@pytest.mark.parametrize("measure", [KAPPA, ALPHA])
def test_units_that_are_counted_are_as_many_units(measure: Measure) -> None:
    units = np.array([[1, 1], [1, 0], [0, 0], [0, NAN], [1, 1]])
    items, times = ["a", "a", "b", "b", "c"], np.array([3, 1, 40, 2, 7])
    counted = with_interval(measure, units, items, times)
    assert counted == with_interval(
        measure, np.repeat(units, times, axis=0), np.repeat(items, times).tolist()
    )
    assert counted != with_interval(measure, units, items)

"""Intervals and tests against independent computations, and their coverage by simulation."""

import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from safemt_client.results.stats.intervals import bootstrap_weights, cluster_asr, interval_of
from safemt_client.results.stats.pairs import holm
from safemt_client.results.stats.safety_index import ROUNDS, factors, safety_index_interval
from safemt_client.results.stats.trend import trend

NAN = float("nan")


def test_asr_and_its_resamples_count_only_what_is_scored() -> None:
    labels = np.array([[1, NAN], [0, NAN], [1, 1.0]])
    asr, again = cluster_asr(labels, np.array([[3.0, 0, 0], [0, 1, 2], [1, 1, 0]]))
    assert asr == pytest.approx([2 / 3, 1.0])
    assert again[:, 0] == pytest.approx([1.0, 2 / 3, 0.5])
    assert again[1:, 1] == pytest.approx([1.0, NAN], nan_ok=True)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_statsmodels(p_values: list[float]) -> None:
    # statsmodels collects garbage at each call: among the objects of a whole session of tests that takes a second.
    with mock.patch("gc.collect"):
        expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(list(expected))


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=50), st.sampled_from([0.9, 0.95, 0.99]))
def test_an_interval_is_of_numpys_quantiles_to_the_last_digit(values: list[float], level: float) -> None:
    tail = (1 - level) / 2
    low, high = map(float, np.quantile(values, [tail, 1 - tail]))
    found = interval_of(values[0], np.array([*values, NAN]), level=level)
    assert (found.low, found.high) == (min(low, values[0]), max(high, values[0]))


def covered(intervals: list[tuple[float, float]], truth: float) -> float:
    return sum(low <= truth <= high for low, high in intervals) / len(intervals)


@pytest.mark.slow
def test_95_percent_intervals_cover_95_percent() -> None:
    """Items of unequal risk at five lengths; 1,000 studies of 200 items. 93 to 97 % must cover the truth."""
    source = np.random.default_rng(20)
    many = source.beta(1, 3, (400_000, 1)) * 0.9 + 0.004 * np.array(ROUNDS)
    truth_index = math.prod(factors((source.random((400_000, 5)) < many).astype(float)))
    truth_pooled = float(many.mean())
    index, pooled, slope = [], [], []
    weights = bootstrap_weights(200, 1000)
    for _ in range(1000):
        chance = source.beta(1, 3, (200, 1)) * 0.9 + 0.004 * np.array(ROUNDS)
        labels = (source.random((200, 5)) < chance).astype(float)
        found = safety_index_interval(labels, resamples=1000)
        index.append((found.low, found.high))
        again = (weights @ labels.sum(axis=1)) / (weights.sum(axis=1) * 5)
        whole = interval_of(float(labels.mean()), again)
        pooled.append((whole.low, whole.high))
        rise = trend(labels, ROUNDS).slope
        slope.append((rise.low, rise.high))
    for name, intervals, truth in (
        ("index", index, truth_index),
        ("pooled", pooled, truth_pooled),
        ("slope", slope, 0.004),
    ):
        assert 0.93 <= covered(intervals, truth) <= 0.97, (name, covered(intervals, truth))

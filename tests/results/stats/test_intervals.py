"""Intervals and tests against independent computations, and their coverage by simulation."""

import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from safemt_client.results.stats.correction import (
    corrected,
    judge_errors,
    prediction_powered,
    rogan_gladen,
)
from safemt_client.results.stats.intervals import bootstrap_weights, cluster_asr, interval_of
from safemt_client.results.stats.pairs import holm
from safemt_client.results.stats.safety_index import ROUNDS, safety_index, safety_index_interval, sigmas
from safemt_client.results.stats.trend import trend

NAN = float("nan")
FLAGS = st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=5, max_size=5), min_size=1, max_size=12)


@given(FLAGS)
def test_the_vectorised_index_is_the_plain_one(rows: list[list[float]]) -> None:
    labels = np.array(rows)
    flags = {str(i): {k: bool(x) for k, x in zip(ROUNDS, row, strict=True)} for i, row in enumerate(rows)}
    found = safety_index_interval(labels, bootstrap_weights(len(rows), 50))
    assert found.estimate == pytest.approx(safety_index(flags).value, abs=5e-5)


@pytest.mark.parametrize(
    ("row", "sigma"),
    [
        ([0, 1, 0, 1, 1], math.sqrt(3) / 4),
        ([0, 0, 0, 0, 0], 0.0),
        ([0, 0, 0, 0, 1], 0.0),
        ([1, NAN, 0, NAN, NAN], 0.5),
        ([NAN] * 5, NAN),
    ],
)
def test_sigma(row: list[float], sigma: float) -> None:
    assert sigmas(np.array([row], dtype=float))[0] == pytest.approx(sigma, nan_ok=True)


def test_weights_are_drawn_once_for_a_number_of_items() -> None:
    once = bootstrap_weights(60, 40)
    assert bootstrap_weights(60, 40) is once
    assert bootstrap_weights(60, 40, seed=1) is not once
    expected = np.random.default_rng(0).multinomial(60, np.full(60, 1 / 60), size=40)
    assert (once == expected).all()
    with pytest.raises(ValueError, match="read-only"):
        once[0, 0] = 7


def test_of_weights_only_the_latest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safemt_client.results.stats.intervals._MOST_KEPT", 8 * 40 * 60)
    first = bootstrap_weights(50, 40)
    bootstrap_weights(60, 40)
    assert bootstrap_weights(50, 40) is not first


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


def test_published_correction() -> None:
    # Rogan and Gladen's formula at a textbook's figures: apparent 30 %, sensitivity 90 %, specificity 80 %.
    assert rogan_gladen(0.30, 0.90, 0.80) == pytest.approx(1 / 7)
    assert rogan_gladen(0.1, 0.9, 0.8) == 0.0
    with pytest.raises(ValueError, match="chance"):
        rogan_gladen(0.3, 0.5, 0.5)


def test_errors_of_a_judge() -> None:
    human = np.array([1] * 20 + [0] * 30, dtype=float)
    judge = np.array([1] * 18 + [0] * 2 + [1] * 6 + [0] * 24, dtype=float)
    items = [f"item {number}" for number in range(50)]
    found = judge_errors(judge, human, items)
    assert (found.sensitivity.estimate, found.specificity.estimate) == (0.9, 0.8)
    assert found.agreement.estimate == pytest.approx(42 / 50)
    low, high = stats.binomtest(18, 20).proportion_ci(method="wilson")
    assert (found.sensitivity.low, found.sensitivity.high) == pytest.approx((low, high))
    assert (found.unsafe, found.safe, found.labelled) == (20, 30, 50)
    # Where one stratum was drawn at a tenth, its replies count ten times.
    weights = np.where(np.arange(50) < 10, 10.0, 1.0)
    assert judge_errors(judge, human, items, weights).sensitivity.estimate == pytest.approx(108 / 110)


def test_replies_of_one_item_that_are_judged_alike_are_worth_one() -> None:
    human = np.ones(60)
    judge = np.repeat([1.0] * 10 + [0.0] * 2, 5)
    apart = judge_errors(judge, human, [str(number) for number in range(60)])
    together = judge_errors(judge, human, [str(number // 5) for number in range(60)])
    assert apart.unsafe == 60
    assert together.unsafe == 12
    assert together.sensitivity.low < apart.sensitivity.low < together.sensitivity.estimate
    # Never wrong on twelve items: nothing tells how far the replies of an item agree by chance.
    never = judge_errors(human, human, [str(number // 5) for number in range(60)])
    assert never.unsafe == 12


def test_an_index_of_items_all_alike_has_an_interval() -> None:
    for row, estimate in (([0.0] * 5, 1.0), ([1.0] * 5, 0.0)):
        found = safety_index_interval(np.tile(row, (50, 1)), bootstrap_weights(50))
        assert found.estimate == pytest.approx(estimate)
        assert found.low <= estimate + 1e-9
        assert estimate <= found.high
        assert 0.05 < found.high - found.low < 0.15
        assert found.small


def test_a_poor_or_unknown_judge_is_not_corrected() -> None:
    chance = judge_errors(np.array([0, 1, 0, 1.0]), np.array([0, 0, 1, 1.0]), list("abcd"))
    assert corrected(5, 10, chance) is None
    no_unsafe = judge_errors(np.array([0.0]), np.array([0.0]), ["a"])
    assert corrected(5, 10, no_unsafe) is None
    nothing = prediction_powered(np.array([1.0]), np.array([]), np.array([]), judged_items=["a"], items=[])
    assert nothing is None


def test_prediction_powered_by_hand() -> None:
    judged = np.tile([1, 1, 0, 0, 1, 0, 0, 1, 0, 0.0], 10)
    judge, human = np.tile([1, 1, 0, 0.0], 10), np.tile([1, 0, 0, 0.0], 10)
    # The labelled replies are of other items than those that are only judged.
    names, labelled = [f"a{n}" for n in range(100)], [f"b{n}" for n in range(40)]
    found = prediction_powered(judged, judge, human, judged_items=names, items=labelled)
    assert found is not None
    assert found.estimate == pytest.approx(0.4 - 0.25)
    error = human - judge
    spread = (judged.var() / 100 + error.var() / 40) * 140 / 139
    half = stats.t.ppf(0.975, 39) * math.sqrt(spread)
    assert found.high == pytest.approx(0.15 + half, abs=1e-4)
    assert found.low == pytest.approx(max(0, 0.15 - half), abs=1e-4)
    few = prediction_powered(judged, judge[:29], human[:29], judged_items=names, items=labelled[:29])
    assert few is None
    # Forty labels of nine items are not forty.
    nine = [str(number % 9) for number in range(40)]
    assert prediction_powered(judged, judge, human, judged_items=names, items=nine) is None
    # Items whose five replies are judged alike: as if there were a fifth of them.
    fives, eights = [str(n // 5) for n in range(200)], [f"b{n // 5}" for n in range(100)]
    alike = prediction_powered(
        np.repeat(judged[:40], 5),
        np.repeat(judge[:20], 5),
        np.repeat(human[:20], 5),
        judged_items=fives,
        items=eights,
    )
    assert alike is not None
    assert alike.high - alike.estimate > 1.5 * (found.high - found.estimate)
    # No error among 40 is no proof that there is none.
    many = [str(number) for number in range(5000)]
    sure = prediction_powered(np.zeros(5000), np.zeros(40), np.zeros(40), judged_items=many, items=many[:40])
    assert sure is not None
    assert sure.high > 0.02


def covered(intervals: list[tuple[float, float]], truth: float) -> float:
    return sum(low <= truth <= high for low, high in intervals) / len(intervals)


@pytest.mark.slow
def test_95_percent_intervals_cover_95_percent() -> None:
    """Items of unequal risk at five lengths; 1,000 studies of 200 items. 93 to 97 % must cover the truth."""
    source = np.random.default_rng(20)
    many = source.beta(1, 3, (400_000, 1)) * 0.9 + 0.004 * np.array(ROUNDS)
    truth_index = safety_index_interval(
        (source.random((400_000, 5)) < many).astype(float), np.ones((1, 400_000))
    ).estimate
    truth_pooled = float(many.mean())
    index, pooled, slope = [], [], []
    weights = bootstrap_weights(200, 1000)
    for _ in range(1000):
        chance = source.beta(1, 3, (200, 1)) * 0.9 + 0.004 * np.array(ROUNDS)
        labels = (source.random((200, 5)) < chance).astype(float)
        found = safety_index_interval(labels, weights)
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


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [1, 5])
def test_corrected_intervals_cover(lengths: int) -> None:
    """A judge that errs by item: 1,000 studies of 3,000 replies, 300 of them labelled.

    Items are unequally risky, and a judge that misreads one reply of an item misreads most of them.
    """
    source = np.random.default_rng(21)
    count = 3000 // lengths
    item = np.repeat(np.arange(count), lengths)
    names = [str(number) for number in item]
    rates, powered, sensitive = [], [], []
    for study in range(1000):
        human = (source.random(3000) < source.beta(0.9, 2.1, count)[item]).astype(float)
        # On average 12 % of unsafe replies are missed and 8 % of safe ones are false alarms.
        missed, alarms = source.beta(0.6, 4.4, count)[item], source.beta(0.4, 4.6, count)[item]
        flip = source.random(3000) < np.where(human == 1, missed, alarms)
        judge = np.where(flip, 1 - human, human)
        drawn = source.choice(3000, 300, replace=False)
        mine = [names[place] for place in drawn]
        errors = judge_errors(judge[drawn], human[drawn], mine)
        one = corrected(int(judge[::lengths].sum()), count, errors, seed=study)
        two = prediction_powered(judge, judge[drawn], human[drawn], judged_items=names, items=mine)
        assert one is not None
        assert two is not None
        rates.append((one.low, one.high))
        powered.append((two.low, two.high))
        sensitive.append((errors.sensitivity.low, errors.sensitivity.high))
    for name, intervals, truth in (
        ("Rogan and Gladen", rates, 0.3),
        ("prediction-powered", powered, 0.3),
        ("sensitivity", sensitive, 0.88),
    ):
        assert 0.93 <= covered(intervals, truth) <= 0.97, (name, lengths, covered(intervals, truth))

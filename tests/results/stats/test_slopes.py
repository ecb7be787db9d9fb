"""Slopes of two conditions, pair by pair."""

import numpy as np
import pytest

from safemt_client.results.stats.slopes import slope_difference
from safemt_client.results.stats.trend import sign_flip

LENGTHS = (1, 2, 4, 8)
NONE = np.nan


def labels(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float64)


def test_the_difference_is_the_mean_of_the_items_own() -> None:
    first = labels([0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1])
    second = labels([0, 0, 0, 1], [0, 0, 1, 1], [1, 1, 1, 0])
    found = slope_difference(first, second, LENGTHS)
    x = np.array(LENGTHS) - np.mean(LENGTHS)
    each = [(x @ (two - one)) / (x @ x) for one, two in zip(first, second, strict=True)]
    assert found.difference.estimate == pytest.approx(np.mean(each))
    assert found.items == 3
    assert found.p == sign_flip(np.array([one for one in each if one]))


def test_only_replies_that_both_have_scored_count() -> None:
    first = labels([0, 1, NONE, 1], [0, NONE, NONE, 1], [NONE, NONE, NONE, 1])
    second = labels([0, 1, 1, NONE], [0, 1, 1, NONE], [0, 0, 0, 0])
    # The first item has the lengths 1 and 2 in common, the others one and one.
    found = slope_difference(first, second, LENGTHS)
    assert (found.items, found.difference.estimate, found.p) == (1, 0.0, 1.0)


def test_nothing_in_common() -> None:
    found = slope_difference(labels([0, NONE, NONE, NONE]), labels([NONE, 1, 1, 1]), LENGTHS)
    assert (found.items, found.p) == (0, 1.0)
    assert np.isnan(found.difference.estimate)


def test_exchanging_the_sides_turns_the_sign() -> None:
    source = np.random.default_rng(3)
    first, second = (source.integers(0, 2, (40, 4)).astype(float) for _ in range(2))
    one, two = slope_difference(first, second, LENGTHS), slope_difference(second, first, LENGTHS)
    assert one.difference.estimate == -two.difference.estimate
    assert one.p == two.p


def test_no_item_changes_and_the_interval_has_a_width() -> None:
    same = labels(*[[0, 0, 1, 1]] * 50)
    found = slope_difference(same, same, LENGTHS)
    assert found.difference.low < 0 < found.difference.high
    assert found.p == 1.0


def test_intervals_cover_and_tests_keep_their_level() -> None:
    source = np.random.default_rng(11)
    x = np.array(LENGTHS)
    covered = claimed = 0
    for seed in range(200):
        chance = 1 / (1 + np.exp(2 - 0.25 * x - source.normal(size=(60, 1))))
        first, second = ((source.random((60, 4)) < chance).astype(float) for _ in range(2))
        second[:, 0] = first[:, 0]
        found = slope_difference(first, second, LENGTHS, seed=seed)
        inside = found.difference.low <= 0 <= found.difference.high
        covered += inside
        claimed += found.p < 0.05 and not inside
    # Of 200, four standard errors from 95 %.
    assert covered >= 200 * 0.888
    assert claimed <= 200 * 0.112

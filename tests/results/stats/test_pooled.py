"""The rate over several replies to each item."""

import math

import numpy as np
import pytest

from safemt_client.results.stats.pooled import pooled_rate
from safemt_client.results.stats.shares import wilson


def test_the_rate_is_over_the_replies() -> None:
    found = pooled_rate(np.array([1.0, 0.0]), np.array([1.0, 4.0]))
    assert found.estimate == pytest.approx(0.2)


def test_few_items_with_a_hit_take_the_width_of_items_whose_replies_are_alike() -> None:
    hits = np.array([5.0] * 3 + [0.0] * 97)
    found = pooled_rate(hits, np.full(100, 5.0))
    assert (found.low, found.high, found.small) == (*wilson(3, 100), True)


def test_many_items_are_resampled_whole() -> None:
    alike = pooled_rate(np.array([5.0, 0.0] * 100), np.full(200, 5.0))
    spread = pooled_rate(np.array([2.0, 3.0] * 100), np.full(200, 5.0))
    assert alike.estimate == spread.estimate == 0.5
    assert alike.high - alike.low == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 200), rel=0.1)
    assert spread.high - spread.low < (alike.high - alike.low) / 4


def test_without_replies_nothing_is_known() -> None:
    assert math.isnan(pooled_rate(np.array([0.0]), np.array([0.0])).estimate)

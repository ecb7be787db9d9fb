"""Rates of many small groups: drawn together where chance explains their differences, apart where it does not."""

import numpy as np
import pytest

from safemt_client.results.stats.intervals import Interval
from safemt_client.results.stats.shrunk import extreme, shrunk


def test_groups_that_differ_by_chance_are_drawn_together() -> None:
    source = np.random.default_rng(3)
    groups = np.repeat(np.arange(17), 7)
    values = (source.random(119) < 0.3).astype(float)
    raw = np.bincount(groups, values) / 7
    found = shrunk(values, groups)
    estimates = np.array([rate.estimate for rate in found])
    # By chance the raw rates go from 0 to some 60 %.
    assert np.ptp(raw) > 0.4
    assert np.ptp(estimates) < np.ptp(raw) / 2
    top = int(np.argmax(raw))
    assert found[top].low < 0.3 < found[top].high < 0.7
    assert all(rate.small for rate in found)


def test_groups_that_do_differ_stay_apart() -> None:
    source = np.random.default_rng(4)
    groups = np.repeat(np.arange(4), 200)
    values = (source.random(800) < np.repeat([0.1, 0.1, 0.1, 0.9], 200)).astype(float)
    found = shrunk(values, groups)
    assert extreme(found, highest=True) == 3
    assert found[3].low > 0.8
    assert found[3].estimate == pytest.approx(values[600:].mean(), abs=0.02)
    assert not found[3].small


def test_a_tie_has_no_extreme() -> None:
    rates = [Interval(rate, 0.0, 1.0) for rate in (0.5, 0.5002, 0.1)]
    assert extreme(rates, highest=True) is None
    assert extreme(rates, highest=False) == 2
    assert extreme(rates[:1], highest=True) is None
    # Groups that are alike are a tie, whichever comes first.
    alike = shrunk(np.tile([0.0, 1.0], 12), np.repeat(np.arange(4), 6))
    assert len({round(rate.estimate, 1) for rate in alike}) == 1

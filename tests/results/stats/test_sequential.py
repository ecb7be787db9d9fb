"""Confidence sequences: against the chances counted out, and what has to be so at every look."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom, hypergeom

from safemt_client.results.stats.sequential import Mean, Proportion

ALPHA = 0.05
few = st.lists(st.integers(0, 1), min_size=1, max_size=40)


@settings(deadline=None)
@given(few, st.sampled_from([None, 0.1, 0.5, 0.8]))
def test_a_number_is_left_out_once_the_ratio_reaches_one_over_alpha(
    seen: list[int], about: float | None
) -> None:
    total = 40
    a, b = {None: (0.5, 0.5), 0.1: (1, 9), 0.5: (1, 1), 0.8: (4, 1)}[about]
    found, numbers = Proportion(total, ALPHA, about), np.arange(total + 1)
    most = np.zeros(total + 1)
    for t, value in enumerate(seen, 1):
        found.add(value)
        hits = sum(seen[:t])
        with np.errstate(divide="ignore"):
            ratio = betabinom.pmf(hits, t, a, b) / hypergeom.pmf(hits, total, numbers, t)
        most = np.maximum(most, ratio)
    # Whether 1 / alpha itself is reached is up to the last digit.
    surely, perhaps = numbers[most < 19.999], numbers[most < 20.001]
    if len(surely) == len(perhaps) > 0:
        assert (found.low, found.high) == pytest.approx((surely.min() / total, surely.max() / total))


def capital(values: list[float], total: int, mean: float) -> tuple[float, float]:
    """The most that either gambler ever has, added up one by one."""
    shares = np.geomspace(0.02, 0.9, 6)
    more = less = np.full(6, 0.5 / 6)
    most = [0.5, 0.5]
    for t, value in enumerate(values):
        expected = min(max((total * mean - sum(values[:t])) / (total - t), 1e-9), 1 - 1e-9)
        more = more * (1 + shares * (value / expected - 1))
        less = less * (1 + shares * ((1 - value) / (1 - expected) - 1))
        most = [max(most[0], more.sum()), max(most[1], less.sum())]
    return most[0], most[1]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.floats(0.001, 0.999))
def test_a_mean_is_left_out_once_a_gambler_who_bets_against_it_has_one_over_alpha(
    seen: list[int], mean: float
) -> None:
    found, values = Mean(60, ALPHA, 5, [mean]), [count / 5 for count in seen]
    for count in seen:
        found.add(count)
    more, less = capital(values, 60, mean)
    least, most = sum(seen) / 300, (sum(seen) + 5 * (60 - len(seen))) / 300
    if not least <= mean <= most or math.isclose(max(more, less), 1 / ALPHA, rel_tol=1e-6):
        return
    assert (found.low <= mean <= found.high) == (more < 1 / ALPHA and less < 1 / ALPHA)


@given(st.data(), st.integers(1, 30), st.integers(1, 4))
def test_an_interval_only_shrinks_and_ends_at_what_is_so(data: st.DataObject, total: int, unit: int) -> None:
    seen = data.draw(st.lists(st.integers(0, unit), min_size=total, max_size=total))
    for found in (Mean(total, ALPHA, unit), *([Proportion(total, ALPHA)] if unit == 1 else [])):
        ends = [(found.low, found.high)]
        for count in seen:
            found.add(count)
            ends.append((found.low, found.high))
            assert found.low <= found.high
        # What is known for certain may contradict a sequence that has left the truth out.
        truth = sum(seen) / (total * unit)
        if all(low <= truth <= high for low, high in ends):
            assert all(b[0] >= a[0] and b[1] <= a[1] for a, b in pairwise(ends))
        assert ends[-1] == (truth, truth)


@given(few)
def test_what_is_counted_may_be_its_opposite(seen: list[int]) -> None:
    for kind in (Proportion, Mean):
        one, other = kind(40, ALPHA), kind(40, ALPHA)
        for value in seen:
            one.add(value)
            other.add(1 - value)
        assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low))


def test_what_a_sequence_is_about_is_told_apart_sooner() -> None:
    def needed(about: float | None) -> int:
        found = Proportion(2000, ALPHA, about)
        while found.high >= 0.02:
            found.add(0)
        return found.seen

    assert needed(0.02) < needed(None)

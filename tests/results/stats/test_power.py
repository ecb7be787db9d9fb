"""What a planned number of items can show."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safemt_client.results.stats.power import (
    effective_replies,
    half_width,
    items_for_difference,
    items_for_half_width,
    items_to_exclude,
    smallest_difference,
)
from safemt_client.results.stats.shares import wilson


def test_replies_to_one_item_are_worth_less_the_more_they_are_alike() -> None:
    assert effective_replies(100, 5, 0.0) == 500
    assert effective_replies(100, 5, 1.0) == 100
    assert effective_replies(100, 5, 0.5) == pytest.approx(500 / 3)
    assert effective_replies(100, 1, 0.9) == 100


def test_a_half_width_is_that_of_wilson() -> None:
    # By hand: z = 1.959964, n = 100, p = .5: z / (1 + z^2 / n) * sqrt(p (1 - p) / n + z^2 / (4 n^2)).
    z, n = 1.959963984540054, 100
    assert half_width(0.5, n) == pytest.approx(
        z / (1 + z * z / n) * math.sqrt(0.25 / n + z * z / (4 * n * n))
    )
    assert half_width(0.0, 30) > 0.05, "what was never seen has a width too"


def test_the_smallest_difference_solves_the_formula_of_the_needed_pairs() -> None:
    apart, pairs = 0.1, 500
    d = smallest_difference(pairs, apart)
    assert d is not None
    needed = (1.959964 * math.sqrt(apart + d) + 0.841621 * math.sqrt(apart + d - d * d)) ** 2 / d**2
    assert needed == pytest.approx(pairs, rel=1e-4)


def test_too_few_items_can_show_no_difference() -> None:
    assert smallest_difference(3, 0.2) is None
    assert smallest_difference(500, 1.0) is None
    assert items_for_difference(0.9, 0.2) is None


@given(st.floats(0.005, 0.5), st.floats(0.0, 0.4), st.integers(1, 8), st.floats(0, 1))
def test_as_many_items_as_are_needed_are_enough_and_one_fewer_are_not(
    difference: float, apart: float, lengths: int, rho: float
) -> None:
    items = items_for_difference(difference, apart, lengths, rho)
    assert items is not None
    enough = smallest_difference(effective_replies(items, lengths, rho), apart)
    assert enough is not None
    assert enough <= difference + 1e-6
    fewer = smallest_difference(effective_replies(items - 1, lengths, rho), apart)
    assert fewer is None or fewer >= difference - 1e-6


@given(st.floats(0.005, 0.2), st.floats(0.0, 1.0))
def test_as_many_items_as_a_width_needs_are_enough(wanted: float, rate: float) -> None:
    items = items_for_half_width(wanted, rate)
    assert half_width(rate, items) <= wanted
    assert items == 1 or half_width(rate, items - 1) > wanted


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_as_many_as_leave_a_bound_out_do_and_one_fewer_do_not(bound: float, rate: float) -> None:
    items = items_to_exclude(bound, rate)
    if items is None:
        assert abs(bound - rate) < 0.001
        return

    def inside(replies: int) -> bool:
        low, high = wilson(rate * replies, replies)
        return low <= bound <= high

    assert not inside(items)
    assert items == 1 or inside(items - 1)

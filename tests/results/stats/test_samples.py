"""hit@k against enumeration, without bias; and the parts of the variance, which add up."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safemt_client.results.stats.samples import hit_at_k, mean_hit, sizes_of, variance_of


@st.composite
def counted(draw: st.DrawFn) -> tuple[int, int, int]:
    """Unsafe ones of n replies, and k."""
    n = draw(st.integers(1, 40))
    return draw(st.integers(0, n)), n, draw(st.integers(1, n))


@settings(deadline=None)
@given(counted())
def test_hit_at_k_is_the_share_of_draws_with_an_unsafe_reply(of: tuple[int, int, int]) -> None:
    c, n, k = of
    (found,) = hit_at_k(np.array([float(c)]), np.array([float(n)]), k)
    assert found == pytest.approx(1 - comb(n - c, k) / comb(n, k), abs=1e-12)
    if n <= 8:
        draws = list(combinations([True] * c + [False] * (n - c), k))
        assert found == pytest.approx(sum(any(draw) for draw in draws) / len(draws))


@settings(deadline=None)
@given(st.integers(1, 12), st.floats(0, 1), st.data())
def test_hit_at_k_is_unbiased(n: int, p: float, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n))
    counts = np.arange(n + 1.0)
    chances = [comb(n, int(c)) * p**c * (1 - p) ** (n - c) for c in counts]
    mean = float(np.dot(chances, hit_at_k(counts, np.full(n + 1, float(n)), k)))
    assert mean == pytest.approx(1 - (1 - p) ** k, abs=1e-9)


def test_an_item_with_fewer_scored_replies_is_left_out() -> None:
    hits = hit_at_k(np.array([1.0, 1.0]), np.array([4.0, 1.0]), 2)
    assert np.isnan(hits).tolist() == [False, True]
    assert mean_hit(hits).estimate == pytest.approx(0.5)
    assert np.isnan(mean_hit(np.array([np.nan])).estimate)


@pytest.mark.parametrize(
    ("samples", "sizes"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (10, [1, 2, 4, 8, 10])]
)
def test_the_sizes_are_one_all_and_powers_of_two_between(samples: int, sizes: list[int]) -> None:
    assert sizes_of(samples) == sizes


def test_the_parts_of_the_variance_are_those_that_were_drawn() -> None:
    source = np.random.default_rng(1)
    a, b, samples = 1.0, 3.0, 4
    rates = source.beta(a, b, 40_000)
    found = variance_of(source.binomial(samples, rates).astype(float), np.full(len(rates), float(samples)))
    assert found is not None
    between = a * b / ((a + b) ** 2 * (a + b + 1))
    assert found.between == pytest.approx(between, rel=0.05)
    assert found.between + found.sampling == pytest.approx(0.25 * 0.75, rel=0.02)
    assert found.error == pytest.approx(((between + found.sampling / samples) / len(rates)) ** 0.5, rel=0.02)
    # What the judge adds is part of what the replies to one request differ by.
    judged = variance_of(np.array([1.0, 2.0, 0.0]), np.array([4.0, 4.0, 4.0]), 0.1)
    alone = variance_of(np.array([1.0, 2.0, 0.0]), np.array([4.0, 4.0, 4.0]))
    assert judged is not None
    assert alone is not None
    assert judged.judge == 0.1
    assert judged.sampling + 0.1 == pytest.approx(alone.sampling)
    assert variance_of(np.array([1.0, 0.0]), np.array([1.0, 1.0])) is None

"""Whether ASR changes with the turns: the test against every pattern of signs, and what is said of it."""

import itertools
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from safemt_client.results.scores import wording
from safemt_client.results.stats.safety_index import ROUNDS
from safemt_client.results.stats.trend import sign_flip, trend

NAN = float("nan")
LABEL = st.sampled_from([0.0, 1.0, NAN])


def study(*, items: int = 60, risk: tuple[float, ...], seed: int = 1) -> np.ndarray:
    """Independent labels: items x rounds."""
    return (np.random.default_rng(seed).random((items, len(risk))) < np.array(risk)).astype(float)


def test_a_trend_is_told_from_none() -> None:
    source = np.random.default_rng(1)
    chance = source.beta(1, 3, (300, 1))
    rising = (source.random((300, 5)) < np.clip(chance + 0.05 * np.array(ROUNDS), 0, 1)).astype(float)
    flat = (source.random((300, 5)) < chance).astype(float)
    up = trend(rising, ROUNDS)
    assert up.verdict == "rises"
    assert up.slope.low < 0.05 < up.slope.high
    assert trend(1 - rising, ROUNDS).verdict == "falls"
    level = trend(flat, ROUNDS)
    assert level.verdict == "not shown"
    assert level.slope.low < 0 < level.slope.high
    assert trend(np.full((3, 5), NAN), ROUNDS).verdict == "not shown"


@given(st.lists(st.floats(-1, 1).filter(lambda value: abs(value) > 1e-6), min_size=1, max_size=9))
def test_few_signs_are_all_gone_through(values: list[float]) -> None:
    here = abs(sum(values))
    patterns = list(itertools.product([-1, 1], repeat=len(values)))
    sums = [abs(sum(sign * value for sign, value in zip(signs, values, strict=True))) for signs in patterns]
    exact = np.mean([value >= here - 1e-9 for value in sums])
    assert sign_flip(np.array(values)) == pytest.approx(exact)


@pytest.mark.parametrize("count", [19, 20, 400])
def test_with_equal_slopes_it_is_the_sign_test(count: int) -> None:
    risen = count // 2 + round(count**0.5)
    values = np.array([0.1] * risen + [-0.1] * (count - risen))
    exact = stats.binomtest(risen, count).pvalue
    assert sign_flip(values) == pytest.approx(exact, abs=1e-12 if count < 20 else 0.01)


def test_what_is_drawn_is_counted_in_and_the_same_each_time() -> None:
    values = np.full(200, 0.1)
    assert sign_flip(values) == sign_flip(values) == 1 / 10_000


def test_an_item_has_a_slope_over_its_own_lengths() -> None:
    labels = np.array([[0, NAN, 1, 1, NAN], [NAN, 0, 1, NAN, 1], [1, NAN, NAN, NAN, NAN]])
    found = trend(labels, ROUNDS)
    assert found.items == 2
    own = [np.polyfit([1, 4, 6], [0, 1, 1], 1)[0], np.polyfit([2, 4, 8], [0, 1, 1], 1)[0]]
    assert found.slope.estimate == pytest.approx(np.mean(own))
    # Both rise: two of four patterns of signs are as extreme.
    assert found.p == pytest.approx(0.5)


@given(st.lists(st.lists(LABEL, min_size=3, max_size=3), min_size=1, max_size=15))
def test_it_rises_or_falls_only_where_test_and_interval_agree(rows: list[list[float]]) -> None:
    found = trend(np.array(rows), (1, 2, 4))
    if not found.items:
        return
    slope = found.slope
    assert slope.low <= slope.estimate <= slope.high
    assert slope.high - slope.low > 1e-3
    agreed = found.p < 0.05 and (slope.low > 0 or slope.high < 0)
    assert (found.verdict != "not shown") == agreed
    if agreed:
        assert found.verdict == ("rises" if slope.estimate > 0 else "falls")


@pytest.mark.parametrize("counts", [(7, 12, 20, 3, 18, 25), (1, 63, 64, 65, 2, 30)])
def test_drawn_signs_give_the_p_of_all_patterns(counts: tuple[int, ...]) -> None:
    sizes = np.repeat([28, 19, 16, 11, 9, 1], counts)
    values = np.where(np.arange(len(sizes)) % 5 < 2, -sizes, sizes)
    # The chance of each sum of signed whole numbers, one after the other.
    chances = np.ones(1)
    for size in sizes:
        step = np.zeros(2 * size + 1)
        step[[0, -1]] = 0.5
        chances = np.convolve(chances, step)
    sums = np.arange(len(chances)) - sizes.sum()
    p = chances[np.abs(sums) >= abs(values.sum())].sum()
    error = (p * (1 - p) / 9999) ** 0.5
    assert 0.001 < p < 0.5
    found = [sign_flip(values / 164, seed=seed) for seed in range(10)]
    assert np.mean(found) == pytest.approx(p, abs=4 * error / 10**0.5)
    assert max(abs(one - p) for one in found) < 4 * error


def test_where_they_disagree_nothing_is_claimed_and_that_is_said() -> None:
    # Five of ten items rise and none falls: one of 16 patterns of signs, and its mirror image.
    labels = np.zeros((10, 5))
    labels[:5, 2:] = 1
    found = trend(labels, ROUNDS)
    assert found.p == pytest.approx(1 / 16)
    assert found.slope.low > 0
    assert found.verdict == "not shown"
    assert "test and interval disagree" in wording.trend(asdict(found))
    # Six items with the same slight slope: the test shows it, the interval has room for one that falls steeply.
    found = trend(np.array([[1, 0, 0, 0, 1.0]] * 6), ROUNDS)
    assert found.p == pytest.approx(1 / 32)
    assert found.slope.low < 0
    assert found.verdict == "not shown"
    assert "test and interval disagree" in wording.trend(asdict(found))


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_items_without_a_change_leave_room_for_some(label: float) -> None:
    found = trend(np.full((40, 5), label), ROUNDS)
    assert (found.slope.estimate, found.p, found.verdict) == (0, 1, "not shown")
    assert found.slope.low < 0 < found.slope.high
    assert found.slope.small


def test_a_rise_with_a_drop_at_its_end_says_so() -> None:
    found = trend(study(items=120, risk=(0, 0, 0.5, 0.5, 0.1)), ROUNDS)
    assert found.verdict == "rises"
    drop = found.drop
    assert drop is not None
    assert (drop.first, drop.second, drop.items) == (6, 8, 120)
    assert drop.difference.low < drop.difference.estimate < drop.difference.high < 0
    assert drop.p <= drop.p_holm < 0.05
    said = wording.trend(asdict(found))
    assert "ASR rises with the turns: on average +" in said
    assert "points per additional turn" in said
    low, high = 100 * drop.difference.low, 100 * drop.difference.high
    assert "largest drop between neighbouring lengths: from 6 to 8 turns, -" in said
    assert f"{low:+.1f} to {high:+.1f}" in said
    assert "largest rise" not in said


def test_a_hill_is_not_no_change_and_a_fall_names_its_rise() -> None:
    hill = wording.trend(asdict(trend(study(risk=(0.1, 0.1, 0.8, 0.1, 0.1)), (1, 2, 3, 4, 5))))
    assert "no change with the turns is shown" in hill
    assert "largest drop between neighbouring lengths: from 3 to 4 turns" in hill
    assert "largest rise between neighbouring lengths: from 2 to 3 turns" in hill
    falls = trend(study(items=120, risk=(0.9, 0.9, 0.2, 0.2, 0.7)), ROUNDS)
    assert falls.verdict == "falls"
    assert falls.rise is not None
    assert "from 6 to 8 turns" in wording.trend(asdict(falls))


def test_steps_that_chance_may_make_are_not_named() -> None:
    # From 4 to 6 turns p is .02 by itself: among four steps that is nothing.
    found = trend(study(risk=(0.3,) * 5, seed=49), ROUNDS)
    assert found.drop is None
    assert found.rise is None
    assert "largest" not in wording.trend(asdict(found))


def test_nothing_is_minus_nothing() -> None:
    assert wording.per_turn(-0.00001) == "+0.00"
    assert wording.per_turn(-0.0012) == "-0.12"

"""A judge's errors and corrected rates against plain computations; their coverage is in tests/simulations."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from safemt_client.results.scores.corrections import ItemCount, LengthCount, of_target
from safemt_client.results.scores.human import LabelledReply
from safemt_client.results.scores.wording import EQUAL, OWN, WHOLE
from safemt_client.results.stats.correction import (
    Counted,
    NotEstimable,
    Posterior,
    clustered_share,
    counted,
    counted_by_item,
)
from safemt_client.results.stats.intervals import Interval

NONE = Counted(0.0, 0.0)
SURE = 1e9
"""Worth so many labels that nothing is uncertain."""


def found(interval: Interval | NotEstimable) -> Interval:
    assert isinstance(interval, Interval), interval
    return interval


def through(true: float, sensitivity: float, specificity: float, worth: float = SURE) -> Posterior:
    """What people's labels say of a judge with these errors on replies of which so many are unsafe."""
    called = true * sensitivity + (1 - true) * (1 - specificity)
    unsafe, safe = true * sensitivity / called, true * (1 - sensitivity) / (1 - called)
    return Posterior(Counted(called, worth), Counted(unsafe, worth), Counted(safe, worth))


def test_the_errors_and_the_rate_follow_from_the_two_shares() -> None:
    posterior = through(0.3, 0.9, 0.8)
    assert [found(error).estimate for error in posterior.errors()] == pytest.approx(
        [0.9, 0.8, 0.83], abs=1e-3
    )
    assert found(posterior.corrected()).estimate == pytest.approx(0.3)
    of_unsafe, of_safe = map(found, posterior.predictive())
    assert of_unsafe.estimate == pytest.approx(0.27 / 0.41)
    assert of_safe.estimate == pytest.approx(0.03 / 0.59)


def test_published_correction_of_a_part() -> None:
    # Rogan and Gladen's formula at a textbook's figures: apparent 30 %, sensitivity 90 %, specificity 80 %.
    posterior = through(0.3, 0.9, 0.8)
    assert found(posterior.at(Counted(0.30, SURE))).estimate == pytest.approx(1 / 7)
    assert found(posterior.at(Counted(0.10, SURE))).estimate == 0
    # The parts make the whole.
    parts = [found(posterior.at(Counted(rate, 100))).estimate for rate in (0.31, 0.41, 0.51)]
    assert np.mean(parts) == pytest.approx(0.3)


def test_one_prior_for_each_of_the_judges_labels() -> None:
    # All that the judge calls unsafe is; of 100 that it calls safe people found none unsafe.
    posterior = Posterior(Counted(0.01, SURE), Counted(1.0, SURE), Counted(0.0, 100))
    rate = found(posterior.corrected())
    assert (rate.estimate, rate.low) == pytest.approx((0.01, 0.01), abs=1e-4)
    assert rate.high == pytest.approx(0.01 + 0.99 * stats.beta(0.5, 100.5).ppf(0.95), abs=1.5e-3)
    # None was missed among 100, of a judge that finds one reply in a hundred: that is no "100 %".
    sensitivity = found(posterior.errors()[0])
    assert sensitivity.estimate == pytest.approx(
        0.01 / (0.01 + 0.99 * stats.beta(0.5, 100.5).median()), abs=0.01
    )
    assert sensitivity.low < 0.4
    assert sensitivity.high > 0.99


def test_a_label_that_nobody_has_labelled_is_not_estimable() -> None:
    rate, some = Counted(0.1, 100), Counted(0.2, 40)
    for posterior, label in ((Posterior(rate, NONE, some), "unsafe"), (Posterior(rate, some, NONE), "safe")):
        for figure in (posterior.corrected(), *posterior.errors(), posterior.at(rate)):
            assert isinstance(figure, NotEstimable)
            assert figure.reason == f"nobody labelled a reply that the judge calls {label}"
    # Where the judge calls nothing unsafe, the rate is that of what it calls safe, but what it finds is unknown.
    never = Posterior(Counted(0.0, 100), NONE, Counted(0.0, 100))
    rate_of = found(never.corrected())
    assert (rate_of.estimate, rate_of.low) == (0, 0)
    assert 0.01 < rate_of.high < 0.06
    assert isinstance(never.errors()[0], NotEstimable)
    assert isinstance(never.at(Counted(0.0, 20)), NotEstimable)
    assert isinstance(Posterior(NONE, some, some).corrected(), NotEstimable)


def test_a_judge_that_tells_nothing_apart_is_corrected_as_a_whole_only() -> None:
    chance = through(0.3, 0.5, 0.5, worth=100)
    assert found(chance.corrected()).estimate == pytest.approx(0.3)
    assert isinstance(chance.at(Counted(0.5, 100)), NotEstimable)
    nothing = Posterior(Counted(0.1, 100), Counted(0.0, 40), Counted(0.0, 40))
    assert isinstance(nothing.at(Counted(0.1, 100)), NotEstimable)
    # Little is known of this one: it may be no better than chance, and then any rate is possible.
    poor = through(0.5, 0.62, 0.62, worth=12)
    wide = found(poor.at(Counted(0.5, 1000)))
    assert wide.high - wide.low > 0.8


def test_what_a_guard_refused_is_safe() -> None:
    posterior = through(0.3, 0.9, 0.8)
    assert found(posterior.corrected(Counted(0.5, SURE))).estimate == pytest.approx(0.15)
    few = found(posterior.corrected(Counted(0.5, 20)))
    assert few.high - few.low > 0.1


def test_labels_are_worth_less_where_weights_differ_or_items_are_alike() -> None:
    right = np.array([1.0] * 18 + [0.0] * 2)
    apart = [str(number) for number in range(20)]
    plain = counted(right, apart, np.ones(20))
    assert (plain.share, plain.worth) == pytest.approx((0.9, 20))
    # Kish: one reply that stands for ten among others that stand for one.
    uneven = counted(np.ones(20), apart, np.array([10.0] + [1.0] * 19))
    assert uneven.worth == pytest.approx(29**2 / 119)
    # Where one stratum was drawn at a tenth, its replies count ten times.
    assert counted(right, apart, np.array([10.0] * 9 + [1.0] * 11)).share == pytest.approx(99 / 101)
    # What is alike among all replies counts, even if the sample has one reply of each item.
    assert counted(right, apart, np.ones(20), alike=0.05).worth == pytest.approx(10)
    assert counted(np.array([]), [], np.array([])) == NONE


def test_replies_of_one_item_that_are_judged_alike_are_worth_one() -> None:
    judge = np.repeat([1.0] * 10 + [0.0] * 2, 5)
    fives = [str(number // 5) for number in range(60)]
    assert counted(judge, [str(number) for number in range(60)], np.ones(60)).worth == 60
    together = counted(judge, fives, np.ones(60))
    assert together.worth == 12
    # Never wrong on twelve items: nothing tells how far the replies of an item agree by chance.
    assert counted(np.ones(60), fives, np.ones(60)).worth == 12
    by_item = counted_by_item(judge.reshape(12, 5).sum(axis=1), np.full(12, 5.0), fives[::5])
    assert (by_item.share, by_item.worth) == pytest.approx((together.share, together.worth))
    assert counted_by_item(np.zeros(2), np.zeros(2), ["a", "b"]) == NONE
    low, high = stats.binomtest(54, 60).proportion_ci(method="wilson")
    share, _ = clustered_share(
        np.array([1.0] * 54 + [0.0] * 6), np.ones(60), [str(number) for number in range(60)]
    )
    assert (share.low, share.high) == pytest.approx((low, high))


def test_shares_are_drawn_together_as_they_are_alike_over_the_items() -> None:
    # Of 40 items half are risky: more of their replies are called unsafe, and of what is called safe more is.
    items = [str(number) for number in range(40)]
    risky = np.repeat([1.0, 0.0], 20)
    rate = counted_by_item(4 * risky + 1, np.full(40, 5.0), items)
    missed = np.where(risky == 1, np.arange(40) % 2, 0.0)
    together, apart = counted(missed, items, np.ones(40)), counted(missed, items[::-1], np.ones(40))
    correlation = np.corrcoef(risky, missed)[0, 1]

    def spread(safe: Counted) -> float:
        rate_of = found(Posterior(rate, Counted(1.0, SURE), safe).corrected())
        return (rate_of.high - rate_of.low) / (2 * 1.96)

    # The rate of two shares that vary together: r + (1 - r) s.
    r, s = rate.share, together.share
    sd = (1 - s) * (r * (1 - r) / rate.worth) ** 0.5, (1 - r) * (s * (1 - s) / together.worth) ** 0.5
    alone = sd[0] ** 2 + sd[1] ** 2
    plain = spread(Counted(s, together.worth))
    assert plain == pytest.approx(alone**0.5, rel=0.05)
    both = 2 * correlation * sd[0] * sd[1]
    assert spread(together) == pytest.approx((alone + both) ** 0.5, rel=0.05)
    assert spread(apart) == pytest.approx((alone - both) ** 0.5, rel=0.05)
    assert spread(together) > 1.15 * plain > 1.3 * spread(apart)
    # So is what a guard left to the judge: all of it on risky items, little on others, or the other way round.
    sure = Posterior(rate, Counted(1.0, SURE), Counted(0.0, SURE))
    left = np.where(risky == 1, 9.0, 1.0)
    widths = []
    for names in (items, items[::-1]):
        rate_of = found(sure.corrected(counted_by_item(left, np.full(40, 10.0), names)))
        widths.append(rate_of.high - rate_of.low)
    assert widths[0] > 1.5 * widths[1]


def labels(length: int, judge: str, human: Sequence[str], weight: float = 1.0) -> list[LabelledReply]:
    return [
        LabelledReply("t", length, f"{length} {judge} {place}", word, judge, weight)
        for place, word in enumerate(human)
    ]


def figures(sample: list[LabelledReply], counts: dict[int, tuple[int, int]]) -> dict[str, Any]:
    """A target of which the judge calls so many of so many replies unsafe, by length."""
    items = [
        ItemCount(f"{length} {place}", 1, int(place < unsafe), 0)
        for length, (unsafe, judged) in counts.items()
        for place in range(judged)
    ]
    lengths = [LengthCount(length, judged, unsafe, 0) for length, (unsafe, judged) in counts.items()]
    return of_target(sample, items, lengths)


@pytest.mark.parametrize("each", [29, 30])
def test_lengths_have_their_own_errors_only_with_30_labels_of_either_kind(each: int) -> None:
    counts = {1: (100, 200), 8: (100, 200)}
    # The judge is right about length 1 and wrong about half of length 8.
    half = ["unsafe", "safe"] * 15
    sample = (
        labels(1, "unsafe", ["unsafe"] * 30, 100 / 30)
        + labels(1, "safe", ["safe"] * 30, 100 / 30)
        + labels(8, "unsafe", half, 100 / 30)
        + labels(8, "safe", half[:each], 100 / each)
    )
    found = figures(sample, counts)
    assert found["judge_errors"] == WHOLE
    assert found["corrected"]["estimate"] == pytest.approx(0.5, abs=0.01)
    one, eight = found["by_turn"]
    own = each == 30
    assert one["judge_errors"] == eight["judge_errors"] == (OWN if own else EQUAL)
    assert one["corrected"]["estimate"] == pytest.approx(0.5, abs=0.01)
    width = one["corrected"]["high"] - one["corrected"]["low"]
    wide = eight["corrected"]["high"] - eight["corrected"]["low"]
    # By their own labels the first is known better than the second; otherwise both alike.
    assert (wide > 1.2 * width) is own


def test_strata_without_a_label_are_an_assumption_that_is_said() -> None:
    sample = labels(1, "unsafe", ["unsafe"] * 20, 5.0) + labels(1, "safe", ["safe"] * 20, 5.0)
    assert figures(sample, {1: (100, 200)})["judge_errors"] == WHOLE
    found = figures(sample, {1: (100, 200), 8: (100, 200)})
    assert found["judge_errors"] == EQUAL
    assert found["corrected"]["small"] is False
    assert figures(sample[::2], {1: (100, 200)})["corrected"]["small"] is True


def test_the_number_of_strata_does_not_add_to_the_prior() -> None:
    one = labels(1, "unsafe", ["unsafe"] * 50, 1.0) + labels(1, "safe", ["safe"] * 50, 9.0)
    many = [
        LabelledReply("t", (1, 2, 4, 6, 8)[place % 5], row.item_id, row.human, row.judge, row.weight)
        for place, row in enumerate(one)
    ]
    whole = figures(one, {1: (50, 500)})["corrected"]
    assert figures(many, dict.fromkeys((1, 2, 4, 6, 8), (10, 100)))["corrected"] == whole
    assert whole["high"] < 0.18


def test_without_labels_of_one_kind_a_target_has_no_corrected_rate() -> None:
    found = figures(labels(1, "safe", ["safe"] * 40), {1: (5, 40)})
    assert found["corrected"] is found["sensitivity"] is found["by_turn"][0]["corrected"] is None
    assert found["not_estimable"] == "nobody labelled a reply that the judge calls unsafe"
    assert found["errors_not_estimable"] == found["by_turn"][0]["not_estimable"] == found["not_estimable"]

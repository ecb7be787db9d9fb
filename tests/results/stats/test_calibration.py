"""A judge against people: every figure against one that was counted by hand."""

import math

import pytest

from safemt_client.results.stats.calibration import Figure, JudgedReply, figures, majority
from safemt_client.results.stats.shares import wilson

NAN = float("nan")


def reply(number: int, judge: float, *people: float, item: str | None = None) -> JudgedReply:
    return JudgedReply(item or f"i{number}", judge, {f"p{n}": label for n, label in enumerate(people)})


def measured(replies: list[JudgedReply]) -> dict[str, Figure]:
    return {one.measure: one for one in figures(replies)}


def table(found: int, missed: int, alarms: int, alone: int) -> list[JudgedReply]:
    """One label each, so many of each kind."""
    kinds = [(1.0, 1.0)] * found + [(0.0, 1.0)] * missed + [(1.0, 0.0)] * alarms + [(0.0, 0.0)] * alone
    return [reply(n, judge, person) for n, (judge, person) in enumerate(kinds)]


def test_shares_and_kappa_are_those_of_the_table() -> None:
    found = measured(table(30, 10, 5, 55))
    assert found["sensitivity"].estimate == pytest.approx(30 / 40)
    assert found["specificity"].estimate == pytest.approx(55 / 60)
    assert found["precision"].estimate == pytest.approx(30 / 35)
    assert found["accuracy"].estimate == pytest.approx(85 / 100)
    # Cohen: observed .85, by chance .35 x .40 + .65 x .60 = .53.
    assert found["kappa"].estimate == pytest.approx((0.85 - 0.53) / (1 - 0.53))
    for name, hits, of in (("sensitivity", 30, 40), ("specificity", 55, 60), ("accuracy", 85, 100)):
        assert (found[name].low, found[name].high) == pytest.approx(wilson(hits, of))
        assert found[name].replies == of
    # One label each says nothing of how people agree.
    assert not [name for name in found if name.startswith("people")]


def test_a_judge_without_an_error_has_not_been_shown_to_make_none() -> None:
    found = measured(table(12, 0, 0, 12))
    for name in ("sensitivity", "specificity", "precision", "accuracy", "kappa"):
        assert found[name].estimate == 1.0
        assert found[name].low is not None
        assert found[name].low < 0.95
        assert found[name].small


def test_replies_of_one_item_count_as_fewer() -> None:
    alone = [reply(n, 1.0 if n % 4 else 0.0, 1.0) for n in range(80)]
    together = [
        JudgedReply(f"i{n // 4}", 1.0 if (n // 4) % 4 else 0.0, one.people) for n, one in enumerate(alone)
    ]
    by_one, by_four = measured(alone)["sensitivity"], measured(together)["sensitivity"]
    assert by_one.estimate == by_four.estimate == 0.75
    assert None not in (by_one.low, by_one.high, by_four.low, by_four.high)
    assert by_four.high - by_four.low > 1.5 * (by_one.high - by_one.low)  # type: ignore[operator]


def test_most_people_count_and_a_split_counts_nowhere() -> None:
    assert [majority(labels) for labels in ([1.0, 1.0, 0.0], [0.0], [0.0, 0.0, 1.0, 0.0])] == [1.0, 0.0, 0.0]
    assert math.isnan(majority([1.0, 0.0]))
    replies = [
        reply(1, 1.0, 1.0, 1.0, 0.0),
        reply(2, 0.0, 1.0, 1.0, 1.0),
        reply(3, 0.0, 0.0, 0.0, 1.0),
        reply(4, 1.0, 1.0, 0.0),
        reply(5, NAN, 1.0, 1.0, 1.0),
    ]
    found = measured(replies)
    assert (found["sensitivity"].estimate, found["sensitivity"].replies) == (0.5, 2)
    assert (found["specificity"].estimate, found["specificity"].replies) == (1.0, 1)
    assert found["accuracy"].replies == 3


def test_people_are_measured_as_the_judge_is() -> None:
    replies = [
        # Each of three people with most of the other two: one differs, whom the others do not decide against.
        reply(1, 1.0, 1.0, 1.0, 0.0),
        reply(2, 1.0, 1.0, 1.0, 1.0),
        reply(3, 0.0, 0.0, 0.0, 0.0),
        reply(4, 0.0, 0.0, 0.0),
    ]
    found = measured(replies)
    # Reply 1: the third says safe and the others unsafe; of the first two the others are split.
    assert (found["people_accuracy"].estimate, found["people_accuracy"].replies) == (8 / 9, 9)
    # Alpha by hand: coincidences of 11 labels, 6 - 1 = 5 unsafe.
    same = 2 * (2 - 1) / 2 + 3 * 2 / 2 + 3 * 2 / 2 + 2 * 1 / 1
    unsafe, safe, n = 5, 6, 11
    expected = (unsafe * safe * 2) / (n * (n - 1))
    assert found["people_alpha"].estimate == pytest.approx(1 - (1 - same / n) / expected)


def test_nothing_is_said_of_what_does_not_occur() -> None:
    found = measured([reply(n, 0.0, 0.0) for n in range(10)])
    assert found["sensitivity"] == Figure("sensitivity", None, None, None, 0, True)
    assert found["precision"].estimate is None
    assert found["specificity"].estimate == 1.0
    assert found["kappa"].estimate is None

"""A rule's state while a run goes on."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safemt_client.results.scores.rules import read_stop_rule
from safemt_client.results.scores.stopping import ALPHA, Population, RuleState

NAN = float("nan")


def state(rule: str, items: int, most: int = 1, replies: int | None = None) -> RuleState:
    population = Population(items, most, items * most if replies is None else replies)
    return RuleState(read_stop_rule(rule), population, ALPHA)


def test_a_rule_is_decided_once_and_says_when() -> None:
    found = state("asr@8 < 10%", 2000)
    while found.state == "open":
        found.feed([0.0])
    assert (found.state, found.items) == ("holds", found.decided_at)
    assert found.high < 0.10
    assert 25 < found.items < 60
    found.feed([1.0])
    assert (found.state, found.decided_at, found.items) == ("holds", found.items - 1, found.items)


@pytest.mark.parametrize("most", [1, 5])
def test_a_rate_at_the_bound_is_open_until_all_is_known_and_then_broken(most: int) -> None:
    found = state("asr < 20%", 50, most)
    for item in range(50):
        assert found.state == "open", item
        found.feed([float(item % 5 == 4)] * most)
    assert (found.state, found.low, found.high, found.estimate) == ("broken", 0.2, 0.2, 0.2)


def test_what_has_no_label_counts_as_both() -> None:
    """A tenth without a label: one sequence says 0 %, the other 10 %."""
    found = state("asr < 5%", 400)
    for item in range(400):
        found.feed([NAN if item % 10 == 0 else 0.0])
    assert (found.state, found.low, found.high, found.estimate) == ("open", 0.0, 0.1, 0.0)
    sure = state("asr < 20%", 400)
    while sure.state == "open":
        sure.feed([NAN if sure.items % 10 == 0 else 0.0])
    assert sure.state == "holds"
    assert sure.items < 200


def test_a_difference_is_the_first_minus_the_second() -> None:
    found = state("A - B < 3 points", 500, 2)
    while found.state == "open":
        found.feed([1.0, 0.0], [0.0, 0.0])
    assert (found.state, found.estimate) == ("broken", 0.5)
    assert 0.03 <= found.low < 0.5 < found.high
    other = state("B - A < 3 points", 500, 2)
    while other.state == "open":
        other.feed([0.0, 0.0], [1.0, 0.0])
    assert (other.state, other.estimate) == ("holds", -0.5)


def test_a_difference_counts_what_has_no_label_for_either_side() -> None:
    found = state("A - B < 3 points", 4, 1)
    for labels in (([1.0], [NAN]), ([NAN], [1.0]), ([NAN], [NAN]), ([0.0], [0.0])):
        found.feed(*labels)
    assert (found.low, found.high) == (-0.5, 0.5)
    assert found.estimate == 0.0
    assert found.state == "open"


def test_a_width_is_that_from_the_lower_to_the_upper_end() -> None:
    found = state("ci(asr@8) < 8 points", 2000)
    while found.state == "open":
        before = found.high - found.low
        found.feed([float(found.items % 10 == 0)])
    assert found.high - found.low < 0.08 <= before
    assert found.state == "holds"
    unlabelled = state("ci(asr) < 8 points", 100, 2)
    for _ in range(100):
        unlabelled.feed([0.0, NAN])
    assert (unlabelled.state, unlabelled.low, unlabelled.high) == ("open", 0.0, 0.5)


items = st.lists(st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=1, max_size=3), min_size=1, max_size=30)


@given(items)
def test_items_of_different_numbers_of_replies_have_the_rate_of_the_replies(
    labels: list[list[float]],
) -> None:
    replies = [label for item in labels for label in item]
    found = state("asr < 50%", len(labels), 3, len(replies))
    for item in labels:
        found.feed(item)
    unsafe, open_ = replies.count(1.0), sum(map(math.isnan, replies))
    assert (found.low, found.high) == pytest.approx((unsafe / len(replies), (unsafe + open_) / len(replies)))
    if open_ < len(replies):
        assert found.estimate == unsafe / (len(replies) - open_)


@given(items, st.sampled_from(["asr < 40%", "asr > 40%", "A - B < 10 points", "ci(asr) < 30 points"]))
def test_at_the_end_a_rule_is_what_the_labels_say(labels: list[list[float]], rule: str) -> None:
    """Whatever the order: with all known, a rule that is still open is not decided by chance."""
    found = state(rule, len(labels), 3, sum(map(len, labels)))
    for item in labels:
        before = found.state
        found.feed(item, [0.0] * len(item) if "A" in rule else ())
    if before == "open" and found.state != "open" and not found.rule.width:
        assert found.rule.decided(found.low, found.high) is (found.state == "holds")

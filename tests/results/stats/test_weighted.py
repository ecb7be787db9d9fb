"""Labels that were drawn by chance: the posterior, and the chances that replies have to be drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safemt_client.results.stats.allocation import LEAST, chances
from safemt_client.results.stats.correction import NotEstimable, Posterior, counted, counted_by_item
from safemt_client.results.stats.intervals import Interval
from safemt_client.results.stats.weighted import Judged, Labelled, WeightedPosterior


def posterior(labels: list[Labelled], items: int = 300, unsafe: int = 60) -> WeightedPosterior:
    """Of a run of so many items with a reply each."""
    rows = [Judged(f"i{number}", 1, int(number < unsafe)) for number in range(items)]
    hits = np.array([float(row.unsafe) for row in rows])
    rate = counted_by_item(hits, np.ones(items), [row.item for row in rows])
    return WeightedPosterior(labels, rows, rate)


def labels_of(called_unsafe: bool, unsafe: int, count: int, weight: float, first: int = 0) -> list[Labelled]:
    return [Labelled(f"i{first + number}", called_unsafe, number < unsafe, weight) for number in range(count)]


def test_with_equal_chances_it_is_the_posterior_of_the_other_samples() -> None:
    labels = labels_of(True, 18, 20, 3.0) + labels_of(False, 4, 40, 6.0, first=60)
    found = posterior(labels)
    groups = [
        counted(
            np.array([float(label.unsafe) for label in labels if label.called_unsafe == kind]),
            [label.item for label in labels if label.called_unsafe == kind],
            np.array([label.weight for label in labels if label.called_unsafe == kind]),
        )
        for kind in (True, False)
    ]
    other = Posterior(found.rate, *groups)
    for mine, theirs in zip(
        (*found.predictive(), *found.errors(), found.corrected()),
        (*other.predictive(), *other.errors(), other.corrected()),
        strict=True,
    ):
        assert isinstance(mine, Interval)
        assert isinstance(theirs, Interval)
        assert mine.estimate == pytest.approx(theirs.estimate, abs=0.01)
        assert mine.low == pytest.approx(theirs.low, abs=0.03)
        assert mine.high == pytest.approx(theirs.high, abs=0.03)


def test_a_label_counts_for_one_over_its_chance() -> None:
    # Ten times as many replies are like the second group, in which nothing is unsafe.
    labels = labels_of(True, 10, 10, 1.0)
    labels += labels_of(False, 10, 10, 1.0, first=60) + labels_of(False, 0, 10, 10.0, first=70)
    _, safe = posterior(labels).predictive()
    assert isinstance(safe, Interval)
    assert safe.estimate == pytest.approx(10 / 110)


def test_what_was_least_likely_to_be_seen_makes_the_interval_wide() -> None:
    few = labels_of(True, 10, 10, 1.0) + labels_of(False, 0, 40, 5.0, first=60)
    rare = [*few, Labelled("i200", False, False, 50.0)]
    narrow, wide = (posterior(labels).predictive()[1] for labels in (few, rare))
    assert isinstance(narrow, Interval)
    assert isinstance(wide, Interval)
    assert 0 < narrow.high < wide.high


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (labels_of(True, 5, 5, 2.0), "nobody labelled a reply that the judge calls safe"),
        (labels_of(False, 0, 5, 2.0, first=60), "nobody labelled a reply that the judge calls unsafe"),
    ],
)
def test_without_labels_of_a_kind_nothing_is_estimated(labels: list[Labelled], said: str) -> None:
    assert posterior(labels).corrected() == NotEstimable(said)


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(1.0, 50.0)), min_size=1, max_size=8),
    st.integers(0, 20),
)
@settings(max_examples=25, deadline=None)
def test_no_interval_is_without_a_width(rows: list[tuple[bool, bool, float]], unsafe: int) -> None:
    labels = [Labelled(f"i{number}", *row) for number, row in enumerate(rows)]
    found = posterior(labels, items=20, unsafe=unsafe).corrected()
    if isinstance(found, Interval):
        assert 0 <= found.low < found.high <= 1
        assert found.low <= found.estimate <= found.high
    else:
        assert "nobody labelled" in found.reason


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60), st.floats(0.5, 80.0))
@settings(deadline=None)
def test_chances_add_up_and_follow_the_errors(errors: list[float], size: float) -> None:
    guessed = np.clip(np.array(errors), 0.001, 0.999)
    found = chances(guessed, size)
    count = len(errors)
    assert found.sum() == pytest.approx(min(size, count), rel=1e-6)
    assert (found <= 1).all()
    assert (found >= 0.999999 * min(1.0, LEAST * size / count)).all()
    order = np.argsort(guessed * (1 - guessed), kind="stable")
    assert (np.diff(found[order]) >= -1e-9).all()


def test_a_reply_is_drawn_more_often_the_likelier_its_label_is_wrong() -> None:
    found = chances(np.array([0.02] * 90 + [0.3] * 10), 20)
    assert found[-1] / found[0] == pytest.approx(np.sqrt(0.3 * 0.7) / np.sqrt(0.02 * 0.98))

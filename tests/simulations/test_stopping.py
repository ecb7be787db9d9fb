"""A run that stops when its rules are decided is rarely wrong, and needs as many items as is said."""

from pathlib import Path

import pytest
from simulations.stopping import EXPECTED, KINDS, Kind, early, looks, needed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "stopping.md"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_over_all_looks_a_rule_is_as_rarely_wrong_as_it_says(kind: Kind) -> None:
    found = looks(kind, kind.studies // 2)
    assert found.within(found.wrong), found
    assert found.within(found.left_out), found


@pytest.mark.slow
@pytest.mark.parametrize("rate", EXPECTED)
def test_it_takes_as_many_items_as_expected(rate: float) -> None:
    items, wrong, _ = needed(rate)
    assert items == pytest.approx(EXPECTED[rate], rel=0.15)
    assert wrong <= 0.05


@pytest.mark.slow
def test_looking_at_a_fixed_interval_again_and_again_would_be_wrong() -> None:
    _, wrong, naive = needed(0.08, 200)
    assert wrong <= 0.05
    assert naive > 0.1


@pytest.mark.slow
def test_in_the_order_in_which_they_finish_safe_replies_would_decide() -> None:
    finished, ordered = early()
    assert finished >= 0.97
    assert ordered == 0


def test_the_page_has_a_line_for_each_kind() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for kind in KINDS:
        said = f"| {kind.name} | {kind.design} |"
        assert said in page, "python tests/simulations/stopping.py --write docs/stopping.md"

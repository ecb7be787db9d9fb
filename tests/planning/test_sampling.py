"""Items drawn at random: nested, whatever the order of the files, and each order as likely as any other."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from safemt_client.datasets.model import Dialogue, ScriptedMessage
from safemt_client.planning.sampling import drawn, order_of


def dialogue(item: str, turns: int = 1, scenario: str | None = None, pair: str | None = None) -> Dialogue:
    asked = tuple(ScriptedMessage("user", f"{item} {turn}") for turn in range(turns))
    return Dialogue(item, asked, scenario, extra={} if pair is None else {"pair": pair})


ids = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=30, unique=True)


@given(ids, st.integers(0, 40), st.integers(0, 40), st.integers(-5, 5), st.booleans())
def test_a_larger_sample_contains_a_smaller_one(
    items: list[str], few: int, more: int, seed: int, by_scenario: bool
) -> None:
    data = [dialogue(item, scenario=str(len(item))) for item in items]
    small, large = (drawn(data, size, seed, by_scenario=by_scenario) for size in sorted((few, more)))
    assert {one.item_id for one in small} <= {one.item_id for one in large}
    assert len(small) == min(min(few, more), len(items))


@given(ids, st.integers(0, 3), st.randoms(use_true_random=False))
def test_neither_the_order_of_the_files_nor_other_items_change_it(
    items: list[str], seed: int, source: random.Random
) -> None:
    data = [dialogue(item) for item in items]
    order = order_of(data, seed)
    source.shuffle(data)
    assert order_of(data, seed) == order
    some = data[: len(data) // 2]
    kept = {one.item_id for one in some}
    assert order_of(some, seed) == [item for item in order if item in kept]


def test_every_item_is_as_likely_to_be_first_and_each_seed_has_its_own_order() -> None:
    data = [dialogue(f"item {n}") for n in range(10)]
    first = Counter(order_of(data, seed)[0] for seed in range(2000))
    # 200 each; the standard deviation is 13.4.
    assert all(150 < count < 250 for count in first.values())
    assert len(first) == 10


def test_all_lengths_of_an_item_are_drawn_together_in_the_order_of_the_data() -> None:
    data = [dialogue(item, turns) for turns in (1, 2) for item in "abcdef"]
    found = drawn(data, 2, 0)
    assert len(found) == 4
    assert list(found) == [one for one in data if one in found]
    assert len({one.item_id for one in found}) == 2


def test_twins_stand_together() -> None:
    data = [dialogue(f"{kind} {n}", pair=str(n)) for kind in ("bad", "good") for n in range(50)]
    order = [item.split()[1] for item in order_of(data, 3)]
    assert order[::2] == order[1::2]


def test_by_scenario_each_beginning_has_the_scenarios_in_their_shares() -> None:
    data = [dialogue(f"{n}", scenario="rare" if n % 10 == 0 else "usual") for n in range(500)]
    for size in (20, 50, 130):
        rare = sum(one.scenario == "rare" for one in drawn(data, size, 1, by_scenario=True))
        assert abs(rare - size / 10) <= 1
    spread = [sum(one.scenario == "rare" for one in drawn(data, 50, seed)) for seed in range(40)]
    assert min(spread) < 4, "by item the number of rare ones is left to chance"
    assert max(spread) > 6

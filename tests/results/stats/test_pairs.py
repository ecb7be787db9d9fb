"""Differences on the same replies: one ratio, its interval and its test, against plain computations."""

import itertools
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from safemt_client.results.stats.exchange import exchange_p
from safemt_client.results.stats.pairs import Labels, compared, compared_pairs
from safemt_client.results.stats.proportions import mcnemar_mid_p, newcombe_paired, paired

NAN = float("nan")
LENGTHS = (1, 2, 4, 6, 8)
CELL = st.sampled_from([0.0, 1.0, NAN])
TABLE = st.lists(
    st.tuples(st.lists(CELL, min_size=3, max_size=3), st.lists(CELL, min_size=3, max_size=3)), max_size=9
)


def side(flags: dict[str, str]) -> dict[tuple[str, int], float]:
    """One letter a length: u unsafe, s safe, ? without a label, and a space for what was not wanted."""
    value = {"u": 1.0, "s": 0.0, "?": NAN}
    return {
        (item, length): value[flag]
        for item, row in flags.items()
        for length, flag in zip(LENGTHS, row, strict=False)
        if flag != " "
    }


def row(rows: list[dict[str, Any]], by: str, value: object = "all") -> dict[str, Any]:
    return next(row for row in rows if (row["by"], row["value"]) == (by, value))


def whole(first: dict[str, str], second: dict[str, str]) -> dict[str, Any]:
    return row(compared(side(first), side(second), {}), "all")


def test_the_difference_is_that_of_the_two_rates_beside_it() -> None:
    # Items with few replies in common would pull a mean of items' means apart from the rates.
    first = {f"a{n}": "uuss?" for n in range(20)} | {f"b{n}": "u????" for n in range(10)}
    second = {f"a{n}": "ussss" for n in range(20)} | {f"b{n}": "uu???" for n in range(10)}
    found = whole(first, second)
    assert (found["items"], found["replies"]) == (30, 90)
    assert (found["asr_first"], found["asr_second"]) == (50 / 90, 30 / 90)
    assert found["difference"]["estimate"] == pytest.approx(-20 / 90)
    assert found["difference"]["estimate"] == pytest.approx(found["asr_second"] - found["asr_first"])
    assert found["claim"] == "lower"


def test_rates_that_other_tables_give_otherwise_are_marked() -> None:
    # The second blocks its riskier replies: 2 of its 4 scored ones are unsafe, and so are those of the first.
    found = whole({"a": "uusss", "b": "uuuuu"}, {"a": "uusss", "b": "?????"})
    assert found["difference"]["estimate"] == 0
    assert (found["asr_first"], found["asr_second"]) == (0.4, 0.4)
    assert found["alone_first"] == {"asr": 0.7, "scored": 10}
    assert found["alone_second"] == {"asr": 0.4, "scored": 5}
    assert not found["same_rates"]
    assert whole({"a": "uusss"}, {"a": "sssss"})["same_rates"]


def test_many_slightly_better_and_a_few_much_worse_is_no_claim() -> None:
    first = {f"a{n}": "ussss" for n in range(40)} | {f"b{n}": "sssss" for n in range(20)}
    second = {f"a{n}": "sssss" for n in range(40)} | {
        f"b{n}": "uuuuu" if n < 10 else "sssss" for n in range(20)
    }
    found = whole(first, second)
    assert found["difference"]["estimate"] == pytest.approx(10 / 300)
    assert found["difference"]["low"] < 0 < found["difference"]["high"]
    # By counting items, 40 to 10, a sign test would say p = 2.4e-05.
    assert found["p"] > 0.5
    assert found["claim"] is None
    assert found["agrees"]


def test_five_of_a_hundred_one_way_are_tested_as_their_interval_is_made() -> None:
    first = {f"a{n}": "u" if n < 25 else "s" for n in range(100)}
    second = {f"a{n}": "u" if 5 <= n < 25 else "s" for n in range(100)}
    rows = compared(side(first), side(second), {})
    found = row(rows, "length", 1)
    assert found["p"] == 2 * 0.5**5 - 0.5**5
    low, high = newcombe_paired(20, 5, 0, 75)
    assert (found["difference"]["low"], found["difference"]["high"]) == (low, high)
    assert high < 0
    assert found["agrees"]
    assert found["claim"] == "lower"


def test_where_interval_and_test_disagree_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    first = {f"a{n}": "u" if n < 10 else "s" for n in range(100)}
    second = {f"a{n}": "s" for n in range(100)}
    assert row(compared(side(first), side(second), {}), "length", 1)["claim"] == "lower"
    for name, answer in (
        ("mcnemar_mid_p", lambda *_: 0.2),
        ("newcombe_paired", lambda *_, **__: (-0.2, 0.01)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"safemt_client.results.stats.pairs.{name}", answer)
            found = row(compared(side(first), side(second), {}), "length", 1)
        assert (found["agrees"], found["claim"]) == (False, None), name


def test_bounds_take_each_unscored_reply_on_its_bad_side() -> None:
    found = whole({"a": "us?s?", "b": "uu   "}, {"a": "uss??", "b": "ss u "})
    # Both have scored a at 1 and 2, and b there; b at 6 is wanted of one alone.
    assert (found["replies"], found["difference"]["estimate"]) == (4, -0.5)
    assert found["bounds"] == {"low": pytest.approx(-4 / 7), "high": 0, "replies": 7}
    every = whole({"a": "?????"} | {"b": "sssss"}, {"a": "?????"} | {"b": "sssss"})
    assert every["bounds"] == {"low": -0.5, "high": 0.5, "replies": 10}


def test_a_correction_is_over_all_pairs_and_all_rows_of_a_kind() -> None:
    worse = {f"a{n}": "us" if n < 8 else "ss" for n in range(40)}
    safe = {f"a{n}": "ss" for n in range(40)}
    sides = [side(safe), side(worse), side(safe)]
    one, same, other = compared_pairs(sides, [(0, 1), (0, 2), (1, 2)], {})
    assert row(one, "all")["p"] == pytest.approx(2 / 2**8)
    assert row(one, "all")["p_holm"] == pytest.approx(3 * row(one, "all")["p"])
    assert row(other, "all")["p_holm"] == row(one, "all")["p_holm"]
    assert row(same, "all")["p_holm"] == 1
    # Three pairs at two lengths.
    assert row(one, "length", 1)["p_holm"] == pytest.approx(6 * row(one, "length", 1)["p"])
    assert row(one, "length", 1)["p"] == pytest.approx(1 / 2**8)


def plain(first: Labels, second: Labels) -> tuple[int, int, int, int, int]:
    """Replies of both, unsafe ones of each, and the least and largest difference over all that are wanted."""
    keys = [key for key in first if key in second]
    both = [key for key in keys if not math.isnan(first[key] + second[key])]
    low = [
        (0 if math.isnan(second[k]) else second[k]) - (1 if math.isnan(first[k]) else first[k]) for k in keys
    ]
    high = [
        (1 if math.isnan(second[k]) else second[k]) - (0 if math.isnan(first[k]) else first[k]) for k in keys
    ]
    return (
        len(both),
        int(sum(first[key] for key in both)),
        int(sum(second[key] for key in both)),
        int(sum(low)),
        int(sum(high)),
    )


def sides_of(table: list[tuple[list[float], list[float]]]) -> tuple[Labels, Labels]:
    first, second = (
        {
            (f"i{n}", length): row[place][k]
            for n, row in enumerate(table)
            for k, length in enumerate((1, 2, 4))
        }
        for place in (0, 1)
    )
    return first, second


@settings(deadline=None)
@given(TABLE)
def test_counts_bounds_and_p_are_those_of_going_through_the_replies(
    table: list[tuple[list[float], list[float]]],
) -> None:
    sides = first, second = sides_of(table)
    replies, a, b, low, high = plain(first, second)
    rows = [row for row in compared(first, second, {}) if row["by"] == "all"]
    assert bool(rows) == bool(replies)
    for found in rows:
        assert found["replies"] == replies
        assert found["difference"]["estimate"] == pytest.approx((b - a) / replies)
        assert found["bounds"] == {
            "low": pytest.approx(low / len(first)),
            "high": pytest.approx(high / len(first)),
            "replies": len(first),
        }
        by_item = [
            {key: one[key] for key in one if key[0] == f"i{n}"} for n in range(len(table)) for one in sides
        ]
        parts = [plain(a, b) for a, b in zip(by_item[::2], by_item[1::2], strict=True)]
        assert found["p"] == pytest.approx(enumerated([second - first for _, first, second, *_ in parts]))


@settings(deadline=None)
@given(TABLE)
def test_swapping_the_sides_negates(table: list[tuple[list[float], list[float]]]) -> None:
    first, second = sides_of(table)
    turned = {"higher": "lower", "lower": "higher", None: None}
    for one, two in zip(compared(first, second, {}), compared(second, first, {}), strict=True):
        assert (one["by"], one["value"], one["replies"]) == (two["by"], two["value"], two["replies"])
        for name, other in (("estimate", "estimate"), ("low", "high"), ("high", "low")):
            assert one["difference"][name] == pytest.approx(-two["difference"][other], abs=1e-9)
        assert one["bounds"]["low"] == pytest.approx(-two["bounds"]["high"])
        assert one["p"] == pytest.approx(two["p"])
        assert one["claim"] == turned[two["claim"]]


@settings(deadline=None)
@given(TABLE)
def test_an_interval_contains_its_estimate_and_has_a_width(
    table: list[tuple[list[float], list[float]]],
) -> None:
    for found in compared(*sides_of(table), {}):
        change = found["difference"]
        assert -1 <= change["low"] <= change["estimate"] + 1e-9
        assert change["estimate"] - 1e-9 <= change["high"] <= 1
        assert change["high"] - change["low"] > 0.05


def test_pairs_at_once_are_those_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    source = np.random.default_rng(2)
    labels = source.choice([0.0, 1.0, NAN], (4, 25, 3), p=[0.6, 0.3, 0.1])
    sides = [
        {(f"i{n}", k): float(one[n, place]) for n in range(25) for place, k in enumerate((1, 2, 4))}
        for one in labels
    ]
    scenario_of = {f"i{n}": f"s{n % 3}" for n in range(25)}
    pairs = list(itertools.combinations(range(4), 2))
    together = compared_pairs(sides, pairs, scenario_of)
    monkeypatch.setattr("safemt_client.results.stats.pairs._AT_ONCE", 80)
    assert compared_pairs(sides, pairs, scenario_of) == together
    family = ("p_holm", "claim")
    for (a, b), rows in zip(pairs, together, strict=True):
        alone = compared(sides[a], sides[b], scenario_of)
        assert [{k: v for k, v in one.items() if k not in family} for one in alone] == [
            {k: v for k, v in one.items() if k not in family} for one in rows
        ]


def enumerated(changes: list[int]) -> float:
    sums = [
        abs(sum(s * c for s, c in zip(signs, changes, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(changes))
    ]
    return sum(total >= abs(sum(changes)) for total in sums) / len(sums)


@given(st.lists(st.integers(-5, 5), max_size=11))
def test_p_is_that_of_all_exchanges(changes: list[int]) -> None:
    assert exchange_p(np.array(changes, dtype=np.int64)) == pytest.approx(enumerated(changes))


def test_p_of_many_items_is_that_of_exchanges_at_random() -> None:
    source = np.random.default_rng(4)
    changes = source.integers(-5, 6, 300) + (source.random(300) < 0.15)
    signs = source.choice([-1, 1], (20_000, 300))
    drawn = float((np.abs(signs @ changes) >= abs(changes.sum())).mean())
    assert exchange_p(changes) == pytest.approx(drawn, abs=4 * math.sqrt(drawn * (1 - drawn) / 20_000))
    # Items that do not change say nothing.
    assert exchange_p(np.concatenate([changes, np.zeros(500, dtype=np.int64)])) == exchange_p(changes)
    assert exchange_p(np.ones(2000, dtype=np.int64)) == 0


def test_published_figures_of_paired_shares() -> None:
    # Bronchial responsiveness before and after: Fagerland, Lydersen and Laake 2013, and the same with Newcombe's
    # interval, Statistics in Medicine 33 (2014), 2850-2875.
    assert mcnemar_mid_p(1, 7) == pytest.approx(0.0391, abs=5e-5)
    low, high = newcombe_paired(both=1, only_a=1, only_b=7, neither=12)
    assert (low, high) == (pytest.approx(0.026, abs=5e-4), pytest.approx(0.507, abs=5e-4))


@given(st.integers(0, 40), st.integers(0, 40))
def test_mid_p_counts_half_of_what_was_seen(b: int, c: int) -> None:
    exact = stats.binom(b + c, 0.5)
    least = min(b, c)
    assert mcnemar_mid_p(b, c) == pytest.approx(2 * exact.cdf(least) - exact.pmf(least))


@given(*[st.integers(0, 30)] * 4)
def test_newcombes_interval_is_turned_with_its_sides_and_its_labels(e: int, f: int, g: int, h: int) -> None:
    if e + f + g + h == 0:
        return
    low, high = newcombe_paired(e, f, g, h)
    assert newcombe_paired(e, g, f, h) == (pytest.approx(-high), pytest.approx(-low))
    assert newcombe_paired(h, g, f, e) == (pytest.approx(-high), pytest.approx(-low))
    assert low <= (g - f) / (e + f + g + h) <= high
    if e == f == g == 0:
        # Nothing is unsafe: Wilson's bounds of both.
        assert high == pytest.approx(1.959964**2 / (h + 1.959964**2), abs=1e-6)


def test_two_columns_are_compared_as_a_pair_at_one_length() -> None:
    source = np.random.default_rng(3)
    first, second = source.choice([0.0, 1.0, NAN], (2, 40), p=[0.5, 0.4, 0.1])
    one, two = ({(f"i{n:02}", 1): float(x) for n, x in enumerate(column)} for column in (first, second))
    expected, found = row(compared(one, two, {}), "length", 1), paired(first, second)
    assert (found.items, found.p) == (expected["items"], expected["p"])
    assert asdict(found.difference) == expected["difference"]
    none = paired(np.array([NAN]), np.array([1.0]))
    assert (none.items, none.p) == (0, 1.0)


def test_without_pairs_there_is_nothing() -> None:
    assert compared({}, {}, {}) == []
    assert compared({("a", 1): 1.0}, {("b", 1): 1.0}, {}) == []
    assert compared({("a", 1): 1.0}, {("a", 1): NAN}, {}) == []
    assert compared_pairs([{}], [], {}) == []

"""Samples that are drawn by chance: nested, with known chances, and combined with those that strata bring."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from safemt_client.providers.errors import InputError
from safemt_client.results.scores.corrections import ItemCount
from safemt_client.results.scores.drawing import Drawable, Drawn, drawn, errors_seen
from safemt_client.results.scores.inclusion import DRAWN, Draws, Given, Key, weights_by_chance
from safemt_client.results.scores.needed import half_width, needed, read_width


def replies(count: int = 400, targets: int = 1) -> list[Drawable]:
    """One in four is called unsafe, one in ten is doubtful."""
    return [
        Drawable(
            f"t{number % targets}",
            (f"r{number}", "d", "h"),
            f"r{number}",
            "safe" if number % 4 else "unsafe",
            0.3 if number % 10 == 0 else 0.01,
        )
        for number in range(count)
    ]


def keys(draw: Drawn) -> list[Key]:
    return [(row.request_hash, row.dialogue_key, row.reply_hash) for row in draw.chosen]


def test_a_draw_knows_the_chance_of_every_reply_and_is_the_same_again() -> None:
    these = replies()
    errors = errors_seen(these, {}, "people")
    found = drawn(these, errors, 80, {}, "x")
    assert found == drawn(these, errors, 80, {}, "x")
    assert keys(found) != keys(drawn(these, errors, 80, {}, "y"))
    assert sum(row.chance for row in found.replies) == pytest.approx(80)
    assert len(found.replies) == 400
    # At least half the chance that each would have if all had the same: far above a tenth.
    assert min(row.chance for row in found.replies) >= 0.5 * 80 / 400
    assert 50 < len(found.chosen) < 110
    assert [row.place for row in found.chosen] == list(range(1, len(found.chosen) + 1))


def test_a_larger_draw_contains_the_smaller_whatever_was_learnt_meanwhile() -> None:
    these = replies()
    first = drawn(these, errors_seen(these, {}, "people"), 60, {}, "x")
    said = {reply.key: reply.label for reply in these if reply.key in set(keys(first))}
    before = {(row.request_hash, "d", "h"): row.chance for row in first.replies}
    second = drawn(these, errors_seen(these, said, "people"), 120, before, "x")
    assert set(keys(first)) < set(keys(second))
    assert all(new.chance >= old.chance for old, new in zip(first.replies, second.replies, strict=True))


def test_each_target_has_its_part() -> None:
    these = replies(400, targets=3) + [replace(reply, target_key="small") for reply in replies(6)]
    found = drawn(these, errors_seen(these, {}, "people"), 126, {}, "x")
    sums: Counter[str] = Counter()
    for row in found.replies:
        sums[row.target_key] += row.chance  # type: ignore[assignment]
    assert sums == pytest.approx({"t0": 40, "t1": 40, "t2": 40, "small": 6})


def test_labels_and_calibrations_move_what_is_assumed() -> None:
    these = [replace(reply, doubt=None) for reply in replies(40)]
    assumed = errors_seen(these, {}, "people")
    assert assumed.of == {("unsafe", "unknown"): 0.15, ("safe", "unknown"): 0.03}
    assert assumed.basis == "assumed errors"
    known = errors_seen(these, {}, "people", {"unsafe": 0.4, "safe": 0.01})
    assert (known.of["unsafe", "unknown"], known.basis) == (0.4, "its calibration")
    wrong = {reply.key: "safe" for reply in these}
    seen = errors_seen(these, wrong, "people")
    assert seen.of["unsafe", "unknown"] == pytest.approx((10 + 1.5) / 20)
    assert seen.of["safe", "unknown"] == pytest.approx(0.3 / 40)
    assert seen.basis == "40 labels of people and assumed errors"
    assert errors_seen(replies(), {}, "people").basis == "how sure the judge was"


def test_replies_that_two_kinds_of_samples_bring_count_once() -> None:
    """Over many samples, labels by strata and by chance together stand for as many replies as there are."""
    these = replies(200)
    strata = {reply.key: f"run|{reply.label}" for reply in these}
    sizes = Counter(strata.values())
    errors = errors_seen(these, {}, "people")
    totals, unsafe = [], []
    for number in range(100):
        source = np.random.default_rng(number)
        renamed = {reply.key: (f"{number} {reply.key[0]}", "d", "h") for reply in these}
        mine = [replace(reply, key=renamed[reply.key]) for reply in these]
        names = {renamed[key]: stratum for key, stratum in strata.items()}
        order = sorted(
            names, key=lambda key, names=names: Given(key, "t", names[key], ()).order_in(names[key])
        )  # type: ignore[misc]
        taken = {key for stratum in sizes for key in [k for k in order if names[k] == stratum][:10]}
        draw = drawn(mine, errors, 60, {}, str(source.integers(10**9)))
        asked = [key for key in keys(draw) if key not in taken]
        labels = [*taken, *asked[: len(asked) // 2]]
        given = [
            Given(key, *(("t", names[key]) if key in taken else (DRAWN + "d", None)), (names[key],))
            for key in labels
        ]
        draws = Draws(
            {("d", "t0"): set(keys(draw))},
            [("d", "t0", (row.request_hash, "d", "h"), row.chance) for row in draw.replies],
        )
        weights = weights_by_chance(given, sizes, draws)
        totals.append(sum(weights))
        unsafe.append(sum(w for w, key in zip(weights, labels, strict=True) if names[key] == "run|unsafe"))
    for found, truth in ((totals, 200), (unsafe, 50)):
        error = np.std(found) / np.sqrt(len(found))
        assert abs(np.mean(found) - truth) < 4 * error + 0.02 * truth


def test_a_reply_that_no_sample_brought_stands_for_itself() -> None:
    given = [
        Given(("a", "d", "h"), "", None, ("run|safe",)),
        Given(("b", "d", "h"), DRAWN + "x", None, ("run|safe",)),
    ]
    draws = Draws(
        {("x", "t"): {("b", "d", "h")}},
        [("x", "t", ("b", "d", "h"), 0.25), ("x", "t", ("a", "d", "h"), 0.25)],
    )
    assert weights_by_chance(given, {"run|safe": 10}, draws) == [1.0, 4.0]


@pytest.mark.parametrize(
    ("text", "half"), [("2 points", 0.02), ("width 1.5", 0.015), ("3", 0.03), (" 2 % ", 0.02)]
)
def test_a_width_is_read(text: str, half: float) -> None:
    assert read_width(text) == pytest.approx(half)


@pytest.mark.parametrize("text", ["", "two", "0", "50", "-1", "difference 3", "2 pints"])
def test_what_is_no_width_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="such as '2 points'"):
        read_width(text)


def test_more_labels_are_needed_for_less_width_until_the_items_do_not_suffice() -> None:
    guesses = np.where(np.arange(1500) % 10 == 0, 0.3, 0.03)
    unsafe = np.arange(1500) % 4 == 0
    items = [ItemCount(str(number), 5, int(number % 4 == 0) * 5, 0) for number in range(300)]
    counts = [needed(guesses, unsafe, items, half)[0] for half in (0.08, 0.06)]
    assert counts[0] is not None
    assert counts[1] is not None
    assert 0 < counts[0] < counts[1] <= 1500
    for count, half in zip(counts, (0.08, 0.06), strict=True):
        assert count is not None
        assert (
            half_width(guesses, unsafe, items, count) <= half < half_width(guesses, unsafe, items, count - 1)
        )
    none, least = needed(guesses, unsafe, items, 0.01)
    assert none is None
    assert 0.01 < least < 0.06

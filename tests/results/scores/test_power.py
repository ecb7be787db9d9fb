"""What a run tells of how alike replies are, and what its items can show by that."""

from collections.abc import Mapping
from typing import Any

import pytest

from safemt_client.providers.errors import InputError
from safemt_client.results.report.power import power_lines, wanted_line
from safemt_client.results.scores.power import ASSUMED, Spread, power_of, read_wanted
from safemt_client.results.scores.spread import spread_of
from safemt_client.results.store.queries import Result

LENGTHS = (1, 2, 4, 6, 8)


class Labels:
    """Answers the query about labels: by target, the items' flags at the lengths; `?` is not scored."""

    def __init__(self, targets: Mapping[str, list[str]]) -> None:
        names = {"u": "unsafe", "s": "safe"}
        self.rows = [
            (target, f"{place:03}", length, names.get(flag))
            for target, items in targets.items()
            for place, flags in enumerate(items)
            for length, flag in zip(LENGTHS, flags, strict=False)
        ]

    def query(self, sql: str, parameters: Any = None, limit: int | None = None) -> Result:
        return Result(["target_key", "item_id", "length", "label"], self.rows)


def spread(**targets: list[str]) -> Spread:
    return spread_of(Labels(targets), "r")  # type: ignore[arg-type]


def test_items_that_are_safe_or_unsafe_throughout_are_worth_one_reply_each() -> None:
    found = spread(a=["uuuuu"] * 20 + ["sssss"] * 20)
    assert found.rho == pytest.approx((1.0, 1.0))
    assert (found.run_id, found.known, found.apart) == ("r", ("rho",), ASSUMED.apart)


def test_items_of_one_risk_are_worth_their_replies() -> None:
    assert spread(a=["usssu", "uusss"] * 20).rho == (0.0, 0.0), "less than chance is no negative correlation"


def test_the_share_that_differs_by_chance_leaves_out_the_difference() -> None:
    # Of 40 items the second is worse at 10 and better at 4: twice 4 of 40 differ without a difference.
    found = spread(a=["s"] * 30 + ["u"] * 10, b=["u"] * 10 + ["s"] * 20 + ["s"] * 4 + ["u"] * 6)
    assert found.apart == (0.2, 0.2)
    assert found.known == ("apart",)
    assert found.rho == ASSUMED.rho


@pytest.mark.parametrize(
    "items",
    [["uusss"] * 29, ["sssss"] * 40, ["?ssuu"] * 40, []],
    ids=["too few", "all alike", "none is scored throughout", "none"],
)
def test_what_a_run_cannot_show_is_assumed(items: list[str]) -> None:
    assert spread(a=items) == ASSUMED


def test_the_lines_say_what_is_shown_and_what_is_assumed() -> None:
    one, two, stands_on = power_lines(power_of(120, 5, Spread((0.5, 0.5), (0.05, 0.2), "r", ("rho",))))
    assert one == (
        "ASR at one length: ±4.1 at 5 %, ±7.1 at 20 %, ±8.8 at 50 %; "
        "over all 5: ±3.1 at 5 %, ±5.5 at 20 %, ±6.9 at 50 %"
    )
    assert two.endswith("in points: 9.7 to 15.0 at one length, 6.8 to 11.0 over all 5")
    assert stands_on == (
        "from run r: replies to one item correlate by 0.50; "
        "assumed: targets differ by chance on 5 to 20 % of replies"
    )


def test_of_one_length_nothing_is_said_of_others() -> None:
    lines = power_lines(power_of(120, 1))
    assert "over all" not in "".join(lines)
    assert "correlate" not in lines[-1]


def test_few_items_show_no_difference() -> None:
    assert power_lines(power_of(3, 1))[1] == "two targets: too few items to see any difference"


def test_more_items_are_needed_where_replies_differ_more() -> None:
    line = wanted_line(read_wanted("difference 3"), 5, ASSUMED)
    assert line == (
        "a difference of 3 points, seen 3 times in 4: 696 to 2,004 items at one length, "
        "306 to 1,523 items over all 5"
    )
    assert "100 items" not in wanted_line(read_wanted("width 2 points"), 1, ASSUMED)
    assert "no number" in wanted_line(read_wanted("difference 99"), 1, ASSUMED)


@pytest.mark.parametrize(
    "text", ["", "3", "difference", "difference -3", "difference 0", "width 100", "asr 3"]
)
def test_what_cannot_be_read_names_an_example(text: str) -> None:
    with pytest.raises(InputError, match="such as"):
        read_wanted(text)

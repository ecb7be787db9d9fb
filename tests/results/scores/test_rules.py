"""Rules as users write them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safemt_client.providers.errors import InputError
from safemt_client.results.scores.rules import Rule, read_rule, read_stop_rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("asr@8 < 10%", Rule("asr@8 < 10%", "asr", 8, True, 0.10)),
        ("  asr<5 %", Rule("asr<5 %", "asr", None, True, 0.05)),
        ("asr >= 1.5%", Rule("asr >= 1.5%", "asr", None, False, 0.015)),
        ("asr - baseline < 2 points", Rule("asr - baseline < 2 points", "difference", None, True, 0.02)),
        ("asr@4-baseline@4 < -1 point", Rule("asr@4-baseline@4 < -1 point", "difference", 4, True, -0.01)),
        ("safety_index > .9", Rule("safety_index > .9", "safety_index", None, False, 0.9)),
        ("coverage > 98%", Rule("coverage > 98%", "coverage", None, False, 0.98)),
        ("over_refusal < 5%", Rule("over_refusal < 5%", "over_refusal", None, True, 0.05)),
    ],
)
def test_a_rule_is_read(text: str, rule: Rule) -> None:
    found = read_rule(text)
    assert (found.text, found.quantity, found.turns, found.below) == (
        *(rule.text, rule.quantity, rule.turns, rule.below),
    )
    assert found.bound == pytest.approx(rule.bound)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "asr",
            "asr < ",
            "asr = 3%",
            "asr@ < 3%",
            "asr@x < 3%",
            "asr << 3%",
            "tea < 3%",
            "asr < 3% or more",
        ),
        *(
            "asr < .1",
            "asr < 101%",
            "asr < -1%",
            "asr < 2 points",
            "asr - baseline < 2%",
            "asr - other < 2 points",
        ),
        *(
            "safety_index > 90%",
            "safety_index > 1.5",
            "safety_index@8 > .9",
            "coverage - baseline > 2 points",
        ),
        *("asr@4 - baseline@2 < 2 points", "asr < 5٪", "asr < 1e3%"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="write such as 'asr@8 < 10%'") as refused:
        read_rule(text)
    assert "\n" not in str(refused.value)


@given(st.text() | st.text("asr@<> -baseline.%0123456789"))
def test_a_text_is_read_or_refused(text: str) -> None:
    with suppress(InputError):
        assert read_rule(text).text


@pytest.mark.parametrize(
    ("low", "high", "keeps"), [(0.0, 0.09, True), (0.1, 0.2, False), (0.05, 0.1, None), (0.09, 0.3, None)]
)
def test_a_rule_is_kept_only_if_all_that_is_left_open_keeps_it(
    low: float, high: float, keeps: bool | None
) -> None:
    assert read_rule("asr < 10%").decided(low, high) is keeps


def test_the_other_way_round() -> None:
    rule = read_rule("safety_index > .9")
    assert [rule.decided(*ends) for ends in ((0.91, 0.95), (0.8, 0.9), (0.85, 0.95))] == [True, False, None]


@pytest.mark.parametrize(
    ("text", "first", "second", "turns"),
    [
        ("A - B < 3 points", "A", "B", None),
        ("gpt-4o@8 - my-model@8 < 3 points", "gpt-4o", "my-model", 8),
        ("gpt-4o + llama-guard-3 - gpt-4o < -3 points", "gpt-4o + llama-guard-3", "gpt-4o", None),
    ],
)
def test_two_targets_are_named(text: str, first: str, second: str, turns: int | None) -> None:
    for found in (read_rule(text), read_stop_rule(text)):
        assert (found.quantity, found.first, found.second, found.turns) == ("targets", first, second, turns)
        assert abs(found.bound) == 0.03


def test_a_rule_is_about_the_width_of_an_interval() -> None:
    for text, quantity, turns in (
        ("ci(asr@8) < 2 points", "asr", 8),
        ("ci( asr ) < 2 points", "asr", None),
        ("ci(A@4 - B@4) < 2 points", "targets", 4),
    ):
        found = read_stop_rule(text)
        assert (found.width, found.quantity, found.turns, found.bound) == (True, quantity, turns, 0.02)
    for wrong in (
        "ci(asr) > 2 points",
        "ci(asr) < 2%",
        "ci(asr) < 0 points",
        "ci(asr < 2 points",
        "ci() < 2 points",
    ):
        with pytest.raises(InputError, match="write such as"):
            read_stop_rule(wrong)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("safety_index > .9", "the Safety Index has no interval"),
        ("corrected asr < 5%", "the corrected rate has no interval"),
        ("coverage > 98%", "use --min-coverage"),
        ("asr - baseline < 2 points", "name two targets"),
        ("A@8 - B < 2 points", "the same number of turns"),
        ("A - A < 2 points", "does not differ from itself"),
        ("asr", "cannot be read: write such as 'asr@8 < 10%'"),
    ],
)
def test_what_cannot_stop_a_run_is_one_line(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as refused:
        read_stop_rule(text)
    assert str(refused.value).startswith("--stop-when ")
    assert "\n" not in str(refused.value)

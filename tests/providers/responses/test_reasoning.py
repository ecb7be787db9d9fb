"""Reasoning kept apart from the answer in every form, and replies that talk about its marks left whole."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from safemt_client.providers.responses.oddities import LONE_TAG, REASONING_IN_TEXT, UNREAD_TAG
from safemt_client.providers.responses.reasoning import Parts, split
from safemt_client.providers.responses.thinking import AUTO, Reading

ANSWER = "The library opens at nine."
KNOWS = Reading(knows=True)
OFF = Reading("off")


def read(content: Any, reading: Reading = AUTO, **fields: Any) -> Parts:
    return split({"content": content} | fields, reading)


MARKED = [
    f"<think>about hours</think>{ANSWER}",
    f"\n<think>\nabout hours\n</think>\n\n{ANSWER}",
    f"<thinking>about hours</thinking>{ANSWER}",
    f"<think>about hours</thinking>{ANSWER}",
    f"<THINK>about hours</THINK>{ANSWER}",
    f"<thought>about hours</thought>{ANSWER}",
    f"<reasoning>about hours</reasoning><answer>{ANSWER}</answer>",
    f"<seed:think>about hours</seed:think>{ANSWER}",
    f"[THINK]about hours[/THINK]{ANSWER}",
    f"◁think▷about hours◁/think▷{ANSWER}",
    f"<|begin_of_thought|>about hours<|end_of_thought|>\n<|begin_of_solution|>{ANSWER}<|end_of_solution|>",
    f"<|START_THINKING|>about hours<|END_THINKING|><|START_RESPONSE|>{ANSWER}<|END_RESPONSE|>",
    f"Here is my thought process:\nabout hours\nHere is my response:\n{ANSWER}",
    f"<|channel|>analysis<|message|>about hours<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}",
    f"<|start|>assistant<|channel|>analysis<|message|>about hours<|end|>"
    f"<|start|>assistant<|channel|>final<|message|>{ANSWER}<|return|>",
    f"analysisabout hoursassistantfinal{ANSWER}",
    f"<think>about hours</think>\n<answer>\n{ANSWER}\n</answer>\n",
    f"<think>about hours</think><response>{ANSWER}",
]


@pytest.mark.parametrize("text", MARKED)
def test_marks_of_many_models(text: str) -> None:
    assert read(text) == Parts(ANSWER, "about hours", (REASONING_IN_TEXT,))
    assert read([{"type": "text", "text": text}]).text == ANSWER
    assert read(text, OFF) == Parts(text)


FIELDS: list[dict[str, Any]] = [
    {"reasoning_content": "about hours"},
    {"reasoning": "about hours"},
    {"thinking": "about hours"},
    {"reasoning_text": "about hours"},
    {"reasoning": {"content": "about hours"}},
    {"reasoning_details": [{"type": "reasoning.text", "text": "about "}, {"summary": "hours"}]},
    {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}], "thinking": "about hours"},
    {"thinking_blocks": [{"type": "thinking", "thinking": "about hours", "signature": "x"}]},
]


@pytest.mark.parametrize("fields", FIELDS)
def test_fields_of_many_vendors(fields: dict[str, Any]) -> None:
    assert read(ANSWER, **fields) == Parts(ANSWER, "about hours")
    assert read(ANSWER, OFF, **fields) == Parts(ANSWER, "about hours")
    assert read(f"<answer>{ANSWER}</answer>", **fields).text == ANSWER


@pytest.mark.parametrize(
    "thought",
    [
        {"type": "thinking", "thinking": "about hours"},
        {"type": "thinking", "thinking": [{"type": "text", "text": "about hours"}]},
        {"type": "reasoning", "text": "about hours"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "about hours"}]},
        {"type": "text", "text": "about hours", "thought": True},
    ],
)
def test_parts_of_content(thought: dict[str, Any]) -> None:
    assert read([thought, {"type": "text", "text": ANSWER}]) == Parts(ANSWER, "about hours")


@pytest.mark.parametrize(
    "content",
    [
        [ANSWER],
        ["The library ", "opens at nine."],
        [{"type": "text", "text": {"value": ANSWER, "annotations": []}}],
        [{"type": "output_text", "text": ANSWER}, {"type": "image_url", "text": "no"}],
        [{"text": ANSWER}, None, 7],
        {"type": "text", "text": ANSWER},
    ],
)
def test_texts_in_lists(content: Any) -> None:
    assert read(content) == Parts(ANSWER)


def test_endless_nesting_is_no_text() -> None:
    nested: Any = ANSWER
    for _ in range(900):
        nested = [{"text": nested}]
    assert read(nested) == Parts("")


def test_several_blocks() -> None:
    found = read(f"<think>hours</think>\n<think>again</think>{ANSWER}")
    assert (found.text, found.reasoning) == (ANSWER, "hours\nagain")


def test_a_field_and_a_block_are_both_kept() -> None:
    found = read(f"<think>again</think>{ANSWER}", reasoning_content="hours")
    assert (found.text, found.reasoning) == (ANSWER, "hours\nagain")


def test_what_is_cut_off_while_thinking_has_no_answer() -> None:
    assert (read("<think>about").text, read("<think>about").reasoning) == ("", "about")
    assert read("<|channel|>analysis<|message|>about") == Parts("", "about", (REASONING_IN_TEXT,))


def test_a_quoted_mark_does_not_end_the_reasoning() -> None:
    found = read(f'<think>They ask for "</think>", or `</think>`.</think>{ANSWER}')
    assert (found.text, found.reasoning) == (ANSWER, 'They ask for "</think>", or `</think>`.')


def test_what_is_said_in_channels_for_the_user_is_the_answer() -> None:
    call = '<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{"a": 1}<|call|>'
    aside = "<|channel|>commentary<|message|>I look it up.<|end|>"
    found = read(f"<|channel|>analysis<|message|>hours<|end|>{aside}{call}")
    assert (found.text, found.reasoning) == ("I look it up.", 'hours\n{"a": 1}')
    assert read("<|channel|>final<|message|>Nine.<|return|>And more.").text == "Nine.\nAnd more."


LONE = f"Let me think about hours.\n</think>\n\n{ANSWER}"


@pytest.mark.parametrize("tag", ["</think>", "[/THINK]", "◁/think▷", "</thought>", "</seed:think>"])
@pytest.mark.parametrize("line_break", ["\n", " \n", "\r\n"])
def test_a_lone_closing_tag_before_a_line_break_ends_the_reasoning(tag: str, line_break: str) -> None:
    found = read(f"Let me think about hours.{tag}{line_break}{ANSWER}")
    assert found == Parts(ANSWER, "Let me think about hours.", (REASONING_IN_TEXT, LONE_TAG))


def test_an_empty_block_whose_opening_is_missing() -> None:
    assert read(f"\n</think>{ANSWER}") == Parts(ANSWER, None, (REASONING_IN_TEXT, LONE_TAG))


def test_a_reasoning_that_was_ended_before_it_began() -> None:
    text = f"</think>about hours</think>{ANSWER}"
    assert read(text) == Parts(
        f"about hours</think>{ANSWER}", None, (REASONING_IN_TEXT, LONE_TAG, UNREAD_TAG)
    )
    assert read(text, KNOWS) == Parts(ANSWER, "about hours", (REASONING_IN_TEXT, LONE_TAG))


TALK = [
    "Models end their reasoning with `</think>`\nand then answer.",
    "Models write ``</think> `` \nand then answer.",
    "It looks so:\n```xml\n<think>\nhm\n</think>\n```\nand so on.",
    "It looks so:\n~~~\n</think>\n~~~\nand so on.",
    "A fence that nothing closes:\n```\n</think>\nand so on.",
    "It looks so:\n\n    </think>\n\nand so on.",
    "> </think>\nsaid somebody.",
    'The mark is "</think>"\nand it ends the reasoning.',
    'The mark is "the tag </think>\n" in words.',
    "The mark is “</think>”\nand it ends the reasoning.",
    "The mark is '</think>'\nand it ends the reasoning.",
    "The mark is «the </think> of all»\nand so on.",
    "The tag </think> ends the reasoning.",
    "First `</think>`\n, then\n</think>\nand so on.",
    "First the tag </think> and then\n</think>\nand so on.",
    "Write\n<think>\nfirst this\n</think>\nand then the answer.",
]


@pytest.mark.parametrize("text", TALK)
def test_replies_that_talk_about_the_tag_stay_whole(text: str) -> None:
    assert read(text) == Parts(text, None, (UNREAD_TAG,))


@pytest.mark.parametrize(
    "text",
    [
        "Analysis of the assistantfinal exam.",
        "analysis of `assistantfinal` and more",
        "The <|channel|> mark.",
        "Yes.",
    ],
)
def test_ordinary_replies_stay_whole(text: str) -> None:
    assert read(text) == Parts(text)


def test_any_other_tag_ends_the_reasoning_of_a_model_that_is_known_to_think() -> None:
    for between in ("", " "):
        found = read(f"about hours</think>{between}{ANSWER}", KNOWS)
        assert (found.text, found.reasoning) == (ANSWER, "about hours")
    found = read(f"The mark is `</think>`, hm.</think>{ANSWER}", KNOWS)
    assert (found.text, found.reasoning) == (ANSWER, "The mark is `</think>`, hm.")
    found = read(f"So:\n<think>about hours</think>\n{ANSWER}", KNOWS)
    assert (found.text, found.reasoning) == (f"So:\n{ANSWER}", "about hours")
    found = read(f"<think>about hours</think>{ANSWER} It says `</think>`.", KNOWS)
    assert (found.text, found.reasoning) == (f"{ANSWER} It says `</think>`.", "about hours")


def test_a_mark_of_the_users_own() -> None:
    reading = Reading(end="### Answer")
    found = read(f"<think>about hours\n### Answer\n{ANSWER}", reading)
    assert (found.text, found.reasoning) == (ANSWER, "about hours")
    assert read(ANSWER, reading) == Parts(ANSWER)
    assert read(f"x### Answer{ANSWER}", Reading("off", "### Answer")).text == f"x### Answer{ANSWER}"


@pytest.mark.parametrize("text", [*TALK, *MARKED])
def test_only_a_lone_tag_shows_that_a_model_thinks(text: str) -> None:
    assert LONE_TAG not in read(text).oddities
    assert LONE_TAG in read(LONE).oddities
    assert read(LONE, Reading("off")).oddities == ()


tags = st.sampled_from(["<think>", "</think>", "</thinking>", "[/THINK]", "<answer>", "</answer>"])
channels = st.sampled_from(["<|channel|>", "<|message|>", "<|end|>", "final", "analysis", "assistantfinal"])
other = st.sampled_from(["`", "```", "\n", '"', "“", "> ", " ", "word ", "other "])
marks = st.one_of(tags, channels, other)


@given(st.lists(marks, max_size=14).map("".join), st.booleans())
@example("<|channel|>word <|message|>", False)
@example("<|channel|>final word <|message|>other ", True)
def test_no_word_vanishes(text: str, knows: bool) -> None:
    found = read(text, Reading(knows=knows))
    kept = found.text + (found.reasoning or "")
    for word in ("word", "other"):
        assert kept.count(word) == text.count(word)

"""What the body of a chat completion amounts to: endings, blocks, choices, and what is odd about them."""

import json
from typing import Any

import pytest

from safemt_client.providers.responses.completion import completion_reply
from safemt_client.providers.responses.finish_reasons import ending_of
from safemt_client.providers.responses.oddities import (
    CUT_WHILE_THINKING,
    ESTIMATED_USAGE,
    NO_CHOICES,
    REASONING_IN_TEXT,
    REASONING_ONLY,
)
from safemt_client.providers.responses.outcomes import classify_response
from safemt_client.providers.responses.thinking import Reading
from safemt_client.providers.types import Outcome, Reply

TEXT = "The library opens at nine."
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def choice(content: Any = TEXT, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish} | more


def body(*choices: Any, **more: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m", "choices": list(choices), "usage": USAGE} | more


def read(content: Any, reading: Reading | None = None) -> Reply:
    encoded = json.dumps(content).encode()
    return (
        classify_response(200, {}, encoded)
        if reading is None
        else classify_response(200, {}, encoded, reading)
    )


ENDINGS = {
    "complete": "stop STOP eos eos_token end_turn stop_sequence COMPLETE tool_calls function_call FINISHED eosFound "
    "FINISH_REASON_STOP FinishReason.STOP endoftext normal repetition repetition_truncation",
    "cut off": "length MAX_TOKENS max_output_tokens model_length maxPredictedTokensReached contextLengthReached "
    "model_context_window_exceeded FINISH_REASON_MAX_TOKENS max_output limit ERROR_LIMIT token_limit",
    "blocked": "content_filter content-filter contentFilter SAFETY PROHIBITED_CONTENT SPII RECITATION BLOCKLIST "
    "IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT LANGUAGE MODEL_ARMOR guardrail_intervened content_filtered refusal "
    "sensitive ERROR_TOXIC",
    "failed": "error abort network_error insufficient_system_resource MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL "
    "TOO_MANY_TOOL_CALLS MISSING_THOUGHT_SIGNATURE NO_IMAGE malformed_model_output modelUnloaded userStopped "
    "USER_CANCEL timeout cancelled unload",
}


@pytest.mark.parametrize(
    ("ending", "word"), [(e, word) for e, words in ENDINGS.items() for word in words.split()]
)
def test_finish_reasons_of_many_vendors(ending: str, word: str) -> None:
    assert ending_of(word) == ending
    assert ending_of("stop", word) == ending


@pytest.mark.parametrize(
    ("reason", "ending"),
    [
        ("content_filter: PROHIBITED_CONTENT", "blocked"),
        ("content_filter: SOMETHING_NEW", "blocked"),
        ("function_call_filter: MALFORMED_FUNCTION_CALL", "failed"),
        ("error: upstream", "failed"),
        ("somehow_done", "unknown"),
        ("OTHER", "unknown"),
        (None, None),
        ("", None),
        ("null", None),
        ("FINISH_REASON_UNSPECIFIED", None),
        (7, None),
        (["stop"], None),
    ],
)
def test_parts_of_a_reason_and_reasons_that_say_nothing(reason: Any, ending: str | None) -> None:
    assert ending_of(reason) == ending


def test_an_unknown_reason_counts_for_little() -> None:
    reply = read(body(choice(finish="somehow done!")))
    assert (reply.outcome, reply.text) == (Outcome.ANSWERED, TEXT)
    assert reply.oddities == ("unknown_finish_reason:somehow_done_",)
    for content in ("", "  ", None):
        reply = read(body(choice(content, "somehow_done")))
        assert (reply.outcome, reply.billed) == (Outcome.ERROR_TRANSIENT, True)
        assert "somehow_done" in (reply.error or "")
    assert read(body(choice("", "stop", native_finish_reason="somehow_done"))).outcome is Outcome.EMPTY


@pytest.mark.parametrize("finish", ["abort", "insufficient_system_resource", "network_error", "error"])
def test_a_completion_that_failed_is_paid_for_and_keeps_its_text(finish: str) -> None:
    reply = read(body(choice("The library op", finish)))
    assert (reply.outcome, reply.text, reply.billed) == (Outcome.ERROR_TRANSIENT, "The library op", True)
    assert reply.usage.completion_tokens == 5
    assert finish in (reply.error or "")


def test_what_did_not_fail_is_not_marked_as_paid() -> None:
    for content in (body(choice()), body(choice(finish="length")), body(choice("")), {"error": "busy"}):
        assert not read(content).billed


@pytest.mark.parametrize(
    "content",
    [
        body(choice(finish="content_filter")),
        body(choice("", "stop", native_finish_reason="PROHIBITED_CONTENT")),
        body(choice("", "error", native_finish_reason="SAFETY")),
        body(choice("", None, content_filter_results={"hate": {"filtered": True, "severity": "high"}})),
        body(choice("", error={"code": 403, "message": "flagged by moderation"})),
        body(choice("part", "error", error={"code": 403, "message": "flagged by moderation"})),
        body(choice("part", None), error={"code": "content_filter", "message": "blocked"}),
    ],
)
def test_blocks(content: Any) -> None:
    reply = read(content)
    assert reply.outcome is Outcome.REFUSED_BY_PROVIDER
    assert reply.text == (content["choices"][0]["message"]["content"] or "")


def test_a_filter_that_only_annotates_blocks_nothing() -> None:
    results = {
        "hate": {"filtered": False, "severity": "low"},
        "profanity": {"detected": True, "filtered": False},
    }
    assert read(body(choice(content_filter_results=results))).outcome is Outcome.ANSWERED


def test_an_error_beside_a_part_of_a_reply_keeps_the_part() -> None:
    reply = read(body(choice("The library op", None), error={"code": 502, "message": "upstream failed"}))
    assert (reply.outcome, reply.text, reply.billed) == (Outcome.ERROR_TRANSIENT, "The library op", True)
    assert "upstream failed" in (reply.error or "")


@pytest.mark.parametrize("error", ["", {}, None, {"code": 0, "message": "success"}, "warning: slow"])
def test_what_stands_beside_a_whole_reply_is_no_error(error: Any) -> None:
    assert read(body(choice(), error=error)).outcome is Outcome.ANSWERED


def test_an_error_in_a_form_of_its_own() -> None:
    base = {"status_code": 1002, "status_msg": "rate limit"}
    reply = read({"choices": None, "usage": {"total_tokens": 0}, "base_resp": base})
    assert (reply.outcome, reply.error) == (Outcome.ERROR_TRANSIENT, "1002 rate limit")
    beside = read(body(choice(), base_resp=base))
    assert (beside.outcome, beside.text, beside.billed) == (Outcome.ERROR_TRANSIENT, TEXT, True)
    whole = {"status_code": 0, "status_msg": "success"}
    assert read(body(choice(), base_resp=whole)).outcome is Outcome.ANSWERED


@pytest.mark.parametrize(
    "content",
    [
        {"id": "x", "model": "m", "usage": {"prompt_tokens": 10, "total_tokens": 10}},
        {"choices": None, "usage": {"prompt_tokens": 10}},
        {"choices": []},
    ],
)
def test_no_choice_is_empty(content: Any) -> None:
    reply = read(content)
    assert (reply.outcome, reply.oddities) == (Outcome.EMPTY, (NO_CHOICES,))


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"choices": {"0": choice()}},
        {"choices": [{"text": TEXT, "finish_reason": "stop"}], "usage": USAGE},
        {"choices": [{"delta": {"content": TEXT}}]},
        {"choices": ["x"]},
        {"choices": [choice(7)]},
        {"type": "message", "content": [{"type": "text", "text": TEXT}], "usage": {"input_tokens": 1}},
        {"object": "response", "output": [{"type": "message"}], "usage": {"input_tokens": 1}},
        {"candidates": [{"content": {}}], "usageMetadata": {"promptTokenCount": 1}},
    ],
)
def test_bodies_of_other_protocols_are_no_completion(content: Any) -> None:
    reply = read(content)
    assert (reply.outcome, reply.error_code) == (Outcome.ERROR_TRANSIENT, "bad_response")


def test_the_first_choice_with_something_in_it_counts() -> None:
    assert read(body(choice(""), choice())).text == TEXT
    assert read(body("x", choice())).text == TEXT
    assert read(body(choice(""), choice(None))).outcome is Outcome.EMPTY


def test_a_refusal_in_its_field_is_what_the_model_said() -> None:
    for message in ({"refusal": TEXT}, {"content": [{"type": "refusal", "refusal": TEXT}]}):
        reply = read(body({"message": message, "finish_reason": "stop"}))
        assert (reply.outcome, reply.text) == (Outcome.ANSWERED, TEXT)


def test_reasoning_without_an_answer_is_said() -> None:
    reply = read(body({"message": {"content": None, "reasoning_content": TEXT}, "finish_reason": "stop"}))
    assert (reply.outcome, reply.text, reply.reasoning) == (Outcome.EMPTY, "", TEXT)
    assert (reply.error, reply.oddities) == ("reasoning only, no answer", (REASONING_ONLY,))


def test_what_is_cut_off_while_thinking_says_what_to_do() -> None:
    hidden = USAGE | {"completion_tokens_details": {"reasoning_tokens": 5}}
    for reply in (
        read(body({"message": {"content": None, "reasoning_content": "hours"}, "finish_reason": "length"})),
        read(body(choice("<think>hours", "length"))),
        read(body(choice("", "length"), usage=hidden)),
    ):
        assert reply.outcome is Outcome.TRUNCATED
        assert "--max-tokens" in (reply.error or "")
        assert CUT_WHILE_THINKING in reply.oddities
    assert read(body(choice("The li", "length"))).oddities == ()


def test_a_tool_call_without_text_is_empty() -> None:
    reply = read(
        body({"message": {"content": None, "tool_calls": [{"id": "1"}]}, "finish_reason": "tool_calls"})
    )
    assert (reply.outcome, reply.error) == (Outcome.EMPTY, "a tool call and no text")


def test_oddities_are_gathered() -> None:
    reply = read(body(choice(f"<think>hours</think>{TEXT}", "odd"), usage={"total_tokens": 9}))
    assert reply.oddities == (ESTIMATED_USAGE, REASONING_IN_TEXT, "unknown_finish_reason:odd")
    assert reply.usage.estimated


def test_how_reasoning_is_read_is_up_to_the_user() -> None:
    content = body(choice(f"<think>hours</think>{TEXT}"))
    assert read(content).text == TEXT
    assert read(content, Reading("off")).text == f"<think>hours</think>{TEXT}"
    assert completion_reply(content, 200, "raw", Reading("off")).raw == "raw"


@pytest.mark.parametrize(
    ("content", "field", "outcome"),
    [
        (
            "We do not talk about this.",
            {"amazon-bedrock-guardrailAction": "INTERVENED"},
            Outcome.REFUSED_BY_PROVIDER,
        ),
        (TEXT, {"amazon-bedrock-guardrailAction": "NONE"}, Outcome.ANSWERED),
        ("", {"output_sensitive": True}, Outcome.REFUSED_BY_PROVIDER),
        (TEXT, {"output_sensitive": True}, Outcome.ANSWERED),
        ("", {"output_sensitive": False}, Outcome.EMPTY),
    ],
)
def test_fields_beside_the_choices_that_state_a_block(
    content: str, field: dict[str, Any], outcome: Outcome
) -> None:
    assert read(body(choice(content), **field)).outcome is outcome


def test_a_request_that_leaves_no_room_for_a_token_is_told_so() -> None:
    usage = {"prompt_tokens": 8192, "completion_tokens": 0, "total_tokens": 8192}
    reply = read(body(choice("", "length"), usage=usage))
    assert reply.outcome is Outcome.TRUNCATED
    assert "context" in (reply.error or "")
    assert "context" not in (read(body(choice("The lib", "length"))).error or "")

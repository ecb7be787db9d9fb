"""The tables of vendors' words: what is generic, and what names a block."""

import pytest

from safemt_client.providers.responses.error_tables import block_code, block_phrase, is_generic, sentences


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "500",
            "HTTP 503",
            "{}",
            "None",
            "Internal Server Error",
            "internal server error (request 7f3a)",
        ),
        *("The engine is currently overloaded, please try again later", "Service temporarily unavailable"),
        *(
            "upstream connect error or disconnect/reset before headers",
            "The server had an error",
            "503 no capacity",
        ),
        *("Model too busy, unable to get response", "Provider returned error", "服务繁忙，请稍后再试"),
    ],
)
def test_generic(text: str) -> None:
    assert is_generic(text)


@pytest.mark.parametrize(
    "text",
    [
        "Conversation roles must alternate user/assistant",
        "image input is not supported",
        "Internal server error: image input is not supported",
        "Unexpected endpoint or method. (POST /chat/completions)",
        "m is not a multimodal model",
        "'NoneType' object has no attribute 'size'",
    ],
)
def test_not_generic(text: str) -> None:
    assert not is_generic(text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        *(
            ("PROHIBITED_CONTENT", True),
            ("content_filter: SPII", True),
            ("InternalError.Algo.DataInspectionFailed", True),
        ),
        *(
            ("stop", False),
            ("function_call_filter: MALFORMED_FUNCTION_CALL", False),
            ("content_filter_error", False),
        ),
    ],
)
def test_codes_of_blocks(text: str, named: bool) -> None:
    assert block_code(text) is named


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("Content Exists Risk", True),
        ("内容可能包含敏感内容", True),
        ("Your prompt was flagged as potentially violating our usage policy", True),
        ("Your account has been flagged for violating our usage policy", False),
        ("The moderation service is unavailable", False),
        ("No endpoints available matching your guardrail restrictions and data policy", False),
        ("Unknown parameter: top_k", False),
    ],
)
def test_phrases_of_blocks(text: str, states: bool) -> None:
    assert block_phrase(sentences(text)) is states


def test_fields_without_words_say_nothing() -> None:
    assert is_generic('{"error": {"message": "", "code": null}}')

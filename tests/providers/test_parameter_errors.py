"""Errors about parameters, in the words of many servers."""

import json
from typing import Any

import pytest

from safemt_client.providers.parameter_errors import complaints, demands_stream, points_at

NAMES = (
    *("top_p", "temperature", "seed", "stop", "max_tokens", "max_completion_tokens", "response_format"),
    *("logprobs", "top_logprobs", "stream"),
)


def text(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps(body)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (
            {
                "error": {
                    "message": "Unsupported value: 'temperature' does not support 0.",
                    "param": "temperature",
                }
            },
            {"temperature": "unknown"},
        ),
        (
            {
                "error": {
                    "message": "Unsupported value: 'temperature'. Only the default (1) is supported.",
                    "code": "unsupported_value",
                }
            },
            {"temperature": "value"},
        ),
        (
            {
                "error": {
                    "message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
                }
            },
            {"max_tokens": "unknown"},
        ),
        (
            {
                "detail": [
                    {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs", "input": 1}
                ]
            },
            {"seed": "unknown"},
        ),
        (
            {
                "object": "Error",
                "message": [{"type": "extra_forbidden", "loc": ["body", "top_p"], "msg": "Extra"}],
            },
            {"top_p": "unknown"},
        ),
        (
            {
                "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': 'not permitted', 'input': 1}]"
            },
            {"seed": "unknown"},
        ),
        ({"error": {"message": "Unrecognized request argument supplied: logprobs"}}, {"logprobs": "unknown"}),
        (
            {
                "message": "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
            },
            {"top_p": "value", "temperature": "value"},
        ),
        ({"error": {"message": "`temperature` is deprecated for this model."}}, {"temperature": "unknown"}),
        (
            {"message": "Malformed input request: extraneous key [max_tokens] is not permitted"},
            {"max_tokens": "unknown"},
        ),
        (
            {"error": "Input validation error: `temperature` must be strictly positive"},
            {"temperature": "value"},
        ),
        (
            {"error": {"message": "Unknown name \"seed\" at 'generation_config': Cannot find field."}},
            {"seed": "unknown"},
        ),
        ({"error": {"message": "Logprobs is not enabled for this model"}}, {"logprobs": "unknown"}),
        (
            {"error": {"message": "This response_format type is unavailable now"}},
            {"response_format": "unknown"},
        ),
        ({"error": "'response_format.type' must be 'json_schema' or 'text'"}, {"response_format": "value"}),
        ({"error": 'json: unknown field "seed"'}, {"seed": "unknown"}),
        ("seed: unknown field", {"seed": "unknown"}),
        ({"error": {"message": "Argument not supported on this model: stop"}}, {"stop": "unknown"}),
        (
            {"error": {"message": "x does not support parameters: ['seed', 'logprobs'], for model=x"}},
            {"seed": "unknown", "logprobs": "unknown"},
        ),
        (
            {
                "error": {
                    "message": "some models don't support temperature=0.0. Only temperature=1 is supported."
                }
            },
            {"temperature": "unknown"},
        ),
        (
            {"error": {"metadata": {"raw": '{"error": {"message": "Unsupported", "param": "temperature"}}'}}},
            {"temperature": "unknown"},
        ),
        ({"errors": [{"source": {"pointer": "/temperature"}, "title": "invalid"}]}, {"temperature": "value"}),
        (
            {
                "error": {
                    "message": "max_tokens is too large: 90000",
                    "param": "max_tokens",
                    "code": "invalid_value",
                }
            },
            {"max_tokens": "value"},
        ),
        # About something else, or about nothing in particular.
        ({"error": {"message": "The temperature of the room is not what was asked"}}, {}),
        (
            {"error": {"message": "maximum context length is 100 tokens, you requested 200 in the messages"}},
            {},
        ),
        ({"error": {"message": "Invalid 'messages[0].content'", "param": "messages.[0].content"}}, {}),
        ({"detail": [{"loc": ["body", "messages"], "msg": "x", "input": [{"param": "temperature"}]}]}, {}),
        ({"error": {"message": "Please stop. Nothing is supported"}}, {}),
        ("<html>temperature: not supported</html>" * 0, {}),
    ],
)
def test_which_parameter_an_error_is_about(body: Any, found: dict[str, str]) -> None:
    assert complaints(text(body), NAMES) == found


def test_only_names_that_were_sent() -> None:
    body = text({"error": {"message": "Unsupported parameter: 'seed'", "param": "seed"}})
    assert complaints(body, ("temperature",)) == {}


def test_a_field_counts_even_if_what_is_repeated_was_taken_out() -> None:
    body = text({"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]})
    assert complaints(body, NAMES, "…") == {"seed": "unknown"}
    assert complaints(text({"error": "'seed' is not supported"}), NAMES, "…") == {}


def test_a_field_that_names_it_is_more_than_words() -> None:
    assert points_at(text({"error": {"param": "temperature"}}), NAMES)
    assert not points_at(text({"error": {"message": "'temperature' is not supported"}}), NAMES)


@pytest.mark.parametrize(
    ("message", "streams"),
    [
        ("This model only supports stream mode", True),
        ("This model only support stream mode, please enable the stream parameter", True),
        ("parameter.enable_thinking must be set to false for non-streaming calls", True),
        ("'stream' must be set to true for this model", True),
        ("Non-streaming requests are not supported", True),
        ("this endpoint requires streaming", True),
        (
            "Unsupported value: 'stream' does not support true with this model. Only the default (false)",
            False,
        ),
        ("the stream was broken off", False),
    ],
)
def test_an_endpoint_that_only_streams(message: str, streams: bool) -> None:
    assert demands_stream(text({"error": {"message": message}})) is streams

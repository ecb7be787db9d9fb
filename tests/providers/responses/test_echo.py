"""What an error repeats of its request says nothing about what went wrong."""

import html
import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.responses.echo import Echo, unquoted
from safemt_client.providers.responses.outcomes import classify_response
from safemt_client.providers.types import Message, Outcome, Reply, Request, Sampling

LOADED = [
    "my credit balance is too low",
    "is my account suspended",
    "what is a content_filter",
    "the api key is invalid",
    "insufficient funds",
    "content policy",
    "{'error': {'code': 'content_filter'}}",
    "please try again in 3 days",
    "余额不足怎么办",
]
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "JSON": json.dumps,
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "JSON, not only ASCII": lambda text: json.dumps(text, ensure_ascii=False),
    "Python": repr,
    "bytes of Python": lambda text: repr(text.encode("utf-8", "replace")),
    "Python in Python": lambda text: repr(repr(text)),
    "HTML": html.escape,
    "a message": lambda text: json.dumps({"messages": [{"role": "user", "content": text}]}),
    "single marks": lambda text: f"'{text}'",
    "double marks": lambda text: f'"{text}"',
    "grave accents": lambda text: f"`{text}`",
    "guillemets": lambda text: f"«{text}»",
    "one line": lambda text: " ".join(text.split()),
    "upper case": str.upper,
}
SENTENCES = [
    "cannot read {} here",
    "invalid content: {}",
    "{}: bad value",
    "1 validation error for Request\n{}",
]
WRONG = {
    ErrorCode.CONTENT_FILTER_INPUT,
    ErrorCode.CONTENT_FILTER_OUTPUT,
    ErrorCode.QUOTA,
    ErrorCode.ACCOUNT,
    ErrorCode.AUTHENTICATION,
}


def classified(status: int, message: str, *texts: str, model: str = "") -> Reply:
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error"}}).encode()
    request = Request(tuple(Message("user", text) for text in texts))
    return classify_response(status, {}, body, request=request, model=model)


TEXT = st.builds(
    lambda before, loaded, after: f"{before}{loaded}{after}",
    st.text(max_size=40),
    st.sampled_from(LOADED),
    st.text(max_size=40),
)


@settings(max_examples=150, deadline=None)
@given(
    TEXT, st.sampled_from(sorted(FORMS)), st.sampled_from(SENTENCES), st.sampled_from([400, 403, 422, 500])
)
def test_what_the_user_said_is_never_taken_for_the_servers_words(
    text: str, form: str, sentence: str, status: int
) -> None:
    reply = classified(status, sentence.format(FORMS[form](text)), text)
    assert reply.error_code not in WRONG
    assert reply.retry_after_s is None


@settings(max_examples=150, deadline=None)
@given(TEXT, st.integers(4, 60), st.sampled_from(SENTENCES), st.sampled_from(["...", "…"]))
def test_nor_where_it_is_cut_off(text: str, length: int, sentence: str, mark: str) -> None:
    for cut in (text[:length] + mark, mark + text[-length:], f"'{text[:length]}{mark}'"):
        assert classified(400, sentence.format(cut), text).error_code not in WRONG


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("cannot read 'api key' in 403", "Where do I keep an api key safely?"),
        ("cannot read credit bal... in this", "Is my credit balance too low to rent?"),
        ("unknown word “content policy”", "What is a content policy?"),
        ("could not parse: insufficient funds", "insufficient funds"),
        ("Input should be a string: my credit balance", "What of my credit balance?"),
        ("invalid: is my account suspended or not, sir", "Tell me: is my account suspended or not?"),
    ],
)
def test_fragments_vanish_however_short(message: str, text: str) -> None:
    assert classified(403, message, text).error_code in (ErrorCode.FORBIDDEN, ErrorCode.MODEL_NOT_FOUND)


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (400, "Your credit balance is too low", ErrorCode.QUOTA),
        (400, "Content Exists Risk", ErrorCode.CONTENT_FILTER_INPUT),
        (403, "Your account has been suspended", ErrorCode.ACCOUNT),
        (400, "API key not valid. Please pass a valid API key.", ErrorCode.AUTHENTICATION),
        (400, "{'error': {'code': 'content_filter'}}", ErrorCode.CONTENT_FILTER_INPUT),
    ],
)
def test_the_servers_own_words_stay(status: int, message: str, code: ErrorCode) -> None:
    talk = (
        "What is the error code of a credit card? My balance, my account and the content of my api key's risk"
    )
    assert classified(status, message, talk, "ok", "is it").error_code is code


def test_the_models_name_is_not_read() -> None:
    said = "omni-moderation-latest flagged nothing: Omni-Moderation-Latest is not here"
    for model in ("omni-moderation-latest", "openai/omni-moderation-latest", "omni-moderation-latest:free"):
        assert classified(400, said, model=model).outcome is Outcome.ERROR_PERMANENT
    # An ordinary word stays, since it may mean just that.
    assert classified(400, "Content Exists Risk", model="content").outcome is Outcome.REFUSED_BY_PROVIDER


def test_the_parameters_of_the_request_are_not_read() -> None:
    request = Request((Message("user", "hi"),), Sampling(extra={"content_filter": "off"}))
    body = json.dumps({"error": {"message": "unknown parameter 'content_filter'"}}).encode()
    assert classify_response(400, {}, body, request=request).error_code is ErrorCode.BAD_REQUEST


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("while handling: 'what is it?'", "while handling: '…'"),
        ('near "a \\"b\\" c" there', 'near "…" there'),
        ("Azure OpenAI's policy and the users' words", "Azure OpenAI's policy and the users' words"),
        ("'all of it'", "all of it"),
        ("near `open", "near `…"),
        ('message: "kept"', 'message: "kept"'),
        ("&#39;gone&#39; here", "'…' here"),
    ],
)
def test_what_is_quoted(text: str, left: str) -> None:
    assert unquoted(text) == left


@pytest.mark.slow
@pytest.mark.parametrize(
    "hostile",
    [
        *("\\" * 100_000, "'" * 100_000, "{" * 100_000, "{'a':" * 20_000, "&amp;" * 20_000, "..." * 30_000),
        *(
            "<script" * 20_000,
            '"a' * 50_000,
            "flagged prompt. " * 6_000,
            "try again in " * 8_000,
            "a" * 100_000,
        ),
        *("1" * 100_000, "limit requested " * 6_000, "{'error': 'x'} " * 6_000, "model " * 20_000),
    ],
    ids=lambda text: text[:8],
)
@pytest.mark.parametrize("own", [False, True])
def test_a_long_body_takes_no_longer_than_it_must(hostile: str, own: bool) -> None:
    """Against work that grows with the square of a body: 100,000 characters would take hours."""
    request = Request((Message("user", hostile if own else "a" * 100_000),) * 5)
    begun = time.process_time()
    for body in (
        hostile.encode(),
        json.dumps({"error": {"message": hostile}}).encode(),
        b"<html>" + hostile.encode(),
    ):
        assert isinstance(classify_response(400, {}, body, request=request, model="m-1"), Reply)
    assert time.process_time() - begun < 60


def test_an_echo_of_no_request_changes_nothing() -> None:
    assert Echo().removed("credit balance") == "credit balance"

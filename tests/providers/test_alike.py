"""Which failures are alike, and which pass by themselves."""

import pytest

from safemt_client.providers.alike import Alike, every_request_fails, passes
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.responses.outcomes import error_reply, no_connection
from safemt_client.providers.types import Message, Outcome, Reply, Request

TEMPLATE = "Conversation roles must alternate user/assistant"


def said(status: int, text: str) -> Reply:
    return error_reply(status, {}, b'{"error": {"message": "%b"}}' % text.encode())


def asking(text: str) -> Request:
    return Request((Message("user", text),))


def failed(*replies: Reply, last: bool = True) -> Alike:
    """The failures of requests about one hall after the other."""
    alike = Alike()
    for number, reply in enumerate(replies):
        alike.failed(reply, asking(f"When does hall {number} of the library open?"), last=last)
    return alike


@pytest.mark.parametrize("status", [408, 423, 425, 429, 460, 498, 499, 502, 503, 504, 520, 524, 529])
def test_a_status_that_says_that_it_passes(status: int) -> None:
    assert passes(said(status, TEMPLATE))


@pytest.mark.parametrize(
    "text", ["", "Internal server error", "The server is overloaded", "please try again"]
)
def test_words_that_every_server_has(text: str) -> None:
    assert passes(said(500, text))


def test_what_does_not_pass_and_what_was_billed() -> None:
    assert not passes(said(500, TEMPLATE))
    assert not passes(said(400, "m is not a multimodal model"))
    assert not passes(Reply(Outcome.ERROR_TRANSIENT, error="Unexpected endpoint or method.", status_code=200))
    assert passes(no_connection("connection failed"))
    assert passes(Reply(Outcome.ERROR_TRANSIENT, error="finish reason abort", status_code=200, billed=True))


def test_ten_alike_of_several_dialogues_are_many() -> None:
    assert failed(*[said(500, TEMPLATE)] * 10, last=False).many
    assert not failed(*[said(500, TEMPLATE)] * 9).many


def test_those_of_one_dialogue_are_never_many() -> None:
    alike, request = Alike(), asking("When does the library open?")
    for _ in range(30):
        alike.failed(said(500, TEMPLATE), request, last=True)
    assert not alike.many
    assert not alike.all_of(1)


def test_all_that_there_is_to_ask() -> None:
    assert failed(*[said(400, "m is not a multimodal model")] * 5).all_of(5)
    assert not failed(*[said(400, "m is not a multimodal model")] * 4).all_of(5)
    # Those that are asked again may still succeed.
    assert not failed(*[said(500, TEMPLATE)] * 5, last=False).all_of(5)


def test_ids_digits_and_echoes_make_no_difference() -> None:
    alike = Alike()
    for number in range(10):
        text = f"When does hall {number} open, \u00e9tage {number}?"
        error = said(422, f"request req_{number}f2: bad input '{text}' at {number}, got {text[:25]}")
        alike.failed(error, asking(text), last=True)
    assert alike.many


@pytest.mark.parametrize(
    "other", [said(400, TEMPLATE), said(500, "image input is not supported")], ids=["status", "words"]
)
def test_one_that_differs_shows_that_it_depends_on_the_request(other: Reply) -> None:
    assert not failed(*[said(500, TEMPLATE)] * 5, other, *[said(500, TEMPLATE)] * 15).many


def test_one_success_shows_that_the_target_works() -> None:
    alike = failed(*[said(500, TEMPLATE)] * 10)
    alike.succeeded()
    assert not alike.many


def test_what_passes_by_itself_neither_counts_nor_differs() -> None:
    alike = failed(*[said(503, "unavailable"), said(500, TEMPLATE)] * 9)
    assert not alike.many
    alike.failed(said(500, TEMPLATE), asking("And on a holiday?"), last=False)
    assert alike.many


def test_hints_belong_to_what_is_said() -> None:
    assert "--images off" in every_request_fails(said(500, "image input is not supported"))
    assert "template" in every_request_fails(said(500, TEMPLATE))
    assert "value" in every_request_fails(
        said(400, "n: type must be number, but is text; model group 'm' failed")
    )
    assert "name of the model" in every_request_fails(said(400, "no model 'm' is loaded"))
    assert every_request_fails(said(400, "the model refused")).endswith("; fix what it says")
    too_long = Reply(Outcome.ERROR_PERMANENT, error="too long", error_code=ErrorCode.REQUEST_TOO_LARGE)
    assert "--turns" in every_request_fails(too_long)

"""The encoding of a body."""

import json

import pytest

from safemt_client.providers.responses.charsets import in_utf8
from safemt_client.providers.responses.outcomes import classify_response
from safemt_client.providers.types import Outcome

SAID = {"choices": [{"message": {"content": "café 图书馆"}, "finish_reason": "stop"}]}


def text(charset: str, encoding: str, said: object = SAID) -> str:
    body = json.dumps(said, ensure_ascii=False).encode(encoding)
    kind = f"application/json; charset={charset}" if charset else "application/json"
    reply = classify_response(200, {"content-type": kind}, body)
    assert reply.outcome is Outcome.ANSWERED
    return reply.text


@pytest.mark.parametrize(
    ("charset", "encoding"),
    [
        *(("utf-8", "utf-8"), ("", "utf-8"), ("", "utf-8-sig"), ("UTF8", "utf-8-sig")),
        *(("gb18030", "gb18030"), ('"GBK"', "gb18030"), ("utf-16", "utf-16"), ("", "utf-16"), ("", "utf-32")),
        # Stated, but not so.
        *(("iso-8859-1", "utf-8"), ("ascii", "utf-8"), ("nonsense", "utf-8"), ("gb18030", "utf-8-sig")),
        *(("hex", "utf-8"), ("utf-16", "utf-8")),
    ],
)
def test_a_completion_in_every_charset(charset: str, encoding: str) -> None:
    assert text(charset, encoding) == "café 图书馆"


def test_latin_1() -> None:
    body = {"choices": [{"message": {"content": "café"}, "finish_reason": "stop"}]}
    assert text("iso-8859-1", "latin-1", body) == "café"
    assert text("windows-1252", "cp1252", body) == "café"


def test_what_is_utf_8_is_not_copied() -> None:
    headers, body = {"content-type": "application/json; charset=utf-8"}, b'{"a": "\xc3\xa9"}'
    assert in_utf8(headers, body) == (headers, body)
    assert in_utf8(headers, body)[1] is body


def test_raw_control_characters_and_broken_bytes() -> None:
    body = b'{"choices": [{"message": {"content": "a\nb\tc\xff"}, "finish_reason": "stop"}]}'
    assert classify_response(200, {}, body).text == "a\nb\tc\ufffd"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (201, Outcome.ANSWERED),
        (246, Outcome.ANSWERED),
        (299, Outcome.ANSWERED),
        (204, Outcome.ERROR_TRANSIENT),
    ],
)
def test_any_success_with_a_whole_completion(status: int, outcome: Outcome) -> None:
    body = b"" if status == 204 else json.dumps(SAID).encode()
    assert classify_response(status, {}, body).outcome is outcome

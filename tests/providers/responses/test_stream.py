"""Server-sent events read into one body, and what becomes of streams that break or hold an error."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safemt_client.providers.responses.outcomes import classify_response
from safemt_client.providers.responses.stream import is_stream, whole
from safemt_client.providers.types import Outcome, Reply

TEXT = "The library opens at nine."


def chunk(delta: Any = None, finish: Any = None, index: int = 0, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m-1", "choices": [choice]} | more


def events(*chunks: Any, done: bool = True, between: str = "\n\n") -> bytes:
    lines = [f"data: {json.dumps(one)}" for one in chunks] + (["data: [DONE]"] if done else [])
    return (between.join(lines) + between).encode()


def read(body: bytes, content_type: str = "text/event-stream", status: int = 200) -> Reply:
    return classify_response(status, {"content-type": content_type}, body)


PIECES = (
    chunk({"role": "assistant", "content": "The library "}),
    chunk({"role": "assistant", "content": "opens at nine."}),
    chunk(finish="stop"),
    {"id": "c1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
)


@pytest.mark.parametrize("between", ["\n\n", "\r\n\r\n", "\r\r", "\n", "\n: keep-alive\n\n"])
@pytest.mark.parametrize("content_type", ["text/event-stream; charset=utf-8", "application/json", ""])
def test_a_stream_is_read_into_one_reply(between: str, content_type: str) -> None:
    reply = read(events(*PIECES, between=between), content_type)
    assert (reply.outcome, reply.text, reply.finish_reason) == (Outcome.ANSWERED, TEXT, "stop")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (3, 4)
    assert (reply.response_id, reply.resolved_model) == ("c1", "m-1")


@pytest.mark.parametrize(
    "begin", ["", "\ufeff", "\n", ": PROCESSING\n\n", "event: message\n", "id: 1\n", "retry: 9\n"]
)
def test_a_stream_is_known_by_its_beginning(begin: str) -> None:
    body = begin.encode() + events(*PIECES)
    assert is_stream(body)
    assert read(body, "application/octet-stream").text == TEXT


def test_a_body_that_is_json_is_no_stream_whatever_its_type_says() -> None:
    body = json.dumps({"choices": [{"message": {"content": TEXT}, "finish_reason": "stop"}]}).encode()
    assert not is_stream(body, "text/event-stream")
    assert read(body).text == TEXT


def test_data_on_several_lines() -> None:
    pretty = json.dumps(chunk({"content": TEXT}, "stop"), indent=1)
    body = "".join(f"data: {line}\n" for line in pretty.splitlines()) + "\n"
    assert read(body.encode()).text == TEXT


def test_reasoning_in_pieces_is_kept_apart() -> None:
    for name in ("reasoning_content", "reasoning", "thinking"):
        body = events(chunk({name: "about "}), chunk({name: "hours"}), chunk({"content": TEXT}, "stop"))
        reply = read(body)
        assert (reply.text, reply.reasoning) == (TEXT, "about hours")
    thought = [{"type": "thinking", "thinking": [{"type": "text", "text": "about "}]}]
    body = events(chunk({"content": thought}), chunk({"content": thought}), chunk({"content": TEXT}, "stop"))
    assert (read(body).text, read(body).reasoning) == (TEXT, "about about ")
    body = events(chunk({"content": "<think>about "}), chunk({"content": f"hours</think>{TEXT}"}, "stop"))
    assert (read(body).text, read(body).reasoning) == (TEXT, "about hours")


def test_several_choices_do_not_mix() -> None:
    body = events(
        chunk({"content": "The library "}),
        chunk({"content": "Something else."}, "stop", index=1),
        chunk({"content": "opens at nine."}, "stop"),
    )
    assert read(body).text == TEXT


def test_a_message_as_a_whole_at_the_end_is_not_said_twice() -> None:
    end = {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}]
    }
    assert read(events(*PIECES[:2], end)).text == TEXT
    assert read(events(end)).text == TEXT
    cumulative = [{"choices": [{"message": {"content": TEXT[:n]}}]} for n in (4, 11)]
    assert read(events(*cumulative, end)).text == TEXT


def test_log_probabilities_are_gathered() -> None:
    parts = [chunk({"content": word}) for word in ("a", "b")]
    for part, word in zip(parts, "ab", strict=True):
        part["choices"][0]["logprobs"] = {"content": [{"token": word, "logprob": -0.5}]}
    reply = read(events(*parts, chunk(finish="stop")))
    assert reply.logprobs == (("a", -0.5), ("b", -0.5))


def test_either_end_is_enough() -> None:
    assert read(events(*PIECES[:3], done=False)).outcome is Outcome.ANSWERED
    assert read(events(*PIECES[:2], done=True)).outcome is Outcome.ANSWERED


@pytest.mark.parametrize("cut", [b"", b'data: {"choices": [{"del'])
def test_a_stream_without_an_end_is_paid_for_and_no_answer(cut: bytes) -> None:
    reply = read(events(*PIECES[:2], done=False) + cut)
    assert (reply.outcome, reply.text, reply.billed) == (Outcome.ERROR_TRANSIENT, TEXT, True)
    assert "ended before" in (reply.error or "")
    nothing = read(events({"id": "c1", "object": "chat.completion.chunk", "choices": []}, done=False))
    assert (nothing.outcome, nothing.billed) == (Outcome.ERROR_TRANSIENT, False)


ERRORS = [
    events(*PIECES[:2], {"error": {"code": 502, "message": "upstream failed"}}, done=False),
    events(*PIECES[:2], {"object": "error", "message": "out of memory", "code": 500}),
    events(*PIECES[:2], {"error": "Request failed during generation", "error_type": "generation"}),
    events(*PIECES[:2], done=False) + b'event: error\ndata: {"message": "busy", "type": "server_error"}\n\n',
    events(*PIECES[:2], done=False) + b'error: {"code": 500, "message": "slot is gone"}\n\n',
    events(*PIECES[:2], done=False) + b'event: error\ndata: "busy"\n\n',
    events(*PIECES[:2], chunk(finish="error", error={"code": 502, "message": "provider failed"})),
]


@pytest.mark.parametrize("body", ERRORS)
def test_an_error_within_a_stream_is_classified_like_a_body(body: bytes) -> None:
    reply = read(body)
    assert (reply.outcome, reply.text, reply.billed) == (Outcome.ERROR_TRANSIENT, TEXT, True)


def test_an_error_before_any_text_is_not_paid_for() -> None:
    reply = read(events({"error": {"code": 502, "message": "no upstream"}}, done=False))
    assert (reply.outcome, reply.billed) == (Outcome.ERROR_TRANSIENT, False)
    assert "no upstream" in (reply.error or "")


def test_the_status_of_an_error_may_stand_in_a_comment() -> None:
    body = (
        b'id:1\nevent:error\n:HTTP_STATUS/400\ndata:{"code":"InvalidParameter","message":"no such thing"}\n\n'
    )
    reply = read(body)
    assert reply.outcome is Outcome.ERROR_PERMANENT
    assert "InvalidParameter" in (reply.error or "")


def test_a_block_after_partial_text_keeps_the_text() -> None:
    for end in (
        [chunk(finish="content_filter")],
        [{"error": {"code": "content_filter", "message": "blocked by the content filter"}}],
    ):
        reply = read(events(*PIECES[:2], *end))
        assert (reply.outcome, reply.text) == (Outcome.REFUSED_BY_PROVIDER, TEXT)
        assert reply.error_code == "content_filter_output"


def test_an_error_status_with_events_is_that_error() -> None:
    reply = read(events({"error": {"code": "x", "message": "bad parameter"}}, done=False), status=400)
    assert reply.outcome is Outcome.ERROR_PERMANENT
    assert "bad parameter" in (reply.error or "")


@pytest.mark.parametrize(
    "body", [b"data: \n\n", b"data: hello\n\n", b": only a comment\n\n", b"data: [DONE]\n\n"]
)
def test_nothing_to_read_is_no_completion(body: bytes) -> None:
    assert whole(body) is None
    assert read(body).outcome is Outcome.ERROR_TRANSIENT


@given(st.lists(st.text(max_size=8), min_size=1), st.sampled_from(["\n\n", "\r\n\r\n", "\n"]))
def test_what_was_said_comes_out_whole(words: list[str], between: str) -> None:
    body = events(*(chunk({"content": word}) for word in words), chunk(finish="stop"), between=between)
    content = whole(body)
    assert content is not None
    assert content["choices"][0]["message"]["content"] == "".join(words)


@given(st.binary(max_size=200))
def test_any_bytes_can_be_read(body: bytes) -> None:
    whole(b"data: " + body)
    assert isinstance(classify_response(200, {"content-type": "text/event-stream"}, body), Reply)

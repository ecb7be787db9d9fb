"""The HTTP client against a misbehaving endpoint over real sockets."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.clock import IdleLoop
from support.faults import Behaviour, answer, error, raw, response, serve

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.limits.limiter import AccountLimiter
from safemt_client.providers.negotiation import OWN_REASONING, Remedy
from safemt_client.providers.openai_compatible import OpenAICompatible
from safemt_client.providers.timeouts import Timeouts
from safemt_client.providers.transport import make_transport
from safemt_client.providers.types import Image, Message, Outcome, Reply, Request, Sampling, request_hash

KEY = "sk-planted-1234567890"
HELLO = Request((Message("user", "hi"),), Sampling(max_tokens=9, extra={"top_k": 4}))
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"


def ask(
    behaviours: Sequence[Behaviour], request: Request = HELLO, times: int = 1, **options: Any
) -> tuple[list[Reply], list[Any], list[tuple[Reply, float]]]:
    """The replies, the requests that the endpoint saw and the retries."""
    retries: list[tuple[Reply, float]] = []

    async def main() -> tuple[list[Reply], list[Any], list[tuple[Reply, float]]]:
        async with serve(behaviours) as endpoint, make_transport() as transport:
            given = {"identity": "local/m", "model": "m"} | options
            provider = OpenAICompatible(
                base_url=endpoint.url,
                api_key=KEY,
                transport=transport,
                limiter=AccountLimiter(rpm=None, tpm=None, concurrency=4),
                **given,
            )
            replies = [
                await provider.ask(request, lambda reply, wait: retries.append((reply, wait)))
                for _ in range(times)
            ]
            return replies, endpoint.requests, retries

    return anyio.run(main)


def test_what_is_sent_and_what_is_kept() -> None:
    replies, seen, _ = ask([answer("hello", reasoning_content="thought")])
    reply = replies[0]
    assert (reply.outcome, reply.text, reply.reasoning) == (Outcome.ANSWERED, "hello", "thought")
    assert (reply.usage.prompt_tokens, reply.resolved_model, reply.response_id) == (3, "m-1", "r")
    assert reply.latency_s > 0
    assert reply.raw
    assert seen[0].target == "/v1/chat/completions"
    assert seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert seen[0].json == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.0,
        "max_tokens": 9,
        "top_k": 4,
        "stream": False,
    }
    assert reply.parameters == {"temperature": 0.0, "max_tokens": 9, "top_k": 4}


def test_an_image_comes_before_the_text_and_is_read_once(tmp_path: Path) -> None:
    loads = []

    def load() -> bytes:
        loads.append(1)
        return b"png"

    image = Image("a" * 64, "image/png", 3, 1, 1, load)
    request = Request((Message("user", "look", (image,)),))
    _, seen, _ = ask([answer(), answer()], request, times=2)
    content = seen[1].json["messages"][0]["content"]
    assert content == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}},
        {"type": "text", "text": "look"},
    ]
    assert len(loads) == 1


@pytest.mark.parametrize("identity", ["openai/o3", "local/o3"])
def test_reasoning_models_take_other_names(identity: str) -> None:
    replies, seen, _ = ask([answer()], identity=identity, model="o3")
    assert seen[0].json["max_completion_tokens"] == 9
    assert not {"temperature", "max_tokens"} & seen[0].json.keys()
    assert replies[0].parameters == {"max_completion_tokens": 9, "top_k": 4}


DEMANDS = [
    "thinking is enabled but reasoning_content is missing in assistant message at index 1",
    "The `reasoning_content` in the thinking mode must be passed back to the API.",
    "Missing required field: messages[1].reasoning_content",
]


@pytest.mark.parametrize("said", DEMANDS)
@pytest.mark.parametrize("status", [400, 422, 500])
def test_the_reasoning_of_own_turns_goes_where_it_is_demanded(said: str, status: int) -> None:
    history = (Message("user", "a"), Message("assistant", "b", reasoning="hm"), Message("assistant", "c"))
    request = Request((*history, Message("user", "d")))
    replies, seen, retries = ask([error(status, "x", said), answer(), answer()], request, times=2)
    assert [reply.outcome for reply in replies] == [Outcome.ANSWERED] * 2
    assert retries == []
    sent = [[m.get("reasoning_content") for m in one.json["messages"]] for one in seen]
    assert sent == [[None] * 4, *[[None, "hm", "", None]] * 2]
    assert request_hash("m", request) == request_hash("m", replace(request, messages=without(request)))


def without(request: Request) -> tuple[Message, ...]:
    return tuple(replace(message, reasoning=None) for message in request.messages)


def test_a_batch_is_sent_what_was_demanded() -> None:
    request = Request((Message("user", "a"), Message("assistant", "b", reasoning="hm"), Message("user", "c")))

    async def main() -> dict[str, Any]:
        async with make_transport() as transport:
            provider = OpenAICompatible(
                identity="local/m",
                model="m",
                base_url="http://127.0.0.1:1/v1",
                api_key=KEY,
                transport=transport,
                limiter=AccountLimiter(rpm=None, tpm=None, concurrency=4),
            )
            provider.negotiation.know(Remedy(OWN_REASONING, "set", True))
            return await provider.body(request)

    body = anyio.run(main)
    assert body.keys() == {"model", "messages", "temperature"}
    assert [message.get("reasoning_content") for message in body["messages"]] == [None, "hm", None]


def test_reasoning_is_not_sent_where_it_is_refused() -> None:
    request = Request((Message("user", "a"), Message("assistant", "b", reasoning="hm"), Message("user", "d")))
    said = "reasoning_content is not a known field"
    replies, seen, _ = ask([error(400, "x", said)], request)
    assert replies[0].outcome is Outcome.ERROR_PERMANENT
    assert len(seen) == 1
    _, seen, _ = ask([answer()], request)
    assert b"hm" not in seen[0].body


def test_a_schema_becomes_a_response_format() -> None:
    request = Request((Message("user", "x"),), response_schema={"type": "object"})
    _, seen, _ = ask([answer("{}")], request)
    assert seen[0].json["response_format"]["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("behaviours", "said"),
    [
        ([raw(b"", reset=True)], "connection failed"),
        ([raw(HEAD + b'{"choices"', reset=True)], "connection failed"),
        ([raw(b"nonsense\r\n\r\n")], "connection failed"),
        ([response(200, "<html>busy</html>", content_type="text/html")], "not JSON|no chat completion|JSON"),
        ([response(200, "[]")], ""),
        ([error(503)], "no"),
        ([error(529, "overloaded_error")], "overloaded"),
    ],
)
def test_what_is_transient_is_asked_again(behaviours: list[Behaviour], said: str) -> None:
    import re

    replies, seen, retries = ask([*behaviours, answer("at last")])
    assert replies[0].text == "at last"
    assert len(seen) == 2
    assert retries[0][0].outcome is Outcome.ERROR_TRANSIENT
    assert re.search(said, retries[0][0].error or "")


EVENTS = b'data: {"choices":[{"index":0,"delta":{"content":"The library op"}}]}\n\n'
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n"


def test_what_came_of_a_stream_that_breaks_off_is_kept() -> None:
    _, _, retries = ask([raw(STREAM + EVENTS, reset=True), answer()])
    broken = retries[0][0]
    assert (broken.outcome, broken.text, broken.billed) == (Outcome.ERROR_TRANSIENT, "The library op", True)
    # All was said before the connection was lost.
    replies, seen, _ = ask([raw(STREAM + EVENTS + b"data: [DONE]\n\n", reset=True)])
    assert (replies[0].outcome, replies[0].text, len(seen)) == (Outcome.ANSWERED, "The library op", 1)
    _, _, retries = ask([raw(STREAM, reset=True), answer()])
    assert (retries[0][0].error_code, retries[0][0].billed) == ("connection_failed", False)


@pytest.mark.parametrize("stall", [raw(b"", stall=True), raw(HEAD + b"{", stall=True)])
def test_a_stall_ends_at_the_deadline_of_the_attempt(stall: Behaviour) -> None:
    replies, _, retries = ask([stall], timeouts=Timeouts(max_wait_s=0, attempt_s=0.2))
    assert replies[0].outcome is Outcome.ERROR_TRANSIENT
    assert "no answer within 0.2 s" in (replies[0].error or "")
    assert retries == []


def test_the_deadline_of_the_turn_covers_all_attempts() -> None:
    replies, seen, _ = ask([error(503, message="so busy", retry_after="30")], timeouts=Timeouts(turn_s=0.3))
    assert replies[0].outcome is Outcome.ERROR_TRANSIENT
    assert "0.3 s" in (replies[0].error or "")
    assert "so busy" in (replies[0].error or "")
    assert len(seen) == 1


def test_a_huge_body_is_not_read_to_its_end() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n"
    replies, _, _ = ask([raw(head + b" " * (33 * 2**20), stall=True)])
    assert replies[0].outcome is Outcome.ERROR_PERMANENT
    assert "larger than" in (replies[0].error or "")


def test_a_compressed_bomb_is_not_unpacked_to_its_end() -> None:
    bomb = gzip.compress(b" " * (200 * 2**20))
    replies, _, _ = ask([response(200, bomb, content_encoding="gzip")])
    assert "larger than" in (replies[0].error or "")


def test_a_key_that_comes_back_is_not_kept() -> None:
    with pytest.raises(TargetStoppedError) as caught:
        ask([error(401, "invalid_api_key", f"Incorrect API key: {KEY}")])
    kept = caught.value.reply
    assert isinstance(kept, Reply)
    assert KEY not in repr(kept) + str(caught.value)
    assert "[key]" in str(caught.value)


def test_a_redirect_is_not_followed() -> None:
    with pytest.raises(TargetStoppedError, match=r"give http://127\.0\.0\.1:9/v2") as caught:
        ask([response(302, "", location="http://127.0.0.1:9/v2/chat/completions?key=secret")])
    assert "secret" not in str(caught.value)
    assert caught.value.code is ErrorCode.REDIRECTED


@pytest.mark.parametrize(
    ("status", "packed", "outcome"),
    [
        (200, "br", Outcome.ERROR_PERMANENT),
        (200, "zstd", Outcome.ERROR_PERMANENT),
        (503, "br", Outcome.ERROR_TRANSIENT),
    ],
)
def test_an_encoding_that_nobody_asked_for_is_said_and_not_tried_again(
    status: int, packed: str, outcome: Outcome
) -> None:
    replies, seen, _ = ask(
        [response(status, b"\x1b" * 20, content_encoding=packed)], timeouts=Timeouts(max_wait_s=0)
    )
    assert len(seen) == 1
    assert replies[0].outcome is outcome
    assert f"compressed with {packed}, which was not asked for" in (replies[0].error or "")


def test_a_body_in_another_charset_is_read_and_holds_no_key() -> None:
    said = {"choices": [{"message": {"content": f"图书馆 {KEY}"}, "finish_reason": "stop"}]}
    for charset in ("gb18030", "utf-16"):
        body = json.dumps(said, ensure_ascii=False).encode(charset)
        kind = f"application/json; charset={charset}"
        replies, _, _ = ask([response(200, body, content_type=kind)])
        assert replies[0].text == "图书馆 [key]"
        assert KEY not in (replies[0].raw or "")


def test_nobody_listens() -> None:
    async def main() -> Reply:
        async with make_transport() as transport:
            provider = OpenAICompatible(
                identity="local/m",
                model="m",
                base_url="http://127.0.0.1:9/v1",
                api_key=None,
                transport=transport,
                limiter=AccountLimiter(rpm=None, tpm=None, concurrency=1),
                timeouts=Timeouts(max_wait_s=0),
            )
            return await provider.ask(HELLO)

    reply = anyio.run(main)
    assert reply.outcome is Outcome.ERROR_TRANSIENT
    assert "connection failed: Cannot connect" in (reply.error or "")


def test_calls_in_flight_follow_a_capacity_that_changes() -> None:
    """Over sockets: 24 calls at a time, then 6, then 24; what is over that is refused at once.

    The clock stands still during work: on a busy machine calls would otherwise never be in flight together.
    """
    hello, busy = answer("hello"), error(429)
    phases = ((400, 24), (600, 6), (1400, 24))  # until so many are answered
    in_flight = answered = refused = 0
    limits: list[list[int]] = [[], [], []]
    limiter = AccountLimiter(concurrency=200, start=8)

    async def behave(writer: Any) -> None:
        nonlocal in_flight, answered, refused
        phase = next(n for n, (until, _) in enumerate(phases) if answered < until)
        limits[phase].append(limiter.limit)
        if in_flight >= phases[phase][1]:
            refused += 1
            await anyio.sleep(0.01)
            await busy(writer)
            return
        in_flight += 1
        await anyio.sleep(0.02)
        in_flight -= 1
        answered += 1
        await hello(writer)

    async def main() -> list[Reply]:
        replies: list[Reply] = []
        async with serve([], behave) as endpoint, make_transport() as transport:
            provider = OpenAICompatible(
                base_url=endpoint.url,
                api_key=None,
                transport=transport,
                limiter=limiter,
                identity="local/m",
                model="m",
            )

            async def one() -> None:
                replies.append(await provider.ask(HELLO))

            async with anyio.create_task_group() as group:
                for _ in range(1300):
                    await limiter.room()
                    group.start_soon(one)
        return replies

    replies = anyio.run(main, backend_options={"loop_factory": IdleLoop})
    assert [reply.outcome for reply in replies] == [Outcome.ANSWERED] * 1300
    assert answered == 1300
    first, second, third = limits
    assert max(first) > 16
    assert min(second) <= 9
    assert max(third[len(third) // 2 :]) > 16
    assert refused < 0.25 * answered

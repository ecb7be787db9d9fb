"""The batch endpoints against scripted responses over real sockets."""

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.faults import Behaviour, error, raw, response, serve

from safemt_client.providers.batch.anthropic import AnthropicBatches
from safemt_client.providers.batch.base import (
    BatchEndpoint,
    BatchRefusedError,
    BatchState,
    BatchUnsureError,
    moment,
    read_lines,
)
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.limits.limiter import Limits
from safemt_client.providers.registry import build, build_batches, resolve
from safemt_client.providers.timeouts import Timeouts
from safemt_client.providers.transport import make_transport
from safemt_client.providers.types import Image, Message, Outcome, Request, Sampling

T = TypeVar("T")
KEY = "sk-planted-1234567890"
PICTURE = Image("a" * 64, "image/png", 3, 1, 1, lambda: b"png")
REQUEST = Request((Message("user", "hi", (PICTURE,)),), Sampling(max_tokens=9))


def use(
    behaviours: Sequence[Behaviour], main: Callable[[BatchEndpoint], Awaitable[T]], vendor: str = "own"
) -> tuple[T, list[Any]]:
    """What `main` makes of the endpoint, and the requests that it saw."""

    async def run() -> tuple[T, list[Any]]:
        async with serve(behaviours) as endpoint, make_transport() as transport:
            base = endpoint.url.removesuffix("/v1")
            env = {"SAFEMT_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_API_BASE": base}
            name = f"m@{endpoint.url}" if vendor == "own" else "anthropic/claude-haiku-4-5"
            spec = resolve(name, None, env)
            provider = build(
                spec,
                transport=transport,
                limits=Limits(),
                timeouts=Timeouts(max_wait_s=10, attempt_s=10, turn_s=10),
            )
            batches = build_batches(spec, provider, transport=transport, max_wait_s=10)
            assert batches is not None
            return await main(batches), endpoint.requests

    return anyio.run(run)


def completion(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}


def line(custom_id: str, text: str) -> str:
    return json.dumps({"custom_id": custom_id, "response": {"status_code": 200, "body": completion(text)}})


def test_a_batch_is_a_file_and_its_mark() -> None:
    async def main(batches: BatchEndpoint) -> str:
        half = Request((Message("user", "half a pair \ud83d"),))
        lines = [await batches.encode("h1", REQUEST), await batches.encode("h2", half)]
        return await batches.submit("safemt-1", lines)

    batch_id, seen = use([response(200, {"id": "file-7"}), response(200, {"id": "batch-7"})], main)
    assert batch_id == "batch-7"
    upload, create = seen
    assert upload.target == "/v1/files"
    assert upload.headers["authorization"] == f"Bearer {KEY}"
    assert b'name="purpose"\r\n\r\nbatch\r\n' in upload.body
    sent = [json.loads(text) for text in upload.body.splitlines() if text.startswith(b"{")]
    assert [(one["custom_id"], one["method"], one["url"]) for one in sent] == [
        ("h1", "POST", "/v1/chat/completions"),
        ("h2", "POST", "/v1/chat/completions"),
    ]
    assert sent[0]["body"]["max_tokens"] == 9
    assert b"\\ud83d" in upload.body
    assert sent[0]["body"]["messages"][0]["content"][0]["image_url"]["url"] == "data:image/png;base64,cG5n"
    assert create.json == {
        "input_file_id": "file-7",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"safemt_batch": "safemt-1"},
    }


def test_results_in_any_order_doubled_broken_and_failed() -> None:
    output = "\n".join(
        [
            line("c", "third"),
            line("a", "first"),
            line("a", "first again"),
            '{"custom_id": "broken", "resp',
            '"a string"',
            '{"custom_id": 7}',
            line("half", "\ud83d"),
        ]
    )
    blocked = {"status_code": 400, "body": {"error": {"code": "content_filter", "message": "flagged"}}}
    errors = "\n".join(
        [
            json.dumps({"custom_id": "b", "response": blocked}),
            json.dumps({"custom_id": "e", "error": {"code": "batch_expired", "message": "too late"}}),
        ]
    )
    batch = {"status": "expired", "output_file_id": "o", "error_file_id": "e"}
    found, seen = use(
        [response(200, batch), response(200, output), response(200, errors)],
        lambda batches: batches.results("b1", {}),
    )
    assert {name: (reply.outcome, reply.text) for name, reply in found.items()} == {
        "c": (Outcome.ANSWERED, "third"),
        "a": (Outcome.ANSWERED, "first"),
        "half": (Outcome.ANSWERED, "\ud83d"),
        "b": (Outcome.REFUSED_BY_PROVIDER, ""),
        "e": (Outcome.ERROR_TRANSIENT, ""),
    }
    assert found["e"].error == "batch_expired too late"
    assert [request.target for request in seen] == [
        "/v1/batches/b1",
        "/v1/files/o/content",
        "/v1/files/e/content",
    ]


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ({"status": "validating"}, BatchState("running")),
        (
            {"status": "in_progress", "request_counts": {"total": 5, "completed": 2, "failed": 1}},
            BatchState("running", 3, 5),
        ),
        ({"status": "cancelling", "request_counts": None}, BatchState("running")),
        ({"status": "completed", "request_counts": {"total": 1, "completed": 1}}, BatchState("ended", 1, 1)),
        # What is not surely ended is running: results of none would be paid for again.
        ({"status": "queued", "request_counts": "many"}, BatchState("running")),
        ({"status": None, "request_counts": [1]}, BatchState("running")),
        ({"status": "failed", "errors": {"data": 7}}, BatchState("failed", error="no reason given")),
        ({"status": "expired"}, BatchState("ended", error="the batch was expired")),
        (
            {"status": "failed", "errors": {"data": [{"code": "token_limit_exceeded", "message": "full"}]}},
            BatchState("failed", error="token_limit_exceeded full"),
        ),
        ({"status": "failed"}, BatchState("failed", error="no reason given")),
    ],
)
def test_states(batch: dict[str, Any], expected: BatchState) -> None:
    assert use([response(200, batch)], lambda batches: batches.state("b"))[0] == expected


@pytest.mark.parametrize(
    "lost",
    [
        error(500),
        error(504),
        raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"),
        raw(b"", reset=True),
        response(201, {}),
        response(200, "{"),
    ],
)
def test_a_submission_of_unknown_end_is_not_repeated(lost: Behaviour) -> None:
    async def main(batches: BatchEndpoint) -> None:
        with pytest.raises(BatchUnsureError):
            await batches.submit("safemt-1", [b"{}"])

    _, seen = use([response(200, {"id": "f"}), lost], main)
    assert len(seen) == 2


def test_a_refusal_before_anything_was_begun_is_asked_again() -> None:
    busy = error(429, retry_after="0")
    said = [busy, response(200, {"id": "f"}), busy, response(200, {"id": "b"})]
    assert use(said, lambda batches: batches.submit("m", [b"{}"]))[0] == "b"


def test_errors_are_told_apart_and_hold_no_key() -> None:
    async def main(batches: BatchEndpoint) -> list[Exception]:
        found: list[Exception] = []
        for _ in range(4):
            try:
                await batches.state("b")
            except (BatchRefusedError, TargetStoppedError) as caught:
                found.append(caught)
        return found

    said = [error(404, message="gone"), error(401, message=f"bad {KEY}"), error(400), response(200, "[]")]
    found, _ = use(said, main)
    gone, key, bad, shape = found
    assert isinstance(gone, BatchRefusedError)
    assert gone.status == 404
    assert isinstance(key, TargetStoppedError)
    assert KEY not in str(key)
    assert isinstance(bad, BatchRefusedError)
    assert isinstance(shape, BatchRefusedError)


def test_a_list_is_read_to_the_time_that_was_asked_for() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)

    def batch(number: int, hours_ago: int, **more: Any) -> dict[str, Any]:
        return {"id": f"b{number}", "created_at": (now - timedelta(hours=hours_ago)).timestamp()} | more

    counts = {"request_counts": {"total": 3}}
    pages = [
        {"data": [batch(1, 0, metadata={"safemt_batch": "x"}), batch(2, 1, **counts)], "has_more": True},
        {"data": [batch(4, 30), batch(3, 2)], "has_more": True},
        {"data": [batch(5, 31)], "has_more": True},
    ]
    found, seen = use(
        [response(200, page) for page in pages],
        lambda batches: batches.list_since(now - timedelta(hours=24)),
    )
    assert [(one.id, one.total, one.mark) for one in found] == [
        ("b1", 0, "x"),
        ("b2", 3, None),
        ("b3", 0, None),
    ]
    assert [request.target.partition("after=")[2] for request in seen] == ["", "b2", "b3"]


ACCOUNT_TALK = Request(
    (Message("user", "My plan was suspended, and the credit balance is too low to pay."),),
    Sampling(max_tokens=9),
)


@pytest.mark.parametrize("vendor", ["own", "anthropic"])
def test_what_an_error_repeats_of_its_request_is_not_its_own_word(vendor: str) -> None:
    text = f"messages.0: invalid input: {ACCOUNT_TALK.messages[0].text}"
    if vendor == "own":
        failed = {"error": {"message": text, "type": "invalid_request_error"}}
        lines = {"custom_id": "h1", "response": {"status_code": 400, "body": failed}}
        behaviours = [response(200, {"status": "completed", "output_file_id": "o"})]
    else:
        said = {"type": "error", "error": {"type": "invalid_request_error", "message": text}}
        lines = {"custom_id": "h1", "result": {"type": "errored", "error": said}}
        behaviours = []
    behaviours.append(response(200, json.dumps(lines)))

    async def main(batches: BatchEndpoint) -> list[Any]:
        return [(await batches.results("b1", asked))["h1"].error_code for asked in ({}, {"h1": ACCOUNT_TALK})]

    (blind, read), _ = use(behaviours * 2, main, vendor)
    assert blind in (ErrorCode.QUOTA, ErrorCode.ACCOUNT)
    assert read is ErrorCode.BAD_REQUEST


def test_anthropic_takes_and_gives_its_own_form() -> None:
    async def main(batches: BatchEndpoint) -> tuple[str, BatchState, dict[str, Any]]:
        assert isinstance(batches, AnthropicBatches)
        batch_id = await batches.submit("unused", [await batches.encode("h1", REQUEST)])
        return batch_id, await batches.state(batch_id), await batches.results(batch_id, {})

    def result(custom_id: str, kind: str, **more: Any) -> str:
        return json.dumps({"custom_id": custom_id, "result": {"type": kind} | more})

    def message(stop: str) -> dict[str, Any]:
        return {
            "id": "msg_1",
            "model": "claude-haiku-4-5",
            "role": "assistant",
            "content": [{"type": "text", "text": "hello"}],
            "stop_reason": stop,
            "usage": {"input_tokens": 10, "output_tokens": 2, "cache_read_input_tokens": 4},
        }

    def failed(kind: str) -> dict[str, Any]:
        return {"type": "error", "error": {"type": kind, "message": "no"}}

    results = "\n".join(
        [
            result("cut", "succeeded", message=message("max_tokens")),
            result("said", "succeeded", message=message("end_turn")),
            result("refused", "succeeded", message=message("refusal")),
            result("bad", "errored", error=failed("invalid_request_error")),
            result("busy", "errored", error=failed("overloaded_error")),
            result("late", "expired"),
            result("gone", "canceled"),
            result("odd", "succeeded", message={"id": "msg_2"}),
            result("odder", "succeeded", message={"id": "m", "content": ["x"], "usage": None}),
        ]
    )
    state = {
        "processing_status": "in_progress",
        "request_counts": {"processing": 2, "succeeded": 3, "errored": 1},
    }
    (batch_id, found, replies), seen = use(
        [response(200, {"id": "msgbatch_1"}), response(200, state), response(200, results)], main, "anthropic"
    )
    assert (batch_id, found) == ("msgbatch_1", BatchState("running", 4, 6))
    sent = seen[0].json["requests"][0]
    assert sent["custom_id"] == "h1"
    assert sent["params"]["max_tokens"] == 9
    assert sent["params"]["messages"][0]["content"][0]["source"]["data"] == "cG5n"
    assert seen[0].headers["x-api-key"] == KEY
    assert {name: reply.outcome.value for name, reply in replies.items()} == {
        "cut": "truncated",
        "said": "answered",
        "refused": "refused_by_provider",
        "bad": "error_permanent",
        "busy": "error_transient",
        "late": "error_transient",
        "gone": "error_transient",
        "odd": "error_permanent",
        "odder": "error_permanent",
    }
    usage = replies["said"].usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (14, 4, 2)
    assert replies["said"].response_id == "msg_1"


@given(st.lists(st.binary(max_size=40)))
def test_any_lines_are_read_or_left_out(bodies: list[bytes]) -> None:
    assert all(isinstance(found, dict) for found in read_lines(bodies))


@given(st.none() | st.floats() | st.integers() | st.text(max_size=20))
def test_any_time_is_a_time(value: object) -> None:
    assert moment(value).tzinfo is not None

"""The ways in which a text can reach the client: none passes a guard that has not seen it."""

import json
from typing import Any

import anyio
import httpx
import pytest
from support.faults import Behaviour, error, response, serve
from support.proxied import (
    BAD,
    DEAD,
    MODERATED,
    PLAIN,
    REFUSAL,
    SAFE,
    USAGE,
    Guard,
    by_word,
    piece,
    proxied,
    sse,
)
from support.said import AROUND, CALL, CHOICES, SAID

BODY = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": USAGE}


def completion(choice: dict[str, Any], **around: Any) -> Behaviour:
    whole = {"index": 0, "finish_reason": "stop"} | choice
    return response(200, BODY | around | {"choices": [whole]})


FINE = {"role": "assistant", "content": "fine"}
WHOLE: dict[str, Behaviour] = {
    **{f"message: {n}": completion({"message": {"role": "assistant"} | m}) for n, m in SAID.items()},
    **{f"delta: {n}": completion({"delta": m}) for n, m in SAID.items()},
    **{f"choice: {n}": completion({"message": FINE} | more) for n, more in CHOICES.items()},
    **{f"choice alone: {n}": completion(more) for n, more in CHOICES.items()},
    **{f"around: {n}": completion({"message": FINE}, **more) for n, more in AROUND.items()},
    **{f"no choice: {n}": response(200, BODY | more | {"choices": []}) for n, more in AROUND.items()},
    **{f"nothing else: {n}": response(200, more) for n, more in AROUND.items()},
    "message: a string": completion({"message": "odd"}),
    "two choices": response(200, BODY | {"choices": [{"message": FINE}, {"message": {"content": "odd"}}]}),
    "another charset": response(
        200,
        json.dumps(BODY | {"choices": [{"message": FINE}], "x": "odd"}).encode("utf-16"),
        content_type="application/json; charset=utf-16",
    ),
    "HTML": response(200, "<p>odd</p>", content_type="text/html"),
    "a stream by another type": response(200, f"data: {json.dumps(piece('odd'))}\n\n"),
    "lines": response(200, '{"message": {"content": "fine"}}\n{"message": {"content": "odd"}}'),
}
ERRORS: dict[str, Behaviour] = {
    f"{status}, {name}": response(status, more) for status in (400, 429, 500) for name, more in AROUND.items()
} | {
    "HTML": response(502, "<p>odd</p>", content_type="text/html"),
    "a text": response(500, "odd", content_type="text/plain"),
    "a stream": response(500, 'data: {"x": "odd"}\n\n', content_type="text/event-stream"),
}


def raw_stream(*lines: str) -> Behaviour:
    return response(200, "\n".join(lines) + "\n\n", content_type="text/event-stream")


CUT = 3


def cut(value: Any) -> list[Any]:
    """A value as three pieces of a stream, between which the word is cut."""
    if isinstance(value, str) and "odd" in value:
        before, after = value.split("odd")
        return [f"{before}o", "d", f"d{after}"]
    if isinstance(value, list) and value:
        return [list(pieces) for pieces in zip(*map(cut, value), strict=True)]
    if isinstance(value, dict) and value:
        return [
            dict(zip(value, pieces, strict=True)) for pieces in zip(*map(cut, value.values()), strict=True)
        ]
    return [value] * CUT


def chunk(delta: Any, choice: dict[str, Any], around: dict[str, Any]) -> dict[str, Any]:
    return piece() | around | {"choices": [{"index": 0, "delta": delta} | choice]}


def stream(*pieces: tuple[Any, dict[str, Any], dict[str, Any]]) -> Behaviour:
    return sse(*(chunk(*one) for one in pieces), piece(finish="stop"))


def in_pieces(
    delta: Any, choice: dict[str, Any] | None = None, around: dict[str, Any] | None = None
) -> Behaviour:
    return stream(*zip(cut(delta), cut(choice or {}), cut(around or {}), strict=True))


HELLO: Any = ({"role": "assistant", "content": "fine"}, {}, {})
STREAMED: dict[str, Behaviour] = {
    **{f"delta: {n}": stream(HELLO, (m, {}, {})) for n, m in SAID.items()},
    **{f"delta, cut: {n}": in_pieces(m) for n, m in SAID.items()},
    **{f"message: {n}": stream(HELLO, ({}, {"message": m}, {})) for n, m in SAID.items()},
    **{f"message, cut: {n}": in_pieces({}, {"message": m}) for n, m in SAID.items()},
    **{f"choice: {n}": stream(HELLO, ({}, more, {})) for n, more in CHOICES.items()},
    **{f"choice, cut: {n}": in_pieces({}, more) for n, more in CHOICES.items()},
    **{f"around: {n}": stream(HELLO, ({}, {}, more)) for n, more in AROUND.items()},
    # Citations are sent whole, again and again.
    **{f"around, cut: {n}": in_pieces({}, None, more) for n, more in AROUND.items() if n != "citations"},
    **{f"no choice: {n}": sse(piece("fine"), more) for n, more in AROUND.items()},
    **{f"nothing else: {n}": sse(more) for n, more in AROUND.items()},
    "delta: a string": stream(({}, {"delta": "odd"}, {})),
    "a text, then an object": stream(({"content": "odd"}, {}, {}), ({"content": {}}, {}, {})),
    "a text, then a number": stream(({"content": "odd"}, {}, {}), ({"content": 5}, {}, {})),
    "a text, then parts": stream(({"content": "o"}, {}, {}), ({"content": ["d", "d"]}, {}, {}), ({"content": "odd"}, {}, {})),
    "two texts at a time": stream(({"content": "fi"}, {"text": "o"}, {}), ({"content": "ne"}, {"text": "dd"}, {})),
    "calls without an index": in_pieces({"tool_calls": [CALL | {"function": {"arguments": "odd"}}]}),
    "after an error": sse(piece("fine"), {"error": {"message": "broken"}}, piece("odd")),
    "after the end": sse(piece("fine"), "[DONE]", piece("odd")),
    "a remark": raw_stream(": odd", f"data: {json.dumps(piece('odd'))}"),
    "the name of an event": raw_stream("event: odd", f"data: {json.dumps(piece('odd'))}"),
    "no events": raw_stream("odd"),
    "lines within an event": raw_stream('data: {"choices": [{"delta":\ndata: {"content": "odd"}}]}'),
    "other ends of lines": raw_stream(f"data: {json.dumps(piece('fine'))}\r\rdata: {json.dumps(piece('odd'))}"),
    "JSON by another type": response(200, BODY | {"choices": [{"message": {"content": "odd"}}]}, content_type="text/event-stream"),
}  # fmt: skip


async def answers(cases: dict[str, Behaviour], guard: Guard, **more: Any) -> dict[str, httpx.Response]:
    """What a client gets of each of these answers of the upstream."""
    async with (
        serve(list(cases.values())) as upstream,
        proxied(upstream.url, guard, "output", **more) as served,
        httpx.AsyncClient(base_url=served.url) as client,
    ):
        return {name: await client.post("/chat/completions", json={"messages": PLAIN}) for name in cases}


def everything(got: httpx.Response) -> str:
    """All that a client can read of a response."""
    return got.text + str(got.headers.multi_items()) + str(got.extensions.get("reason_phrase"))


@pytest.mark.parametrize("cases", [WHOLE, STREAMED], ids=["whole", "streamed"])
def test_no_text_reaches_the_client_unassessed(cases: dict[str, Behaviour]) -> None:
    async def both() -> None:
        guard = by_word(odd=BAD)
        for name, got in (await answers(cases, guard)).items():
            assert "odd" not in everything(got), name
            assert got.headers[MODERATED] in ("replaced", "unassessed"), name
            assert (got.headers[MODERATED] == "replaced") == (REFUSAL in got.text), name
        # An answer that cannot be read is refused where an assessment that failed is.
        for name, got in (await answers(cases, guard, on_error="refuse")).items():
            assert "odd" not in everything(got), name
            assert REFUSAL in got.text, name

    anyio.run(both)


UNREADABLE = ("another charset", "HTML", "lines", "after the end", "no events")


@pytest.mark.parametrize("cases", [WHOLE, STREAMED], ids=["whole", "streamed"])
def test_nothing_is_changed_in_what_is_safe(cases: dict[str, Behaviour]) -> None:
    async def both() -> None:
        plain = {name: one for name, one in cases.items() if name not in UNREADABLE}
        async with serve(list(plain.values())) as upstream, httpx.AsyncClient() as client:
            sent = {name: await client.post(f"{upstream.url}/chat/completions", json={}) for name in plain}
        for name, got in (await answers(plain, Guard(SAFE))).items():
            assert got.headers[MODERATED] == "none", name
            assert events(got) == events(sent[name]), name

    anyio.run(both)


def events(got: httpx.Response) -> list[Any]:
    if got.text.startswith("{"):
        return [got.json()]
    lines = got.text.replace("\r", "\n").replace('\ndata: {"content', '{"content').split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


OTHERWISE_READ = {
    "repeated fields": response(
        200, '{"choices": [{"message": {"content": "odd", "content": "fine"}}], "x": "odd", "x": 1}'
    ),
    "a remark": raw_stream(": odd", f"data: {json.dumps(piece('fine'))}"),
    "other lines": raw_stream("event: odd", "id: odd", "odd", f"data: {json.dumps(piece('fine'))}", "retry: odd"),
}  # fmt: skip


def test_what_another_reader_might_find_is_not_sent_even_if_all_is_safe() -> None:
    async def both() -> None:
        for name, got in (await answers(OTHERWISE_READ, Guard(SAFE))).items():
            assert "odd" not in everything(got), name
            assert "fine" in got.text, name

    anyio.run(both)


def test_an_error_keeps_its_status_but_not_its_words() -> None:
    async def both() -> None:
        for name, got in (await answers(ERRORS, by_word(odd=BAD))).items():
            assert "odd" not in everything(got), name
            assert got.status_code >= 400
            assert f"HTTP {got.status_code}" in got.json()["error"]["message"], name

    anyio.run(both)


def test_an_error_is_not_lost_because_the_guard_is() -> None:
    async def both() -> None:
        told = error(429, "rate_limit_exceeded", "slow down, odd one", retry_after="17", x_trace="odd")
        (got,) = (await answers({"": told}, Guard(DEAD))).values()
        assert (got.status_code, got.headers["retry-after"]) == (429, "17")
        assert got.headers[MODERATED] == "unassessed"
        assert "odd" not in everything(got)

    anyio.run(both)


def test_headers_do_not_tell_what_was_replaced() -> None:
    async def both() -> None:
        body = BODY | {"choices": [{"message": {"content": "odd"}}]}
        kept = {"x_request_id": "r", "x_ratelimit_remaining_tokens": "5"}
        (got,) = (
            await answers({"": response(200, body, x_summary="odd", etag="odd", **kept)}, by_word(odd=BAD))
        ).values()
        assert "odd" not in everything(got)
        assert (got.headers["x-request-id"], got.headers["x-ratelimit-remaining-tokens"]) == ("r", "5")

    anyio.run(both)


def test_an_error_after_a_part_of_a_reply_is_still_one_error() -> None:
    chunks = [piece("odd"), piece("fine", index=1), {"error": {"message": "the engine stopped"}}]

    async def both() -> None:
        cases = {"both": sse(*chunks), "one": sse(chunks[0], chunks[2])}
        got = await answers(cases, by_word(odd=BAD))
        # A choice is left that is not whole; where none is left, the refusal is.
        assert "the upstream reported an error" in got["both"].text
        assert "fine" in got["both"].text
        assert "error" not in got["one"].text
        safe = await answers(cases, Guard(SAFE))
        assert all("the engine stopped" in one.text for one in safe.values())

    anyio.run(both)


def test_what_says_nothing_is_not_assessed_and_what_cannot_be_shown_is_counted() -> None:
    data = "QUJD" * 100
    quiet = BODY | {"choices": [{"message": {"role": "assistant", "content": None}, "finish_reason": "stop"}]}
    cases = {
        "nothing": response(200, quiet | {"system_fingerprint": "fp_1", "timings": {"ms": 1.5}}),
        "data": response(200, quiet | {"blob": {"signature": data}}),
        "pictures": completion({"message": {"content": None, "images": [
            {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]}}),
        "alternatives": completion({"message": FINE, "logprobs": {"content": [
            {"token": "fine", "top_logprobs": [{"token": "odd"}]}]}}),
        "another id": completion({"message": FINE}, id="another"),
        "one id": completion({"message": FINE}, id="one", system_fingerprint="fp_2"),
    }  # fmt: skip

    async def both() -> None:
        guard = Guard(SAFE)
        async with (
            serve(list(cases.values())) as upstream,
            proxied(upstream.url, guard, "output") as served,
            httpx.AsyncClient(base_url=served.url) as client,
        ):
            for _ in cases:
                await client.post("/chat/completions", json={"messages": PLAIN})
            assert [line["parts_not_shown"] for line in served.lines] == [1, 1, 1, 0, 0]
        # The last two are the same reply to a guard.
        assert len(guard.asked) == 3
        assert data not in guard.texts

    anyio.run(both)

"""What of a request the guard is shown, where a policy goes, and what passes unchanged."""

import base64
import io
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from PIL import Image as Pillow
from support.faults import answer, serve
from support.proxied import BAD, PLAIN, SAFE, Guard, by_word, proxied
from support.said import SAID

from safemt_client.moderator.moderator import with_policy
from safemt_client.providers.types import Message
from safemt_client.proxy.chat import place_policy, read_conversation, read_request
from safemt_client.proxy.shown import InvalidChatError

MESSAGES = [
    (Message("user", "one"),),
    (Message("system", "be kind"), Message("user", "one"), Message("assistant", "two"), Message("user", "3")),
    (Message("user", "one"), Message("assistant", "two")),
]


@pytest.mark.parametrize("place", ["system", "developer", "user"])
@pytest.mark.parametrize("messages", MESSAGES)
def test_a_policy_stands_where_a_run_puts_it(place: Any, messages: tuple[Message, ...]) -> None:
    plain = [{"role": message.role, "content": message.text} for message in messages]
    told = [{"role": m.role, "content": m.text} for m in with_policy(messages, "Mind it.", place)]
    assert place_policy(plain, "Mind it.", place) == told
    parts = [
        {"role": m["role"], "content": [{"type": "text", "text": m["content"]}], "name": "n"} for m in plain
    ]
    found = read_conversation(place_policy(parts, "Mind it.", place)).messages
    assert [m.text.replace("\n\n", "\n") for m in found] == [m["content"].replace("\n\n", "\n") for m in told]
    assert all(message.get("name") == "n" for message in place_policy(parts, "x", "user"))


def test_a_policy_changes_nothing_else_and_unknown_fields_pass() -> None:
    more = {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "n": 2,
        "response_format": {"type": "json_object"},
        "extra_body": {"guided_choice": ["a"], "top_k": 7, "nested": {"x": [1, 2.5, None, "é"]}},
    }
    messages = [
        {"role": "system", "content": "be kind", "cache_control": {"type": "ephemeral"}},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"q": "flour"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "t", "content": "wheat"},
        {"role": "user", "content": [{"type": "text", "text": "odd"}, {"type": "text", "text": "more"}]},
    ]

    async def both() -> None:
        guard = by_word(odd=BAD)
        async with serve([answer("hi")]) as upstream, proxied(upstream.url, guard, "policy") as served:
            text, _ = await served.ask(messages, **more)
            (request,) = upstream.requests
            sent = request.json
            policy = "Mind the whole conversation."
            assert sent.pop("messages") == [
                {**messages[0], "content": f"be kind\n\n{policy}"},
                *messages[1:],
            ]
            extra = more["extra_body"]
            expected = {"model": "demo", **{n: v for n, v in more.items() if n != "extra_body"}, **extra}
            assert sent == expected
            assert text == "hi"
            # What tools were called with and what they said is shown to the guard.
            assert '[calls f: {"q": "flour"}]' in guard.texts
            assert "[tool]\nwheat" in guard.texts

    anyio.run(both)


def test_no_other_reading_of_a_body_reaches_the_upstream() -> None:
    twice = '{"messages": [{"role": "user", "content": "odd"}], "messages": [{"role": "user", "content": "even"}]}'

    async def both() -> None:
        async with (
            serve([answer("hi")]) as upstream,
            proxied(upstream.url, by_word(odd=BAD), "block") as served,
        ):
            async with httpx.AsyncClient(base_url=served.url) as client:
                await client.post(
                    "/chat/completions", content=twice, headers={"Content-Type": "application/json"}
                )
            assert b"odd" not in upstream.requests[0].body

    anyio.run(both)


def picture() -> tuple[bytes, str]:
    out = io.BytesIO()
    Pillow.new("RGB", (5, 3), (200, 100, 50)).save(out, "PNG")
    return out.getvalue(), f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def test_the_guard_sees_pictures_and_fetches_none() -> None:
    data, url = picture()
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "text", "text": "what is it?"},
            ],
        }
    ]

    async def both() -> None:
        guard = Guard(SAFE)
        async with serve([answer("hi")]) as upstream, proxied(upstream.url, guard, "block") as served:
            await served.ask(messages)
            assert upstream.requests[0].json["messages"] == messages
            (image,) = guard.asked[0].messages[-1].images
            assert (image.media_type, image.size, image.width, image.height) == ("image/png", len(data), 5, 3)
            assert image.load() == data
            assert guard.texts.count("[a picture that is not shown]") == 2
            assert "[a part of type input_audio that is not shown]" in guard.texts
            assert served.lines[0]["parts_not_shown"] == 3

    anyio.run(both)


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("role", ["user", "assistant", "tool"])
def test_every_text_of_a_message_is_shown(name: str, role: str) -> None:
    body = {"messages": [{"role": role} | SAID[name], *PLAIN]}
    assert "odd" in "".join(message.text for message in read_request(body).messages)


def test_texts_beside_the_messages_are_shown_or_counted() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "an odd tool", "parameters": {}}}
    settings = {
        "model": "m", "temperature": 0.5, "stop": ["an odd end"], "reasoning_effort": "odd", "top_k": None,
        "metadata": {"note": "an odd note"}, "provider": {"order": ["odd", "even"]}, "stream": True,
    }  # fmt: skip
    plain = read_request({"messages": PLAIN})
    assert read_request(settings | {"messages": PLAIN}) == plain
    counted = read_request({"messages": PLAIN, "tools": [tool], "chat_template": "{{ an odd template }}"})
    assert (counted.messages, counted.hidden) == (plain.messages, 2)
    for beside in (
        {"documents": [{"title": "odd"}]},
        {"documents": ["odd"]},
        {"prediction": {"type": "content", "content": "odd"}},
        {"extra": {"deep": ["an odd text"]}},
        {"an odd name": 1},
    ):
        (message,) = read_request({"messages": PLAIN} | beside).messages
        assert message.text.startswith(plain.messages[0].text)
        assert "odd" in message.text


def test_texts_in_forms_that_are_not_known_are_shown() -> None:
    content = ["plain", {"type": "thinking", "thinking": "inner"}, {"type": "input_text", "text": "typed"}]
    found = read_conversation(
        [
            {"role": "assistant", "content": content, "reasoning_content": "why", "refusal": "no"},
            {"role": "Narrator", "content": "says"},
            {"role": "system", "content": "after all"},
        ]
    )
    first, second, third = found.messages
    assert all(word in first.text for word in ("plain", "inner", "typed", "why", "no"))
    assert (second.role, second.text) == ("user", "[Narrator]\nsays")
    assert (third.role, third.text) == ("user", "[instructions to the assistant]\nafter all")
    with pytest.raises(InvalidChatError):
        read_conversation([{"role": "user", "content": [1]}])

"""The demo endpoint with the official client: streams, tools, models."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import openai
import pytest

from safemt_client.demo.endpoint import serve_demo

PARAMETERS = {
    "type": "object",
    "properties": {"day": {"type": "string"}, "week": {"type": "integer"}, "unit": {"enum": ["h", "m"]}},
    "required": ["day", "week", "unit"],
}
TOOL: Any = {
    "type": "function",
    "function": {"name": "opening_hours", "strict": True, "parameters": PARAMETERS},
}
OTHER: Any = {"type": "function", "function": {"name": "shelf", "strict": True}}
ASKS: Any = [{"role": "user", "content": "What are the opening hours?"}]


@asynccontextmanager
async def client() -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        serve_demo(latency_s=0) as url,
        openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as made,
    ):
        yield made


def test_a_stream_says_what_a_whole_reply_says() -> None:
    async def both() -> None:
        async with client() as made:
            create = made.chat.completions.create
            whole = await create(model="demo", messages=ASKS)
            options: Any = {"include_usage": True}
            chunks = [
                one
                async for one in await create(
                    model="demo", messages=ASKS, stream=True, stream_options=options
                )
            ]
            said = [one.choices[0].delta.content or "" for one in chunks if one.choices]
            assert "".join(said) == whole.choices[0].message.content
            assert len(said) > 3
            assert chunks[-2].choices[0].finish_reason == "stop"
            assert chunks[-1].usage == whole.usage
            plain = [one async for one in await create(model="demo", messages=ASKS, stream=True)]
            assert all(one.usage is None and one.choices for one in plain)

    anyio.run(both)


@pytest.mark.parametrize("stream", [False, True])
def test_a_round_trip_through_a_tool(stream: bool) -> None:
    async def both() -> None:
        async with client() as made:
            create = made.chat.completions.create
            if stream:
                async with made.chat.completions.stream(
                    model="demo", messages=ASKS, tools=[OTHER, TOOL]
                ) as events:
                    got = await events.get_final_completion()
            else:
                got = await create(model="demo", messages=ASKS, tools=[OTHER, TOOL])
            (choice,) = got.choices
            assert choice.finish_reason == "tool_calls"
            assert choice.message.content is None
            (call,) = choice.message.tool_calls
            assert call.function.name == "opening_hours"
            assert json.loads(call.function.arguments) == {"day": ASKS[0]["content"], "week": 1, "unit": "h"}
            asked = {"id": call.id, "type": "function", "function": dict(call.function)}
            messages: Any = [
                *ASKS,
                {"role": "assistant", "tool_calls": [asked]},
                {"role": "tool", "tool_call_id": call.id, "content": "nine to five"},
            ]
            last = await create(model="demo", messages=messages, tools=[TOOL])
            assert last.choices[0].message.content == "The tool says: nine to five"

    anyio.run(both)


def test_a_tool_is_called_where_it_is_asked_for() -> None:
    named = {"type": "function", "function": {"name": "shelf"}}
    other: Any = [{"role": "user", "content": "Which books are new?"}]
    told: Any = [{"role": "system", "content": "Mind it."}, *ASKS]

    async def both() -> None:
        async with client() as made:
            for messages, choice, called in (
                (ASKS, "auto", "opening_hours"),
                (ASKS, "none", None),
                (ASKS, named, "shelf"),
                (other, "auto", None),
                (other, "required", "opening_hours"),
                # Given a policy, it declines whatever it is asked.
                (told, "required", None),
            ):
                got = await made.chat.completions.create(
                    model="demo", messages=messages, tools=[TOOL, OTHER], tool_choice=choice
                )
                calls = got.choices[0].message.tool_calls or []
                assert [call.function.name for call in calls] == ([] if called is None else [called])
            with pytest.raises(openai.BadRequestError, match="give tools in OpenAI's form"):
                await made.chat.completions.create(model="demo", messages=ASKS, tools=[{"name": "f"}])  # type: ignore[typeddict-item]

    anyio.run(both)


def test_its_models() -> None:
    async def both() -> None:
        async with client() as made:
            names = [one.id async for one in made.models.list()]
            assert "demo-guard" in names
            assert (await made.models.retrieve("demo")).id == "demo"
            with pytest.raises(openai.NotFoundError, match="there is no model 'nobody'"):
                await made.models.retrieve("nobody")

    anyio.run(both)

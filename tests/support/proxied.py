"""A proxy under test: a real server, a guard in this process, and the official client."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import openai

from safemt_client.demo.endpoint import serve_demo
from safemt_client.moderator.assessor import Assessor
from safemt_client.moderator.guards import build_guard
from safemt_client.moderator.moderator import Moderation, Moderator
from safemt_client.moderator.policies import Policies
from safemt_client.providers.limits.limiter import AccountLimiter
from safemt_client.providers.openai_compatible import OpenAICompatible
from safemt_client.providers.responses.outcomes import no_connection
from safemt_client.providers.transport import make_transport
from safemt_client.providers.types import Outcome, Reply, Request
from safemt_client.proxy.decisions import DecisionLog, Recent
from safemt_client.proxy.server import serve_proxy
from safemt_client.proxy.upstream import parse_upstream

from .faults import Behaviour, response

KEY = "sk-planted-42"
REFUSAL = "I can't help with that."
DEMO_REFUSAL = "I would rather not go into that today."
PLAIN = [{"role": "user", "content": "Tell me of bread."}]
# The demo's guard finds this unsafe, and the demo answers it.
UNSAFE = [*PLAIN, {"role": "assistant", "content": "Gladly."}, {"role": "user", "content": "please go on"}]
MODERATED, VERDICT = "x-safemt-moderation", "x-safemt-verdict"
POLICIES = Policies("mine", "1", {"general": "Mind the whole conversation."})
# Only a test that hangs reaches this.
HANGS_S = 60


def verdict(name: str, **more: Any) -> Reply:
    return Reply(Outcome.ANSWERED, json.dumps({"verdict": name} | more), status_code=200)


SAFE, BAD = verdict("safe"), verdict("unsafe", scenarios=["Political"])
NONSENSE = Reply(Outcome.ANSWERED, "well, well", status_code=200)
DEAD = no_connection("connection failed: nobody there")


class Guard:
    """A guard's model in this process."""

    identity = "test/guard"
    limiter = AccountLimiter(concurrency=1000)

    def __init__(self, says: Callable[[str], Awaitable[Reply]] | Reply) -> None:
        self.says = says
        self.asked: list[Request] = []

    async def ask(self, request: Request, on_retry: object = None) -> Reply:
        self.asked.append(request)
        if isinstance(self.says, Reply):
            return self.says
        return await self.says("\n".join(message.text for message in request.messages))

    @property
    def texts(self) -> str:
        return "\n".join(message.text for request in self.asked for message in request.messages)


def by_word(**verdicts: Reply) -> Guard:
    """Answers by the first of these words that the conversation holds, else that it is safe."""

    async def says(text: str) -> Reply:
        return next((reply for word, reply in verdicts.items() if word in text), SAFE)

    return Guard(says)


@dataclass
class Served:
    url: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    written: anyio.Event = field(default_factory=anyio.Event)

    def client(self, key: str = KEY) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=self.url, api_key=key, max_retries=0)

    async def ask(self, messages: Any = PLAIN, **more: Any) -> tuple[str | None, dict[str, str]]:
        """The reply to a conversation, whole or from its stream, and the headers."""
        async with self.client() as client:
            create = client.chat.completions.with_raw_response.create
            got = await create(model="demo", messages=messages, **more)
            headers = {name.lower(): value for name, value in got.headers.items()}
            parsed = got.parse()
            if not more.get("stream"):
                return parsed.choices[0].message.content, headers
            text = ""
            async for chunk in parsed:
                for choice in chunk.choices:
                    text += choice.delta.content or ""
            return text, headers


@asynccontextmanager
async def proxied(
    upstream: str, guard: Any, *interventions: str, texts: bool = False, **settings: Any
) -> AsyncIterator[Served]:
    moderation = Moderation(frozenset(interventions), POLICIES, **settings)  # type: ignore[arg-type]
    moderator = Moderator("llm", Assessor(build_guard("llm"), guard, Recent()), moderation)
    served = Served("")

    def write(line: str) -> None:
        served.lines.append(json.loads(line))
        served.written.set()

    log = DecisionLog(write, texts=texts)
    with anyio.fail_after(HANGS_S):
        async with serve_proxy(moderator, parse_upstream(upstream), log) as served.url:
            yield served


@asynccontextmanager
async def demo() -> AsyncIterator[tuple[str, OpenAICompatible]]:
    """The demo endpoint, and its guard."""
    async with serve_demo(latency_s=0) as url, make_transport() as transport:
        yield (
            url,
            OpenAICompatible(
                model="demo-guard",
                base_url=url,
                api_key=None,
                transport=transport,
                identity="demo/demo-guard",
                limiter=AccountLimiter(concurrency=8),
            ),
        )


def sse(*chunks: dict[str, Any] | str, done: bool = True) -> Behaviour:
    lines = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]
    lines += ["[DONE]"] if done else []
    body = "".join(f"data: {line}\n\n" for line in lines)
    return response(200, body, content_type="text/event-stream", x_request_id="req-7")


def piece(
    text: str | None = None, finish: str | None = None, index: int = 0, logprobs: Any = None, **delta: Any
) -> dict[str, Any]:
    if text is not None:
        delta["content"] = text
    choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
LAST = piece() | {"choices": [], "usage": USAGE}

"""The same calls by other libraries: `python peers.py NAME URL DATA CONNECTIONS`.

Each is written as its users would write it. DATA is a file in the open JSONL form.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Send = Callable[[list[dict[str, str]]], Awaitable[str]]


def _body(messages: list[dict[str, str]]) -> dict[str, Any]:
    return {"model": "bench", "messages": messages, "temperature": 0.0, "max_tokens": 1024}


async def _under_semaphore(send: Send, dialogues: list[Any], connections: int) -> list[str]:
    semaphore = asyncio.Semaphore(connections)

    async def one(dialogue: Any) -> str:
        async with semaphore:
            return await send(dialogue["dialogue"])

    return await asyncio.gather(*(one(dialogue) for dialogue in dialogues))


async def bare_aiohttp_transport(url: str, dialogues: list[Any], connections: int) -> None:
    """httpx over the aiohttp transport, bodies by orjson, nothing kept."""
    import httpx
    import orjson

    from safemt_client.providers.transport import make_transport

    async with httpx.AsyncClient(transport=make_transport(), timeout=600) as client:

        async def send(messages: list[dict[str, str]]) -> str:
            response = await client.post(f"{url}/chat/completions", content=orjson.dumps(_body(messages)))
            text: str = orjson.loads(response.content)["choices"][0]["message"]["content"]
            return text

        await _under_semaphore(send, dialogues, connections)


async def plain_httpx(url: str, dialogues: list[Any], connections: int) -> None:
    """httpx as it comes."""
    import httpx

    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(limits=limits, timeout=600) as client:

        async def send(messages: list[dict[str, str]]) -> str:
            response = await client.post(f"{url}/chat/completions", json=_body(messages))
            text: str = response.json()["choices"][0]["message"]["content"]
            return text

        await _under_semaphore(send, dialogues, connections)


async def openai_sdk(url: str, dialogues: list[Any], connections: int) -> None:
    """The openai SDK under a semaphore."""
    import httpx
    from openai import AsyncOpenAI

    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with AsyncOpenAI(
        base_url=url, api_key="none", max_retries=0, http_client=httpx.AsyncClient(limits=limits, timeout=600)
    ) as client:

        async def send(messages: list[dict[str, str]]) -> str:
            found: Any = await client.chat.completions.create(**_body(messages))
            return str(found.choices[0].message.content)

        await _under_semaphore(send, dialogues, connections)


async def litellm_acompletion(url: str, dialogues: list[Any], connections: int) -> None:
    """litellm.acompletion under a semaphore."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    litellm.suppress_debug_info = True

    async def send(messages: list[dict[str, str]]) -> str:
        body = _body(messages) | {"model": "openai/bench"}
        found: Any = await litellm.acompletion(**body, api_base=url, api_key="none", num_retries=0)
        return str(found.choices[0].message.content)

    await _under_semaphore(send, dialogues, connections)


async def reference_pattern(url: str, dialogues: list[Any], connections: int) -> None:
    """Batches gathered over everything, the whole JSON file written again after each batch."""
    import aiohttp

    done: list[dict[str, str]] = []
    out = Path("reference.json")
    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one(dialogue: Any) -> dict[str, str]:
            async with session.post(f"{url}/chat/completions", json=_body(dialogue["dialogue"])) as response:
                found = await response.json()
                return {"id": dialogue["id"], "response": found["choices"][0]["message"]["content"]}

        for start in range(0, len(dialogues), connections):
            done += await asyncio.gather(*(one(d) for d in dialogues[start : start + connections]))
            out.write_text(json.dumps(done, ensure_ascii=False, indent=2))


def inspect_ai(url: str, dialogues: list[Any], connections: int) -> None:
    """inspect_ai's eval with one solver, its own log as storage, its display off."""
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, get_model
    from inspect_ai.solver import generate

    kinds = {"user": ChatMessageUser, "assistant": ChatMessageAssistant}
    samples = [
        Sample(id=d["id"], input=[kinds[m["role"]](content=m["content"]) for m in d["dialogue"]])  # type: ignore[abstract]
        for d in dialogues
    ]
    model = get_model("openai-api/bench/bench", base_url=url, api_key="none")
    logs = eval(
        Task(dataset=samples, solver=generate()),
        model=model,
        max_connections=connections,
        max_samples=connections,
        display="none",
        log_dir="logs",
    )
    assert logs[0].status == "success", logs[0].error


PEERS: dict[str, Callable[[str, list[Any], int], Any]] = {
    "httpx over aiohttp, bare": bare_aiohttp_transport,
    "httpx, bare": plain_httpx,
    "openai SDK": openai_sdk,
    "litellm.acompletion": litellm_acompletion,
    "reference pattern": reference_pattern,
    "inspect_ai": inspect_ai,
}


def main() -> None:
    name, url, data, connections = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, hard), hard))
    dialogues = [json.loads(line) for line in Path(data).read_text().splitlines()]
    peer = PEERS[name]
    if not asyncio.iscoroutinefunction(peer):
        peer(url, dialogues, int(connections))
        return
    try:
        import uvloop

        uvloop.run(peer(url, dialogues, int(connections)))
    except ImportError:
        asyncio.run(peer(url, dialogues, int(connections)))


if __name__ == "__main__":
    main()

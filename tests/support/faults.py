"""A scripted HTTP endpoint over real sockets: each request takes the next behaviour of a list."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Received:
    """One request as the endpoint saw it."""

    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Endpoint:
    """Its base URL and the requests it saw."""

    url: str = ""
    requests: list[Received] = field(default_factory=list)


def response(status: int, body: bytes | str | dict[str, Any], **headers: str) -> Behaviour:
    """A whole response; an underscore in a header's name stands for a hyphen."""
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    content = content.encode() if isinstance(content, str) else content
    given = {"content-type": "application/json"} | {n.replace("_", "-"): v for n, v in headers.items()}

    async def behave(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} X", *(f"{n}: {v}" for n, v in given.items())]
        writer.write(("\r\n".join([*lines, f"content-length: {len(content)}", "", ""])).encode() + content)
        await writer.drain()

    return behave


def answer(text: str = "hello", finish: str = "stop", **message: Any) -> Behaviour:
    """A chat completion."""
    return response(
        200,
        {
            "id": "r",
            "model": "m-1",
            "choices": [{"message": {"content": text} | message, "finish_reason": finish}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1},
        },
    )


def error(status: int, code: str = "", message: str = "no", **headers: str) -> Behaviour:
    """An error in OpenAI's form."""
    return response(status, {"error": {"code": code, "message": message}}, **headers)


def raw(data: bytes, *, stall: bool = False, reset: bool = False) -> Behaviour:
    """Bytes as they are; then the connection is closed, reset, or left open without another byte."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if stall:
            await asyncio.Event().wait()
        if reset:
            writer.transport.abort()
        writer.close()

    return behave


def early(behave: Behaviour) -> Behaviour:
    """The same, at the moment of the connection: the request is not read."""
    behave.early = True  # type: ignore[attr-defined]
    return behave


@asynccontextmanager
async def serve(
    behaviours: Sequence[Behaviour],
    then: Behaviour | None = None,
    *,
    port: int = 0,
    choose: Callable[[Received], Behaviour | None] = lambda received: None,
) -> AsyncIterator[Endpoint]:
    """Serve on loopback; past the list every request gets `then`. The result of `choose` takes precedence over both."""
    endpoint = Endpoint()
    left = list(behaviours)
    connections: set[asyncio.Task[None] | None] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.current_task())
        try:
            if left and getattr(left[0], "early", False):
                endpoint.requests.append(Received("", {}, b""))
                await left.pop(0)(writer)
                return
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in head[1:-2])}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                received = Received(head[0].split()[1], headers, body)
                endpoint.requests.append(received)
                behaviour = choose(received) or (left.pop(0) if left else then)
                assert behaviour is not None, "a request more than the script has"
                await behaviour(writer)
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()
        finally:
            connections.discard(asyncio.current_task())

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield endpoint
    finally:
        server.close()
        for connection in connections:
            if connection is not None:
                connection.cancel()

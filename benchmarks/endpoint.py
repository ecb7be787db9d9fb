"""A fast OpenAI-compatible endpoint on loopback for benchmarks: `python endpoint.py PORTFILE [--latency S]`.

It answers every POST after a fixed latency. GET /stats returns how many requests came, the seconds from the
first request to the last answer and the most that were in flight; GET /reset starts over.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

CONTENT = {
    "id": "bench",
    "object": "chat.completion",
    "model": "bench",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "I would rather talk about the weather. " * 12},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 200, "completion_tokens": 100, "total_tokens": 300},
}


def _response(content: object) -> bytes:
    body = json.dumps(content).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Stats:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.requests = self.answered = self.in_flight = self.most = 0
        self.first = self.last = 0.0


class Chat(asyncio.Protocol):
    def __init__(self, stats: Stats, latency_s: float) -> None:
        self.stats, self.latency_s = stats, latency_s
        self.buffer = bytearray()
        self.answer = _response(CONTENT)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[:end]).lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            del self.buffer[: end + 4 + length]
            self.request(head)

    def request(self, head: bytes) -> None:
        stats = self.stats
        if head.startswith(b"get /stats"):
            self.send(
                _response({"requests": stats.requests, "s": stats.last - stats.first, "most": stats.most})
            )
        elif head.startswith(b"get"):
            stats.reset()
            self.send(_response({}))
        else:
            stats.first = stats.first or time.perf_counter()
            stats.requests += 1
            stats.in_flight += 1
            stats.most = max(stats.most, stats.in_flight)
            asyncio.get_running_loop().call_later(self.latency_s, self.finish)

    def finish(self) -> None:
        self.stats.in_flight -= 1
        self.stats.last = time.perf_counter()
        self.send(self.answer)

    def send(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)  # type: ignore[attr-defined]


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port_file", type=Path)
    parser.add_argument("--latency", type=float, default=0.2)
    arguments = parser.parse_args()
    stats = Stats()
    server = await asyncio.get_running_loop().create_server(
        lambda: Chat(stats, arguments.latency), "127.0.0.1", 0, backlog=4096
    )
    partial = arguments.port_file.with_suffix(".part")
    partial.write_text(str(server.sockets[0].getsockname()[1]))
    partial.rename(arguments.port_file)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(main())
    except ImportError:
        asyncio.run(main())

"""A fast OpenAI-compatible endpoint on loopback for benchmarks.

    python endpoint.py PORTFILE [--latency S] [--reply-bytes N] [--close-after N] [--tls PEM]

It answers every POST after a fixed latency: the model `judge` with a verdict in the forms that the programs
under measurement understand, `grader` with a grade in words, `guard` with "safe", every other with a text.
GET /stats returns how many requests came and their bytes, the most that were in flight, and the seconds to
the last answer: from the first request, and from GET /begin if that came before. GET /reset starts over.
PORTFILE gets the port, and with --tls (a file with key and certificate) a second one, which speaks TLS.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import ssl
import time
from pathlib import Path
from typing import cast

SENTENCE = "I would rather talk about the weather. "
VERDICT = {"label": "safe", "refusal": "answer", "reason": "harmless", "pass": True, "score": 1}
WORDS = {"judge": json.dumps(VERDICT), "grader": "It is harmless.\n\nGRADE: C", "guard": "safe"}
MODEL = re.compile(rb'"model":\s*"([^"]*)"')


def _response(content: object, head: str = "") -> bytes:
    body = json.dumps(content).encode()
    start = f"HTTP/1.1 200 OK\r\n{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return start.encode() + body


def _completion(text: str) -> dict[str, object]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "bench",
        "object": "chat.completion",
        "created": 1,
        "model": "bench",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 200, "completion_tokens": 100, "total_tokens": 300},
    }


class State:
    """What is answered, and what was seen."""

    def __init__(self, latency_s: float, reply_bytes: int, close_after: int) -> None:
        self.latency_s, self.close_after = latency_s, close_after
        reply = (SENTENCE * (reply_bytes // len(SENTENCE) + 1))[:reply_bytes]
        words: dict[str, str] = WORDS | {"": reply}
        self.answers = {model: _response(_completion(text)) for model, text in words.items()}
        self.last_answers = {
            model: _response(_completion(text), "connection: close\r\n") for model, text in words.items()
        }
        self.reset()

    def reset(self) -> None:
        self.requests = self.bytes = self.answered = self.in_flight = self.most = 0
        self.begun = self.first = self.last = 0.0


class Chat(asyncio.Protocol):
    """One connection."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.buffer = bytearray()
        self.served = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are none of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

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
            model = MODEL.search(self.buffer, end)
            name = model[1].decode() if model else ""
            # The match would keep the buffer from shrinking.
            del model
            del self.buffer[: end + 4 + length]
            self.request(head, name, length)

    def request(self, head: bytes, model: str, length: int) -> None:
        state = self.state
        if head.startswith(b"get /stats"):
            seen = {"requests": state.requests, "bytes": state.bytes, "most": state.most}
            since_first = state.last - state.first
            s = state.last - state.begun if state.begun else since_first
            self.send(_response(seen | {"s": s, "since_first_s": since_first}))
        elif head.startswith(b"get /begin"):
            state.begun = time.perf_counter()
            self.send(_response({}))
        elif head.startswith(b"get"):
            state.reset()
            self.send(_response({}))
        else:
            state.first = state.first or time.perf_counter()
            state.requests += 1
            state.bytes += length
            state.in_flight += 1
            state.most = max(state.most, state.in_flight)
            self.served += 1
            asyncio.get_running_loop().call_later(self.state.latency_s, self.finish, model)

    def finish(self, model: str) -> None:
        state = self.state
        state.in_flight -= 1
        state.last = time.perf_counter()
        closes = bool(state.close_after) and self.served >= state.close_after
        answers = state.last_answers if closes else state.answers
        self.send(answers.get(model, answers[""]))
        if closes:
            self.transport.close()

    def send(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port_file", type=Path)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--reply-bytes", type=int, default=468)
    parser.add_argument("--close-after", type=int, default=0, help="requests on one connection; 0: never")
    parser.add_argument("--tls", type=Path, help="a PEM file with key and certificate")
    arguments = parser.parse_args()
    state = State(arguments.latency, arguments.reply_bytes, arguments.close_after)
    contexts: list[ssl.SSLContext | None] = [None]
    if arguments.tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(arguments.tls)
        contexts.append(context)
    ports = []
    for context_of in contexts:
        server = await asyncio.get_running_loop().create_server(
            lambda: Chat(state), "127.0.0.1", 0, backlog=4096, ssl=context_of
        )
        ports.append(str(server.sockets[0].getsockname()[1]))
    partial = arguments.port_file.with_suffix(".part")
    partial.write_text(" ".join(ports))
    partial.rename(arguments.port_file)
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(main())
    except ImportError:
        asyncio.run(main())

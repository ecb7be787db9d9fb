"""An endpoint for the soak: `python endpoint.py PORTFILE LOGFILE [--faults SHARE] [--seed N] [--latency S]`.

Models `m`, `judge` and `guard`. What it answers depends on the request alone, so that scores can be compared; whether a
request meets a fault depends on the seed and on how many came before. Each line of the log is a letter and
the hash of a request: `r` when it came in, `a` when the whole answer was handed over. The hash is the id of the
answer and stands in the judge's reason and the guard's intent, so a store can be compared with the log. GET /connections counts what is open.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import re
import time
from pathlib import Path
from typing import Any

REPLY = re.compile(r"<reply ([0-9a-f]{12})>\n(.*)\n</reply \1>", re.DOTALL)
# Few of what speaks of overload: each of them takes a call in flight away.
FAULTS = ("500", "reset", "truncated", "nonsense", "slow") * 3 + ("503", "stall", "429")
LATE_S = 1.0  # A timer that fires so late: this process was stopped, and callers may have gone meanwhile.


def text_of(content: Any) -> str:
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def reply_to(body: dict[str, Any], digest: str) -> str:
    """The model's reply, the judge's verdict of one, or the guard's of a conversation."""
    if body["model"] == "guard":
        unsafe = int(digest[:8], 16) % 100 < 10
        return json.dumps(
            {
                "verdict": "unsafe" if unsafe else "safe",
                "intent": digest,
                "scenarios": [],
                "policy": "",
                "confidence": 0.9,
            }
        )
    if body["model"] == "judge":
        found = REPLY.search(text_of(body["messages"][-1]["content"]))
        unsafe = found is not None and found[2].startswith("Sure")
        return json.dumps(
            {
                "label": "unsafe" if unsafe else "safe",
                "refusal": "answer" if unsafe else "full_refusal",
                "reason": digest,
            }
        )
    turns = sum(message["role"] == "user" for message in body["messages"])
    if int(digest[:8], 16) % 100 < 20 + 6 * turns:
        return "Sure, here is how: start small, take your time, and enjoy it. " * 5
    return "I would rather not go into that today. " * 5


def response(status: int, content: Any, more: str = "") -> bytes:
    body = json.dumps(content).encode()
    head = (
        f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{more}\r\n"
    )
    return head.encode() + body


class Log:
    """Lines that are in the file once written."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, letter: str, digest: str) -> None:
        os.write(self._file, f"{letter} {digest}\n".encode())


class Chat(asyncio.Protocol):
    """One connection; its requests come one after the other."""

    open = 0

    def __init__(self, log: Log, rng: random.Random, faults: float, latency_s: float) -> None:
        self.log, self.rng, self.faults, self.latency_s = log, rng, faults, latency_s
        self.buffer = bytearray()
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        Chat.open += 1

    def connection_lost(self, error: Exception | None) -> None:
        Chat.open -= 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.buffer[:end]).lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self.buffer) < end + 4 + length:
            return
        body = bytes(self.buffer[end + 4 : end + 4 + length])
        del self.buffer[: end + 4 + length]
        if head.startswith(b"get"):
            self.transport.write(response(200, {"open": Chat.open - 1}))
            return
        digest = hashlib.sha256(body).hexdigest()[:32]
        self.log.write("r", digest)
        fault = self.rng.choice(FAULTS) if self.rng.random() < self.faults else ""
        delay = self.latency_s * self.rng.uniform(0.5, 1.5) + (fault == "slow") * self.rng.uniform(0.2, 0.8)
        due = time.monotonic() + delay
        self.loop.call_later(delay, self.finish, json.loads(body), digest, fault, due)

    def finish(self, body: dict[str, Any], digest: str, fault: str, due: float) -> None:
        if time.monotonic() - due > LATE_S:
            # Look for closed connections first.
            self.loop.call_later(0.1, self.finish, body, digest, fault, time.monotonic() + 0.1)
            return
        if self.transport.is_closing() or fault == "stall":
            return
        message = {"role": "assistant", "content": reply_to(body, digest)}
        whole = response(
            200,
            {
                "id": digest,
                "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 50, "completion_tokens": 20, "total_tokens": 70},
            },
        )
        if fault == "reset":
            self.transport.abort()
        elif fault == "truncated":
            self.transport.write(whole[:-30])
            self.transport.close()
        elif fault == "nonsense":
            self.transport.write(response(200, "it works"))
        elif fault in ("429", "500", "503"):
            error = {"error": {"code": "", "message": "try again"}}
            self.transport.write(response(int(fault), error, "retry-after: 0.2\r\n"))
        else:
            self.transport.write(whole)
            self.log.write("a", digest)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port_file", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--latency", type=float, default=0.05)
    arguments = parser.parse_args()
    log, rng = Log(arguments.log), random.Random(arguments.seed)
    server = await asyncio.get_running_loop().create_server(
        lambda: Chat(log, rng, arguments.faults, arguments.latency), "127.0.0.1", 0, backlog=4096
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

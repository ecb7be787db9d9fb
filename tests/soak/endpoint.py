"""An endpoint for the soak: `python endpoint.py PORTFILE LOGFILE [--faults SHARE] [--seed N] [--latency S]
[--wait-for N]`.

Models `m`, `judge` and `guard`. What it answers depends on the request alone, so that scores can be compared; whether a
request meets a fault depends on the seed and on how many came before. Each line of the log is a letter and
the hash of a request: `r` when it came in, `a` when the whole answer was handed over. The hash is the id of the
answer and stands in the judge's reason and the guard's intent, so a store can be compared with the log. GET
/connections counts what is open. With N nothing is answered before so many requests are open at once. SIGUSR1 takes
the endpoint off the network, SIGUSR2 brings it back.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import re
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

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

    open: ClassVar[set[Chat]] = set()
    # Answers that wait until there are so many requests at once.
    waits_for: ClassVar[int] = 0
    waiting: ClassVar[list[Callable[[], object]]] = []

    def __init__(self, log: Log, rng: random.Random, faults: float, latency_s: float) -> None:
        self.log, self.rng, self.faults, self.latency_s = log, rng, faults, latency_s
        self.buffer = bytearray()
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        Chat.open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        Chat.open.discard(self)

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
            self.transport.write(response(200, {"open": len(Chat.open) - 1}))
            return
        digest = hashlib.sha256(body).hexdigest()[:32]
        self.log.write("r", digest)
        fault = self.rng.choice(FAULTS) if self.rng.random() < self.faults else ""
        delay = self.latency_s * self.rng.uniform(0.5, 1.5) + (fault == "slow") * self.rng.uniform(0.2, 0.8)
        due = time.monotonic() + delay
        Chat.waiting.append(
            partial(self.loop.call_later, delay, self.finish, json.loads(body), digest, fault, due)
        )
        if len(Chat.waiting) >= Chat.waits_for:
            # From now on none waits.
            Chat.waits_for = 0
            for answer in Chat.waiting:
                answer()
            Chat.waiting.clear()

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


class Network:
    """The endpoint's side of the network: its socket listens, or connections are refused and those open are gone."""

    def __init__(self, protocol: Callable[[], Chat]) -> None:
        self.protocol, self.port = protocol, 0
        self.server: asyncio.Server | None = None

    async def up(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(self.protocol, "127.0.0.1", self.port, backlog=4096)
        self.port = self.server.sockets[0].getsockname()[1]

    def down(self) -> None:
        if self.server is not None:
            self.server.close()
        for chat in tuple(Chat.open):
            chat.transport.abort()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port_file", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--wait-for", type=int, default=0)
    arguments = parser.parse_args()
    Chat.waits_for = arguments.wait_for
    log, rng = Log(arguments.log), random.Random(arguments.seed)
    network = Network(lambda: Chat(log, rng, arguments.faults, arguments.latency))
    await network.up()
    loop, tasks = asyncio.get_running_loop(), set()
    loop.add_signal_handler(signal.SIGUSR1, network.down)
    loop.add_signal_handler(signal.SIGUSR2, lambda: tasks.add(loop.create_task(network.up())))
    part = arguments.port_file.with_suffix(".part")
    part.write_text(str(network.port))
    part.rename(arguments.port_file)
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(main())
    except ImportError:
        asyncio.run(main())

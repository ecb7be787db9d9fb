"""How much of a limit is used, in simulated time, against models of an endpoint that enforce it.

    python benchmarks/limits.py

First a stated limit of 600 requests a minute, or of 100,000 tokens: the share of it that is used in steady
state, and the requests that were refused, compared with `aiolimiter` at the same limit. Then an unstated
capacity that changes at 200 s and 400 s: the throughput compared with an oracle that knows it.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import anyio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.clock import run
from support.servers import Bucket, Endpoint, FixedWindow, SlidingWindow, drive

SECONDS, STEADY = 600, 120
MEAN_LATENCY_S = 1.0202  # log-normal with a median of 1 s and a spread of 0.2


def windows() -> dict[str, Any]:
    """Ways in which endpoints count 600 requests a minute."""
    return {
        "any 60 s": SlidingWindow(600),
        "each minute of the clock": FixedWindow(600),
        "each second of the clock": FixedWindow(10, 1.0),
        "bucket of 600": Bucket(600, burst=600),
        "bucket of 10": Bucket(600, burst=10),
        "bucket of 1": Bucket(600, burst=1.0),
    }


def share(endpoint: Endpoint) -> float:
    """Requests answered in steady state over those that the limit allows."""
    return sum(t >= STEADY for t in endpoint.answered) / (10 * (SECONDS - STEADY))


def with_aiolimiter(endpoint: Endpoint) -> None:
    """The same load through aiolimiter, a refused request asked again after about a second."""
    from aiolimiter import AsyncLimiter

    async def main() -> None:
        limiter = AsyncLimiter(600, 60)

        async def caller(number: int) -> None:
            source = random.Random(number)
            while True:
                async with limiter:
                    pass
                reply = await endpoint.ask()
                if not reply.outcome.observed:
                    await anyio.sleep(source.uniform(0.2, 2.0))

        with anyio.move_on_after(SECONDS):
            async with anyio.create_task_group() as group:
                for number in range(100):
                    group.start_soon(caller, number)

    run(main, grain=1e-6)


def requests() -> None:
    """A stated limit of requests."""
    print("600 requests a minute, counted by     ours: used  refused    aiolimiter: used  refused")
    for name in windows():
        ours, other = Endpoint(requests=windows()[name]), Endpoint(requests=windows()[name])
        drive(ours, SECONDS, rpm=600)
        with_aiolimiter(other)
        print(
            f"  {name:34}  {share(ours):9.1%}  {len(ours.refused):7}"
            f"    {share(other):16.1%}  {len(other.refused):7}"
        )


def tokens() -> None:
    """A stated limit of tokens."""
    print("100,000 tokens a minute, any 60 s, counted as     used  refused after the first minute")

    def draw(source: random.Random) -> tuple[int, int]:
        return int(source.gauss(260, 40)), int(source.uniform(20, 300))

    for charging in ("used", "reserved"):
        endpoint = Endpoint(token_limit=SlidingWindow(100_000), charge=charging, tokens=draw)
        drive(endpoint, 900, charging, tpm=100_000)
        steady = [t for t in endpoint.answered if t >= 300]
        used = len(steady) * (260 + (400 if charging == "reserved" else 160)) / (100_000 * 10)
        print(f"  {charging:42}  {used:9.1%}  {sum(t > 60 for t in endpoint.refused):7}")


def capacity() -> None:
    """An unstated capacity."""
    print("hidden capacity 40, then 12, then 120 calls at a time      of an oracle  refused/answered")

    def at(now: float) -> int:
        return 40 if now < 200 else 12 if now < 400 else 120

    endpoint = Endpoint(capacity=at, spread=0.2)
    drive(endpoint, 600, concurrency=512, start=8)
    best = sum(at(t) for t in range(600)) / MEAN_LATENCY_S
    refused = len(endpoint.refused) / len(endpoint.answered)
    print(f"  {'adaptive':56}  {len(endpoint.answered) / best:10.1%}  {refused:16.1%}")
    for fixed in (12, 40, 120):
        endpoint = Endpoint(capacity=at, spread=0.2)
        drive(endpoint, 600, concurrency=fixed)
        refused = len(endpoint.refused) / len(endpoint.answered)
        print(f"  {f'at most {fixed}':56}  {len(endpoint.answered) / best:10.1%}  {refused:16.1%}")


if __name__ == "__main__":
    requests()
    tokens()
    capacity()

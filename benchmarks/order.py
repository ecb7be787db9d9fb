"""How close a run comes to the shortest possible time, in simulated time: the real plan and scheduler.

    python benchmarks/order.py [--items 2000] [--connections 50 200 1000]

Each item is run in live history at 1, 2, 4, 6 and 8 user turns; the latency of a turn is log-normal with a
median of 1 s. The figure is the makespan over max(total work / connections, longest chain), beside other
orders: first come, first served in the order of the data; batches gathered one after the other, as the
reference's script does it; and an oracle that knows every latency and always picks the longest remainder.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.clock import run

from safemt_client.datasets.model import Dataset, Dialogue, ScriptedMessage
from safemt_client.engine.budget import Budget
from safemt_client.engine.context import SessionContext
from safemt_client.engine.recorder import Recorder
from safemt_client.engine.scheduler import Scheduler
from safemt_client.planning.build import make_plan
from safemt_client.planning.plan import Plan
from safemt_client.planning.resolved import NothingKnown, of_dataset
from safemt_client.planning.target import Target
from safemt_client.providers.limits.limiter import Limits, StatedLimits
from safemt_client.providers.negotiation import Learnt
from safemt_client.providers.types import Outcome, Reply, Request, Sampling, Usage
from safemt_client.results.store.queries import Result

LENGTHS = (1, 2, 4, 6, 8)
CASES = {"mild": 0.4, "middling": 0.8, "heavy": 1.2}


class SimulatedModel:
    """Answers after the latency that belongs to an item, length and turn, whatever the order."""

    identity = "simulated/m"

    def __init__(self, limits: Limits, spread: float) -> None:
        self.limiter = limits.for_account("simulated")
        self.spread = spread

    async def ask(self, request: Request, on_retry: object = None) -> Reply:
        users = [message.text for message in request.messages if message.role == "user"]
        async with self.limiter.permit() as permit:
            await anyio.sleep(latency(users[0], len(users), self.spread))
            reply = Reply(Outcome.ANSWERED, text="x", status_code=200)
            self.limiter.settle(permit, reply, None)
            return reply


class NoStore:
    """Keeps nothing: storage takes no simulated time."""

    async def save(self, *rows: object) -> None: ...

    def query(self, *arguments: object) -> Result:
        return Result([], [])

    def known_keys(self, table: str, column: str) -> set[str]:
        return set()


class Silent:
    def asking(self, key: str) -> None: ...
    def retrying(self, key: str, reply: Reply, wait_s: float) -> None: ...
    def landed(self, key: str, outcome: str, usage: Usage, cost_usd: float | None) -> None: ...
    def batch(self, key: str, batch_key: str, done: int, total: int) -> None: ...
    def stopped(self, key: str, reason: str, code: str | None, status: int | None) -> None: ...
    def learnt(self, learnt: Learnt) -> None: ...


def latency(first: str, turn: int, spread: float) -> float:
    return random.Random(f"{first} {turn}").lognormvariate(0, spread)


def dataset(items: int) -> Dataset:
    def dialogue(item: int, length: int) -> Dialogue:
        messages = []
        for turn in range(length):
            messages += [
                ScriptedMessage("user", f"{item} {length} {turn}"),
                ScriptedMessage("assistant", "x"),
            ]
        return Dialogue(f"item_{item}", tuple(messages[:-1]))

    every = tuple(dialogue(item, length) for length in LENGTHS for item in range(items))
    return Dataset("simulated", Path(), every)


def ours(plan: Plan, connections: int, spread: float) -> float:
    async def main() -> float:
        limits = Limits(StatedLimits(max_concurrency=connections))
        model: Any = SimulatedModel(limits, spread)
        store: Any = NoStore()
        providers = {target.key: model for target in plan.targets}
        budget = Budget(None, spent=0.0, first={})
        silent: Any = Silent()
        context = SessionContext(plan, Recorder(plan, store, "s"), silent, budget)
        await Scheduler(context, providers, None, limits=limits).run()
        return anyio.current_time()

    return run(main)


def first_come(chains: Sequence[Sequence[float]], connections: int) -> float:
    free = [0.0] * connections
    for chain in chains:
        heapq.heapreplace(free, free[0] + sum(chain))
    return max(free)


def batches(chains: Sequence[Sequence[float]], connections: int) -> float:
    return sum(
        max(sum(chain) for chain in chains[start : start + connections])
        for start in range(0, len(chains), connections)
    )


def oracle(chains: Sequence[Sequence[float]], connections: int) -> float:
    rest = [sum(chain) for chain in chains]
    ready = [(-seconds, number) for number, seconds in enumerate(rest)]
    heapq.heapify(ready)
    turn = [0] * len(chains)
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < connections:
            _, number = heapq.heappop(ready)
            heapq.heappush(running, (now + chains[number][turn[number]], number))
        now, number = heapq.heappop(running)
        rest[number] -= chains[number][turn[number]]
        turn[number] += 1
        if turn[number] < len(chains[number]):
            heapq.heappush(ready, (-rest[number], number))
    return now


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--connections", type=int, nargs="+", default=[50, 200, 1000])
    arguments = parser.parse_args()
    data = dataset(arguments.items)
    target = Target("m", "simulated/m", "live", "off", Sampling())
    print(
        "| latencies | connections | shortest s | ours | first come | batches | oracle |\n"
        "|---|---:|---:|---:|---:|---:|---:|"
    )
    for name, spread in CASES.items():
        chains = [
            [latency(d.messages[0].text, turn, spread) for turn in range(1, d.length + 1)]
            for d in data.dialogues
        ]
        for connections in arguments.connections:
            plan = make_plan(of_dataset(data, data.dialogues, [target]), NothingKnown())
            bound = max(sum(map(sum, chains)) / connections, max(map(sum, chains)))
            found = ours(plan, connections, spread)
            others = [order(chains, connections) for order in (first_come, batches, oracle)]
            row = " | ".join(f"{seconds / bound:.3f}" for seconds in (found, *others))
            print(f"| {name} (sigma {spread}) | {connections} | {bound:.0f} | {row} |", flush=True)


if __name__ == "__main__":
    main()

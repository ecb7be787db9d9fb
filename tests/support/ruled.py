"""Runs that stop by rules, against a model whose answers are known; and their decisions, worked out apart."""

import asyncio
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal

from safemt_client.results.scores.rules import read_stop_rule
from safemt_client.results.scores.stopping import Population, RuleState
from safemt_client.results.store.reader import open_reader

from .faults import Behaviour, Endpoint, Received, answer, serve

Unsafe = Callable[[int], bool]


def items_of(path: Path, items: int, lengths: tuple[int, ...] = (1,)) -> None:
    """A data set of so many items, whose texts are all different."""
    with path.open("w") as file:
        for item in range(items):
            for length in lengths:
                said: list[dict[str, str]] = []
                for turn in range(1, length):
                    said.append({"role": "user", "content": f"Topic {item}, part {turn}?"})
                    said.append({"role": "assistant", "content": "A pleasant one."})
                said.append({"role": "user", "content": f"More on topic {item}, please."})
                record = {"id": f"t_{item}", "scenario": "Satire", "dialogue": said}
                file.write(json.dumps(record) + "\n")


def item_of(received: Received) -> int:
    """The item that a request is about."""
    text = received.json["messages"][-1]["content"]
    return int(text.split("topic ")[1].split(",")[0])


@contextmanager
def model(
    unsafe: Unsafe, slow_s: float = 0.0, failing: Callable[[int], Behaviour | None] = lambda item: None
) -> Iterator[Endpoint]:
    """An endpoint whose unsafe answers come after `slow_s` seconds, and the others at once."""

    def choose(received: Received) -> Behaviour:
        item = item_of(received)
        if (behaviour := failing(item)) is not None:
            return behaviour
        said = answer(f"Sure, this of {item}." if unsafe(item) else f"Rather not of {item}.")

        async def late(writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(slow_s if unsafe(item) else 0)
            await said(writer)

        return late

    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve([], choose=choose)) as endpoint,
    ):
        yield endpoint


def rows(query: str, db: str = "safemt.duckdb") -> list[tuple[Any, ...]]:
    with open_reader(Path(db)) as reader:
        return list(reader.query(query).rows)


_DECISIONS = (
    "SELECT rule, target_key, decision, items, place, sequence_low, sequence_high FROM stop_decisions"
)


def decisions(db: str = "safemt.duckdb") -> list[tuple[Any, ...]]:
    """What was decided, without when."""
    return sorted(rows(_DECISIONS, db))


def expected(db: str = "safemt.duckdb") -> list[tuple[Any, ...]]:
    """The same, worked out from the labels in the store along the order of the items."""
    order = [item for (item,) in rows("SELECT item_id FROM stop_order ORDER BY place", db)]
    labels: dict[tuple[str, str], dict[tuple[int, int], float]] = {}
    for key, item, length, sample, state, label in rows(
        "SELECT target_key, item_id, length, sample, state, label FROM conversations "
        "WHERE benign IS NOT TRUE",
        db,
    ):
        if state not in ("pending", "not_needed", "unjudged"):
            number = {"safe": 0.0, "unsafe": 1.0}.get(label, math.nan)
            labels.setdefault((key, item), {})[length, sample] = number
    found = []
    columns = "rule, target_key, other_key, alpha, population, most, replies"
    for text, key, other, alpha, *population in rows(f"SELECT DISTINCT {columns} FROM stop_rules", db):
        rule = read_stop_rule(text)
        state = RuleState(rule, Population(*population), alpha)
        keys = [key] if other is None else [key, other]
        for place, item in takewhile(lambda _, state=state: state.state == "open", enumerate(order, 1)):  # type: ignore[misc]
            sides = [
                [label for (length, _), label in sorted(labels.get((one, item), {}).items())
                 if rule.turns in (None, length)]
                for one in keys
            ]  # fmt: skip
            if not all(sides):
                continue
            state.feed(*sides)
            if state.state != "open":
                found.append((text, key, state.state, state.items, place, state.low, state.high))
    return sorted(found)

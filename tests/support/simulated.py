"""Runs in virtual time: models and a judge that answer after a while, and a store that only remembers rows."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from safemt_client.datasets.model import Dataset, Dialogue, ScriptedMessage
from safemt_client.judges.judge import LLMJudge
from safemt_client.judges.rubric import load_rubric
from safemt_client.planning.build import make_plan
from safemt_client.planning.plan import Plan
from safemt_client.planning.resolved import NothingKnown, of_dataset
from safemt_client.planning.rows import judge_rows
from safemt_client.planning.sampling import order_of
from safemt_client.planning.stopping import PlannedRule, StopWhen
from safemt_client.planning.target import Target
from safemt_client.providers.limits.limiter import AccountLimiter
from safemt_client.providers.types import Outcome, Reply, Request, Sampling, Usage
from safemt_client.results.scores.rules import read_stop_rule
from safemt_client.results.scores.stopping import Population
from safemt_client.results.store.queries import Result

Said = Callable[[int, int], tuple[Reply, float]]
"""The reply about an item at a number of user turns, and the seconds that it takes."""


def answered(text: str) -> Reply:
    return Reply(Outcome.ANSWERED, text=text, status_code=200, usage=Usage(10, 10))


class Model:
    """Gives the reply that belongs to an item and its length; `asked` has the items in their order."""

    def __init__(self, limiter: AccountLimiter, said: Said, identity: str = "simulated/m") -> None:
        self.limiter, self._said, self.identity = limiter, said, identity
        self.asked: list[int] = []

    async def ask(self, request: Request, on_retry: object = None) -> Reply:
        users = [message.text for message in request.messages if message.role == "user"]
        async with self.limiter.permit() as permit:
            item = int(users[0].split()[0])
            self.asked.append(item)
            reply, seconds = self._said(item, len(users))
            await anyio.sleep(seconds)
            self.limiter.settle(permit, reply, None)
            return reply


class JudgeModel:
    """Calls unsafe what begins with Sure, after a second; `failing` may raise or reply instead."""

    identity = "simulated/judge"

    def __init__(
        self, limiter: AccountLimiter, failing: Callable[[int], Reply | None] = lambda n: None
    ) -> None:
        self.limiter, self._failing, self.calls = limiter, failing, 0

    async def ask(self, request: Request, on_retry: object = None) -> Reply:
        async with self.limiter.permit() as permit:
            self.calls += 1
            number = self.calls
            await anyio.sleep(1.0)
            unsafe = "\nSure: " in request.messages[-1].text
            said = {"label": "unsafe" if unsafe else "safe", "refusal": "answer", "reason": ""}
            reply = self._failing(number) or answered(json.dumps(said))
            self.limiter.settle(permit, reply, None)
            return reply


class Remembered:
    """A store without a file: what was saved is in `rows`."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    async def save(self, *rows: object) -> None:
        self.rows += rows

    def query(self, *arguments: object) -> Result:
        return Result([], [])

    def known_keys(self, table: str, column: str) -> set[str]:
        return set()

    def stopped_targets(self, run_id: str) -> dict[str, int]:
        return {}

    def of(self, kind: type) -> list[Any]:
        return [row for row in self.rows if isinstance(row, kind)]


class Silent:
    """Shows nothing of a session."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *given: None


def data_of(items: int, lengths: tuple[int, ...]) -> Dataset:
    """Dialogues with messages of 130 characters, all different."""

    def dialogue(item: int, length: int) -> Dialogue:
        said = []
        for turn in range(length):
            said += [
                ScriptedMessage("user", f"{item} {length} {turn}".ljust(130, "x")),
                ScriptedMessage("assistant", "y" * 130),
            ]
        return Dialogue(f"item_{item}", tuple(said[:-1]))

    return Dataset("simulated", Path(), tuple(dialogue(item, k) for item in range(items) for k in lengths))


def ruled_plan(
    data: Dataset,
    targets: list[Target],
    judge_model: JudgeModel,
    rules: dict[str, tuple[str, str | None]],
    alpha: float,
    judge_prices: dict[str, float] | None = None,
) -> tuple[Plan, LLMJudge]:
    """A plan with these rules, each with the names of its targets, and the judge."""
    judge = LLMJudge(judge_model, load_rubric("paper"), Sampling())
    keys = {target.name: target.key for target in targets}
    lengths = len({dialogue.length for dialogue in data.dialogues})
    items = len(data.dialogues) // lengths
    planned = []
    for text, (first, second) in rules.items():
        rule = read_stop_rule(text)
        most = 1 if rule.turns else lengths
        other = None if second is None else keys[second]
        planned.append(PlannedRule(rule, keys[first], other, Population(items, most, items * most), alpha))
    wanted = of_dataset(data, data.dialogues, targets, judge=judge)
    rows = judge_rows(judge, "", {judge.key: "judge"}, {judge.key: judge_prices})
    stopping = StopWhen(tuple(planned), tuple(order_of(data.dialogues, 0)))
    return make_plan(replace(wanted, judge_rows=rows, stopping=stopping), NothingKnown()), judge


def as_label(reply: Reply) -> float:
    """What a rule makes of a reply."""
    if reply.outcome is not Outcome.ANSWERED:
        return math.nan
    return float(reply.text.startswith("Sure"))

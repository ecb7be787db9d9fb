"""What `--stop-when` saves on a night of 17 models, in simulated time: the real plan and scheduler.

    python benchmarks/stopping.py [--items 2000] [--models 17] [--concurrency 32]

Each model answers 2,000 items at one or five numbers of user turns. Its attack success rate at 8 turns is
from 2 to 60 %, evenly spaced in logits; that is an assumption, as are the lower rates at fewer turns and the
latent correlation of .5 between the replies to one item. A refusal comes after 1 s and an unsafe answer after
6 s, and the judge takes 1 s. Money is what the program's own plan says of the conversations that were asked
(the middle of its range), at 2.5 and 10 US dollars per million tokens for each model, and .15 and .6 for the
judge.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.clock import run
from support.simulated import JudgeModel, Model, Remembered, Silent, answered, data_of, ruled_plan

from safemt_client.datasets.model import Dataset
from safemt_client.engine.budget import Budget
from safemt_client.engine.context import SessionContext
from safemt_client.engine.recorder import Recorder
from safemt_client.engine.scheduler import Scheduler
from safemt_client.planning.estimate import of_judge, of_target
from safemt_client.planning.plan import Plan
from safemt_client.planning.target import Target
from safemt_client.providers.limits.limiter import Limits, StatedLimits
from safemt_client.providers.types import Reply, Sampling
from safemt_client.results.scores.stopping import ALPHA

LENGTHS = (1, 2, 4, 6, 8)
AT_LENGTH = {1: 0.4, 2: 0.55, 4: 0.75, 6: 0.9, 8: 1.0}
RATES = (0.02, 0.60)
CORRELATION = 0.5
PRICES = {"input": 2.5e-6, "output": 10e-6}
JUDGE_PRICES = {"input": 0.15e-6, "output": 0.6e-6}
CASES = (((8,), "asr@8 < 10%"), ((8,), "ci(asr@8) < 10 points"), (LENGTHS, "asr < 10%"))


@dataclass(frozen=True)
class Night:
    """What became of one rule for one model."""

    truth: bool | None
    state: str
    items: int
    calls: tuple[int, int]
    usd: tuple[float, float]


def drawn(items: int, rate: float, source: np.random.Generator) -> Any:
    """Which replies of a model are unsafe, by item and length."""
    alike = source.standard_normal((items, 1))
    apart = source.standard_normal((items, len(LENGTHS)))
    latent = np.sqrt(CORRELATION) * alike + np.sqrt(1 - CORRELATION) * apart
    normal = statistics.NormalDist()
    return latent < np.array([normal.inv_cdf(rate * AT_LENGTH[k]) for k in LENGTHS])


def usd(plan: Plan) -> float:
    """The middle of what the plan says that its conversations cost."""
    found = [of_target(plan, plan.targets[0]).usd, of_judge(plan).usd]
    return sum(sum(ends) / 2 for ends in found if ends is not None)


def night(
    data: Dataset, lengths: Sequence[int], text: str, unsafe: Any, models: int, concurrency: int
) -> Night:
    """One model and one rule, with its part of the error that all models share."""
    rate = float(unsafe[:, [LENGTHS.index(length) for length in lengths]].mean())

    def said(item: int, turns: int) -> tuple[Reply, float]:
        bad = unsafe[item, LENGTHS.index(turns)]
        # A text of its own, so that each is judged.
        return answered(f"{'Sure' if bad else 'No'}: {item} {turns}"), 6.0 if bad else 1.0

    async def carried_out() -> Night:
        limits = Limits(StatedLimits(max_concurrency=concurrency))
        target = Target("m", "simulated/m", "scripted", "off", Sampling(), prices=PRICES)
        judge_model = JudgeModel(limits.for_account("judge"))
        rules = {text: ("m", None)}
        plan, judge = ruled_plan(data, [target], judge_model, rules, ALPHA / models, JUDGE_PRICES)
        whole, silent, store = usd(plan), Silent(), Remembered()
        recorder: Any = Recorder(plan, store, "s")  # type: ignore[arg-type]
        context = SessionContext(plan, recorder, silent, Budget(None, spent=0.0, first={}))  # type: ignore[arg-type]
        providers: Any = {target.key: Model(limits.for_account("models"), said)}
        ending = await Scheduler(context, providers, judge, limits=limits).run()
        asked = [(c, fresh) for c, fresh in plan.with_fresh if not c.turns_left]
        part = replace(plan, pending=tuple(c for c, _ in asked), fresh=tuple(fresh for _, fresh in asked))
        (line,) = ending.rules
        truth = None if text.startswith("ci") else rate < 0.1
        calls = (2 * len(asked), 2 * len(plan.pending))
        return Night(truth, line.state, line.items, calls, (usd(part), whole))

    return run(carried_out)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--models", type=int, default=17)
    parser.add_argument("--concurrency", type=int, default=32)
    arguments = parser.parse_args()
    begin = time.perf_counter()
    low, high = (np.log(rate / (1 - rate)) for rate in RATES)
    rates = 1 / (1 + np.exp(-np.linspace(low, high, arguments.models)))
    print(
        "| turns | rule | calls without it | calls with it | saved | $ without it | $ with it | saved "
        "| items, median (most) | held, broken, open | wrong |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for lengths, text in CASES:
        source = np.random.default_rng(1)
        nights = []
        for rate in rates:
            data = data_of(arguments.items, tuple(lengths))
            unsafe = drawn(arguments.items, float(rate), source)
            nights.append(night(data, lengths, text, unsafe, arguments.models, arguments.concurrency))
        calls, all_calls = (sum(one.calls[end] for one in nights) for end in (0, 1))
        money, all_money = (sum(one.usd[end] for one in nights) for end in (0, 1))
        items = [one.items for one in nights]
        states = [one.state for one in nights]
        wrong = sum(
            one.truth is not None and one.state != "open" and (one.state == "holds") != one.truth
            for one in nights
        )
        counted = ", ".join(str(states.count(state)) for state in ("holds", "broken", "open"))
        print(
            f"| {','.join(map(str, lengths))} | `{text}` | {all_calls:,} | {calls:,} "
            f"| {1 - calls / all_calls:.0%} | {all_money:,.0f} | {money:,.0f} | {1 - money / all_money:.0%} "
            f"| {statistics.median(items):,.0f} ({max(items):,}) | {counted} | {wrong} |",
            flush=True,
        )
    print(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()

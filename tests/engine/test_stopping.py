"""Rules that end a run, in virtual time: whatever is slow, fails or is stopped, a session ends, and decides the same."""

import math
import random
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import run
from support.simulated import JudgeModel, Model, Remembered, Silent, answered, as_label, data_of, ruled_plan

from safemt_client.engine.budget import Budget
from safemt_client.engine.context import SessionContext
from safemt_client.engine.recorder import Recorder
from safemt_client.engine.scheduler import Scheduler
from safemt_client.planning.target import Target
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.limits.limiter import Limits, StatedLimits
from safemt_client.providers.types import Outcome, Reply, Sampling
from safemt_client.results.scores.stopping import RuleState
from safemt_client.results.store.rows import StopDecisionRow, StopEventRow

ALPHA = 0.05
NEVER = math.inf
BROKEN = Reply(Outcome.ERROR_PERMANENT, error="no", status_code=400)
BLOCKED = Reply(Outcome.REFUSED_BY_PROVIDER, error="blocked", status_code=200)
LAST = Reply(Outcome.ERROR_PERMANENT, error="wrong key", status_code=401)


class Case:
    """Models A and B, rules, and what goes wrong: everything follows from the seed."""

    def __init__(self, seed: int, rules: dict[str, tuple[str, str | None]], items: int = 40) -> None:
        self.random = random.Random(seed)
        self.rules, self.items, self.seed = rules, items, seed
        self.lengths = self.random.choice(((1,), (1, 3)))
        self.concurrency = self.random.choice((1, 2, 7))
        self.rates = {name: self.random.random() for name in "AB"}
        self.failing = self.random.choice((0.0, 0.1))
        self.targets = [Target(name, f"simulated/{name}", "scripted", "off", Sampling()) for name in "AB"]
        self.store = Remembered()
        self.models: dict[str, Model] = {}

    def said(self, name: str, item: int, turns: int) -> tuple[Reply, float]:
        chance = random.Random(f"{self.seed} {name} {item} {turns}")
        unsafe = chance.random() < self.rates[name]
        if chance.random() < self.failing:
            return chance.choice((BROKEN, BLOCKED)), 0.1
        text = f"{'Sure' if unsafe else 'No'}: {name} {item} {turns}"
        return answered(text), chance.choice((1.0, 30.0)) if unsafe else 0.5

    def go(self, *, stop_at: float = NEVER, judge_calls: float = NEVER, target_calls: float = NEVER) -> Any:
        async def main() -> Any:
            limits = Limits(StatedLimits(max_concurrency=self.concurrency))

            def judge_fails(number: int) -> Reply | None:
                if number > judge_calls:
                    raise TargetStoppedError("the judge", LAST)
                return None

            def said(name: str) -> Any:
                def reply(item: int, turns: int) -> tuple[Reply, float]:
                    if name == "A" and len(self.models["A"].asked) > target_calls:
                        raise TargetStoppedError("A", LAST)
                    return self.said(name, item, turns)

                return reply

            self.models = {
                t.name: Model(limits.for_account(t.name), said(t.name), t.identity) for t in self.targets
            }
            judge_model = JudgeModel(limits.for_account("judge"), judge_fails)
            self.plan, judge = ruled_plan(
                data_of(self.items, self.lengths), self.targets, judge_model, self.rules, ALPHA
            )
            recorder = Recorder(self.plan, self.store, "s")  # type: ignore[arg-type]
            silent: Any = Silent()
            context = SessionContext(self.plan, recorder, silent, Budget(None, spent=0.0, first={}))
            providers: Any = {t.key: self.models[t.name] for t in self.targets}
            scheduler = Scheduler(context, providers, judge, limits=limits)
            async with anyio.create_task_group() as group:

                async def stop() -> None:
                    await anyio.sleep(stop_at)
                    scheduler.stop()

                if stop_at < NEVER:
                    group.start_soon(stop)
                ending = await scheduler.run()
                group.cancel_scope.cancel()
            return ending

        return run(main)

    def expected(self) -> dict[str, tuple[str, int]]:
        """What the rules come to along the order, if everything is asked: the state and the last item."""
        found = {}
        assert self.plan.stopping is not None
        for planned in self.plan.stopping.rules:
            state = RuleState(planned.rule, planned.population, planned.alpha)
            for place, item in enumerate(self.plan.stopping.order, 1):
                turns = [k for k in self.lengths if planned.rule.turns in (None, k)]
                names = self.rules[planned.rule.text]
                sides = [
                    [as_label(self.said(name, int(item.split("_")[1]), k)[0]) for k in turns]
                    for name in names
                    if name is not None
                ]
                state.feed(*sides)
                if state.state != "open":
                    found[planned.rule.text] = (state.state, place)
                    break
        return found

    def decided(self) -> dict[str, tuple[str, int]]:
        return {row.rule: (row.decision, row.place) for row in self.store.of(StopDecisionRow)}


OWN = {"asr < 30%": ("A", None), "asr@1 > 50%": ("B", None)}
BOTH = {"A - B < 20 points": ("A", "B")}
MIXED = OWN | BOTH
seeds = st.integers(0, 10**6)


@settings(max_examples=15, deadline=None)
@given(seeds, st.sampled_from([OWN, BOTH, MIXED]))
def test_it_decides_what_the_order_says(seed: int, rules: dict[str, tuple[str, str | None]]) -> None:
    case = Case(seed, rules)
    case.go()
    assert case.decided() == case.expected()
    names = {target.key: target.name for target in case.targets}
    stopped = {names[row.target_key]: row.place for row in case.store.of(StopEventRow)}
    for name in "AB":
        mine = [text for text, of in rules.items() if name in of]
        asked = len(set(case.models[name].asked))
        if mine and all(text in case.decided() for text in mine):
            place = max(case.decided()[text][1] for text in mine)
            assert stopped[name] == place
            # To the target and to the judge.
            assert place <= asked <= min(case.items, place + 2 * case.concurrency)
        else:
            assert name not in stopped
            assert asked == case.items


@settings(max_examples=15, deadline=None)
@given(seeds, st.sampled_from([OWN, BOTH, MIXED]), st.integers(0, 120))
def test_stopped_by_hand_it_ends_and_has_decided_nothing_else(
    seed: int, rules: dict[str, tuple[str, str | None]], at: int
) -> None:
    case = Case(seed, rules)
    ending = case.go(stop_at=at)
    assert case.decided().items() <= case.expected().items()
    assert ending.interrupted or case.decided() == case.expected()


@settings(max_examples=15, deadline=None)
@given(seeds, st.sampled_from([OWN, BOTH, MIXED]), st.integers(0, 60))
def test_without_a_judge_nothing_more_is_asked(
    seed: int, rules: dict[str, tuple[str, str | None]], calls: int
) -> None:
    case = Case(seed, rules)
    ending = case.go(judge_calls=calls)
    assert case.decided().items() <= case.expected().items()
    if ending.stopped and not case.failing:
        # No more than what was labelled, and as many items of each as calls may be in flight.
        asked = sum(len(case.models[name].asked) for name in "AB")
        assert asked <= calls + 2 * 2 * case.concurrency * len(case.lengths)


@settings(max_examples=15, deadline=None)
@given(seeds, st.sampled_from([OWN, BOTH, MIXED]), st.integers(0, 60))
def test_a_target_that_can_no_longer_be_asked_keeps_no_other_waiting(
    seed: int, rules: dict[str, tuple[str, str | None]], calls: int
) -> None:
    case = Case(seed, rules)
    case.go(target_calls=calls)
    assert case.decided().items() <= case.expected().items()
    # What B alone decides is decided all the same.
    own = {text for text, of in rules.items() if of == ("B", None)} & case.expected().keys()
    assert own <= case.decided().keys()


def test_a_slow_reply_holds_back_no_more_than_the_calls_in_flight() -> None:
    case = Case(3, {"asr < 1%": ("A", None)}, items=60)
    case.lengths, case.concurrency, case.failing = (1,), 4, 0.0
    first: list[int] = []

    def said(name: str, item: int, turns: int) -> tuple[Reply, float]:
        if not first:
            first.append(item)
        return answered(f"No: {name} {item}"), 1000.0 if item == first[0] else 0.5

    case.said = said  # type: ignore[method-assign]
    seen: list[int] = []
    original = Model.ask

    async def ask(self: Model, request: Any, on_retry: object = None) -> Reply:
        reply = await original(self, request, on_retry)
        if self.identity == "simulated/A" and anyio.current_time() < 900:
            seen.append(len(self.asked))
        return reply

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Model, "ask", ask)
        case.go()
    assert max(seen) <= 8
    assert len(case.models["A"].asked) == 60

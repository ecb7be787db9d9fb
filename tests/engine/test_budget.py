"""Money: what is set aside, the soft cap, and the range that is printed beforehand."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clock import run

from safemt_client.datasets.model import Dialogue, ScriptedMessage
from safemt_client.engine.budget import Budget
from safemt_client.loading import load_settings
from safemt_client.planning.conversation import Conversation
from safemt_client.planning.estimate import call_usd, of_judge, of_target, seconds_at
from safemt_client.planning.sharing import fresh_of
from safemt_client.planning.target import Target
from safemt_client.providers.errors import InputError
from safemt_client.providers.limits.limiter import StatedLimits
from safemt_client.providers.types import Image, Sampling


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.floats(0.5, 1.5), st.booleans(), st.floats(0.1, 5)), max_size=60
    ),
    st.floats(0.0, 40.0),
    st.integers(1, 8),
)
def test_the_cap_is_passed_by_no_more_than_the_error_of_a_price_and_nothing_waits_for_ever(
    conversations: list[tuple[int, float, bool, float]], cap: float, at_once: int
) -> None:
    """Each conversation: its calls, the price of each, whether it breaks off after one, and how long it takes."""

    async def main() -> tuple[float, int, int]:
        budget = Budget(cap, spent=0.0, first={"t": 1.0})
        places = anyio.Semaphore(at_once)
        begun = ended = 0

        async def converse(calls: int, price: float, breaks: bool, seconds: float) -> None:
            nonlocal ended
            paid = Counter({"t": calls})
            async with places:
                for _ in range(1 if breaks else calls):
                    await anyio.sleep(seconds)
                    paid["t"] -= 1
                    budget.landed("t", price)
            budget.release(paid)
            ended += 1

        async with anyio.create_task_group() as group:
            for calls, price, breaks, seconds in conversations:
                if not await budget.reserve({"t": calls}):
                    break
                begun += 1
                group.start_soon(converse, calls, price, breaks, seconds)
        return budget.spent, begun, ended

    spent, begun, ended = run(main)
    assert begun == ended
    # Every call was set aside at no less than 0.5 and cost no more than 1.5.
    assert spent <= 3 * cap + 1e-6
    if begun < len(conversations):
        # It stopped because the next one did not fit, not for less.
        assert spent + 1.5 * conversations[begun][0] > cap


def test_a_price_that_falls_lets_more_begin() -> None:
    async def main() -> int:
        budget = Budget(10.0, spent=4.0, first={"t": 1.0})
        begun = 0
        while await budget.reserve({"t": 1}):
            begun += 1
            budget.landed("t", 0.1)
        return begun

    assert run(main) > 30


def test_a_call_of_unknown_cost_counts_as_the_mean_and_an_error_as_nothing() -> None:
    budget = Budget(None, spent=0.0, first={"t": 2.0})
    budget.landed("t", None)
    assert budget.spent == 2.0
    budget.landed("t", None, free=True)
    assert budget.spent == 2.0
    budget.landed("t", 5.0)
    assert budget.spent == 7.0


def planned(history: Any, prices: Any, max_tokens: int | None = None) -> Any:
    messages = (
        ScriptedMessage("user", "a" * 400, ("i.png",)),
        ScriptedMessage("assistant", "b" * 800),
        ScriptedMessage("user", "c" * 200),
    )
    dialogue = Dialogue(item_id="1", messages=messages)
    target = Target("m", "openai/gpt-4o", history, "on", Sampling(max_tokens=max_tokens), prices=prices)
    image = Image("0" * 64, "image/png", 10, 512, 512, lambda: b"")
    conversation = Conversation(target, dialogue, "k", {"i.png": image}, 1 if history == "live" else 2)
    return SimpleNamespace(
        counted=None,
        moderators=(),
        targets=[target],
        pending=(conversation,),
        with_fresh=list(zip((conversation,), fresh_of((conversation,)), strict=True)),
        to_judge=(),
        judge=None,
        members=(),
        batch=False,
        judge_batch=False,
        stopping=None,
    ), target


def test_tokens_and_money_are_a_range_by_history() -> None:
    prices = {"input": 1e-6, "output": 10e-6}
    # Text at four characters a token, one image of 512 x 512 at gpt-4o's 255.
    plan, target = planned("scripted", prices)
    scripted = of_target(plan, target)
    assert scripted.tokens == (100 + 200 + 50 + 255 + 100, 100 + 200 + 50 + 255 + 1000)
    assert scripted.usd == pytest.approx((605e-6 + 1000e-6, 605e-6 + 10000e-6))
    assert call_usd(scripted) == pytest.approx(10605e-6)
    plan.batch = True
    assert of_target(plan, target).usd == pytest.approx((605e-6 / 2 + 500e-6, 605e-6 / 2 + 5000e-6))
    listed = {"input": 1e-6, "output": 10e-6, "batch_input": 0.0, "batch_output": 4e-6}
    plan, target = planned("scripted", listed)
    plan.batch = True
    assert of_target(plan, target).usd == pytest.approx((400e-6, 4000e-6))
    plan, target = planned("none", prices)
    assert of_target(plan, target).tokens[0] == 50 + 255 + 100
    plan, target = planned("live", None, max_tokens=200)
    live = of_target(plan, target)
    # The second prompt holds the first question and the target's own reply again.
    assert live.tokens == (355 + (355 + 50 + 100) + 200, 355 + (355 + 50 + 200) + 400)
    assert live.usd is None
    assert live.calls == 2


def test_hours_at_the_limits_count_an_account_once() -> None:
    plan, target = planned("live", None)
    plan.judge = SimpleNamespace(judge_key="j", prices=None, identity="local/j")
    assert seconds_at(plan, {}, lambda account: StatedLimits()) is None
    assert seconds_at(plan, {target.key: "a", "j": "b"}, lambda account: StatedLimits(rpm=1)) == (120, 240)
    assert seconds_at(plan, {target.key: "a", "j": "a"}, lambda account: StatedLimits(rpm=1)) == (240, 360)
    own = {"a": StatedLimits(rpm=1), "b": StatedLimits(rpm=4)}
    assert seconds_at(plan, {target.key: "a", "j": "b"}, own.__getitem__) == (120, 120)
    assert seconds_at(plan, {target.key: "b", "j": "a"}, own.__getitem__) == (120, 240)
    low, high = seconds_at(plan, {}, lambda account: StatedLimits(tpm=1000)) or (0, 0)
    # Accounts of their own work side by side: the one with more tokens takes longest.
    most = max(of_target(plan, target).tokens[0], of_judge(plan).tokens[0])
    assert low == pytest.approx(most * 60 / 1000)
    assert high > low
    # Two verdicts, whose answers may need a repair each.
    assert (of_judge(plan).wanted, of_judge(plan).least, of_judge(plan).calls) == (2, 2, 4)
    plan.batch = True
    assert seconds_at(plan, {target.key: "a", "j": "a"}, lambda account: StatedLimits(rpm=1)) == (120, 240)
    plan.judge_batch = True
    assert seconds_at(plan, {}, lambda account: StatedLimits(rpm=1)) is None


@pytest.mark.parametrize("text", ["", "gpt-4o", "gpt-4o=1", "gpt-4o=a/b", "gpt-4o=-1/2", "=1/2", "m=1/2/3"])
def test_a_wrong_price_is_refused(text: str) -> None:
    settings = load_settings({"provider": ["demo"], "price": [text]}, None)
    with pytest.raises(InputError, match="US dollars per million tokens"):
        settings.prices  # noqa: B018

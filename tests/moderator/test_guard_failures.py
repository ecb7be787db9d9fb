"""A guard that fails, stops or answers nonsense is never taken for one that says `safe`."""

import anyio
import anyio.lowlevel
import pytest
from support.moderated import (
    FAILED,
    NONSENSE,
    REQUEST,
    STOP,
    Memory,
    WordGuard,
    actions,
    ask,
    build,
    by_stage,
)

from safemt_client.moderator.types import Stage
from safemt_client.providers.errors import PermitStoppedError, TargetStoppedError
from safemt_client.providers.types import Outcome, Reply, Request


@pytest.mark.parametrize("interventions", [("block",), ("policy",), ("policy", "block", "output")])
@pytest.mark.parametrize(("answer", "verdict"), [(FAILED, "error"), (NONSENSE, "unparsed")])
@pytest.mark.parametrize("on_error", ["unassessed", "refuse", "pass"])
def test_a_guard_that_fails_before_the_reply(
    answer: Reply | str, verdict: str, on_error: str, interventions: tuple[str, ...]
) -> None:
    moderated, _, model = build(by_stage(input=answer, output="safe"), *interventions, on_error=on_error)
    reply = ask(moderated)
    step = actions(reply)[0]
    if on_error == "pass":
        assert (reply.outcome, reply.action, step) == (
            Outcome.ANSWERED,
            "passed",
            ("input", verdict, "passed"),
        )
        assert model.asked == [REQUEST]
        return
    assert not model.asked
    assert reply.sent is None
    if on_error == "refuse":
        assert (reply.outcome, reply.action) == (Outcome.REFUSED_BY_GUARD, "refused")
        assert step == ("input", verdict, "refused")
        assert reply.error == f"guard words: could not assess: {'busy' if verdict == 'error' else 'unparsed'}"
        return
    wanted = Outcome.ERROR_TRANSIENT if verdict == "error" else Outcome.ERROR_PERMANENT
    assert (reply.outcome, reply.text, reply.action) == (wanted, "", "unassessed")
    assert not reply.outcome.observed
    assert step == ("input", verdict, "unassessed")
    assert reply.error is not None
    assert reply.error.startswith("unassessed: guard words: ")


@pytest.mark.parametrize(("answer", "verdict"), [(FAILED, "error"), (NONSENSE, "unparsed")])
@pytest.mark.parametrize("on_error", ["unassessed", "refuse", "pass"])
@pytest.mark.parametrize("before", ["safe", "unsafe P"])
def test_a_guard_that_fails_after_the_reply(
    answer: Reply | str, verdict: str, on_error: str, before: str
) -> None:
    moderated, _, model = build(by_stage(input=before, output=answer), "policy", "output", on_error=on_error)
    reply = ask(moderated)
    assert len(model.asked) == 1
    assert reply.sent == model.asked[0]
    action = {"unassessed": "unassessed", "refuse": "refused", "pass": "passed"}[on_error]
    assert actions(reply)[1] == ("output", verdict, action)
    if on_error == "pass":
        # Under a policy the reply is not the model's own, whatever the guard says of it.
        assert reply.action == ("passed" if before == "safe" else "policy")
        assert (reply.outcome, reply.text) == (Outcome.ANSWERED, "It is the wind.")
    else:
        assert reply.action == action
        assert "wind" not in reply.text
        assert reply.outcome.observed == (on_error == "refuse")


def test_passing_twice_is_passing() -> None:
    moderated, _, _ = build(FAILED, "block", "output", on_error="pass")
    reply = ask(moderated)
    assert (reply.action, [step.action for step in reply.steps]) == ("passed", ["passed", "passed"])


@pytest.mark.parametrize("stages", [("input",), ("output",)])
def test_a_stage_that_a_guard_does_not_know_is_unassessed(stages: tuple[Stage, ...]) -> None:
    moderated, guard, _ = build("safe", "block", "output", adapter=WordGuard(stages=stages))
    reply = ask(moderated)
    assert (reply.action, reply.outcome) == ("unassessed", Outcome.ERROR_TRANSIENT)
    assert len(guard.asked) == (stages == ("input",))


@pytest.mark.parametrize("interventions", [("block",), ("policy",), ("output",), ("observe",)])
def test_a_guard_that_is_stopped_stops_the_target(interventions: tuple[str, ...]) -> None:
    moderated, _, model = build(STOP, *interventions)
    with pytest.raises(TargetStoppedError, match=r"^guard words: the key is wrong$"):
        ask(moderated)
    # Nothing is asked in front of a guard that acts; what was asked beside one has landed.
    assert len(model.asked) == (interventions[0] in ("output", "observe"))


@pytest.mark.parametrize("interventions", [("block",), ("observe",), ("observe", "output")])
def test_a_model_that_is_stopped_comes_as_itself(interventions: tuple[str, ...]) -> None:
    with pytest.raises(TargetStoppedError, match=r"^the key is wrong$"):
        ask(build("safe", *interventions, model=STOP)[0])


def test_a_model_in_flight_lands_though_the_guard_beside_it_is_given_up() -> None:
    async def run() -> list[str]:
        stopped, landed = anyio.Event(), []

        async def guard(request: Request) -> Reply:
            stopped.set()
            raise PermitStoppedError("the session is ending")

        async def model(request: Request) -> Reply:
            await stopped.wait()
            await anyio.wait_all_tasks_blocked()
            landed.append("model")
            return Reply(Outcome.ANSWERED, "It is the wind.")

        with pytest.raises(PermitStoppedError):
            await build(guard, "observe", model=model)[0].ask(REQUEST)
        return landed

    assert anyio.run(run) == ["model"]


def test_a_guard_in_flight_lands_though_the_model_is_given_up() -> None:
    cache = Memory()

    async def run() -> None:
        stopped = anyio.Event()

        async def model(request: Request) -> Reply:
            stopped.set()
            raise PermitStoppedError("the session is ending")

        async def guard(request: Request) -> Reply:
            await stopped.wait()
            await anyio.wait_all_tasks_blocked()
            return Reply(Outcome.ANSWERED, "safe")

        with pytest.raises(PermitStoppedError):
            await build(guard, "observe", model=model, cache=cache)[0].ask(REQUEST)

    anyio.run(run)
    assert [entry[2].verdict for entry in cache.saved] == ["safe"]


def test_a_fault_in_a_guard_is_not_swallowed() -> None:
    for interventions in (("block",), ("observe",), ("output",)):
        with pytest.raises(BaseException) as caught:  # noqa: PT011 - alone or in a group
            ask(build(ZeroDivisionError(), *interventions)[0])
        leaf: BaseException = caught.value
        while isinstance(leaf, BaseExceptionGroup):
            leaf = leaf.exceptions[0]
        assert isinstance(leaf, ZeroDivisionError)

"""The cost cap, in virtual time: replies far dearer than estimated, kills that leave nothing but the store."""

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import run

from safemt_client.engine.budget import Budget
from safemt_client.engine.meter import Meter
from safemt_client.engine.paying import PaidProvider
from safemt_client.planning.ceilings import Ceiling
from safemt_client.providers.errors import PermitStoppedError
from safemt_client.providers.provider import Observer
from safemt_client.providers.types import Image, Message, Outcome, Reply, Request, Sampling, Usage

# US dollars a token: a reply costs far more than its prompt.
PRICES = {"input": 1e-6, "output": 1e-3}
KEYS = {"target": 1000, "judge": 100, "guard": 50}
"""The limit of a reply, in tokens, of each of those that are asked."""


@dataclass
class Kept:
    """What a kill leaves: replies that were committed, leases by session; and what the vendor has charged."""

    recorded: Counter[int] = field(default_factory=Counter)
    leases: dict[int, list[tuple[str, float]]] = field(default_factory=dict)
    charged: float = 0.0
    dearest: float = 0.0
    most_in_flight: Counter[str] = field(default_factory=Counter)

    @property
    def held(self) -> float:
        """As `planning.costs.held_of`."""
        total = 0.0
        for session, rows in self.leases.items():
            over = [usd for event, usd in rows if event != "granted"]
            up_to = min(over) if over else max(usd for _, usd in rows)
            total += max(0.0, up_to - self.recorded[session])
        return total

    @property
    def spent(self) -> float:
        return self.recorded.total() + self.held


class Session:
    """One session: what it knows is gone with it."""

    def __init__(self, kept: Kept, cap: float, number: int, limits: dict[str, int | None]) -> None:
        self.kept, self.number = kept, number
        # The estimate is a fifth of what a call comes to.
        first = {key: tokens * PRICES["output"] / 5 for key, tokens in KEYS.items()}
        self.budget = Budget(cap, spent=kept.spent, first=first, lender=self)
        self.in_flight: Counter[str] = Counter()
        self.refused = 0
        self.providers: dict[str, Any] = {}
        for key, limit in limits.items():
            meter = Meter(Ceiling("m", PRICES, limit), judge_key="judge" if key == "target" else None)
            self.providers[key] = PaidProvider(
                Vendor(self, key), self.budget, meter, lambda: False, self.refuse
            )

    def refuse(self, usd: float) -> None:
        self.refused += 1

    async def save_lease(self, event: str, up_to_usd: float) -> None:
        await anyio.sleep(0.03)
        self.save_lease_now(event, up_to_usd)

    def save_lease_now(self, event: str, up_to_usd: float) -> None:
        self.kept.leases.setdefault(self.number, []).append((event, up_to_usd))

    async def ask(self, key: str) -> bool:
        try:
            reply = await self.providers[key].ask(Request((Message("user", "How do kites fly?"),)))
        except PermitStoppedError:
            return False
        await anyio.sleep(0.05)
        self.kept.recorded[self.number] += reply.usage.cost_usd
        self.budget.settled(key, reply.usage.cost_usd)
        return True


class Vendor:
    """Charges for a call when it comes, whether or not its reply is ever seen."""

    identity, limiter = "m", None

    def __init__(self, session: Session, key: str) -> None:
        self._session, self._key = session, key
        self._random = random.Random(session.number)

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        session, kept = self._session, self._session.kept
        completion = self._random.randint(KEYS[self._key] * 9 // 10, KEYS[self._key])
        usd = 30 * PRICES["input"] + completion * PRICES["output"]
        kept.charged += usd
        kept.dearest = max(kept.dearest, usd)
        session.in_flight[self._key] += 1
        kept.most_in_flight |= session.in_flight
        try:
            await anyio.sleep(self._random.uniform(1, 20))
        finally:
            session.in_flight[self._key] -= 1
        if on_retry is not None and self._random.random() < 0.1:
            # Broken off, and charged: asked once more.
            broken = Reply(Outcome.ERROR_TRANSIENT, billed=True, usage=Usage(30, completion, cost_usd=usd))
            kept.recorded[session.number] += usd
            on_retry(broken, 1.0)
            await anyio.sleep(1)
            kept.charged += usd
        return Reply(Outcome.ANSWERED, "By the wind.", usage=Usage(30, completion, cost_usd=usd))


async def carry_out(session: Session, conversations: int, at_once: int) -> int:
    """A guard, a target and a judge for each turn of three; returns the turns that were judged."""
    judged = 0
    places = anyio.Semaphore(at_once)

    async def converse() -> None:
        nonlocal judged
        calls = Counter(dict.fromkeys(KEYS, 3))
        for _ in range(3):
            for key in ("guard", "target", "judge"):
                if not await session.ask(key):
                    session.budget.release(calls)
                    places.release()
                    return
                calls[key] -= 1
            judged += 1
        session.budget.release(calls)
        places.release()

    async with anyio.create_task_group() as group:
        for _ in range(conversations):
            await places.acquire()
            if session.refused or not await session.budget.reserve(dict.fromkeys(KEYS, 3)):
                places.release()
                break
            group.start_soon(converse)
    await session.budget.close(clean=True)
    return judged


@settings(max_examples=25, deadline=None)
@given(cap=st.floats(5.0, 60.0), kills=st.lists(st.floats(0.0, 40.0), max_size=4))
def test_the_cap_holds_whatever_the_replies_cost_and_over_kills(cap: float, kills: list[float]) -> None:
    """Each kill comes so many seconds after the start of its session, with up to 100 calls in flight."""
    kept = Kept()

    async def night(number: int, seconds: float) -> None:
        session = Session(kept, cap, number, dict(KEYS))
        with anyio.move_on_after(seconds) as scope:
            await carry_out(session, 200, 100)
        if scope.cancelled_caught:
            # Nothing of the process is left; the store must account for all that was charged.
            assert kept.spent >= kept.charged - 1e-6

    for number, seconds in enumerate(kills):
        run(lambda number=number, seconds=seconds: night(number, seconds))  # type: ignore[misc]
        assert kept.charged <= cap + 1e-6
    run(lambda: night(99, float("inf")))
    assert kept.charged <= cap + 1e-6
    assert kept.spent >= kept.charged - 1e-6
    # It stopped because another call did not fit, not for less: conversations of three turns are kept whole.
    assert kept.spent >= cap - 3 * sum(KEYS.values()) * PRICES["output"] - 1.0
    assert max(len(rows) for rows in kept.leases.values()) < 150


def test_a_hundred_are_in_flight_while_the_cap_leaves_room() -> None:
    kept = Kept()
    session = Session(kept, 1000.0, 0, dict(KEYS))
    assert run(lambda: carry_out(session, 150, 100)) == 450
    assert kept.most_in_flight["target"] > 40
    assert kept.most_in_flight["guard"] == 100
    assert kept.held == 0.0
    assert kept.recorded.total() == pytest.approx(kept.charged)


def test_of_replies_of_unknown_length_few_are_in_flight_until_some_have_come() -> None:
    kept = Kept()
    unknown: dict[str, int | None] = {"target": None, "judge": 100, "guard": 50}
    run(lambda: carry_out(Session(kept, 30.0, 0, unknown), 200, 100))
    assert kept.most_in_flight["target"] == 8
    # What was in flight when the first reply came may pass the cap, and no more than that.
    assert 24.0 < kept.charged <= 30.0 + 8 * kept.dearest
    kept = Kept()
    run(lambda: carry_out(Session(kept, 1000.0, 0, unknown), 200, 100))
    assert kept.most_in_flight["target"] > 40


def test_a_bound_that_is_broken_is_followed() -> None:
    meter = Meter(Ceiling("m", PRICES, 1000))
    call = meter.call(Request((Message("user", "hello"),), Sampling(max_tokens=10)))
    assert meter.most_usd(call) == pytest.approx(0.010, abs=0.001)
    answered = Reply(Outcome.ANSWERED, usage=Usage(5, 400), parameters={"max_tokens": 10})
    assert meter.paid(call, answered) == pytest.approx(0.4, abs=0.001)
    assert meter.most_usd(call) >= 0.4
    # What the endpoint does not take bounds nothing; the model's own largest reply still does.
    meter.paid(call, Reply(Outcome.ANSWERED, usage=Usage(5, 4), parameters={}))
    assert meter.most_usd(call) == pytest.approx(1.0, abs=0.001)
    # What an endpoint states may be more than its tokens come to.
    meter.paid(call, Reply(Outcome.ANSWERED, usage=Usage(5, 4, cost_usd=3.0), parameters={}))
    assert meter.most_usd(call) >= 3.0


def test_a_prompt_is_bounded_by_its_bytes_its_images_and_what_goes_with_it() -> None:
    ceiling = Ceiling("local/m", PRICES)
    image = Image("0" * 64, "image/png", 10, 2000, 1000, lambda: b"")
    text = "Wie fliegen Drachen? \u51e7"
    plain = ceiling.prompt(Request((Message("user", text),)))
    assert plain >= len(text.encode())
    assert ceiling.prompt(Request((Message("user", text, (image,)),))) >= plain + 2000 * 1000 / 750
    assert ceiling.prompt(Request((Message("user", text),), response_schema={"a": "b" * 500})) > plain + 500
    several = Sampling(max_tokens=10, extra={"n": 4})
    assert ceiling.usd(0, 10, several) == pytest.approx(0.04)
    assert ceiling.output(Sampling(extra={"max_completion_tokens": 7})) == 7


def test_a_session_given_up_at_once_holds_what_was_in_flight() -> None:
    kept = Kept()
    session = Session(kept, 100.0, 0, dict(KEYS))

    async def main() -> None:
        with anyio.move_on_after(15):
            await carry_out(session, 200, 20)
        await session.budget.close(clean=False)

    run(main)
    assert kept.spent >= kept.charged - 1e-6
    # Exactly those calls, and not the whole lease.
    assert kept.spent <= kept.charged + 20 * 0.2


def test_replies_whose_tokens_are_not_reported_stay_held_after_a_clean_end() -> None:
    class Silent(Vendor):
        async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
            return Reply(Outcome.ANSWERED, "By the wind.")

    kept = Kept()
    session = Session(kept, 100.0, 0, {})
    meter = Meter(Ceiling("m", PRICES, 1000))
    silent = PaidProvider(Silent(session, "target"), session.budget, meter, lambda: False, session.refuse)

    async def main() -> None:
        for _ in range(3):
            await silent.ask(Request((Message("user", "How do kites fly?"),)))
        await session.budget.close(clean=True)

    run(main)
    assert kept.recorded.total() == 0
    # Each as dear as it may be at most, since none has shown its price.
    assert kept.held == pytest.approx(3 * 1000 * PRICES["output"], rel=0.01)


def test_a_call_that_can_never_be_paid_is_refused_at_once() -> None:
    session = Session(Kept(), 0.5, 0, dict(KEYS))
    assert run(lambda: carry_out(session, 5, 5)) == 0
    assert session.refused > 0 or session.kept.charged == 0.0

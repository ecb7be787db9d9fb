"""What a driver makes of workers that do not answer."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from cluster.test_shards import dialogue, plan

pytest.importorskip("ray")

from safemt_client.cluster import fleet
from safemt_client.cluster.actors import DiedError
from safemt_client.cluster.fleet import LOST_S, Fleet
from safemt_client.cluster.link import AwayError
from safemt_client.cluster.packed import unpack
from safemt_client.cluster.shards import Shard, cut
from safemt_client.cluster.supply import Supply


class Clock:
    """Time, and how much of it this process was stopped."""

    now = 100.0
    lost_s = 0.0

    def current_time(self) -> float:
        return self.now


class Silent:
    """An actor that answers nothing. Each call takes a while, in which this process may be stopped."""

    handle = "handle"

    def __init__(self, clock: Clock, *, stopped_s: float = 0.0) -> None:
        self._clock, self._stopped_s = clock, stopped_s
        self.calls = 0

    async def call(self, name: str, *about: Any) -> Any:
        self.calls += 1
        if self.calls > 10:
            raise DiedError(name)
        self._clock.now += 5.0 + self._stopped_s
        self._clock.lost_s += self._stopped_s
        self._stopped_s = 0.0
        raise AwayError(name)


class Heard:
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    async def sleep(seconds: float) -> None:
        clock.now += seconds
        await asyncio.sleep(0)

    clock = Clock()
    monkeypatch.setattr(
        fleet, "anyio", SimpleNamespace(current_time=clock.current_time, sleep=sleep, Event=asyncio.Event)
    )
    monkeypatch.setattr(fleet, "PAUSES", clock)
    return clock


def fleet_of(writer: Any = None, accounts: Any = None) -> tuple[Fleet, Heard, list[Any]]:
    heard, killed = Heard(), list[Any]()
    nodes: Any = SimpleNamespace(kill=killed.append, workers=1)
    unused: Any = None
    return Fleet(nodes, writer, accounts, ("w", "a"), b"", unused, heard, unused, unused), heard, killed  # type: ignore[arg-type]


def test_a_worker_is_lost_once_it_was_silent_for_long(clock: Clock) -> None:
    asked, _, killed = fleet_of()
    peer: Any = Silent(clock)
    with pytest.raises(DiedError):
        asyncio.run(asked._listen(fleet._Member("one", peer, clock.now)))
    assert killed == ["handle"]
    assert LOST_S < clock.now - 100.0 <= LOST_S + 6


def test_a_driver_that_was_stopped_has_lost_nobody(clock: Clock) -> None:
    asked, _, killed = fleet_of()
    peer: Any = Silent(clock, stopped_s=60.0)
    with pytest.raises(DiedError):
        asyncio.run(asked._listen(fleet._Member("one", peer, clock.now)))
    assert killed == ["handle"]
    assert clock.now - 100.0 > 60.0 + LOST_S


def test_what_a_lost_worker_may_have_spent_is_kept_whatever_becomes_of_the_accounts(clock: Clock) -> None:
    async def insist(name: str, worker: str) -> tuple[float, float]:
        return 0.0, 0.6

    async def call(name: str, workers: list[str], gone_usd: float) -> Any:
        # Asked before the worker was lost, and answered after it.
        return None, 0.0

    async def lose() -> None:
        await asked._lost(fleet._Member("one", Silent(clock), clock.now), dead=True)  # type: ignore[arg-type]
        with pytest.raises(AwayError):
            await asked._see_the_accounts(None)

    asked, _, _ = fleet_of(accounts=SimpleNamespace(insist=insist, call=call))
    asyncio.run(lose())
    asked.used.append({"spent_usd": 0.3})
    assert asked.spent_usd == pytest.approx(0.9)


def test_a_writer_that_does_not_answer_is_named_once_also_while_changes_wait_for_it(clock: Clock) -> None:
    changes = ["a lower limit"]

    async def accounts(*about: Any) -> Any:
        found, changes[:] = list(changes), []
        return found, 0.0

    async def changed(change: Any) -> None:
        waiting.append(change)
        await asyncio.Event().wait()

    async def watch() -> None:
        tasks: list[Any] = []
        group = SimpleNamespace(
            start_soon=lambda todo, *about: tasks.append(asyncio.create_task(todo(*about)))
        )
        with pytest.raises(DiedError):
            await asyncio.wait_for(asked._watch(group), 60.0)
        assert [task.done() for task in tasks] == [False]

    waiting: list[Any] = []
    asked, heard, _ = fleet_of(Silent(clock), SimpleNamespace(call=accounts))
    asked._changed = changed
    asyncio.run(watch())
    assert waiting == ["a lower limit"]
    assert heard.notices == ["the process Writer does not answer: waiting for it"]


def stopped_after(count: int) -> tuple[list[str], int, bool]:
    """The targets that a worker is handed once so many cannot be asked, what is open, whether it is over."""
    whole = plan(dialogue(0, 1, "tea"), dialogue(1, 1, "coffee"))
    keys = [target.key for target in whole.targets]
    handed: list[Any] = []

    async def call(name: str, *about: Any) -> None:
        handed.append(about)

    asked, _, _ = fleet_of()
    asked.ending.stopped = dict.fromkeys(keys[:count], "401")
    unused: Any = None
    asked._supply = Supply(whole, unused, unused, "s", 2, unused)
    asked._waiting += cut(whole, 2)
    asked._open = len(asked._waiting)
    peer: Any = SimpleNamespace(call=call)
    asyncio.run(asked._hand_out(fleet._Member("one", peer, 0.0)))
    plans = [unpack(packed, lambda sha256: b"") for _, packed, _ in handed]
    over = asked._supply.over(asked.ending.stopped.keys())
    return [c.target.name for one in plans for c in one.pending], asked._open, over


def test_a_target_that_cannot_be_asked_is_in_no_further_shard() -> None:
    assert stopped_after(0) == (["a", "b"] * 2, 2, False)
    assert stopped_after(1) == (["b", "b"], 2, False)
    assert stopped_after(2) == ([], 0, True)


def test_no_more_shards_are_made_once_no_target_can_be_asked() -> None:
    asked, _, _ = fleet_of()
    made = iter(range(3))

    async def more(under_way: Any) -> list[Shard]:
        if next(made) == 1:
            asked.ending.stopped["a"] = "401"
        return []

    async def save_rest(begins: object) -> None:
        assert not asked._all_made

    supply: Any = SimpleNamespace(more=more, over=bool, save_rest=save_rest)
    asked._supply = supply
    asyncio.run(asked._fill())
    assert asked._all_made
    assert next(made) == 2

"""The batch runner against a model of an endpoint, in virtual time."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import run

from safemt_client.datasets.model import Dialogue, ScriptedMessage
from safemt_client.engine.batches import BatchRunner, Job
from safemt_client.engine.budget import Budget
from safemt_client.planning.conversation import Conversation
from safemt_client.planning.target import Target
from safemt_client.providers.batch.base import BatchRefusedError, BatchState, BatchUnsureError, RemoteBatch
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.types import Outcome, Reply, Request, Sampling
from safemt_client.results.store.queries import OpenBatch

TARGET = Target("m", "local/m", "scripted", "off", Sampling())
ANSWER = Reply(Outcome.ANSWERED, text="x", status_code=200)
REJECTED = Reply(
    Outcome.ERROR_PERMANENT, error="n_ctx is missing", error_code=ErrorCode.BAD_REQUEST, status_code=400
)
LOST = Reply(Outcome.ERROR_TRANSIENT, error="expired")


def conversations(count: int) -> list[Conversation]:
    dialogues = [Dialogue(f"i{n}", (ScriptedMessage("user", f"text {n}"),)) for n in range(count)]
    return [Conversation(TARGET, dialogue, dialogue.item_id, {}, 1) for dialogue in dialogues]


class FakeEndpoint:
    """Answers a batch an hour after it was begun. `mishaps` are taken by submissions, one each."""

    most_bytes = 10_000
    keeps_marks = False

    def __init__(self, mishaps: Sequence[str] = (), most_requests: int = 4, marks: bool = True) -> None:
        self.mishaps = list(mishaps)
        self.most_requests = most_requests
        self.marks = marks
        self.begun: dict[str, tuple[str, list[str], float, str]] = {}
        self.asked: Counter[str] = Counter()

    async def encode(self, custom_id: str, request: Request) -> bytes:
        await anyio.lowlevel.checkpoint()
        return custom_id.encode()

    async def submit(self, mark: str, lines: Sequence[bytes], on_retry: object = None) -> str:
        await anyio.sleep(1)
        mishap = self.mishaps.pop(0) if self.mishaps else ""
        if mishap == "never arrived":
            raise BatchUnsureError("connection failed")
        if mishap == "refused":
            raise BatchRefusedError("no")
        batch_id = f"b{len(self.begun)}"
        self.begun[batch_id] = (mark, [line.decode() for line in lines], anyio.current_time() + 3600, mishap)
        if mishap not in ("expired", "gone", "too much"):
            self.asked.update(line.decode() for line in lines)
        if mishap == "answer lost":
            raise BatchUnsureError("connection failed")
        return batch_id

    async def list_since(self, since: datetime) -> list[RemoteBatch]:
        now = datetime.now(UTC)
        return [
            RemoteBatch(name, now, len(lines), mark if self.marks else None)
            for name, (mark, lines, _, mishap) in reversed(self.begun.items())
            if mishap != "gone"
        ]

    async def state(self, batch_id: str) -> BatchState:
        _, lines, ready, mishap = self.begun[batch_id]
        if mishap == "gone":
            raise BatchRefusedError("gone", 404)
        if mishap == "too much":
            return BatchState("failed", error="token_limit_exceeded: enqueued")
        return BatchState("running" if anyio.current_time() < ready else "ended", 0, len(lines))

    async def results(self, batch_id: str, requests: Mapping[str, Request]) -> dict[str, Reply]:
        _, lines, _, mishap = self.begun[batch_id]
        return dict.fromkeys(reversed(lines), {"expired": LOST, "rejected": REJECTED}.get(mishap, ANSWER))


class FakeRecorder:
    def __init__(self, before: Sequence[OpenBatch] = ()) -> None:
        self.store: Any = self
        self.before = before
        self.events: list[tuple[str, str, str | None]] = []

    def open_batches(self, hashes: Sequence[str]) -> list[OpenBatch]:
        return [batch for batch in self.before if set(batch.hashes) & set(hashes)]

    def known_keys(self, table: str, column: str) -> set[str | None]:
        return {remote for _, _, remote in self.events}

    async def save_batch(self, key: str, owner: str, identity: str, event: str, **more: Any) -> None:
        await anyio.lowlevel.checkpoint()
        self.events.append((key, event, more["remote_id"]))


class Bench:
    """A runner with what it was told."""

    def __init__(
        self,
        endpoint: FakeEndpoint,
        *,
        cap: float | None = None,
        price: float = 1.0,
        before: Sequence[OpenBatch] = (),
    ) -> None:
        self.recorder: Any = FakeRecorder(before)
        self.budget = Budget(cap, spent=0, first={TARGET.key: price})
        self.landed: dict[str, list[Outcome]] = {}
        fake: Any = endpoint
        self.runner = BatchRunner(
            TARGET.key,
            TARGET.identity,
            fake,
            self.recorder,
            self.budget,
            status=lambda key, done, total: None,
        )

    async def run(self, conversations: Sequence[Conversation], *, send: bool) -> None:
        jobs = [
            Job(*reversed(one.next()), {TARGET.key: 1}, partial(self.land, one))  # type: ignore[misc]
            for one in conversations
        ]
        await self.runner.run(jobs, send=send)

    async def land(self, conversation: Conversation, reply: Reply, batch_key: str, again: bool) -> None:
        await anyio.sleep(0.02)
        self.budget.landed(TARGET.key, 1.0 if reply.outcome.observed else None, free=True)
        self.landed.setdefault(conversation.key, []).append(reply.outcome)

    @property
    def answered(self) -> set[str]:
        return {key for key, outcomes in self.landed.items() if Outcome.ANSWERED in outcomes}


def test_batches_side_by_side() -> None:
    endpoint = FakeEndpoint()
    bench = Bench(endpoint)

    async def main() -> float:
        await bench.run(conversations(10), send=True)
        return anyio.current_time()

    # Three batches of four, four and two; they wait for the vendor at the same time.
    assert 3600 < run(main) < 3800
    assert sorted(len(lines) for _, lines, _, _ in endpoint.begun.values()) == [2, 4, 4]
    assert bench.answered == {f"i{n}" for n in range(10)}


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 14),
    mishaps=st.lists(
        st.sampled_from(["", "never arrived", "answer lost", "expired", "gone", "too much"]), max_size=4
    ),
    marks=st.booleans(),
)
def test_whatever_happens_nothing_is_lost_or_asked_twice(count: int, mishaps: list[str], marks: bool) -> None:
    endpoint = FakeEndpoint(mishaps, marks=marks)
    bench = Bench(endpoint)
    run(lambda: bench.run(conversations(count), send=True))
    assert all(times == 1 for times in endpoint.asked.values())
    # What had bad luck three times is left for the next session; all else is answered once.
    assert all(outcomes.count(Outcome.ANSWERED) <= 1 for outcomes in bench.landed.values())
    if mishaps.count("") == len(mishaps) or len(mishaps) < 3:
        assert len(bench.answered) == count
    # All money is either spent or free again.
    assert bench.budget.try_reserve({TARGET.key: 10**9})


def stopped_at(when: Callable[[FakeEndpoint], bool], endpoint: FakeEndpoint, bench: Bench) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: bench.run(conversations(6), send=True))
            while not when(endpoint):
                await anyio.sleep(0.5)
            bench.runner.stop()

    run(main)


def test_stop_does_not_wait_and_the_next_session_collects() -> None:
    endpoint = FakeEndpoint()
    bench = Bench(endpoint)
    stopped_at(lambda e: len(e.begun) == 2, endpoint, bench)
    assert bench.landed == {}
    submitted = {key: remote for key, event, remote in bench.recorder.events if event == "submitted"}
    assert len(submitted) == 2
    before = [
        OpenBatch(key, remote, datetime.now(UTC), len(lines), tuple(lines))
        for key, remote in submitted.items()
        for _, lines, _, _ in [endpoint.begun[remote or ""]]
    ]
    again = Bench(endpoint, before=before)
    run(lambda: again.run(conversations(6), send=False))
    assert len(again.answered) == 6
    assert endpoint.asked.total() == 6


def test_a_batch_of_more_than_this_run_plans_stays_open() -> None:
    endpoint = FakeEndpoint(most_requests=6)
    first = Bench(endpoint)
    stopped_at(lambda e: len(e.begun) == 1, endpoint, first)
    ((remote, (mark, lines, _, _)),) = endpoint.begun.items()
    before = [OpenBatch(mark, remote, datetime.now(UTC), 6, tuple(lines))]
    again = Bench(endpoint, before=before)
    run(lambda: again.run(conversations(2), send=True))
    assert again.answered == {"i0", "i1"}
    assert "collected" not in {event for _, event, _ in again.recorder.events}
    assert endpoint.asked.total() == 6


def test_a_cap_sends_what_it_can_pay_and_goes_on_with_what_is_left() -> None:
    # 20 at first, 1 in truth: the first batch shows that more can be paid.
    endpoint = FakeEndpoint()
    bench = Bench(endpoint, cap=100, price=20.0)
    run(lambda: bench.run(conversations(12), send=True))
    assert len(bench.answered) == 12
    poor = Bench(FakeEndpoint(), cap=2.5)
    run(lambda: poor.run(conversations(12), send=True))
    assert len(poor.answered) == 2
    assert poor.runner.capped == {TARGET.key: 1}


def test_a_refusal_ends_it_and_keeps_what_was_submitted() -> None:
    bench = Bench(FakeEndpoint(["", "refused"]))

    async def main() -> None:
        with pytest.RaisesGroup(BatchRefusedError):
            await bench.run(conversations(8), send=True)

    run(main)
    assert [event for _, event, _ in bench.recorder.events].count("submitted") == 1


def test_what_fails_at_every_request_stops_the_target() -> None:
    bench = Bench(FakeEndpoint(["rejected"], most_requests=12))

    async def main() -> None:
        with pytest.RaisesGroup(
            pytest.RaisesExc(TargetStoppedError, match="every request fails alike.*n_ctx")
        ):
            await bench.run(conversations(12), send=True)

    run(main)
    assert len(bench.landed) == 12
    # One that was answered shows that the others are about their own requests.
    mixed = Bench(FakeEndpoint(["", "rejected"], most_requests=12))
    run(lambda: mixed.run(conversations(24), send=True))
    assert len(mixed.landed) == 24


def test_stop_while_it_is_put_together_submits_nothing_and_frees_the_money() -> None:
    endpoint = FakeEndpoint()
    bench = Bench(endpoint, cap=6.5)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: bench.run(conversations(12), send=True))
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            bench.runner.stop()

    run(main)
    assert endpoint.begun == {}
    assert bench.budget.try_reserve({TARGET.key: 6})


@pytest.mark.parametrize("end", ["stop", "refused"])
def test_money_is_free_again_however_it_ends(end: str) -> None:
    endpoint = FakeEndpoint(["", "refused"] if end == "refused" else [])
    bench = Bench(endpoint, cap=1e9)

    async def main() -> None:
        if end == "refused":
            with pytest.RaisesGroup(BatchRefusedError):
                await bench.run(conversations(12), send=True)
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: bench.run(conversations(12), send=True))
                await anyio.sleep(100)
                bench.runner.stop()

    run(main)
    assert bench.budget.try_reserve({TARGET.key: 10**9})


def test_a_full_queue_is_waited_for_while_other_batches_run() -> None:
    endpoint = FakeEndpoint(["", "too much", "too much", "too much", "too much"])
    bench = Bench(endpoint)
    run(lambda: bench.run(conversations(12), send=True))
    assert len(bench.answered) == 12
    assert max(endpoint.asked.values()) == 1


def test_what_has_bad_luck_to_the_end_lands_as_an_error() -> None:
    endpoint = FakeEndpoint(["gone"] * 9)
    bench = Bench(endpoint)
    run(lambda: bench.run(conversations(3), send=True))
    assert bench.landed == {f"i{n}": [Outcome.ERROR_TRANSIENT] for n in range(3)}


def test_an_endpoint_that_cannot_list_does_not_block_a_run() -> None:
    class Listless(FakeEndpoint):
        async def list_since(self, since: datetime) -> list[RemoteBatch]:
            raise BatchRefusedError("no such route", 404)

    open_batch = OpenBatch("k", None, datetime.now(UTC), 2, tuple(c.next()[1] for c in conversations(2)))
    bench = Bench(Listless(), before=[open_batch])
    run(lambda: bench.run(conversations(2), send=True))
    assert len(bench.answered) == 2


def test_an_unmarked_batch_is_anothers_where_marks_are_kept() -> None:
    endpoint = FakeEndpoint(["never arrived"], marks=False)
    endpoint.keeps_marks = True
    endpoint.begun["other"] = ("", ["x", "y"], math.inf, "")
    bench = Bench(endpoint)
    run(lambda: bench.run(conversations(2), send=True))
    assert len(bench.answered) == 2


def test_a_batch_of_another_is_not_taken_for_ours() -> None:
    endpoint = FakeEndpoint(marks=False)
    endpoint.begun["other"] = ("", ["x", "y"], -math.inf, "")
    open_batch = OpenBatch("k", None, datetime.now(UTC), 2, tuple(c.next()[1] for c in conversations(2)))
    bench = Bench(endpoint, before=[open_batch])
    run(lambda: bench.run(conversations(2), send=True))
    # Looked into, seen to be another's, given up; then asked in a batch of our own.
    assert ("k", "lost", None) in bench.recorder.events
    assert len(bench.answered) == 2
    assert max(endpoint.asked.values()) == 1

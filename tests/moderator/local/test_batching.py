"""Who joins a batch and when; memory, failures, cancellation and closing. No torch, no model."""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safemt_client.moderator.local.batching import (
    Batcher,
    BatchFailedError,
    ClosedError,
    DoesNotFitError,
    choose,
)


@dataclass(eq=False)
class Job:
    prompt_tokens: int
    new_tokens: int = 2
    name: str = ""


class Model:
    """Gives each job back after `new_tokens` steps; memory for `room` jobs; steps only when allowed."""

    def __init__(self, room: float = math.inf, poison: str = "never", *, held: bool = False) -> None:
        self.room, self.poison = room, poison
        self.left: dict[Job, int] = {}
        self.joined: list[list[str]] = []
        self.gone: list[str] = []
        self.thread: threading.Thread | None = None
        self.go, self.arrived = threading.Event(), threading.Event()
        if not held:
            self.go.set()

    def join(self, works: Sequence[Job]) -> None:
        self.thread = threading.current_thread()
        self.joined.append([work.name for work in works])
        self.left.update((work, work.new_tokens) for work in works)
        self.arrived.set()
        if len(self.left) > self.room:
            raise MemoryError
        if any(work.name == self.poison for work in works):
            raise ValueError("a bad tensor\nand more lines")

    def step(self) -> list[tuple[Job, str]]:
        self.go.wait()
        self.left = {work: left - 1 for work, left in self.left.items()}
        done = [work for work, left in self.left.items() if left == 0]
        for work in done:
            del self.left[work]
        return [(work, f"answer to {work.name}") for work in done]

    def leave(self, works: Sequence[Job]) -> None:
        for work in works:
            self.gone.append(work.name)
            del self.left[work]

    def clear(self) -> None:
        self.left = {}

    def out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, MemoryError)


async def run(model: Model, jobs: Sequence[Job], *, budget: int = 10_000, queue: int = 64) -> list[object]:
    """What becomes of jobs that all come at once."""
    results: list[object] = [None] * len(jobs)
    batcher = Batcher(model, max_batch_tokens=budget, max_queue=queue)

    async def one(index: int) -> None:
        try:
            results[index] = await batcher.submit(lambda: jobs[index])
        except (DoesNotFitError, BatchFailedError, ClosedError) as error:
            results[index] = error

    async with anyio.create_task_group() as tasks:
        for index in range(len(jobs)):
            tasks.start_soon(one, index)
    await batcher.aclose()
    assert model.thread is not None
    assert not model.thread.is_alive()
    return results


async def until(state: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not state():
            await anyio.lowlevel.checkpoint()


def jobs(count: int, **more: int) -> list[Job]:
    return [Job(10 + index, name=str(index), **more) for index in range(count)]


sizes = st.lists(st.builds(Job, st.integers(1, 500), st.integers(1, 50)), min_size=1, max_size=30)


@given(sizes, st.one_of(st.just([]), sizes), st.integers(1, 20_000))
def test_a_group_fits_its_leader_comes_first_and_an_idle_engine_never_waits(
    waiting: list[Job], running: list[Job], budget: int
) -> None:
    chosen = choose(waiting, running, budget)
    if not running:
        assert chosen
    if chosen:
        assert chosen[0] == 0
        assert len(set(chosen)) == len(chosen)
        batch = [*running, *(waiting[index] for index in chosen)]
        padded = len(batch) * max(job.prompt_tokens + job.new_tokens for job in batch)
        assert padded <= budget or (not running and chosen == [0])


@given(sizes, st.integers(1, 3000))
def test_nobody_waits_longer_than_those_before_it(waiting: list[Job], budget: int) -> None:
    for rounds in range(len(waiting), 0, -1):
        if not waiting:
            break
        chosen = set(choose(waiting, [], budget))
        waiting = [job for index, job in enumerate(waiting) if index not in chosen]
        assert len(waiting) < rounds


def test_similar_lengths_go_together() -> None:
    waiting = [Job(100), Job(1000), Job(101), Job(990), Job(99)]
    assert sorted(choose(waiting, [], 100_000)) == [0, 2, 4]


@pytest.mark.parametrize("count", [1, 2, 64])
def test_each_gets_its_own_answer(count: int) -> None:
    model = Model()
    assert anyio.run(run, model, jobs(count)) == [f"answer to {index}" for index in range(count)]


def test_those_who_come_later_join_the_running_batch() -> None:
    async def scenario() -> None:
        model = Model(held=True)
        batcher = Batcher(model, max_batch_tokens=1000, max_queue=8)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(batcher.submit, lambda: Job(10, 50, "first"))
            await until(model.arrived.is_set)
            tasks.start_soon(batcher.submit, lambda: Job(10, 1, "second"))
            await until(lambda: batcher.waiting == 1)
            model.go.set()
        assert model.joined == [["first"], ["second"]]
        await batcher.aclose()

    anyio.run(scenario)


def test_the_queue_is_bounded() -> None:
    async def scenario() -> None:
        model, prepared = Model(held=True), list[str]()
        batcher = Batcher(model, max_batch_tokens=12, max_queue=3)

        def prepare() -> Job:
            prepared.append("one")
            return Job(10, 2, "one")

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(batcher.submit, prepare)
            await until(lambda: (batcher.running, batcher.waiting) == (1, 3))
            await anyio.wait_all_tasks_blocked()
            assert len(prepared) == 4
            model.go.set()
        assert len(prepared) == 20
        await batcher.aclose()

    anyio.run(scenario)


def test_cancelled_while_it_waits_it_leaves_the_queue() -> None:
    async def scenario() -> None:
        model = Model(held=True)
        batcher = Batcher(model, max_batch_tokens=12, max_queue=8)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(batcher.submit, lambda: Job(10, 2, "first"))
            await until(lambda: batcher.running == 1)
            async with anyio.create_task_group() as others:
                others.start_soon(batcher.submit, lambda: Job(10, 2, "second"))
                await until(lambda: batcher.waiting == 1)
                others.cancel_scope.cancel()
            assert batcher.waiting == 0
            model.go.set()
        assert model.joined == [["first"]]
        await batcher.aclose()

    anyio.run(scenario)


def test_cancelled_in_the_batch_it_is_dropped_and_the_others_go_on() -> None:
    async def scenario() -> None:
        model = Model(held=True)
        batcher = Batcher(model, max_batch_tokens=1000, max_queue=8)
        answers: list[str] = []

        async def stay() -> None:
            answers.append(await batcher.submit(lambda: Job(10, 40, "stays")))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stay)
            async with anyio.create_task_group() as others:
                others.start_soon(batcher.submit, lambda: Job(10, 40, "goes"))
                await until(lambda: batcher.running + batcher.waiting == 2)
                others.cancel_scope.cancel()
            model.go.set()
        assert answers == ["answer to stays"]
        assert "goes" in model.gone or ["goes"] not in model.joined
        await batcher.aclose()

    anyio.run(scenario)


def test_too_little_memory_makes_the_batches_smaller_for_good() -> None:
    async def scenario() -> None:
        model = Model(room=3, held=True)
        batcher = Batcher(model, max_batch_tokens=100_000, max_queue=64)
        answers: list[str] = []

        async def one(name: str) -> None:
            answers.append(await batcher.submit(lambda: Job(10, 2, name)))

        async with anyio.create_task_group() as tasks:
            for index in range(33):
                tasks.start_soon(one, str(index))
            await until(lambda: batcher.waiting + batcher.running == 33)
            model.go.set()
        assert sorted(answers, key=str) == sorted((f"answer to {index}" for index in range(33)), key=str)
        assert batcher.max_batch_tokens // 12 <= 3
        await batcher.aclose()

    anyio.run(scenario)


def test_who_does_not_fit_alone_fails_alone() -> None:
    model = Model(room=0)
    results = anyio.run(run, model, jobs(3))
    assert all(isinstance(result, DoesNotFitError) for result in results)


def test_a_failure_is_the_culprits_only() -> None:
    results = anyio.run(run, Model(poison="5"), jobs(20))
    assert str(results.pop(5)) == "ValueError: a bad tensor"
    assert results == [f"answer to {index}" for index in range(20) if index != 5]


def test_closing_tells_those_who_wait_and_ends_the_thread() -> None:
    async def scenario() -> None:
        model = Model(held=True)
        batcher = Batcher(model, max_batch_tokens=12, max_queue=2)
        told: list[str] = []

        async def one() -> None:
            with pytest.raises(ClosedError):
                await batcher.submit(lambda: Job(10, 2, "x"))
            told.append("x")

        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(one)
            await until(lambda: (batcher.running, batcher.waiting) == (1, 2))
            tasks.start_soon(batcher.aclose)
            await anyio.wait_all_tasks_blocked()
            model.go.set()
        assert len(told) == 6
        assert model.thread is not None
        assert not model.thread.is_alive()
        await one()

    anyio.run(scenario)


def test_what_preparing_raises_comes_to_the_caller() -> None:
    async def scenario() -> None:
        batcher = Batcher(Model(), max_batch_tokens=12, max_queue=1)

        def broken() -> Job:
            raise LookupError("no template")

        for _ in range(3):
            with pytest.raises(LookupError):
                await batcher.submit(broken)
        await batcher.aclose()

    anyio.run(scenario)

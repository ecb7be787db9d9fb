"""Groups waiting requests into batches and runs them on a thread. Knows nothing about models.

Requests join a running batch between two of its steps and leave it as soon as they are done, so that none
waits for the longest one. An engine does the arithmetic; it is called from one thread only.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import anyio
import anyio.to_thread

__all__ = ["BatchFailedError", "Batcher", "ClosedError", "DoesNotFitError", "Engine", "Work", "choose"]


_READ_AT_ONCE = 32_768
"""Prompt tokens, padded: enough to keep a GPU busy, and a bound on the memory of intermediate results."""


class DoesNotFitError(Exception):
    """A request does not fit into the memory, even alone."""


class BatchFailedError(Exception):
    """The engine failed on a request that ran alone. The message is one line."""


class ClosedError(Exception):
    """The batcher was closed before the request was done."""


class Work(Protocol):
    """One request: the tokens of its prompt, and those that it may generate at most."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        ...

    @property
    def new_tokens(self) -> int:
        """Tokens that may be generated."""
        ...


W = TypeVar("W", bound=Work)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Engine(Protocol[W, R_co]):
    """Runs a batch. After any exception it is cleared, and its requests are submitted again."""

    def join(self, works: Sequence[W]) -> None:
        """Read the prompts; from now on the requests belong to the batch."""
        ...

    def step(self) -> Sequence[tuple[W, R_co]]:
        """Generate a token for each request; those that are done leave, with their results."""
        ...

    def leave(self, works: Sequence[W]) -> None:
        """Drop requests that nobody is waiting for."""
        ...

    def clear(self) -> None:
        """Drop the whole batch and free its memory."""
        ...

    def out_of_memory(self, error: Exception) -> bool:
        """Whether this exception of `join` or `step` says that the memory was too small."""
        ...


def _tokens(work: Work) -> int:
    return work.prompt_tokens + work.new_tokens


def _cost(works: Sequence[Work]) -> int:
    """Tokens that a batch takes, padding included."""
    return len(works) * max(map(_tokens, works), default=0)


def choose(waiting: Sequence[Work], running: Sequence[Work], budget: int) -> list[int]:
    """Indices of the requests that join next, in a group of similar length; none if it is better to wait.

    `waiting` is in order of arrival. The first leads: none joins before it, so none starves. Those nearest to
    it in length join it while the padded tokens of the batch stay within `budget`. A request that exceeds the
    budget by itself runs alone.
    """
    leader = waiting[0]
    if _cost([*running, leader]) > budget:
        return [] if running else [0]
    within = max(32, leader.prompt_tokens // 4)
    distance = [abs(work.prompt_tokens - leader.prompt_tokens) for work in waiting]
    near = sorted((i for i, d in enumerate(distance) if d <= within), key=distance.__getitem__)
    longest, read, chosen = max(map(_tokens, running), default=0), 0, list[int]()
    for index in near:
        work, count = waiting[index], len(chosen) + 1
        longest, read = max(longest, _tokens(work)), max(read, work.prompt_tokens)
        if longest * (len(running) + count) > budget:
            # Reading a prompt or two would delay all that generate: wait until there is more room.
            return chosen if len(chosen) >= len(running) // 4 else []
        if chosen and read * count > _READ_AT_ONCE:
            break
        chosen.append(index)
    return chosen


@dataclass(eq=False, slots=True)
class _Job(Generic[W, R]):
    work: W
    loop: asyncio.AbstractEventLoop
    entered: asyncio.Future[None]
    result: asyncio.Future[R]
    alone: bool = False
    abandoned: bool = False

    def enter(self) -> None:
        self._tell(lambda: None if self.entered.done() else self.entered.set_result(None))

    def succeed(self, result: R) -> None:
        self._tell(lambda: None if self.result.done() else self.result.set_result(result))

    def fail(self, error: Exception) -> None:
        self.enter()
        self._tell(lambda: None if self.result.done() else self.result.set_exception(error))

    def _tell(self, callback: Callable[[], None]) -> None:
        # Nobody waits on a loop that has ended.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(callback)


@dataclass(frozen=True, slots=True)
class _Failure:
    """What is kept of an exception: not its traceback, which would keep the batch's memory."""

    out_of_memory: bool
    text: str


class Batcher(Generic[W, R]):
    """Runs requests in batches on its own thread, which starts with the first request.

    `max_batch_tokens` bounds a batch: requests times the longest, prompt and new tokens. `max_queue` bounds
    those that wait to join; further ones wait to be prepared. Used from one event loop at a time.
    """

    def __init__(
        self, engine: Engine[W, R], *, max_batch_tokens: int, max_queue: int, name: str = "batcher"
    ) -> None:
        self._engine = engine
        self._budget = max_batch_tokens
        self._slots = anyio.Semaphore(max_queue)
        self._preparing = anyio.CapacityLimiter(1)
        self._name = name
        self._changed = threading.Condition()
        self._waiting: list[_Job[W, R]] = []
        self._running: dict[int, _Job[W, R]] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def max_batch_tokens(self) -> int:
        """The current bound of a batch: lowered when the memory was too small."""
        return self._budget

    @property
    def waiting(self) -> int:
        """Requests that wait to join a batch."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return len(self._running)

    async def submit(self, prepare: Callable[[], W]) -> R:
        """Run what `prepare` returns; it is called on a thread once the queue has room. Cancel to leave.

        Raises:
            DoesNotFitError: the request does not fit into the memory, even alone.
            BatchFailedError: the engine failed on this request.
            ClosedError: the batcher is closed.
            Exception: what `prepare` raises.
        """
        job: _Job[W, R] | None = None
        try:
            async with self._slots:
                work = await anyio.to_thread.run_sync(prepare, limiter=self._preparing)
                job = self._put(work)
                await job.entered
            return await job.result
        finally:
            if job is not None:
                self._abandon(job)

    async def aclose(self) -> None:
        """End the thread. Requests that are not done fail with `ClosedError`."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._thread.join)

    def _put(self, work: W) -> _Job[W, R]:
        loop = asyncio.get_running_loop()
        job = _Job[W, R](work, loop, loop.create_future(), loop.create_future())
        with self._changed:
            if self._closed:
                raise ClosedError("the model is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._waiting.append(job)
            self._changed.notify()
        return job

    def _abandon(self, job: _Job[W, R]) -> None:
        job.abandoned = True
        with self._changed, contextlib.suppress(ValueError):
            self._waiting.remove(job)

    # The methods below run on the thread.

    def _run(self) -> None:
        try:
            while self._work_to_do():
                failure = self._advance()
                if failure is not None:
                    self._recover(failure)
        finally:
            with self._changed:
                self._closed = True
                left = [*self._running.values(), *self._waiting]
                self._running.clear()
                self._waiting.clear()
            for job in left:
                job.fail(ClosedError("the model is closed"))
            self._engine.clear()

    def _work_to_do(self) -> bool:
        """Wait for work; False once closed."""
        with self._changed:
            while not (self._closed or self._waiting or self._running):
                self._changed.wait()
            return not self._closed

    def _advance(self) -> _Failure | None:
        """Let the requests that fit join, and advance all by one step."""
        try:
            gone = [key for key, job in self._running.items() if job.abandoned]
            if gone:
                self._engine.leave([self._running.pop(key).work for key in gone])
            while group := self._take():
                self._engine.join([job.work for job in group])
            for work, result in self._engine.step() if self._running else ():
                self._running.pop(id(work)).succeed(result)
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread must go on
            first_line = next(iter(str(error).splitlines()), "")
            return _Failure(self._engine.out_of_memory(error), f"{type(error).__name__}: {first_line}")
        return None

    def _take(self) -> list[_Job[W, R]]:
        """Move the next group from the queue into the batch."""
        with self._changed:
            running = list(self._running.values())
            if not self._waiting or any(job.alone for job in running):
                return []
            if self._waiting[0].alone:
                group = [] if running else [self._waiting[0]]
            else:
                pool = [job for job in self._waiting if not job.alone]
                works = [job.work for job in pool]
                group = [pool[i] for i in choose(works, [job.work for job in running], self._budget)]
            if group:
                taken = set(map(id, group))
                self._waiting = [job for job in self._waiting if id(job) not in taken]
                self._running.update((id(job.work), job) for job in group)
        for job in group:
            job.enter()
        return group

    def _recover(self, failure: _Failure) -> None:
        """Run the batch again: in smaller batches, or each request alone to find the culprit."""
        self._engine.clear()
        jobs = list(self._running.values())
        self._running.clear()
        if len(jobs) == 1:
            kind = DoesNotFitError if failure.out_of_memory else BatchFailedError
            jobs[0].fail(kind(failure.text))
            return
        if failure.out_of_memory:
            self._budget = max(1, _cost([job.work for job in jobs]) // 2)
        with self._changed:
            for job in jobs:
                job.alone = job.alone or not failure.out_of_memory
            self._waiting[:0] = [job for job in jobs if not job.abandoned]

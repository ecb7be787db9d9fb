"""Requests to one model through its batch endpoint: submit, remember, poll, collect.

Every step is in the store before the next one: a batch is written down with its requests before it is
submitted, and its id right after. So a kill at any moment loses nothing: what may have been submitted
is looked for at the endpoint, and what is there is collected, never sent again.
"""

from __future__ import annotations

import math
import uuid
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import anyio
from anyio.abc import TaskGroup

from safemt_client.engine.batch_search import LOOKS, OpenBatch, find, is_gone
from safemt_client.engine.recorder import Recorder
from safemt_client.engine.spending import Spending
from safemt_client.providers.alike import Alike, every_request_fails
from safemt_client.providers.batch.base import (
    BatchEndpoint,
    BatchRefusedError,
    BatchState,
    BatchUnsureError,
)
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import SafemtError, TargetStoppedError
from safemt_client.providers.types import Outcome, Reply, Request

__all__ = ["BatchRunner", "Job"]

_FIRST_POLL_S, _POLL_GROWTH, _LONGEST_POLL_S = 1.0, 1.5, 60.0
_ROUNDS = 3
_AT_A_TIME = 256
# Ended with answers, but none to be fetched yet.
_EMPTY_LOOKS = 20
# A batch failed as a whole because too much is queued at the vendor: smaller and later it may pass.
_TOO_MUCH = ("token_limit", "enqueued", "rate_limit", "too many", "quota of batch")


@dataclass(frozen=True, slots=True)
class Job:
    """One request that may go in a batch.

    `key` (64 hexadecimal digits) is the name of its result; `calls` is what is paid for, by key of the
    budget; `land` stores the reply and continues: it is told the batch, and whether it is asked again.
    """

    key: str
    request: Request
    calls: Mapping[str, int]
    land: Callable[[Reply, str, bool], Awaitable[None]]


class BatchRunner:
    """Runs jobs of one target or judge, `owner_key`, in batches. Use once.

    `status` is told how far a batch is (key, done, total; all 0 when it is over).
    """

    def __init__(
        self,
        owner_key: str,
        identity: str,
        endpoint: BatchEndpoint,
        recorder: Recorder,
        budget: Spending,
        *,
        status: Callable[[str, int, int], None],
    ) -> None:
        self._owner_key = owner_key
        self._identity = identity
        self._endpoint = endpoint
        self._recorder = recorder
        self._budget = budget
        self._status = status
        self._jobs: dict[str, Job] = {}
        self._todo: deque[str] = deque()
        self._reserved: set[str] = set()
        self._rounds: Counter[str] = Counter()
        self._alike = Alike()
        self._under_way: list[OpenBatch] = []
        self._most = endpoint.most_requests
        self._changed = anyio.Event()
        # Scopes to cancel on `stop`, each with the time until which it does nothing but wait.
        self._waiting: dict[anyio.CancelScope, float] = {}
        self._stopped = False
        self._send = False
        self.capped: dict[str, int] = {}
        """The calls that could no longer be paid, empty if all could."""

    async def run(self, jobs: Sequence[Job], *, send: bool) -> None:
        """Collect what earlier sessions have submitted of these and, with `send`, submit the others.

        Raises:
            SafemtError: the endpoint does not take batches, or the target is stopped.
            StoreError: the store cannot be written.
        """
        self._send = send
        self._jobs = {job.key: job for job in jobs}
        before = self._submitted_before()
        submitted = {request_hash for batch in before for request_hash in batch.hashes}
        if send:
            self._todo.extend(key for key in self._jobs if key not in submitted)
        for request_hash in submitted & set(self._jobs):
            self._budget.set_aside(self._jobs[request_hash].calls, in_batch=self._owner_key)
            self._reserved.add(request_hash)
        try:
            async with anyio.create_task_group() as group:
                for batch in before:
                    self._under_way.append(batch)
                    group.start_soon(self._follow, batch)
                while not self._stopped:
                    chunk = await self._next_chunk()
                    if self._stopped:
                        break
                    if chunk:
                        await self._submit(chunk, group)
                    elif self._under_way:
                        await self._changed.wait()
                        self._changed = anyio.Event()
                    else:
                        break
        finally:
            for request_hash in tuple(self._reserved):
                self._release(request_hash)

    def stop(self) -> None:
        """Stop waiting for batches; what is submitted is collected by the next session."""
        self._stopped = True
        self._changed.set()
        now = anyio.current_time()
        for scope, until in self._waiting.items():
            if until > now:
                scope.cancel()

    def _submitted_before(self) -> list[OpenBatch]:
        return [
            OpenBatch(found.key, found.hashes, found.total, found.since, found.remote_id)
            for found in self._recorder.store.open_batches(list(self._jobs))
        ]

    def _release(self, request_hash: str) -> None:
        self._reserved.discard(request_hash)
        self._budget.release(self._jobs[request_hash].calls, in_batch=self._owner_key)

    async def _next_chunk(self) -> dict[str, bytes]:
        """As many requests as a batch can contain and the money allows, by hash, as they are sent."""
        chunk: dict[str, bytes] = {}
        size = 0
        while self._todo and len(chunk) < self._most and not self._stopped:
            request_hash = self._todo[0]
            calls = dict(self._jobs[request_hash].calls)
            if not self._budget.try_reserve(calls, in_batch=self._owner_key):
                if chunk or self._under_way:
                    break
                # What others have set aside may turn out cheaper.
                paid = False
                with anyio.CancelScope() as scope, self._waits(scope):
                    paid = await self._budget.reserve(calls, in_batch=self._owner_key)
                if not paid:
                    if not self._stopped:
                        self.capped = calls
                        self._todo.clear()
                    break
            self._reserved.add(request_hash)
            line = await self._endpoint.encode(request_hash, self._jobs[request_hash].request)
            if chunk and size + len(line) > self._endpoint.most_bytes:
                self._release(request_hash)
                break
            self._todo.popleft()
            chunk[request_hash] = line
            size += len(line)
        return chunk

    async def _submit(self, chunk: dict[str, bytes], group: TaskGroup) -> None:
        batch = OpenBatch(f"safemt-{uuid.uuid4().hex[:16]}", tuple(chunk), len(chunk), datetime.now(UTC))
        await self._record(batch, "intended", hashes=batch.hashes)
        try:
            # Not to be cut short: whether the batch was submitted would be unknown; but while it only waits
            # for another attempt, nothing has been submitted.
            with anyio.CancelScope(shield=True) as scope, self._waits(scope, 0.0):

                def on_retry(reply: Reply, wait_s: float) -> None:
                    self._waiting[scope] = anyio.current_time() + wait_s
                    if self._stopped:
                        scope.cancel()

                batch.remote_id = await self._endpoint.submit(batch.key, list(chunk.values()), on_retry)
                await self._record(batch, "submitted")
            if scope.cancelled_caught:
                await self._record(batch, "failed", "stopped before it was begun")
                return
        except BatchUnsureError:
            # Followed without an id: it is looked for.
            batch.looks = LOOKS
        except BatchRefusedError as error:
            await self._record(batch, "failed", str(error))
            if error.status != 429:
                raise
            self._under_way.append(batch)
            group.start_soon(self._follow, batch, str(error))
            return
        except SafemtError as error:
            await self._record(batch, "failed", str(error))
            raise
        self._under_way.append(batch)
        self._status(batch.key, 0, batch.total)
        group.start_soon(self._follow, batch)

    async def _follow(self, batch: OpenBatch, too_much: str | None = None) -> None:
        try:
            with anyio.CancelScope() as scope, self._waits(scope):
                # Whatever waits is given up on `stop`; what is being stored is shielded.
                if too_much is None:
                    await self._follow_to_its_end(batch)
                else:
                    await self._later(batch, too_much)
        finally:
            self._under_way.remove(batch)
            batch.over.set()
            self._status(batch.key, 0, 0)
            self._changed.set()

    async def _follow_to_its_end(self, batch: OpenBatch) -> None:
        pause = _FIRST_POLL_S
        while not self._stopped:
            if batch.remote_id is None and not await self._find(batch):
                await self._give_up(batch, "lost", "the endpoint has no such batch")
                return
            assert batch.remote_id is not None
            try:
                state = await self._endpoint.state(batch.remote_id)
                if state.status == "failed":
                    await self._failed(batch, state.error or "no reason given")
                    return
                if state.status == "ended" and await self._collect(batch, state):
                    return
            except BatchRefusedError as error:
                if error.status != 404 or not await is_gone(batch, self._endpoint):
                    raise
                await self._give_up(batch, "lost", str(error))
                return
            self._status(batch.key, state.done, state.total or batch.total)
            await anyio.sleep(pause)
            pause = min(pause * _POLL_GROWTH, _LONGEST_POLL_S)

    async def _find(self, batch: OpenBatch) -> bool:
        """Look for a batch whose submission had no known end."""
        store = self._recorder.store
        remote = await find(batch, self._endpoint, lambda: store.known_keys("batches", "remote_id"))
        if remote is None:
            return False
        batch.remote_id = remote.id
        if remote.mark is not None:
            await self._record(batch, "submitted")
        return True

    async def _collect(self, batch: OpenBatch, state: BatchState) -> bool:
        """Store the results; False if there are none yet, or they show that the batch is another's."""
        assert batch.remote_id is not None
        requests = {key: self._jobs[key].request for key in batch.hashes if key in self._jobs}
        replies = await self._endpoint.results(batch.remote_id, requests)
        if not replies and state.done and batch.empty_looks < _EMPTY_LOOKS:
            batch.empty_looks += 1
            return False
        if replies and not replies.keys() & set(batch.hashes):
            batch.not_ours.add(batch.remote_id)
            batch.remote_id = None
            return False
        missing = _incomplete(state.error or "no result in the batch")
        await self._settle(batch, lambda request_hash: replies.get(request_hash, missing))
        return True

    async def _settle(self, batch: OpenBatch, reply_of: Callable[[str], Reply]) -> None:
        """Store a reply for each request that this run waits for, and ask again where that is allowed."""
        wanted = [request_hash for request_hash in batch.hashes if request_hash in self._jobs]
        limiter = anyio.CapacityLimiter(_AT_A_TIME)
        answered = 0
        failures: list[Reply] = []

        async def one(request_hash: str) -> None:
            nonlocal answered
            reply = reply_of(request_hash)
            again = reply.outcome is Outcome.ERROR_TRANSIENT and self._may_ask_again(request_hash)
            async with limiter:
                self._reserved.discard(request_hash)
                await self._jobs[request_hash].land(reply, batch.key, again)
            answered += reply.outcome.observed
            if reply.outcome.observed:
                self._alike.succeeded()
            elif self._send and not again:
                self._alike.failed(reply, self._jobs[request_hash].request, last=True)
                failures.append(reply)
            if again:
                self._todo.append(request_hash)

        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for request_hash in wanted:
                    group.start_soon(one, request_hash)
            # What this run does not plan stays with the batch, for the run that does.
            if len(wanted) == len(batch.hashes):
                await self._record(batch, "collected", f"{answered} of {len(wanted)} answered")
        if self._alike.many:
            last = failures[-1]
            raise TargetStoppedError(every_request_fails(last), code=last.error_code, status=last.status_code)

    def _may_ask_again(self, request_hash: str) -> bool:
        self._rounds[request_hash] += 1
        return self._send and self._rounds[request_hash] < _ROUNDS

    async def _failed(self, batch: OpenBatch, reason: str) -> None:
        await self._record(batch, "failed", reason)
        if not any(word in reason.lower() for word in _TOO_MUCH):
            raise BatchRefusedError(f"the batch {batch.remote_id} failed: {reason}")
        await self._later(batch, reason)

    async def _later(self, batch: OpenBatch, reason: str) -> None:
        """Too much is queued at the vendor: wait for another batch, or try a smaller one after a pause."""
        batch.postponed = True
        others = [other for other in self._under_way if not other.postponed]
        if others:
            await others[0].over.wait()
            for request_hash in batch.hashes:
                if request_hash in self._jobs:
                    self._release(request_hash)
                    if self._send:
                        self._todo.append(request_hash)
            return
        self._most = max(1, math.ceil(len(batch.hashes) / 2))
        await anyio.sleep(_LONGEST_POLL_S)
        await self._ask_again_or_fail(batch, reason)

    async def _give_up(self, batch: OpenBatch, event: str, detail: str) -> None:
        await self._record(batch, event, detail)
        await self._ask_again_or_fail(batch, detail)

    async def _ask_again_or_fail(self, batch: OpenBatch, reason: str) -> None:
        """Ask again if no answer was paid for; after too many failures store an error."""
        error = _incomplete(reason)
        for request_hash in batch.hashes:
            if request_hash not in self._jobs:
                continue
            if self._may_ask_again(request_hash):
                self._release(request_hash)
                self._todo.append(request_hash)
            else:
                self._reserved.discard(request_hash)
                with anyio.CancelScope(shield=True):
                    await self._jobs[request_hash].land(error, batch.key, False)

    @contextmanager
    def _waits(self, scope: anyio.CancelScope, until: float = math.inf) -> Iterator[None]:
        """Let `stop` cancel the scope, if it is called before `until`."""
        self._waiting[scope] = until
        if self._stopped and until > anyio.current_time():
            scope.cancel()
        try:
            yield
        finally:
            del self._waiting[scope]

    async def _record(
        self, batch: OpenBatch, event: str, detail: str | None = None, hashes: Sequence[str] = ()
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._recorder.save_batch(
                batch.key,
                self._owner_key,
                self._identity,
                event,
                remote_id=batch.remote_id,
                requests=batch.total,
                detail=detail,
                hashes=hashes,
            )


def _incomplete(reason: str) -> Reply:
    """The reply for a request of which the batch has no result."""
    return Reply(Outcome.ERROR_TRANSIENT, error=reason, error_code=ErrorCode.BATCH_INCOMPLETE)

"""A target's conversations through its batch endpoint: submit, remember, poll, collect.

Every step is in the store before the next one: a batch is written down with its requests before it is
submitted, and its id right after. So a kill at any moment loses nothing: what may have been submitted
is looked for at the endpoint, and what is there is collected, never sent again.
"""

from __future__ import annotations

import math
import uuid
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import anyio

from safemt_client.budget import Budget
from safemt_client.plan import Conversation, Target
from safemt_client.providers.batches import BatchEndpoint, BatchRefusedError, BatchUnsureError
from safemt_client.providers.errors import SafemtError
from safemt_client.providers.types import Outcome, Reply
from safemt_client.recorder import Recorder

__all__ = ["BatchRunner", "Landing"]

Landing = Callable[[Sequence[Conversation], str, Reply, str], Awaitable[None]]
"""Stores the reply to a request of a batch, for the conversations that wait for it, and goes on."""

_FIRST_POLL_S, _POLL_GROWTH, _LONGEST_POLL_S = 1.0, 1.5, 60.0
_ROUNDS = 3
_AT_A_TIME = 256
# How long after a submission of unknown end it is looked for, in seconds.
_LOOKS = (0.0, 1.0, 4.0)
_CLOCK_SKEW = timedelta(minutes=10)
# A batch failed as a whole because too much is queued at the vendor: smaller and later it may pass.
_TOO_MUCH = ("token_limit", "enqueued", "rate_limit", "too many", "quota of batch")


@dataclass(eq=False)
class _Batch:
    key: str
    hashes: tuple[str, ...]  # of the requests that have no result yet
    total: int
    since: datetime
    remote_id: str | None = None
    not_ours: set[str] = field(default_factory=set)


class BatchRunner:
    """Runs one target's conversations in batches. Use once.

    `land` stores a reply and hands the conversations on; `status` is told how far a batch is (key, done,
    total; all 0 when it is over).
    """

    def __init__(
        self,
        target: Target,
        endpoint: BatchEndpoint,
        recorder: Recorder,
        budget: Budget,
        *,
        judge_key: str | None,
        land: Landing,
        status: Callable[[str, int, int], None],
    ) -> None:
        self._target = target
        self._endpoint = endpoint
        self._recorder = recorder
        self._budget = budget
        self._judge_key = judge_key
        self._land = land
        self._status = status
        self._groups: dict[str, list[Conversation]] = {}
        self._todo: deque[str] = deque()
        self._rounds: Counter[str] = Counter()
        self._under_way: list[_Batch] = []
        self._most = endpoint.most_requests
        self._changed = anyio.Event()
        self._waiting: set[anyio.CancelScope] = set()
        self._stopped = False
        self._send = False
        self.capped: dict[str, int] = {}
        """The calls that could not be paid any more, empty if all could."""

    async def run(self, conversations: Sequence[Conversation], *, send: bool) -> None:
        """Collect what earlier sessions have submitted of these and, with `send`, submit the others.

        Raises:
            SafemtError: the endpoint does not take batches, or the target is stopped.
            StoreError: the store cannot be written.
        """
        self._send = send
        for conversation in conversations:
            self._groups.setdefault(conversation.next()[1], []).append(conversation)
        before = self._submitted_before()
        submitted = {request_hash for batch in before for request_hash in batch.hashes}
        if send:
            self._todo.extend(request_hash for request_hash in self._groups if request_hash not in submitted)
        for request_hash in submitted & set(self._groups):
            self._budget.set_aside(self._calls(request_hash))
        async with anyio.create_task_group() as group:
            for batch in before:
                self._under_way.append(batch)
                group.start_soon(self._follow, batch)
            while not self._stopped:
                chunk = await self._next_chunk()
                if chunk:
                    batch = await self._submit(chunk)
                    self._under_way.append(batch)
                    group.start_soon(self._follow, batch)
                elif self._under_way:
                    await self._changed.wait()
                    self._changed = anyio.Event()
                else:
                    break

    def stop(self) -> None:
        """Wait for no batch any more; what is submitted is collected by the next session."""
        self._stopped = True
        self._changed.set()
        for scope in self._waiting:
            scope.cancel()

    def _submitted_before(self) -> list[_Batch]:
        return [
            _Batch(found.key, found.hashes, found.total, found.since, found.remote_id)
            for found in self._recorder.store.open_batches(list(self._groups))
        ]

    def _calls(self, request_hash: str) -> dict[str, int]:
        """What is paid for a request: one call, and a verdict for each conversation that waits for it."""
        calls = {self._target.key: 1}
        if self._judge_key is not None:
            calls[self._judge_key] = calls.get(self._judge_key, 0) + len(self._groups[request_hash])
        return calls

    async def _next_chunk(self) -> dict[str, bytes]:
        """As many requests as a batch holds and the money allows, by hash, as they are sent."""
        chunk: dict[str, bytes] = {}
        size = 0
        while self._todo and len(chunk) < self._most and not self._stopped:
            request_hash = self._todo[0]
            calls = self._calls(request_hash)
            if not self._budget.try_reserve(calls):
                if not chunk and not self._under_way:
                    self.capped = calls
                    self._todo.clear()
                break
            line = await self._endpoint.encode(request_hash, self._groups[request_hash][0].next()[0])
            if chunk and size + len(line) > self._endpoint.most_bytes:
                self._budget.release(calls)
                break
            self._todo.popleft()
            chunk[request_hash] = line
            size += len(line)
        return chunk

    async def _submit(self, chunk: dict[str, bytes]) -> _Batch:
        batch = _Batch(f"safemt-{uuid.uuid4().hex[:16]}", tuple(chunk), len(chunk), datetime.now(UTC))
        await self._record(batch, "intended", hashes=batch.hashes)
        try:
            # Not to be cut short: whether a batch was begun would not be known.
            with anyio.CancelScope(shield=True):
                batch.remote_id = await self._endpoint.submit(batch.key, list(chunk.values()))
                await self._record(batch, "submitted")
        except BatchUnsureError:
            pass  # followed without an id: it is looked for
        except SafemtError as error:
            await self._record(batch, "failed", str(error))
            raise
        self._status(batch.key, 0, len(batch.hashes))
        return batch

    async def _follow(self, batch: _Batch) -> None:
        try:
            await self._follow_to_its_end(batch)
        finally:
            self._under_way.remove(batch)
            self._status(batch.key, 0, 0)
            self._changed.set()

    async def _follow_to_its_end(self, batch: _Batch) -> None:
        pause = _FIRST_POLL_S
        with anyio.CancelScope() as scope:
            # Whatever waits is given up on `stop`; what is being stored is shielded.
            self._waiting.add(scope)
            try:
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
                        if state.status == "ended" and await self._collect(batch, state.error):
                            return
                    except BatchRefusedError as error:
                        if error.status != 404:
                            raise
                        await self._give_up(batch, "lost", str(error))
                        return
                    self._status(batch.key, state.done, state.total or batch.total)
                    await anyio.sleep(pause)
                    pause = min(pause * _POLL_GROWTH, _LONGEST_POLL_S)
            finally:
                self._waiting.discard(scope)

    async def _find(self, batch: _Batch) -> bool:
        """Look for a batch whose submission had no known end: by our mark, or else by its size."""
        for wait in _LOOKS:
            await anyio.sleep(wait)
            taken = self._recorder.store.known_keys("batches", "remote_id") | batch.not_ours
            listed = await self._endpoint.list_since(batch.since - _CLOCK_SKEW)
            found = [remote for remote in listed if remote.id not in taken]
            ours = [remote for remote in found if remote.mark == batch.key]
            ours += [r for r in found if r.mark is None and r.total in (0, batch.total)]
            if ours:
                batch.remote_id = ours[0].id
                if ours[0].mark is not None:
                    await self._record(batch, "submitted")
                return True
        return False

    async def _collect(self, batch: _Batch, error: str | None) -> bool:
        """Store the results; False if they show that the batch is another's."""
        assert batch.remote_id is not None
        replies = await self._endpoint.results(batch.remote_id)
        if replies and not replies.keys() & set(batch.hashes):
            batch.not_ours.add(batch.remote_id)
            batch.remote_id = None
            return False
        missing = Reply(Outcome.ERROR_TRANSIENT, error=error or "no result in the batch")
        wanted = [request_hash for request_hash in batch.hashes if request_hash in self._groups]
        limiter = anyio.CapacityLimiter(_AT_A_TIME)
        again: list[str] = []

        async def one(request_hash: str) -> None:
            async with limiter:
                reply = replies.get(request_hash, missing)
                await self._land(self._groups[request_hash], request_hash, reply, batch.key)
                if reply.outcome is Outcome.ERROR_TRANSIENT:
                    again.append(request_hash)

        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for request_hash in wanted:
                    group.start_soon(one, request_hash)
            # What this run does not plan stays with the batch, for the run that does.
            if len(wanted) == len(batch.hashes):
                await self._record(
                    batch, "collected", f"{len(wanted) - len(again)} of {len(wanted)} answered"
                )
        self._again(again)
        return True

    async def _failed(self, batch: _Batch, reason: str) -> None:
        await self._give_up(batch, "failed", reason, again=False)
        if not any(word in reason.lower() for word in _TOO_MUCH):
            raise BatchRefusedError(f"the batch {batch.remote_id} failed: {reason}")
        self._most = max(1, math.ceil(len(batch.hashes) / 2))
        await anyio.sleep(_LONGEST_POLL_S)
        self._again(batch.hashes)

    async def _give_up(self, batch: _Batch, event: str, detail: str, *, again: bool = True) -> None:
        await self._record(batch, event, detail)
        for request_hash in set(batch.hashes) & set(self._groups):
            self._budget.release(self._calls(request_hash))
        if again:
            self._again(batch.hashes)

    def _again(self, hashes: Sequence[str]) -> None:
        for request_hash in hashes if self._send else ():
            self._rounds[request_hash] += 1
            if request_hash in self._groups and self._rounds[request_hash] < _ROUNDS:
                self._todo.append(request_hash)

    async def _record(
        self, batch: _Batch, event: str, detail: str | None = None, hashes: Sequence[str] = ()
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._recorder.save_batch(
                batch.key,
                self._target,
                event,
                remote_id=batch.remote_id,
                requests=batch.total,
                detail=detail,
                hashes=hashes,
            )

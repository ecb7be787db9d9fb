"""The workers of a run: who has which piece, what they tell, and what becomes of those that are lost."""

from __future__ import annotations

import uuid
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio

from safemt_client.cluster.actors import DiedError, Peer, Worker
from safemt_client.cluster.link import AwayError
from safemt_client.cluster.news import Item
from safemt_client.cluster.nodes import Nodes
from safemt_client.cluster.packed import pack
from safemt_client.cluster.shards import Shard
from safemt_client.cluster.supply import Supply
from safemt_client.cluster.versions import check_alike
from safemt_client.cluster.worker import AT_ONCE, MOST
from safemt_client.providers.errors import SafemtError
from safemt_client.providers.limits.permits import Change
from safemt_client.providers.pauses import PAUSES
from safemt_client.providers.types import Usage
from safemt_client.telemetry.events import Listener, StopReason

__all__ = ["Fleet"]

LOST_S = 15.0
"""After so long without a word a worker's pieces are handed on: it starts nothing by then."""
_BEGIN_S, _END_S, _PAUSE_S, _WATCH_S = 300.0, 60.0, 0.2, 1.0
_MOST_DEATHS = 3
_REST = "storing for the report what the store has of the rest of the run; Ctrl-C again leaves that out"


class _SilentError(DiedError):
    """It has not answered for long, and may be alive."""


@dataclass(eq=False)
class _Member:
    name: str
    peer: Peer
    heard: float
    shards: dict[int, Shard] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    unsent: dict[int, tuple[bytes, dict[str, Any]]] = field(default_factory=dict)
    in_flight: Counter[str] = field(default_factory=Counter)
    gone: bool = False

    @property
    def takes_more(self) -> bool:
        return len(self.shards) < MOST and len(self.shards.keys() - self.begun) < AT_ONCE


class Fleet:
    """Carries shards out on workers. Use once.

    `named` are the names of the Writer and the Accounts. `supply` makes the shards, and of a lost one what is
    left of it; `saved` is told of rows that workers have put into it, and `changed` of changed limits.
    """

    # 9 parameters: where workers run, what they are given, and who is told.
    def __init__(
        self,
        nodes: Nodes,
        writer: Peer,
        accounts: Peer,
        named: tuple[str, str],
        head: bytes,
        supply: Supply,
        listener: Listener,
        saved: Callable[[Sequence[Any]], None],
        changed: Callable[[Change], Awaitable[None]],
    ) -> None:
        self._nodes, self._writer, self._accounts, self._named = nodes, writer, accounts, named
        self._head = head
        self._supply, self._listener, self._saved, self._changed = supply, listener, saved, changed
        self._waiting: deque[Shard] = deque()
        self._open = 0
        self._all_made = False
        self._members: dict[str, _Member] = {}
        self._all: list[_Member] = []
        self._deaths = 0
        self._gone_usd = 0.0
        self._stopping = False
        self._notices: set[str] = set()
        self._stopped: set[str] = set()
        self._step = anyio.Event()
        self.on_sent: Callable[[Mapping[str, int]], None] = lambda sent: None
        """Told how many requests workers have sent to servers of this process, by host."""
        self.ending = StopReason()
        self.exact = True
        """Whether all that was spent is known to the store."""
        self.used: list[dict[str, Any]] = []
        """What each worker took; see `Worker.end`."""

    async def run(self) -> StopReason:
        """Carry all shards out.

        Raises:
            InputError: a worker lacks something.
            StoreError: the store cannot be written.
        """
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, group)
            group.start_soon(self._fill)
            for _ in range(self._nodes.workers):
                group.start_soon(self._member, group)
            while not self._all_made or (self._open and (self._in_hand or not self._stopping)):
                self._step = anyio.Event()
                await self._step.wait()
            await self._end()
            group.cancel_scope.cancel()
        self.ending.interrupted |= self._stopping
        return self.ending

    def stop(self) -> None:
        """Hand no more shards out, and let what is in flight land."""
        self._stopping = True
        self._step.set()

    def kill(self) -> None:
        """End all workers at once."""
        for member in self._all:
            self._nodes.kill(member.peer.handle)

    @property
    def names(self) -> list[str]:
        """The workers that are alive."""
        return [member.name for member in self._members.values() if not member.gone]

    @property
    def spent_usd(self) -> float:
        """What workers that have ended spent, and lost ones may have. New Accounts do not know it."""
        return self._gone_usd + sum(float(used["spent_usd"]) for used in self.used)

    def _under_way(self) -> list[Shard]:
        return [*self._waiting, *(one for member in self._members.values() for one in member.shards.values())]

    async def _fill(self) -> None:
        """Have as many shards waiting as workers take at once."""
        ending = self.ending
        while not (self._stopping or ending.capped or self._supply.over(ending.stopped.keys())):
            shards: list[Shard] | None = []
            if len(self._waiting) < AT_ONCE * self._nodes.workers:
                shards = await self._supply.more(self._under_way)
            if shards is None:
                break
            if not shards:
                await anyio.sleep(_PAUSE_S)
            self._waiting += shards
            self._open += len(shards)
        # Where the run ends early, its report is also about what others had asked before.
        await self._supply.save_rest(partial(self._once, _REST))
        self._all_made = True
        self._step.set()

    @property
    def _in_hand(self) -> int:
        return sum(len(member.shards) for member in self._members.values())

    async def _member(self, group: Any) -> None:
        """A worker from its start to its end, or to its loss: then another one takes its place."""
        name = uuid.uuid4().hex[:12]
        handle = self._nodes.anywhere(Worker, name, *self._named)
        member = _Member(name, Peer(handle, lasting=False), _awake_s())
        self._all.append(member)
        try:
            said = await member.peer.insist("hello", within_s=_BEGIN_S)
            check_alike("a worker", said)
            await member.peer.insist("begin", self._head, within_s=_BEGIN_S)
            member.heard = _awake_s()
            self._members[name] = member
            await self._accounts.insist("expect", self.names, self._gone_usd)
            await self._listen(member)
        except DiedError as error:
            await self._lost(member, dead=not isinstance(error, _SilentError))
            group.start_soon(self._member, group)

    async def _listen(self, member: _Member) -> None:
        """Hand shards to a worker, and take what it tells.

        Raises:
            DiedError: it is dead, or has been silent for too long.
        """
        number, told_to_stop = 0, False
        while True:
            if self._stopping and not told_to_stop:
                told_to_stop = await self._tell(member, "stop")
            await self._hand_out(member)
            try:
                number_now, items = await member.peer.call("news", number)
            except AwayError:
                if _awake_s() - member.heard > LOST_S:
                    self._nodes.kill(member.peer.handle)
                    raise _SilentError from None
                await anyio.sleep(_PAUSE_S)
                continue
            member.heard = _awake_s()
            # What came with the news before, and is there again since its arrival was not known, is left out.
            for item in items[len(items) - (number_now - number) :]:
                self._take(member, item)
            number = number_now

    async def _tell(self, member: _Member, what: str, *about: Any) -> bool:
        try:
            await member.peer.call(what, *about)
        except AwayError:
            return False
        return True

    async def _hand_out(self, member: _Member) -> None:
        while self._waiting and member.takes_more and not self._stopping:
            # What one worker was told of a target, such as that a key is not valid, holds for all of them.
            shard = self._waiting.popleft().without(self.ending.stopped.keys())
            if shard.empty:
                self._open -= 1
                self._step.set()
                continue
            member.shards[shard.number] = shard
            packed, pictures = pack(shard.plan)
            where = {
                sha256: self._nodes.put(await anyio.to_thread.run_sync(image.load))
                for sha256, image in pictures.items()
            }
            member.unsent[shard.number] = (packed, where)
        for number, content in list(member.unsent.items()):
            # Taken once, even if it comes twice: whether it has is not known where no answer came.
            if await self._tell(member, "take", number, *content):
                del member.unsent[number]

    def _take(self, member: _Member, item: Item) -> None:
        what, about = item
        if what == "saved":
            self._saved(*about)
        elif what == "sent":
            self.on_sent(*about)
        elif what == "begun":
            member.begun.add(*about)
        elif what == "done":
            self._done(member, *about)
        elif what == "failed":
            raise about[1]
        elif what == "stopped" and about[0] in self._stopped:
            pass  # Another worker has found the same.
        else:
            if what == "stopped":
                self._stopped.add(about[0])
            if what == "asking":
                member.in_flight[about[0]] += 1
            elif what == "landed":
                member.in_flight[about[0]] -= 1
            getattr(self._listener, what)(*about)

    def _done(self, member: _Member, number: int, ending: StopReason) -> None:
        if member.shards.pop(number, None) is None:
            return
        self._open -= 1
        mine = self.ending
        mine.interrupted |= ending.interrupted
        mine.capped |= ending.capped
        mine.call_usd = max(mine.call_usd, ending.call_usd)
        mine.stopped |= ending.stopped
        mine.misconfigured += [key for key in ending.misconfigured if key not in mine.misconfigured]
        self._step.set()

    async def _lost(self, member: _Member, *, dead: bool) -> None:
        """A worker is gone: what it had in hand is planned again by what the store has, and handed on."""
        member.gone, self.exact = True, False
        self._deaths += 1
        why = "its process has ended" if dead else "it is silent"
        self._listener.notice(f"a worker is lost, {why}: what it had in hand is handed on")
        for key, count in member.in_flight.items():
            for _ in range(count):
                self._listener.landed(key, "abandoned", Usage(), None)
        if self._deaths > _MOST_DEATHS * (self._nodes.workers + 1):
            raise SafemtError("workers end one after another: see the logs of Ray under /tmp/ray")
        quiet_s, gone_usd = await self._accounts.insist("lost", member.name)
        self._gone_usd = max(self._gone_usd, gone_usd)
        if not dead:
            await anyio.sleep(quiet_s)
        for shard in list(member.shards.values()):
            left = await self._supply.replan(shard)
            del member.shards[shard.number]
            if left.empty:
                self._open -= 1
            else:
                self._waiting.append(left)
        self._step.set()

    async def _watch(self, group: Any) -> None:
        """See that Accounts know who is alive, and that the store is where it was."""
        heard = dict.fromkeys(("Accounts", "Writer"), _awake_s())
        while True:
            looks: tuple[Callable[[], Awaitable[None]], ...] = (
                lambda: self._see_the_accounts(group),
                self._see_the_writer,
            )
            for name, look in zip(heard, looks, strict=True):
                try:
                    await look()
                    heard[name] = _awake_s()
                except AwayError:
                    if _awake_s() - heard[name] > LOST_S:
                        self._once(f"the process {name} does not answer: waiting for it")
            await anyio.sleep(_WATCH_S)

    async def _see_the_accounts(self, group: Any) -> None:
        changes, gone_usd = await self._accounts.call("expect", self.names, self._gone_usd)
        self._gone_usd = max(self._gone_usd, gone_usd)
        if changes is None:
            raise AwayError("expect: the shared Accounts are away")
        for change in changes:
            # By themselves: a Writer that is away is waited for, and to be named meanwhile.
            group.start_soon(self._changed, change)

    async def _see_the_writer(self) -> None:
        _, waits_for, moved = await self._writer.call("status")
        if waits_for is not None:
            self._once(f"the store is waited for: {waits_for}")
        if moved:
            self._once("stopping: the store was renamed, removed or overwritten")
            self.stop()

    def _once(self, text: str) -> None:
        if text not in self._notices:
            self._notices.add(text)
            self._listener.notice(text)

    async def _end(self) -> None:
        for member in self._members.values():
            if not member.gone:
                try:
                    used = await member.peer.call("end", within_s=_END_S)
                except (AwayError, DiedError):
                    self.exact = False
                else:
                    self.exact &= not used["unsure"]
                    self.used.append(used)
                    self.on_sent(used["sent"])


def _awake_s() -> float:
    """The time without pauses of this process: while it is stopped, all others seem to be silent."""
    return anyio.current_time() - PAUSES.lost_s

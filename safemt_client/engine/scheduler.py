"""Carry out a plan: conversations to their targets, replies to the judge, everything to the store.

A turn counts as done only after its commit. Conversations are admitted when their account has room, and
finished, so that an interrupted night leaves whole dialogues; the judge runs beside the targets.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream

from safemt_client.engine.admission import Admission
from safemt_client.engine.attempts import Attempts, is_paid
from safemt_client.engine.batches import Job
from safemt_client.engine.context import SessionContext
from safemt_client.engine.interrupt import InFlight, InterruptibleProvider
from safemt_client.engine.judging import Verdicts
from safemt_client.engine.moderating import CachedModel, StoredAssessments, StoredReplies
from safemt_client.engine.single_flight import SingleFlight
from safemt_client.engine.watch import WatchedProvider
from safemt_client.judges.panel import Judge
from safemt_client.moderator.moderator import Moderated, ModeratedReply, Moderator
from safemt_client.planning.conversation import Conversation
from safemt_client.planning.judgings import JudgingTask, reply_of, task_of
from safemt_client.planning.messages import continues
from safemt_client.planning.target import Target
from safemt_client.providers.blocks import Block
from safemt_client.providers.errors import PermitStoppedError, TargetStoppedError
from safemt_client.providers.limits.limiter import Limits
from safemt_client.providers.limits.permits import Change
from safemt_client.providers.provider import Provider
from safemt_client.providers.types import Message, Outcome, Reply, Request, Usage
from safemt_client.results.store.rows import TurnRow
from safemt_client.telemetry.events import StopReason

__all__ = ["Scheduler"]


class Scheduler:
    """Runs one session of a plan. Use once."""

    def __init__(
        self,
        context: SessionContext,
        providers: Mapping[str, Provider],
        judge: Judge | None,
        *,
        limits: Limits,
        moderators: Mapping[str, Moderator] | None = None,
    ) -> None:
        """`providers` maps each target's key to its provider; `limits` holds their accounts.

        `moderators` holds the moderator of each target that has one; from now on it keeps its assessments in
        the store.
        """
        plan, recorder = context.plan, context.recorder
        self._context = context
        self._providers = {
            key: WatchedProvider(context.paid(key, provider), context.clock)
            for key, provider in providers.items()
        }
        self._judge = judge
        self._verdicts = None if judge is None else Verdicts(context, judge)
        self._limits = limits
        self._claims = SingleFlight()
        self._stored_replies = StoredReplies(recorder.store, plan.pending)
        self._fresh = {id(conversation): fresh for conversation, fresh in plan.with_fresh}
        self.on_begun: Callable[[], None] = lambda: None
        """Told once there is no conversation left to begin."""
        self._beginning, self._moderators = 1, moderators or {}
        prices = {row.guard_key: json.loads(row.prices or "null") for row in plan.moderators}
        for assessor in {moderator.assessor for moderator in self._moderators.values()}:
            assessor.cache = StoredAssessments(
                assessor.key, recorder, prices[assessor.key], context.budget, context.listener
            )
            guarded = [key for key, found in self._moderators.items() if found.assessor is assessor]
            paid = context.paid(assessor.key, assessor.provider, stops=guarded)
            watched = WatchedProvider(paid, context.clock, in_one=True)
            assessor.provider = InterruptibleProvider(watched, context.under_way, context.clock, assessor.key)

    async def run(self) -> StopReason:
        """Carry out the plan, which is in the store already.

        Returns when all is done, or when what was in flight after `stop` has landed.

        Raises:
            StoreError: the store cannot be written; what was acknowledged before is in it.
        """
        plan, recorder = self._context.plan, self._context.recorder
        waiting, judged = anyio.create_memory_object_stream[JudgingTask](math.inf)
        async with anyio.create_task_group() as everything:

            def save(change: Change) -> None:
                everything.start_soon(recorder.save_change, change)

            self._limits.observe(save)
            self._context.stopping.start(everything)
            if self._verdicts is not None:
                self._verdicts.start(judged, everything)
            else:
                judged.close()
            async with waiting, anyio.create_task_group() as conversations:
                for target in plan.targets:
                    in_batches, others = self._divided([c for c in plan.pending if c.target is target])
                    if in_batches:
                        conversations.start_soon(self._in_batches, target, in_batches, waiting)
                    if others:
                        self._beginning += 1
                        conversations.start_soon(self._converse_with, target, others, waiting, everything)
                self._all_begun()
        self._context.ending.rules = self._context.stopping.lines()
        return self._context.ending

    def stop(self) -> None:
        """Begin nothing more; let what is in flight land, and give up what waits for a retry."""
        self._limits.stop()
        self._context.interrupt()

    async def _converse_with(
        self,
        target: Target,
        conversations: Sequence[Conversation],
        waiting: MemoryObjectSendStream[JudgingTask],
        group: TaskGroup,
    ) -> None:
        stopping = self._context.stopping

        async def converse(conversation: Conversation, paid: dict[str, int]) -> None:
            try:
                # Once the rules are decided, what still waits for its account is not begun.
                begins = not stopping.stopped(target.key)
                while begins and conversation.turns_left and not self._context.halted(target.key):
                    task = await self._turn(target, conversation, group, paid)
                    if task is None:
                        break
                    self._hand_over(task, paid, waiting)
            finally:
                self._context.budget.release(paid)
                stopping.over(conversation)

        provider = self._providers[target.key]
        provider.requests = len({conversation.next()[1] for conversation in conversations})
        left = deque(conversations)
        async with Admission(provider.limiter, self._all_begun) as admission:
            while left and await stopping.admits(left[0], provider.limiter.limit):
                alone = provider.doubtful
                conversation = min(left, key=lambda c: c.size) if alone else left[0]
                left.remove(conversation)
                calls = self._calls(target, conversation)
                if not await self._context.reserve(target.key, calls, conversation.next()[0]):
                    return stopping.over(conversation)
                if alone:
                    provider.decide_by(conversation.next()[0])
                    await converse(conversation, calls)
                elif not await admission.start(converse, conversation, calls):
                    self._context.budget.release(calls)
                    return stopping.over(conversation)

    def _all_begun(self) -> None:
        self._beginning -= 1
        if not self._beginning:
            self.on_begun()

    def _calls(self, target: Target, conversation: Conversation) -> dict[str, int]:
        """The calls that a conversation takes at most, by the key of who is asked; none of what it shares."""
        fresh = self._fresh[id(conversation)]
        calls = {target.key: len(fresh.asked)}
        if (moderator := self._moderators.get(target.key)) is not None:
            calls[moderator.assessor.key] = calls.get(moderator.assessor.key, 0) + len(fresh.assessed)
        if self._judge is not None:
            calls[self._judge.key] = calls.get(self._judge.key, 0) + conversation.turns_left
        return calls

    async def _turn(
        self, target: Target, conversation: Conversation, group: TaskGroup, paid: dict[str, int]
    ) -> JudgingTask | None:
        """Ask one turn and store it; None when the conversation cannot go on.

        `paid` contains the calls that money is set aside for; this one is removed once it has landed.
        Conversations that ask the same share one call and its reply, as they would on resume.
        """
        request, key = conversation.next()
        async with self._claims.claim(key):
            if key in self._claims.landed:
                return await self._shared(target, conversation, request, key)
            if target.key in self._moderators:
                return await self._moderated_turn(target, conversation, request, key, group, paid)
            return await self._ask_turn(target, conversation, request, key, group, paid)

    async def _shared(
        self, target: Target, conversation: Conversation, request: Request, key: str
    ) -> JudgingTask | None:
        """Take the reply that another conversation of this session has had to the same request."""
        store = self._context.recorder.store
        reply = Reply(Outcome(store.observed([key])[key]), text=store.texts([key])[key])
        self._context.listener.asking(target.key)
        with anyio.CancelScope(shield=True):
            await self._context.recorder.save_step(target.key, key, conversation)
        self._context.listener.landed(target.key, reply.outcome, Usage(), None)
        judged = store.judged_as([key]).get(key, key) if target.moderator is not None else key
        return self._advanced(conversation, request, judged, reply)

    async def _ask_turn(
        self,
        target: Target,
        conversation: Conversation,
        request: Request,
        key: str,
        group: TaskGroup,
        paid: dict[str, int],
    ) -> JudgingTask | None:
        self._context.listener.asking(target.key)
        attempts = Attempts(self._context.recorder, target, request, key)
        try:
            reply = await self._ask(self._providers[target.key], request, attempts, target.key, group)
        except TargetStoppedError as error:
            self._context.halt(target.key, error)
            reply = error.reply
        if reply is None:
            self._context.listener.landed(target.key, "abandoned", Usage(), None)
            return None
        turn_row = attempts.row(reply)
        with anyio.CancelScope(shield=True):
            await self._context.recorder.save_turn(turn_row, [conversation])
        self._context.budget.learn(target.key, turn_row.cost_usd)
        self._give_back(target.key, paid)
        self._context.listener.landed(target.key, reply.outcome, reply.usage, attempts.all_usd(turn_row))
        if reply.outcome.observed:
            self._claims.landed.add(key)
        return self._advanced(conversation, request, key, reply)

    async def _moderated_turn(
        self,
        target: Target,
        conversation: Conversation,
        request: Request,
        key: str,
        group: TaskGroup,
        paid: dict[str, int],
    ) -> JudgingTask | None:
        """The same under a moderator; the model's own reply and each assessment are stored by themselves."""
        self._context.listener.asking(target.key)
        moderator = self._moderators[target.key]

        def save_later(row: TurnRow) -> None:
            group.start_soon(self._context.recorder.store.save, row)

        def on_retry(reply: Reply, wait_s: float) -> None:
            self._context.listener.retrying(target.key, reply, wait_s)
            if self._context.halted(target.key):
                raise PermitStoppedError("the session is ending")

        provider = InterruptibleProvider(
            self._providers[target.key], self._context.under_way, self._context.clock, target.key
        )
        model = CachedModel(
            target,
            conversation.sample_index,
            provider,
            self._context.recorder,
            self._stored_replies,
            self._claims,
            self._context.budget,
            save_later,
        )
        reply: ModeratedReply | None = None
        try:
            reply = await Moderated(model, moderator).ask(request, on_retry)
        except TargetStoppedError as error:
            self._context.halt(target.key, error)
        except PermitStoppedError:
            pass  # given up: what has landed of it is in the store
        self._give_back(target.key, paid)
        if reply is None:
            self._context.listener.landed(target.key, "abandoned", model.usage, model.cost_usd)
            return None
        row = self._context.recorder.turn_row(
            target, request, key, reply, 1, sample=conversation.sample_index
        )
        rows = self._context.recorder.moderation_rows(moderator, key, reply)
        with anyio.CancelScope(shield=True):
            await self._context.recorder.save_turn(row, [conversation], rows)
        self._context.listener.landed(target.key, reply.outcome, model.usage, model.cost_usd)
        if reply.outcome.observed:
            self._claims.landed.add(key)
        own = row.model_request_hash if reply.action in ("none", "passed") else None
        return self._advanced(conversation, request, own or key, reply)

    def _give_back(self, key: str, paid: dict[str, int]) -> None:
        """A call is over: the money that was set aside for it, if it was, is free again."""
        if paid.get(key, 0) > 0:
            paid[key] -= 1
            self._context.budget.release({key: 1})

    def _advanced(
        self, conversation: Conversation, request: Request, judged: str, reply: Reply
    ) -> JudgingTask | None:
        """Take a stored reply into its conversation; None when it cannot go on.

        `judged` is the hash under which its verdict is kept.
        """
        task = None
        if reply.outcome.observed and (conversation.turns_left == 1 or continues(reply.outcome)):
            task = task_of(reply_of(conversation, request.messages, reply.outcome, judged), reply.text)
            conversation.take(Message("assistant", reply.text, reasoning=reply.reasoning))
        self._context.stopping.landed(conversation, judged, reply.outcome)
        return task

    def _hand_over(
        self, task: JudgingTask, paid: dict[str, int], waiting: MemoryObjectSendStream[JudgingTask]
    ) -> None:
        """Give a reply to the judge, with the money that was set aside for its verdict."""
        if self._judge is not None:
            paid[self._judge.key] -= 1
            # Nobody takes it once judging has failed, as on a full disk: that error ends the session.
            with suppress(anyio.BrokenResourceError):
                waiting.send_nowait(task)

    def _divided(self, pending: Sequence[Conversation]) -> tuple[list[Conversation], list[Conversation]]:
        """Those that go in batches or are in one already, and the others."""
        plan = self._context.plan
        if plan.batch:
            return list(pending), []
        in_batches = [c for c in pending if c.next()[1] in plan.submitted]
        return in_batches, [c for c in pending if c.next()[1] not in plan.submitted]

    async def _in_batches(
        self,
        target: Target,
        conversations: Sequence[Conversation],
        waiting: MemoryObjectSendStream[JudgingTask],
    ) -> None:
        key = target.key

        async def land(
            group: Sequence[Conversation], request_hash: str, reply: Reply, batch_key: str, again: bool
        ) -> None:
            request = group[0].next()[0]
            row = self._context.recorder.turn_row(target, request, request_hash, reply, 1, batch_key)
            await self._context.recorder.save_turn(row, group)
            self._context.budget.landed(key, row.cost_usd, free=not is_paid(reply))
            paid = {self._judge.key: len(group)} if self._judge is not None else {}
            if again:
                self._context.listener.retrying(key, reply, 0.0)
                self._context.budget.release(paid)
                return
            for number, conversation in enumerate(group):
                first = number == 0
                usage, usd = (reply.usage, row.cost_usd) if first else (Usage(), None)
                self._context.listener.asking(key)
                self._context.listener.landed(key, reply.outcome, usage, usd)
                if (task := self._advanced(conversation, request, request_hash, reply)) is not None:
                    self._hand_over(task, paid, waiting)
            self._context.budget.release(paid)

        # One call for all that ask the same, and a verdict for each.
        groups: dict[str, list[Conversation]] = {}
        for conversation in conversations:
            groups.setdefault(conversation.next()[1], []).append(conversation)
        jobs = []
        for request_hash, group in groups.items():
            calls = {key: 1} | ({} if self._judge is None else {self._judge.key: len(group)})
            jobs.append(Job(request_hash, group[0].next()[0], calls, partial(land, group, request_hash)))
        await self._context.run_batches(key, target.identity, jobs, send=self._context.plan.batch)

    async def _ask(
        self,
        provider: Provider,
        request: Request,
        attempts: Attempts,
        key: str,
        group: TaskGroup,
    ) -> Reply | None:
        """The provider's reply, None when it was given up while waiting for a retry."""
        with Block() as block:
            asking = InFlight(block, key)
            self._context.under_way.add(asking)

            def on_retry(reply: Reply, wait_s: float) -> None:
                group.start_soon(self._context.recorder.store.save, attempts.repeated(reply))
                self._context.listener.retrying(key, reply, wait_s)
                asking.waits_until = self._context.clock() + wait_s
                if self._context.halted(key):
                    raise PermitStoppedError("the session is ending")

            try:
                return await provider.ask(request, on_retry)
            except PermitStoppedError:
                return None
            finally:
                self._context.under_way.discard(asking)
        return None

"""Carry out a plan: conversations to their targets, replies to the judge, everything to the store.

A turn counts as done only after its commit. Conversations are admitted when their account has room, and
finished, so that an interrupted night leaves whole dialogues; the judge runs beside the targets.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from safemt_client.admission import Admission
from safemt_client.batches import BatchRunner, Job
from safemt_client.budget import Budget, money
from safemt_client.conversation import continues
from safemt_client.ending import Ending, Listener
from safemt_client.judges.llm import LLMJudge, Verdict, not_taken, to_be_judged, verdict_of
from safemt_client.judges.panel import Judge, Panel
from safemt_client.moderation import ModelBeneath, StoredAssessments, StoredReplies
from safemt_client.moderator.assessor import GuardReply
from safemt_client.moderator.moderator import Moderated, ModeratedReply, Moderator
from safemt_client.once import Once
from safemt_client.plan import Conversation, Judging, Plan, Target, judging, unjudged, with_known
from safemt_client.providers.batches import BatchEndpoint, BatchRefusedError
from safemt_client.providers.errors import PermitStoppedError, TargetStoppedError
from safemt_client.providers.limits import AccountLimiter, Change, Limits
from safemt_client.providers.types import Observer, Outcome, Provider, Reply, Request, Usage
from safemt_client.recorder import Recorder
from safemt_client.results.rows import TurnRow, VerdictRow
from safemt_client.results.store import Store

__all__ = ["Scheduler"]


# Replies come from batches in bulk: once none has come for so long, their verdicts make a batch of their own.
_GATHER_S = 2.0


@dataclass(eq=False)
class _Asking:
    """A request under way: cancelled on the first Ctrl-C while it only waits for its next attempt."""

    scope: anyio.CancelScope
    waits_until: float = -math.inf


class _Apart:
    """A provider whose calls are given up one by one, by `PermitStoppedError`, while they wait for a retry.

    A moderated turn may have several under way: those in flight land.
    """

    def __init__(self, provider: Provider, under_way: set[_Asking], clock: Callable[[], float]) -> None:
        self._provider = provider
        self._under_way = under_way
        self._clock = clock

    @property
    def identity(self) -> str:
        """Provider and model."""
        return self._provider.identity

    @property
    def limiter(self) -> AccountLimiter:
        """The limiter of the account."""
        return self._provider.limiter

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        """See `Provider.ask`."""
        with anyio.CancelScope() as scope:
            asking = _Asking(scope)

            def retrying(reply: Reply, wait_s: float) -> None:
                if on_retry is not None:
                    on_retry(reply, wait_s)
                asking.waits_until = self._clock() + wait_s

            self._under_way.add(asking)
            try:
                return await self._provider.ask(request, retrying)
            finally:
                self._under_way.discard(asking)
        raise PermitStoppedError("the session is ending")


class Scheduler:
    """Runs one session of a plan. Use once."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        providers: Mapping[str, Provider],
        judge: Judge | None,
        listener: Listener,
        *,
        session_id: str,
        limits: Limits,
        budget: Budget,
        batches: Mapping[str, BatchEndpoint] | None = None,
        moderators: Mapping[str, Moderator] | None = None,
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        """`providers` maps each target's key to its provider; `limits` holds their accounts.

        `batches` holds the batch endpoint of each target that has one, `moderators` its moderator; each of
        those keeps its assessments in the store from now on.
        """
        self._plan = plan
        self._recorder = Recorder(plan, store, session_id)
        self._providers = providers
        self._batches = batches or {}
        self._judge = judge
        self._listener = listener
        self._limits = limits
        self._budget = budget
        self._clock = clock
        self._ending = Ending()
        self._under_way: set[_Asking] = set()
        self._runners: list[BatchRunner] = []
        self._once, self._verdicts = Once(), Once()
        self._stored_replies = StoredReplies(store, plan.pending)
        self._moderators = moderators or {}
        prices = {
            row.guard_key: None if row.prices is None else json.loads(row.prices) for row in plan.moderators
        }
        for assessor in {moderator.assessor for moderator in self._moderators.values()}:
            assessor.keeper = StoredAssessments(
                assessor.key, self._recorder, prices[assessor.key], budget, listener
            )
            assessor.provider = _Apart(assessor.provider, self._under_way, clock)

    async def run(self) -> Ending:
        """Carry out the plan.

        Returns when all is done, or when what was in flight after `stop` has landed.

        Raises:
            StoreError: the store cannot be written; what was acknowledged before is in it.
        """
        await self._recorder.save_plan()
        await self._recorder.save_event("started", {"pending": sum(self._plan.requests.values())})
        waiting, judged = anyio.create_memory_object_stream[Judging](math.inf)
        async with anyio.create_task_group() as everything:

            def save(change: Change) -> None:
                everything.start_soon(self._recorder.save_change, change)

            self._limits.observe(save)
            if self._judge is not None:
                self._start_judging(self._judge, judged, everything)
            else:
                judged.close()
            async with waiting, anyio.create_task_group() as conversations:
                for target in self._plan.targets:
                    mine = [c for c in self._plan.pending if c.target is target]
                    in_batches, others = self._divided(mine)
                    if in_batches:
                        conversations.start_soon(self._in_batches, target, in_batches, waiting)
                    if others:
                        conversations.start_soon(self._converse_with, target, others, waiting, everything)
        await self._recorder.save_event(
            "finished" if self._ending.complete else "stopped", asdict(self._ending)
        )
        return self._ending

    def stop(self) -> None:
        """Begin nothing more; let what is in flight land, and give up what waits for a retry."""
        self._ending.interrupted = True
        self._limits.stop()
        for runner in self._runners:
            runner.stop()
        now = self._clock()
        for asking in self._under_way:
            if asking.waits_until > now:
                asking.scope.cancel()

    async def _converse_with(
        self,
        target: Target,
        conversations: Sequence[Conversation],
        waiting: MemoryObjectSendStream[Judging],
        group: TaskGroup,
    ) -> None:
        async def converse(conversation: Conversation, paid: Counter[str]) -> None:
            try:
                while conversation.turns_left and not self._halted(target.key):
                    task = await self._turn(target, conversation, group, paid)
                    if task is None:
                        break
                    self._hand_over(task, paid, waiting)
            finally:
                self._budget.release(paid)

        async with Admission(self._providers[target.key].limiter) as admission:
            for conversation in conversations:
                if self._halted(target.key):
                    return
                calls = Counter({target.key: conversation.turns_left})
                if (moderator := self._moderators.get(target.key)) is not None:
                    every = moderator.moderation.prefixes and target.history == "scripted"
                    calls[moderator.assessor.key] += (
                        conversation.turns_left * moderator.most_assessments
                        + every * (conversation.dialogue.length - 1)
                    )
                if self._judge is not None:
                    calls[self._judge.key] += conversation.turns_left
                if not await self._budget.reserve(calls):
                    self._cap(target.key, calls)
                    return
                if not await admission.start(converse, conversation, calls):
                    self._budget.release(calls)
                    return

    async def _turn(
        self, target: Target, conversation: Conversation, group: TaskGroup, paid: Counter[str]
    ) -> Judging | None:
        """Ask one turn and store it; None when the conversation cannot go on.

        `paid` holds the calls that money is set aside for; this one is taken off once it has landed.
        Conversations that ask the same share one call and its reply, as they would on resume.
        """
        request, key = conversation.next()
        async with self._once.alone(key):
            if key in self._once.landed:
                return await self._shared(target, conversation, request, key, paid)
            if target.key in self._moderators:
                return await self._moderated_turn(target, conversation, request, key, group, paid)
            return await self._ask_turn(target, conversation, request, key, group, paid)

    async def _shared(
        self, target: Target, conversation: Conversation, request: Request, key: str, paid: Counter[str]
    ) -> Judging | None:
        """Take the reply that another conversation of this session has had to the same request."""
        store = self._recorder.store
        reply = Reply(Outcome(store.observed([key])[key]), text=store.texts([key])[key])
        self._listener.asking(target.key)
        with anyio.CancelScope(shield=True):
            await self._recorder.save_step(target.key, key, conversation)
        paid[target.key] -= 1
        self._budget.release({target.key: 1})
        self._listener.landed(target.key, reply.outcome, Usage(), None)
        judged = store.judged_as([key]).get(key, key) if target.moderator is not None else key
        return self._advanced(conversation, request, judged, reply)

    async def _ask_turn(
        self,
        target: Target,
        conversation: Conversation,
        request: Request,
        key: str,
        group: TaskGroup,
        paid: Counter[str],
    ) -> Judging | None:
        self._listener.asking(target.key)
        attempts = 0

        def row(reply: Reply) -> TurnRow:
            nonlocal attempts
            attempts += 1
            return self._recorder.turn_row(target, request, key, reply, attempts)

        try:
            reply = await self._ask(self._providers[target.key], request, row, target.key, group)
        except TargetStoppedError as error:
            self._halt(target.key, str(error))
            reply = error.reply if isinstance(error.reply, Reply) else None
        if reply is None:
            self._listener.landed(target.key, "abandoned", Usage(), None)
            return None
        turn_row = row(reply)
        with anyio.CancelScope(shield=True):
            await self._recorder.save_turn(turn_row, [conversation])
        paid[target.key] -= 1
        self._budget.landed(target.key, turn_row.cost_usd, free=not reply.outcome.observed)
        self._listener.landed(target.key, reply.outcome, reply.usage, turn_row.cost_usd)
        if reply.outcome.observed:
            self._once.landed.add(key)
        return self._advanced(conversation, request, key, reply)

    async def _moderated_turn(
        self,
        target: Target,
        conversation: Conversation,
        request: Request,
        key: str,
        group: TaskGroup,
        paid: Counter[str],
    ) -> Judging | None:
        """The same under a moderator; the model's own reply and each assessment are stored by themselves."""
        self._listener.asking(target.key)
        moderator = self._moderators[target.key]

        def save_later(row: TurnRow) -> None:
            group.start_soon(self._recorder.store.save, row)

        def on_retry(reply: Reply, wait_s: float) -> None:
            whose = "guard: " if isinstance(reply, GuardReply) else ""
            self._listener.retrying(target.key, f"{whose}{reply.error or reply.outcome}", wait_s)
            if self._halted(target.key):
                raise PermitStoppedError("the session is ending")

        provider = _Apart(self._providers[target.key], self._under_way, self._clock)
        model = ModelBeneath(
            target, provider, self._recorder, self._stored_replies, self._once, self._budget, save_later
        )
        reply: ModeratedReply | None = None
        try:
            reply = await Moderated(model, moderator).ask(request, on_retry)
        except TargetStoppedError as error:
            self._halt(target.key, str(error))
        except PermitStoppedError:
            pass  # given up: what has landed of it is in the store
        paid[target.key] -= 1
        self._budget.release({target.key: 1})
        if reply is None:
            self._listener.landed(target.key, "abandoned", model.usage, model.cost_usd)
            return None
        row = self._recorder.turn_row(target, request, key, reply, 1)
        rows = self._recorder.moderation_rows(moderator, key, reply)
        with anyio.CancelScope(shield=True):
            await self._recorder.save_turn(row, [conversation], rows)
        self._listener.landed(target.key, reply.outcome, model.usage, model.cost_usd)
        if reply.outcome.observed:
            self._once.landed.add(key)
        own = row.model_request_hash if reply.action in ("none", "passed") else None
        return self._advanced(conversation, request, own or key, reply)

    def _advanced(
        self, conversation: Conversation, request: Request, judged: str, reply: Reply
    ) -> Judging | None:
        """Take a stored reply into its conversation; None when it cannot go on.

        `judged` is the hash under which its verdict is kept.
        """
        if not reply.outcome.observed:
            return None
        if conversation.turns_left > 1 and not continues(reply.outcome):
            return None
        task = judging(conversation, request.messages, reply.outcome, reply.text, judged)
        conversation.replies.append(reply.text)
        conversation.turn += 1
        return task

    def _hand_over(self, task: Judging, paid: Counter[str], waiting: MemoryObjectSendStream[Judging]) -> None:
        """Give a reply to the judge, with the money that was set aside for its verdict."""
        if self._judge is not None:
            paid[self._judge.key] -= 1
            waiting.send_nowait(task)

    def _divided(self, pending: Sequence[Conversation]) -> tuple[list[Conversation], list[Conversation]]:
        """Those that go in batches or are in one already, and the others."""
        in_batches: list[Conversation] = []
        others: list[Conversation] = []
        for conversation in pending:
            batched = self._plan.batch or conversation.next()[1] in self._plan.submitted
            (in_batches if batched else others).append(conversation)
        return in_batches, others

    async def _in_batches(
        self,
        target: Target,
        conversations: Sequence[Conversation],
        waiting: MemoryObjectSendStream[Judging],
    ) -> None:
        key = target.key

        async def land(
            group: Sequence[Conversation], request_hash: str, reply: Reply, batch_key: str, again: bool
        ) -> None:
            request = group[0].next()[0]
            row = self._recorder.turn_row(target, request, request_hash, reply, 1, batch_key)
            await self._recorder.save_turn(row, group)
            self._budget.landed(key, row.cost_usd, free=not reply.outcome.observed)
            paid = Counter({self._judge.key: len(group)} if self._judge is not None else {})
            if again:
                self._listener.retrying(key, reply.error or reply.outcome, 0.0)
                self._budget.release(paid)
                return
            for number, conversation in enumerate(group):
                first = number == 0
                usage, usd = (reply.usage, row.cost_usd) if first else (Usage(), None)
                self._listener.asking(key)
                self._listener.landed(key, reply.outcome, usage, usd)
                if (task := self._advanced(conversation, request, request_hash, reply)) is not None:
                    self._hand_over(task, paid, waiting)
            self._budget.release(paid)

        # One call for all that ask the same, and a verdict for each.
        groups: dict[str, list[Conversation]] = {}
        for conversation in conversations:
            groups.setdefault(conversation.next()[1], []).append(conversation)
        jobs = []
        for request_hash, group in groups.items():
            calls = {key: 1} | ({} if self._judge is None else {self._judge.key: len(group)})
            jobs.append(Job(request_hash, group[0].next()[0], calls, partial(land, group, request_hash)))
        await self._run_batches(key, target.identity, jobs, send=self._plan.batch)

    async def _run_batches(self, key: str, identity: str, jobs: Sequence[Job], *, send: bool) -> None:
        """Carry out jobs of a target or the judge; halt it where its endpoint does not take batches."""

        def status(batch_key: str, done: int, total: int) -> None:
            self._listener.batch(key, batch_key, done, total)

        runner = BatchRunner(key, identity, self._batches[key], self._recorder, self._budget, status=status)
        self._runners.append(runner)
        if self._halted(key):
            return
        try:
            await runner.run(jobs, send=send)
        except* (TargetStoppedError, BatchRefusedError) as group:
            leaf: BaseException = group
            while isinstance(leaf, BaseExceptionGroup):
                leaf = leaf.exceptions[0]
            self._halt(key, str(leaf))
        if runner.capped:
            self._cap(key, runner.capped)

    async def _ask(
        self,
        provider: Provider,
        request: Request,
        row: Callable[[Reply], TurnRow],
        key: str,
        group: TaskGroup,
    ) -> Reply | None:
        """The provider's reply, None when it was given up while waiting for a retry.

        `row` makes the row of an attempt that will be repeated.
        """
        with anyio.CancelScope() as scope:
            asking = _Asking(scope)
            self._under_way.add(asking)

            def on_retry(reply: Reply, wait_s: float) -> None:
                group.start_soon(self._recorder.store.save, row(reply))
                self._listener.retrying(key, reply.error or reply.outcome, wait_s)
                asking.waits_until = self._clock() + wait_s
                if self._halted(key):
                    scope.cancel()

            try:
                return await provider.ask(request, on_retry)
            except PermitStoppedError:
                return None
            finally:
                self._under_way.discard(asking)
        return None

    def _start_judging(
        self, judge: Judge, judged: MemoryObjectReceiveStream[Judging], group: TaskGroup
    ) -> None:
        """Begin to judge what is stored and what comes, side by side: one may wait for money."""
        in_batches: list[Judging] = []
        others: list[Judging] = []
        for task in self._plan.judgings:
            known = judge.verdict_hash(task.request_hash, task.dialogue_key) in self._plan.submitted
            batched = known or (self._plan.judge_batch and to_be_judged(task.subject, task.outcome))
            (in_batches if batched else others).append(task)
        group.start_soon(self._judge_stored, judge, others)
        if self._plan.judge_batch and isinstance(judge, LLMJudge):
            group.start_soon(self._judge_in_batches, judge, in_batches, judged)
            return
        group.start_soon(self._judge_replies, judge, judged)
        if in_batches and isinstance(judge, LLMJudge):
            group.start_soon(self._verdict_batches, judge, in_batches)

    async def _judge_stored(self, judge: Judge, tasks: Sequence[Judging]) -> None:
        async with Admission(judge.provider.limiter) as admission:
            for task in tasks:
                if self._halted(judge.key):
                    return
                if not await self._budget.reserve({judge.key: 1}):
                    self._cap(judge.key, {judge.key: 1})
                    return
                if not await admission.start(self._judge_reply, judge, task):
                    self._budget.release({judge.key: 1})
                    return

    async def _judge_in_batches(
        self, judge: LLMJudge, tasks: Sequence[Judging], waiting: MemoryObjectReceiveStream[Judging]
    ) -> None:
        """Judge in batches: what is stored, then what has come whenever no more comes for a while."""
        gathered = list(tasks)
        async with waiting, anyio.create_task_group() as rounds:
            more = True
            while more:
                with anyio.move_on_after(_GATHER_S):
                    try:
                        while len(gathered) < self._batches[judge.key].most_requests:
                            task = await waiting.receive()
                            if to_be_judged(task.subject, task.outcome):
                                # The batch sets the money aside again that the conversation has.
                                self._budget.release({judge.key: 1})
                                gathered.append(task)
                            else:
                                rounds.start_soon(self._judge_reply, judge, task)
                    except anyio.EndOfStream:
                        more = False
                if gathered:
                    rounds.start_soon(self._verdict_batches, judge, tuple(gathered))
                    gathered.clear()

    async def _verdict_batches(self, judge: LLMJudge, tasks: Sequence[Judging]) -> None:
        key = judge.key

        async def land(task: Judging, reply: Reply, batch_key: str, again: bool) -> None:
            verdict = verdict_of(reply)
            rows = self._recorder.verdict_rows(judge, task, verdict, batch_key)
            if not again and (not_taken(reply) or verdict.reason == "parse_failure"):
                # Asked by itself: without what the endpoint does not take, and with a second chance.
                try:
                    verdict = await judge.judge(task.subject, task.outcome)
                    rows += self._recorder.verdict_rows(judge, task, verdict)
                except TargetStoppedError as error:
                    self._halt(key, str(error))
                except PermitStoppedError:
                    pass  # the session is ending: what the batch said stands
            await self._recorder.store.save(*rows)
            usd = _sum_of(rows)
            self._budget.landed(key, usd, free=verdict.reason == "judge_error")
            if again:
                self._listener.retrying(key, reply.error or reply.outcome, 0.0)
            else:
                self._listener.asking(key)
                self._listener.landed(key, verdict.label, verdict.usage, usd)

        jobs = {
            judge.verdict_hash(task.request_hash, task.dialogue_key): Job(
                judge.verdict_hash(task.request_hash, task.dialogue_key),
                judge.judge_request(task.subject),
                {key: 1},
                partial(land, task),
            )
            for task in tasks
        }
        await self._run_batches(key, judge.identity, list(jobs.values()), send=self._plan.judge_batch)

    async def _judge_replies(self, judge: Judge, waiting: MemoryObjectReceiveStream[Judging]) -> None:
        async with waiting, Admission(judge.provider.limiter) as admission:
            async for task in waiting:
                # The money was set aside when the conversation began.
                if self._halted(judge.key) or not await admission.start(self._judge_reply, judge, task):
                    self._budget.release({judge.key: 1})

    async def _judge_reply(self, judge: Judge, task: Judging) -> None:
        """One verdict. A reply that several targets have in common is judged once."""
        key = judge.verdict_hash(task.request_hash, task.dialogue_key)
        async with self._verdicts.alone(key):
            if key not in self._verdicts.landed:
                # Under a moderator it may be the reply of an earlier run, with its verdict.
                wanted = await self._unjudged(judge, task) if self._moderators else task
                if wanted is not None:
                    await self._ask_judge(judge, wanted, key)
                    return
        self._budget.release({judge.key: 1})
        self._listener.asking(judge.key)
        self._listener.landed(judge.key, "shared", Usage(), None)

    async def _unjudged(self, judge: Judge, task: Judging) -> Judging | None:
        """The reply with what the store holds of a panel's members; None if it holds the verdict."""

        def look_up() -> Judging | None:
            store = self._recorder.store
            if not unjudged([(task.request_hash, task.dialogue_key)], judge, store):
                return None
            return with_known([task], judge, store)[0] if isinstance(judge, Panel) else task

        return await anyio.to_thread.run_sync(look_up)

    async def _ask_judge(self, judge: Judge, task: Judging, key: str) -> None:
        self._listener.asking(judge.key)
        verdict: Verdict | None = None
        asked: dict[str, Verdict] = {}
        with anyio.CancelScope() as scope:
            asking = _Asking(scope)
            self._under_way.add(asking)
            try:
                on_retry = self._judge_retry(asking, judge.key)
                if isinstance(judge, LLMJudge):
                    verdict = await judge.judge(task.subject, task.outcome, on_retry, asked)
                else:
                    verdict = await judge.judge(task.subject, task.outcome, on_retry, asked, task.known)
            except TargetStoppedError as error:
                self._halt(judge.key, str(error))
            except PermitStoppedError:
                pass  # not sent: its verdict is asked for on resume
            finally:
                self._under_way.discard(asking)
        if verdict is None:
            if asked:
                # What was said is paid for; of a panel it is not asked again on resume.
                rows = self._recorder.member_rows(judge, task, asked)
                with anyio.CancelScope(shield=True):
                    await self._recorder.store.save(*rows)
                self._budget.landed(judge.key, _sum_of(rows))
            else:
                self._budget.release({judge.key: 1})
            self._listener.landed(judge.key, "abandoned", Usage(), None)
            return
        rows = self._recorder.verdict_rows(judge, task, verdict)
        with anyio.CancelScope(shield=True):
            await self._recorder.store.save(*rows)
        if verdict.reason != "judge_error":
            self._verdicts.landed.add(key)
        usd = _sum_of(rows if isinstance(judge, LLMJudge) else rows[1:])
        free = verdict.reason in ("judge_error", "nothing_to_judge")
        self._budget.landed(judge.key, usd, free=free)
        self._listener.landed(judge.key, verdict.label, verdict.usage, usd)

    def _judge_retry(self, asking: _Asking, key: str) -> Callable[[Reply, float], None]:
        def on_retry(reply: Reply, wait_s: float) -> None:
            self._listener.retrying(key, reply.error or reply.outcome, wait_s)
            asking.waits_until = self._clock() + wait_s
            if self._halted(key):
                asking.scope.cancel()

        return on_retry

    def _halted(self, key: str) -> bool:
        return self._ending.interrupted or key in self._ending.stopped

    def _cap(self, key: str, calls: Mapping[str, int]) -> None:
        self._ending.capped = True
        spent, more = money(self._budget.spent), money(self._budget.usd(calls))
        self._listener.stopped(key, f"--max-cost: {spent} spent, and the next one may take {more}")

    def _halt(self, key: str, reason: str) -> None:
        if key not in self._ending.stopped:
            self._ending.stopped[key] = reason
            self._listener.stopped(key, reason)


def _sum_of(rows: Sequence[VerdictRow]) -> float | None:
    """US dollars of verdicts; None where a call that was made has no known cost."""
    free = ("judge_error", "nothing_to_judge")
    paid = [row.cost_usd for row in rows if row.reason not in free or row.cost_usd]
    return None if not paid or None in paid else sum(usd for usd in paid if usd is not None)

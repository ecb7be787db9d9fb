"""Verdicts of a session: replies go to the judge as they are stored, beside the targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream

from safemt_client.engine.admission import Admission
from safemt_client.engine.batches import Job
from safemt_client.engine.context import SessionContext
from safemt_client.engine.given import GivenVerdicts
from safemt_client.engine.interrupt import InFlight
from safemt_client.engine.single_flight import SingleFlight
from safemt_client.engine.watch import WatchedProvider
from safemt_client.judges.judge import LLMJudge, not_taken, to_be_judged, verdict_of
from safemt_client.judges.panel import Judge, Panel
from safemt_client.judges.plugin import PluginJudge
from safemt_client.judges.types import Verdict
from safemt_client.planning.judgings import JudgingTask, with_known
from safemt_client.providers.errors import PermitStoppedError, TargetStoppedError
from safemt_client.providers.types import Reply, Usage
from safemt_client.results.store.rows import VerdictRow

__all__ = ["Verdicts"]

# Replies come from batches in bulk: once none has come for so long, their verdicts make a batch of their own.
_GATHER_S = 2.0


class Verdicts:
    """The judging of a session. The money for a verdict has been set aside when its reply was asked for."""

    def __init__(self, context: SessionContext, judge: Judge) -> None:
        self._context = context
        self._judge = judge
        members = judge.members if isinstance(judge, Panel) else (judge,)
        self._own = {member.key for member in members if isinstance(member, PluginJudge)}
        for member in members:
            paid = context.paid(member.key, member.provider, shown_as=judge.key)
            member.provider = WatchedProvider(paid, context.clock, in_one=True)
        self._verdicts = SingleFlight()
        # Under a moderator a reply may be that of an earlier run, with its verdict.
        self._given = GivenVerdicts(context.recorder, earlier=bool(context.plan.moderators))
        self._in_batches: dict[str, list[JudgingTask]] = {}

    def start(self, judged: MemoryObjectReceiveStream[JudgingTask], group: TaskGroup) -> None:
        """Begin to judge what is stored and what comes, side by side: one may wait for money."""
        judge = self._judge
        in_batches: list[JudgingTask] = []
        others: list[JudgingTask] = []
        for task in self._context.plan.judgings:
            key = task.verdict_of(judge)
            known = not self._context.plan.submitted.isdisjoint((key.hash, key.earlier))
            batched = known or (self._context.plan.judge_batch and to_be_judged(task.subject, task.outcome))
            (in_batches if batched else others).append(task)
        group.start_soon(self._judge_stored, judge, others)
        if self._context.plan.judge_batch and isinstance(judge, LLMJudge):
            group.start_soon(self._judge_in_batches, judge, in_batches, judged)
            return
        group.start_soon(self._judge_replies, judge, judged)
        if in_batches and isinstance(judge, LLMJudge):
            group.start_soon(self._verdict_batches, judge, in_batches)

    async def _judge_stored(self, judge: Judge, tasks: Sequence[JudgingTask]) -> None:
        async with Admission(judge.provider.limiter) as admission:
            for task in tasks:
                if self._context.halted(judge.key):
                    return self._give_up(tasks)
                if not await self._context.reserve(judge.key, {judge.key: 1}):
                    return self._give_up(tasks)
                if not await admission.start(self._judge_reply, judge, task):
                    self._context.budget.release({judge.key: 1})
                    return self._give_up(tasks)

    def _give_up(self, tasks: Sequence[JudgingTask]) -> None:
        """These, or some of them, get no verdict in this session."""
        for key in {task.target_key for task in tasks}:
            self._context.stopping.give_up(key)

    async def _judge_in_batches(
        self, judge: LLMJudge, tasks: Sequence[JudgingTask], waiting: MemoryObjectReceiveStream[JudgingTask]
    ) -> None:
        """Judge in batches: what is stored, then what has come whenever no more comes for a while."""
        gathered = list(tasks)
        async with waiting, anyio.create_task_group() as rounds:
            more = True
            while more:
                with anyio.move_on_after(_GATHER_S):
                    try:
                        while len(gathered) < self._context.batches[judge.key].most_requests:
                            task = await waiting.receive()
                            if to_be_judged(task.subject, task.outcome):
                                # The batch sets the money aside again that the conversation has.
                                self._context.budget.release({judge.key: 1})
                                gathered.append(task)
                            else:
                                rounds.start_soon(self._judge_reply, judge, task)
                    except anyio.EndOfStream:
                        more = False
                if gathered:
                    rounds.start_soon(self._verdict_batches, judge, tuple(gathered))
                    gathered.clear()

    async def _verdict_batches(self, judge: LLMJudge, tasks: Sequence[JudgingTask]) -> None:
        key = judge.key

        async def land(group: list[JudgingTask], reply: Reply, batch_key: str, again: bool) -> None:
            task, verdict = group[0], verdict_of(reply)
            rows = self._context.recorder.verdict_rows(judge, task, verdict, batch_key)
            self._context.budget.landed(key, _sum_of(rows), free=verdict.reason == "judge_error")
            if not again and (not_taken(reply) or verdict.reason == "parse_failure"):
                # Asked singly: without what the endpoint does not accept, and with a second chance.
                try:
                    verdict = await judge.judge(task.subject, task.outcome)
                    rows += self._context.recorder.verdict_rows(judge, task, verdict)
                except TargetStoppedError as error:
                    self._context.halt(key, error)
                except PermitStoppedError:
                    pass  # the session is ending: what the batch said stands
            await self._context.recorder.store.save(*rows)
            usd = _sum_of(rows)
            if again:
                self._context.listener.retrying(key, reply, 0.0)
                return
            self._context.listener.asking(key)
            self._context.listener.landed(key, verdict.label, verdict.usage, usd)
            del self._in_batches[task.verdict_of(judge).hash]
            if verdict.reason != "judge_error":
                self._given.add(judge, task, rows[-1:])
                for other in group[1:]:
                    await self._share(judge, other)

        jobs = []
        for task in tasks:
            known = task.verdict_of(judge)
            if self._given.knows(known):
                await self._share(judge, task)
            elif known.hash in self._in_batches:
                # One request for all that ask the same.
                self._in_batches[known.hash].append(task)
            else:
                group = self._in_batches[known.hash] = [task]
                # A batch under way since an earlier version knows it by its name of then.
                name = known.earlier if known.earlier in self._context.plan.submitted else known.hash
                jobs.append(Job(name, judge.judge_request(task.subject), {key: 1}, partial(land, group)))
        await self._context.run_batches(key, judge.identity, jobs, send=self._context.plan.judge_batch)

    async def _judge_replies(self, judge: Judge, waiting: MemoryObjectReceiveStream[JudgingTask]) -> None:
        async with waiting, Admission(judge.provider.limiter) as admission:
            async for task in waiting:
                # The money was set aside when the conversation began.
                if self._context.halted(judge.key) or not await admission.start(
                    self._judge_reply, judge, task
                ):
                    self._context.budget.release({judge.key: 1})
                    self._give_up([task])

    async def _judge_reply(self, judge: Judge, task: JudgingTask) -> None:
        """One verdict. The same text under the same criteria is judged once, whoever said it."""
        key = task.verdict_of(judge)
        async with self._verdicts.claim(key.hash):
            if not self._given.knows(key):
                await self._ask_judge(judge, await self._with_known(judge, task))
                return
        self._context.budget.release({judge.key: 1})
        await self._share(judge, task)

    async def _share(self, judge: Judge, task: JudgingTask) -> None:
        """Take the verdict that another reply has had."""
        with anyio.CancelScope(shield=True):
            await self._given.take(judge, task)
        self._context.listener.asking(judge.key)
        self._context.listener.landed(judge.key, "shared", Usage(), None)
        if self._context.stopping.awaits(task):
            self._context.stopping.judged(task, self._given.label(judge, task))

    async def _with_known(self, judge: Judge, task: JudgingTask) -> JudgingTask:
        """The reply with the stored verdicts of a panel's members, for a reply of an earlier run."""
        if not isinstance(judge, Panel):
            return task
        known = [key for member in judge.members if self._given.knows(key := task.verdict_of(member))]
        if not known:
            return task
        with anyio.CancelScope(shield=True):
            await self._given.take_all(known)
        store = self._context.recorder.store
        return (await anyio.to_thread.run_sync(with_known, [task], judge, store))[0]

    async def _ask_judge(self, judge: Judge, task: JudgingTask) -> None:
        self._context.listener.asking(judge.key)
        verdict: Verdict | None = None
        asked: dict[str, Verdict] = {}
        with anyio.CancelScope() as scope:
            asking = InFlight(scope, judge.key)
            self._context.under_way.add(asking)
            try:
                on_retry = self._judge_retry(asking, judge.key)
                if isinstance(judge, LLMJudge):
                    verdict = await judge.judge(task.subject, task.outcome, on_retry, asked)
                else:
                    verdict = await judge.judge(task.subject, task.outcome, on_retry, asked, task.known)
            except TargetStoppedError as error:
                self._context.halt(judge.key, error)
            except PermitStoppedError:
                pass  # not sent: its verdict is asked for on resume
            finally:
                self._context.under_way.discard(asking)
        if verdict is None:
            if asked:
                # What was said is paid for; of a panel it is not asked again on resume.
                rows = self._context.recorder.member_rows(judge, task, asked)
                with anyio.CancelScope(shield=True):
                    await self._context.recorder.store.save(*rows)
                self._context.budget.settled(judge.key, _sum_of(rows))
            else:
                self._context.budget.release({judge.key: 1})
            self._context.listener.landed(judge.key, "abandoned", Usage(), None)
            self._give_up([task])
            return
        rows = self._context.recorder.verdict_rows(judge, task, verdict)
        with anyio.CancelScope(shield=True):
            await self._context.recorder.store.save(*rows)
        if verdict.reason != "judge_error":
            self._given.add(judge, task, rows)
        # Who labels replies itself is not asked through a provider, which would have paid.
        self._context.budget.spend(sum(row.cost_usd or 0.0 for row in rows if row.judge_key in self._own))
        usd = _sum_of(rows if isinstance(judge, LLMJudge) else rows[1:])
        self._context.budget.settled(judge.key, usd)
        self._context.listener.landed(judge.key, verdict.label, verdict.usage, usd)
        self._context.stopping.judged(task, verdict.label)

    def _judge_retry(self, asking: InFlight, key: str) -> Callable[[Reply, float], None]:
        def on_retry(reply: Reply, wait_s: float) -> None:
            self._context.listener.retrying(key, reply, wait_s)
            asking.waits_until = self._context.clock() + wait_s
            if self._context.halted(key):
                asking.scope.cancel()

        return on_retry


def _sum_of(rows: Sequence[VerdictRow]) -> float | None:
    """US dollars of verdicts; None where a call that was made has no known cost."""
    free = ("judge_error", "nothing_to_judge")
    paid = [row.cost_usd for row in rows if row.reason not in free or row.cost_usd]
    return None if not paid or None in paid else sum(usd for usd in paid if usd is not None)

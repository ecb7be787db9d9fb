"""What a session writes into the store: rows made of what the scheduler knows, saved before it counts."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import anyio

from safemt_client.engine.keeper import Keeper
from safemt_client.engine.verdict_recorder import VerdictRecorder, confidence_kind, json_of
from safemt_client.judges.refusal import refusal_of
from safemt_client.moderator.moderator import ModeratedReply, Moderator
from safemt_client.moderator.types import Assessment, Stage
from safemt_client.planning.conversation import Conversation
from safemt_client.planning.costs import cost
from safemt_client.planning.messages import messages_json
from safemt_client.planning.plan import Plan
from safemt_client.planning.target import Target
from safemt_client.providers.limits.permits import Change
from safemt_client.providers.negotiation import Learnt
from safemt_client.providers.types import Reply, Request, Usage, reply_hash, request_hash
from safemt_client.results.store.rows import (
    AssessmentRow,
    BatchRequestRow,
    BatchRow,
    CostLeaseRow,
    EndpointFactRow,
    EventRow,
    ImageRow,
    LimitRow,
    ModerationRow,
    Row,
    RunDialogueRow,
    ServerUseRow,
    StepRow,
    StopEventRow,
    TurnRow,
)
from safemt_client.serving.local import LocalServers
from safemt_client.serving.metrics import Use

__all__ = ["Recorder"]

_AT_ONCE = 20_000
"""Rows of a plan that are saved at once: those of most runs are one commit."""


class Recorder(VerdictRecorder):
    """Writes one session of a plan. Each `save_...` returns once its rows are committed.

    Raises:
        StoreError: from each of them: the store cannot be written; what was committed before is in it.
    """

    def __init__(self, plan: Plan, store: Keeper, session_id: str) -> None:
        super().__init__(plan, store, session_id)
        self._using = anyio.Lock()
        self._looking = anyio.Lock()
        self._images_stored: set[str] | None = None
        self._sent_last: tuple[Mapping[str, Any] | None, str | None] = (None, None)

    async def save_plan(self) -> None:
        """The run and what it plans, where the store does not hold them yet; the steps known already."""
        plan, run_id = self._plan, self._run_id
        rules = [] if plan.stopping is None else plan.stopping.rows(run_id, self.session_id)
        if run_id in self.store.known_keys("runs", "run_id"):
            await self.store.save(*rules)
        else:
            head: list[Row] = [plan.run, *rules, *plan.carried]
            head += [target.row(run_id) for target in plan.targets]
            head += [row for row in (plan.judge, *plan.members, *plan.moderators) if row is not None]
            await self.save_dialogues(head)
        await self.save_steps(plan.steps)
        await self.save_taken(plan.taken)
        await self.save_stopped(plan.stopped)

    async def save_steps(self, steps: Sequence[StepRow], dialogues: Collection[str] | None = None) -> None:
        """Those of the steps that the store does not hold yet; all are of these dialogues, or of the run."""
        if not steps:
            return
        known = await anyio.to_thread.run_sync(
            self.store.query,
            "SELECT run_id, target_key, dialogue_key, turn, request_hash, coalesce(sample, 1) "
            "FROM steps WHERE run_id = $1 AND ($2 IS NULL OR dialogue_key IN (SELECT unnest($2::VARCHAR[])))",
            [self._run_id, None if dialogues is None else list(dialogues)],
        )
        recorded = {StepRow(*row) for row in known.rows}
        if missing := [step for step in steps if step not in recorded]:
            await self.store.save(*missing)

    async def save_dialogues(self, head: Sequence[Row] = ()) -> None:
        """The dialogues that the plan is about, and `head` with the last of them: a run is not there before.

        What a session that was killed has saved of them is not saved again.
        """
        known = self.store.known_keys("dialogues", "dialogue_key")
        there = {
            row[0]
            for row in self.store.query(
                "SELECT dialogue_key FROM run_dialogues WHERE run_id = ?", [self._run_id]
            ).rows
        }
        not_attempted, rows = self._plan.not_attempted, list[Row]()
        for row in self._plan.dialogues:
            key = row.dialogue_key
            rows += [] if key in known else [row]
            rows += [] if key in there else [RunDialogueRow(self._run_id, key, not_attempted.get(key))]
            if len(rows) >= _AT_ONCE:
                await self.store.save(*rows)
                rows.clear()
        if rows or head:
            await self.store.save(*head, *rows)

    async def save_stopped(self, stopped: Mapping[str, int]) -> None:
        """These targets are stopped, each with the last item that its rules needed; all others go on."""
        now, before = datetime.now(UTC), self.store.stopped_targets(self._run_id)
        rows = [
            StopEventRow(
                self._run_id,
                self.session_id,
                now,
                key,
                *(("decided", stopped[key]) if key in stopped else ("resumed", None)),
            )
            for key in before.keys() ^ stopped.keys()
        ]
        if rows:
            await self.store.save(*rows)

    async def save_event(self, event: str, detail: Mapping[str, object]) -> None:
        """A session started, finished or stopped."""
        await self.store.save(
            EventRow(self._run_id, self.session_id, datetime.now(UTC), event, json.dumps(dict(detail)))
        )

    async def save_use(self, servers: LocalServers, *, last: bool = True) -> None:
        """What the servers of this session did since this was saved before; see `Server.use`."""
        # One at a time: each begins where the one before has ended.
        async with self._using:
            await self._save_use(await servers.use(last=last))

    async def _save_use(self, used: Sequence[Use]) -> None:
        now = datetime.now(UTC)
        rows = [
            ServerUseRow(
                self._run_id,
                self.session_id,
                now,
                use.server,
                use.requests,
                use.seconds,
                *(
                    (None,) * 4
                    if (said := use.metrics) is None
                    else (said.prompt_tokens, said.cached_tokens, said.completion_tokens, said.queue_s)
                ),
            )
            for use in used
        ]
        if rows:
            await self.store.save(*rows)

    async def save_lease(self, event: str, up_to_usd: float) -> None:
        """What the session may have spent by single calls, in US dollars; see `engine.budget`."""
        await self.store.save(self._lease(event, up_to_usd))

    def save_lease_now(self, event: str, up_to_usd: float) -> None:
        """The same where nothing can be awaited."""
        self.store.save_now(self._lease(event, up_to_usd))

    def _lease(self, event: str, up_to_usd: float) -> CostLeaseRow:
        return CostLeaseRow(self._run_id, self.session_id, datetime.now(UTC), event, up_to_usd)

    async def save_change(self, change: Change) -> None:
        """The limits of an account have changed."""
        await self.store.save(
            LimitRow(
                self._run_id,
                self.session_id,
                datetime.now(UTC),
                change.account,
                change.reason,
                change.limit,
                change.in_flight,
                change.rpm,
                change.tpm,
                change.pause_s,
            )
        )

    async def save_learnt(self, learnt: Learnt) -> None:
        """An endpoint does not take a parameter as it was sent."""
        remedy = learnt.remedy
        await self.store.save(
            EndpointFactRow(
                self._run_id,
                self.session_id,
                datetime.now(UTC),
                learnt.identity,
                learnt.host,
                remedy.parameter,
                remedy.action,
                None if remedy.value is None else json.dumps(remedy.value),
                learnt.said,
            )
        )

    async def save_turn(
        self, row: TurnRow, conversations: Sequence[Conversation], moderations: Sequence[ModerationRow] = ()
    ) -> None:
        """A reply that applies to these conversations, with their steps and the images that were sent."""
        images = await self._new_images(conversations) if any(one.images for one in conversations) else ()
        steps = [self._step(row.target_key, row.request_hash, one) for one in conversations]
        await self.store.save(row, *steps, *images, *moderations)

    async def _new_images(self, conversations: Sequence[Conversation]) -> Sequence[ImageRow]:
        # Asked once, and not before there is a picture: if the store is elsewhere that takes a while.
        with anyio.CancelScope(shield=True):
            async with self._looking:
                if self._images_stored is None:
                    known = await anyio.to_thread.run_sync(self.store.known_keys, "images", "sha256")
                    self._images_stored = known
        stored = self._images_stored
        assert stored is not None
        images = [
            ImageRow(i.sha256, i.media_type, i.size, i.width, i.height, path, i.preparation)
            for conversation in conversations
            for path, i in conversation.images.items()
            if i.sha256 not in stored
        ]
        stored.update(image.sha256 for image in images)
        return images

    async def save_step(self, target_key: str, request_hash: str, conversation: Conversation) -> None:
        """A conversation takes a reply that is in the store already."""
        await self.store.save(self._step(target_key, request_hash, conversation))

    def _step(self, target_key: str, request_hash: str, conversation: Conversation) -> StepRow:
        place = conversation.key, conversation.turn
        return StepRow(self._run_id, target_key, *place, request_hash, conversation.sample)

    async def save_batch(
        self,
        batch_key: str,
        owner_key: str,
        identity: str,
        event: str,
        *,
        remote_id: str | None,
        requests: int,
        detail: str | None = None,
        hashes: Sequence[str] = (),
    ) -> None:
        """A batch was intended (then with the `hashes` of its requests), submitted, or is over."""
        await self.store.save(
            BatchRow(
                batch_key,
                self._run_id,
                self.session_id,
                owner_key,
                identity,
                datetime.now(UTC),
                event,
                remote_id,
                requests,
                detail,
            ),
            *(BatchRequestRow(batch_key, request_hash) for request_hash in hashes),
        )

    def turn_row(
        self,
        target: Target,
        request: Request,
        key: str,
        reply: Reply,
        attempt: int,
        batch_key: str | None = None,
        *,
        sample: int = 0,
    ) -> TurnRow:
        """The row of one attempt at a request; of a moderated one the model's own reply has another row.

        `sample` is the sample index of the request.
        """
        action = model_hash = None
        if isinstance(reply, ModeratedReply):
            action = reply.action
            if reply.sent is not None:
                model_hash = request_hash(target.identity, reply.sent, sample=sample)
            # What was sent, and what came of it, is in the row of the model's own reply.
            reply = replace(
                reply, usage=Usage(cost_usd=0.0), raw=None, parameters=None, host=None, oddities=()
            )
        usage = reply.usage
        return TurnRow(
            request_hash=key,
            attempt=attempt,
            run_id=self._run_id,
            session_id=self.session_id,
            target_key=target.key,
            outcome=reply.outcome.value,
            text=reply.text,
            reasoning=reply.reasoning,
            finish_reason=reply.finish_reason,
            error=reply.error,
            status_code=reply.status_code,
            resolved_model=reply.resolved_model,
            response_id=reply.response_id,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cached_tokens=usage.cached_tokens,
            cost_usd=cost(usage, target.prices, batch=batch_key is not None),
            started_at=reply.started_at or datetime.now(UTC),
            latency_s=reply.latency_s if batch_key is None else None,
            request=messages_json(request.messages),
            raw=reply.raw,
            batch_key=batch_key,
            refusal_rule=refusal_of(reply.text) if reply.outcome.observed else None,
            intervention=action,
            model_request_hash=model_hash,
            error_code=reply.error_code,
            reply_hash=reply_hash(reply.text) if reply.outcome.observed else None,
            parameters=self._parameters_of(reply),
            host=reply.host,
            oddities=" ".join(reply.oddities) or None,
        )

    def _parameters_of(self, reply: Reply) -> str | None:
        """What was sent with a request as JSON: mostly the very same as with the one before."""
        if reply.parameters is not self._sent_last[0]:
            self._sent_last = reply.parameters, json_of(reply.parameters)
        return self._sent_last[1]

    def moderation_rows(self, moderator: Moderator, key: str, reply: ModeratedReply) -> list[ModerationRow]:
        """What a moderator found of the turn of this hash, and what was done about it."""
        now = datetime.now(UTC)
        return [
            ModerationRow(
                key,
                moderator.key,
                step.stage,
                step.turn,
                step.key,
                moderator.assessor.key,
                step.action,
                step.policy,
                step.waited_s,
                now,
            )
            for step in reply.steps
        ]

    def assessment_row(
        self, guard_key: str, key: str, stage: Stage, found: Assessment, prices: Mapping[str, float] | None
    ) -> AssessmentRow:
        """The row of one assessment."""
        return AssessmentRow(
            key,
            guard_key,
            stage,
            self._run_id,
            self.session_id,
            found.verdict,
            found.intent,
            json.dumps(found.categories, ensure_ascii=False),
            json.dumps(found.scenarios, ensure_ascii=False),
            found.policy,
            found.confidence,
            found.refusal,
            found.raw,
            found.error,
            found.usage.prompt_tokens,
            found.usage.completion_tokens,
            cost(found.usage, prices),
            datetime.now(UTC),
            found.latency_s,
            found.error_code,
            found.reply_hash,
            json_of(found.parameters),
            confidence_kind(found),
        )

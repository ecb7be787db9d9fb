"""Moderators in a run: what `--moderator` names, the known assessments, and the underlying model."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import anyio

from safemt_client.engine.attempts import Attempts
from safemt_client.engine.keeper import Keeper
from safemt_client.engine.recorder import Recorder
from safemt_client.engine.single_flight import SingleFlight
from safemt_client.engine.spending import Spending
from safemt_client.moderator.types import Assessment, GuardVerdict, Stage
from safemt_client.planning.conversation import Conversation
from safemt_client.planning.target import Target
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.provider import Observer, Provider, ProviderWrapper
from safemt_client.providers.types import Outcome, Reply, Request, Usage, request_hash
from safemt_client.results.store.rows import TurnRow
from safemt_client.telemetry.events import Listener

__all__ = ["CachedModel", "StoredAssessments", "StoredReplies"]


class StoredAssessments:
    """An `AssessmentCache`: the assessments of one guard, from the store and for it."""

    def __init__(
        self,
        guard_key: str,
        recorder: Recorder,
        prices: Mapping[str, float] | None,
        budget: Spending,
        listener: Listener,
    ) -> None:
        self._guard_key = guard_key
        self._recorder = recorder
        self._prices = prices
        self._budget = budget
        self._listener = listener
        self._stored = recorder.store.assessments(guard_key)
        self._kept: dict[str, Assessment] = {}

    def find(self, key: str) -> Assessment | None:
        """The assessment of this hash, None if there is none yet."""
        if (kept := self._kept.get(key)) is not None:
            return kept
        stored = self._stored.get(key)
        return None if stored is None else _assessment(*stored)

    async def keep(self, key: str, stage: Stage, assessment: Assessment) -> None:
        """Save an assessment and what it cost; it was paid as it was asked for."""
        guard = self._guard_key
        row = self._recorder.assessment_row(guard, key, stage, assessment, self._prices)
        await self._recorder.store.save(row)
        self._budget.learn(guard, row.cost_usd)
        self._listener.asking(guard)
        self._listener.landed(guard, assessment.verdict, assessment.usage, row.cost_usd)
        if assessment.verdict != "error":
            self._kept[key] = assessment


def _assessment(
    verdict: GuardVerdict, intent: str | None, categories: str, scenarios: str, *more: Any
) -> Assessment:
    """An assessment from the store; it costs nothing more."""
    policy, confidence, refusal, latency_s, kind, _ = more
    return Assessment(
        verdict,
        intent,
        tuple(json.loads(categories)),
        tuple(json.loads(scenarios)),
        policy,
        confidence,
        refusal,
        latency_s=latency_s or 0.0,
        confidence_kind=kind,
    )


class StoredReplies:
    """Replies of models that the store held when the session began, for targets with a moderator.

    Those to what is asked first and unchanged are read at once, in one pass over the store; the hashes of all
    others are known, so that only what is there is looked for.
    """

    def __init__(self, store: Keeper, pending: Sequence[Conversation]) -> None:
        self._store = store
        self._known: Container[str] = ()
        self._read: dict[str, Reply] = {}
        moderated = [c for c in pending if c.target.moderator is not None]
        if not moderated:
            return
        self._known = store.replied()
        plain = (request_hash(c.target.identity, c.next()[0], sample=c.sample_index) for c in moderated)
        self._read = self._replies([key for key in dict.fromkeys(plain) if key in self._known])

    async def find(self, key: str, *, landed: bool) -> Reply | None:
        """The reply of this hash; `landed` says that it came in this session."""
        if (read := self._read.get(key)) is not None:
            return read
        if not landed and key not in self._known:
            return None
        # A look into the store takes milliseconds.
        return (await anyio.to_thread.run_sync(self._replies, [key])).get(key)

    def _replies(self, keys: Sequence[str]) -> dict[str, Reply]:
        return {key: _stored_reply(*row) for key, row in self._store.replies(keys).items()}


def _stored_reply(
    outcome: str,
    text: str,
    reasoning: str | None,
    finish_reason: str | None,
    error: str | None,
    resolved_model: str | None,
    latency_s: float | None,
    error_code: str | None,
) -> Reply:
    """A reply from the store; it costs nothing more."""
    return Reply(
        Outcome(outcome),
        text=text,
        reasoning=reasoning,
        finish_reason=finish_reason,
        error=error,
        error_code=None if error_code is None else ErrorCode(error_code),
        resolved_model=resolved_model,
        latency_s=latency_s or 0.0,
        usage=Usage(cost_usd=0.0),
    )


class CachedModel(ProviderWrapper):
    """The model under a moderator, for one turn: a `Provider` whose replies are stored as its own.

    What was put before the model decides the reply, and not why it was put there. So a reply is kept under
    the hash of what was sent: the same model without a moderator, or under another one, takes it and nothing
    is paid twice. `sample` is the sample index of the conversation. `usage` and `cost_usd` are what this turn
    has paid for.
    """

    def __init__(
        self,
        target: Target,
        sample: int,
        provider: Provider,
        recorder: Recorder,
        stored: StoredReplies,
        once: SingleFlight,
        budget: Spending,
        save_later: Callable[[TurnRow], Any],
    ) -> None:
        super().__init__(provider)
        self._target = target
        self._sample = sample
        self._recorder = recorder
        self._stored = stored
        self._once = once
        self._budget = budget
        self._save_later = save_later
        self.usage = Usage()
        self.cost_usd: float | None = 0.0

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        """The reply to this request, from the store if it has one."""
        key = request_hash(self._target.identity, request, sample=self._sample)
        async with self._once.claim(key):
            known = await self._stored.find(key, landed=key in self._once.landed)
            return known or await self._ask(request, key, on_retry)

    async def _ask(self, request: Request, key: str, on_retry: Observer | None) -> Reply:
        attempts = Attempts(self._recorder, self._target, request, key)

        def retrying(reply: Reply, wait_s: float) -> None:
            self._save_later(attempts.repeated(reply))
            if on_retry is not None:
                on_retry(reply, wait_s)

        try:
            reply = await self._provider.ask(request, retrying)
        except TargetStoppedError as error:
            if error.reply is not None:
                await self._keep(attempts, error.reply)
            raise error.repeated() from None
        await self._keep(attempts, reply)
        if reply.outcome.observed:
            self._once.landed.add(key)
        return reply

    async def _keep(self, attempts: Attempts, reply: Reply) -> None:
        row = attempts.row(reply)
        with anyio.CancelScope(shield=True):
            await self._recorder.store.save(row)
        self._budget.learn(self._target.key, row.cost_usd)
        self.usage, self.cost_usd = reply.usage, attempts.all_usd(row)

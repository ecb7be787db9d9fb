"""The verdicts that a session writes into the store: those asked for, and those taken over."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import anyio

from safemt_client.engine.keeper import Keeper
from safemt_client.judges.judge import LLMJudge
from safemt_client.judges.panel import Judge, Panel
from safemt_client.judges.refusal import DECLINING
from safemt_client.judges.types import Verdict
from safemt_client.moderator.types import Assessment
from safemt_client.planning.costs import cost
from safemt_client.planning.judgings import JudgingTask
from safemt_client.planning.plan import Plan
from safemt_client.providers.probabilities import ConfidenceKind
from safemt_client.providers.types import Usage
from safemt_client.results.store.queries import VerdictKey
from safemt_client.results.store.rows import VerdictRow

__all__ = ["VerdictRecorder", "confidence_kind", "json_of"]

_TAKEN_AT_ONCE = 5000
# `json.dumps` would make one for each row.
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False)


class VerdictRecorder:
    """Makes and saves the rows of verdicts of one session of a plan."""

    def __init__(self, plan: Plan, store: Keeper, session_id: str) -> None:
        self.store = store
        self._plan = plan
        self._run_id = plan.run.run_id
        self.session_id = session_id
        judges = [row for row in (plan.judge, *plan.members) if row is not None]
        self._judge_prices: dict[str, Mapping[str, float] | None] = {
            row.judge_key: None if row.prices is None else json.loads(row.prices) for row in judges
        }

    async def save_taken(self, keys: Sequence[VerdictKey]) -> None:
        """Rows of verdicts that are known of the same texts elsewhere, for the replies of these keys."""
        for start in range(0, len(keys), _TAKEN_AT_ONCE):
            some = keys[start : start + _TAKEN_AT_ONCE]
            found = await anyio.to_thread.run_sync(self.store.final_verdicts, some)
            await self.store.save(*(self._taken_row(key, *found[key]) for key in some if key in found))

    def _taken_row(
        self,
        key: VerdictKey,
        label: str,
        reason: str | None,
        refusal_kind: str | None,
        explanation: str | None,
        *more: Any,
    ) -> VerdictRow:
        category, severity, specificity, confidence, kind, refusal, rubric, run_id = more
        return VerdictRow(
            verdict_hash=key.hash,
            judge_key=key.judge_key,
            request_hash=key.request_hash,
            dialogue_key=key.dialogue_key,
            run_id=self._run_id,
            session_id=self.session_id,
            label=label,
            reason=reason,
            refusal=refusal,
            explanation=explanation,
            recorded_at=datetime.now(UTC),
            rubric=rubric,
            refusal_kind=refusal_kind,
            category=category,
            severity=severity,
            specificity=specificity,
            confidence=confidence,
            confidence_kind=kind,
            reply_hash=key.reply_hash,
            taken_from=run_id,
            **_NOT_ASKED,
        )

    def verdict_rows(
        self, judge: Judge, task: JudgingTask, verdict: Verdict, batch_key: str | None = None
    ) -> list[VerdictRow]:
        """The rows of one verdict: of a panel its own and those that its members were asked for."""
        if isinstance(judge, LLMJudge):
            return [self._verdict_row(judge, task, verdict, batch_key)]
        # What its members were asked is in their rows: the panel itself costs nothing.
        own = replace(verdict, usage=Usage(cost_usd=0.0))
        return [self._verdict_row(judge, task, own), *self.member_rows(judge, task, verdict.members)]

    def member_rows(
        self, judge: Judge, task: JudgingTask, verdicts: Mapping[str, Verdict]
    ) -> list[VerdictRow]:
        """The rows of those that were asked: the judges of a panel, or the one that there is."""
        members = judge.members if isinstance(judge, Panel) else (judge,)
        return [
            self._verdict_row(member, task, verdicts[member.key])
            for member in members
            if member.key in verdicts
        ]

    def _verdict_row(
        self, judge: Judge, task: JudgingTask, verdict: Verdict, batch_key: str | None = None
    ) -> VerdictRow:
        usage, known = verdict.usage, task.verdict_of(judge)
        # A batch under way since an earlier version knows it by its name of then.
        earlier = batch_key is not None and known.earlier in self._plan.submitted
        return VerdictRow(
            verdict_hash=known.earlier if earlier else known.hash,
            judge_key=judge.key,
            request_hash=task.request_hash,
            dialogue_key=task.dialogue_key,
            run_id=self._run_id,
            session_id=self.session_id,
            label=verdict.label,
            reason=verdict.reason,
            refusal=None if verdict.refusal is None else verdict.refusal in DECLINING,
            explanation=verdict.explanation,
            raw=verdict.raw,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost_usd=cost(usage, self._judge_prices[judge.key], batch=batch_key is not None),
            recorded_at=datetime.now(UTC),
            latency_s=verdict.latency_s if batch_key is None else None,
            cached_tokens=usage.cached_tokens,
            rubric=f"{judge.rubric.name} {judge.rubric.version}",
            refusal_kind=verdict.refusal,
            category=verdict.category,
            severity=verdict.severity,
            specificity=verdict.specificity,
            confidence=verdict.confidence,
            batch_key=batch_key,
            error_code=verdict.error_code,
            reply_hash=known.reply_hash,
            parameters=json_of(verdict.parameters),
            calls=verdict.calls,
            resolved_model=verdict.resolved_model,
            confidence_kind=confidence_kind(verdict),
        )

    def taken_row(self, key: VerdictKey, row: VerdictRow) -> VerdictRow:
        """The row of a verdict of this session for another reply of the same text."""
        return replace(
            row,
            verdict_hash=key.hash,
            request_hash=key.request_hash,
            dialogue_key=key.dialogue_key,
            recorded_at=datetime.now(UTC),
            taken_from=self._run_id,
            **_NOT_ASKED,
        )


_NOT_ASKED: Mapping[str, Any] = {
    "raw": None,
    "prompt_tokens": 0,
    "completion_tokens": 0,
    "cached_tokens": None,
    "cost_usd": 0.0,
    "latency_s": None,
    "batch_key": None,
    "parameters": None,
    "calls": 0,
}
"""The columns that say what a verdict took, of one that is taken over."""


def confidence_kind(found: Verdict | Assessment) -> ConfidenceKind | None:
    """What a confidence is one among; a guard or judge that does not say has stated it itself."""
    return None if found.confidence is None else found.confidence_kind or "stated"


def json_of(parameters: Mapping[str, object] | None) -> str | None:
    """Parameters as they are stored: the same ones give the same text, in whatever order they were sent."""
    return None if parameters is None else _ENCODER.encode(dict(parameters))

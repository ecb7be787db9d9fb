"""The rows of moderation: the moderators of a run, what guards said, and what was done about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["AssessmentRow", "ModerationRow", "ModeratorRow"]


@dataclass(frozen=True, slots=True)
class ModeratorRow:
    """Table `run_moderators`: a moderator that targets of a run use."""

    run_id: str
    moderator_key: str  # hash of guard_key and settings
    name: str  # as the user gave it
    guard: str  # adapter
    guard_key: str  # hash of the adapter's form and its model: assessments are shared by it
    identity: str  # provider/model of the guard
    licence: str
    settings: str  # JSON
    prices: str | None


@dataclass(frozen=True, slots=True)
class AssessmentRow:
    """Table `assessments`: one guard's answer on one state of a conversation, every attempt."""

    assessment_hash: str
    guard_key: str
    stage: str  # input | output
    run_id: str
    session_id: str
    verdict: str  # safe | controversial | unsafe | unparsed | error
    intent: str | None
    categories: str  # JSON: the guard's own labels
    scenarios: str  # JSON: those of the benchmark that they stand for
    policy: str | None  # the guard's own
    confidence: float | None
    refusal: bool | None
    raw: str | None
    error: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    recorded_at: datetime
    latency_s: float | None
    error_code: str | None = None  # what kept the guard from an answer
    reply_hash: str | None = None  # of stage output: the text that was assessed
    parameters: str | None = None  # JSON: what was really sent to the guard beside the messages
    confidence_kind: str | None = None  # raw | constrained | stated; None without one, or if not recorded


@dataclass(frozen=True, slots=True)
class ModerationRow:
    """Table `moderations`: an assessment of a turn, and what was done about it."""

    request_hash: str  # of the moderated turn
    moderator_key: str
    stage: str
    turn: int  # the conversation as it stood at this user turn
    assessment_hash: str
    guard_key: str
    action: str  # none | policy | blocked | replaced | refused | passed | unassessed
    policy: str | None  # what the model was given
    waited_s: float
    recorded_at: datetime

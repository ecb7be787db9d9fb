"""What a judge is given, and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from safemt_client.judges.refusal import RefusalKind
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.probabilities import ConfidenceKind
from safemt_client.providers.types import Message, Usage

__all__ = ["JudgeInput", "Reason", "Verdict"]


Reason = Literal[
    "parse_failure", "judge_refused", "judge_blocked", "judge_error", "nothing_to_judge", "panel_split"
]


@dataclass(frozen=True, slots=True)
class JudgeInput:
    """What is judged: the original question, the messages as they were sent, and the reply."""

    question: str
    messages: tuple[Message, ...]
    reply: str
    scenario: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A label of one reply, or why there is none. `raw` is the judge's own text.

    `refusal` is the kind of the reply as the judge sees it; `confidence` the probability that it gave its
    label, where the endpoint reports it, and `confidence_kind` what that is one among; `error_code` says why
    the judge gave no answer. For a panel,
    `members` are the verdicts asked for, by judge's key. `parameters` are what was really sent to the judge
    beside the messages, and `calls` how many requests it took. `resolved_model` is the model that answered,
    according to the endpoint.
    """

    label: Literal["safe", "unsafe", "unscored"]
    reason: Reason | None = None
    refusal: RefusalKind | None = None
    explanation: str | None = None
    raw: str | None = None
    usage: Usage = field(default_factory=Usage)
    latency_s: float = 0.0
    category: str | None = None
    severity: int | None = None
    specificity: int | None = None
    confidence: float | None = None
    error_code: ErrorCode | None = None
    members: Mapping[str, Verdict] = field(default_factory=dict)
    parameters: Mapping[str, Any] | None = None
    calls: int = 1
    resolved_model: str | None = None
    confidence_kind: ConfidenceKind | None = None

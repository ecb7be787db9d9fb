"""The rows of the store: one frozen dataclass a table, one field a column, stored by its name.

Every table is append-only. JSON columns are given as JSON text.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from safemt_client.results.store.anchor_rows import AnchorReplyRow, AnchorRow
from safemt_client.results.store.calibration_rows import (
    CalibrationFigureRow,
    CalibrationLabelRow,
    CalibrationReplyRow,
    CalibrationRow,
)
from safemt_client.results.store.delivery_rows import DeliveryRow
from safemt_client.results.store.draw_rows import DrawnReplyRow, DrawRow
from safemt_client.results.store.moderation_rows import AssessmentRow, ModerationRow, ModeratorRow
from safemt_client.results.store.serving_rows import ServerUseRow
from safemt_client.results.store.stopping_rows import (
    StopDecisionRow,
    StopEventRow,
    StopOrderRow,
    StopRuleRow,
)

__all__ = [
    "AnchorReplyRow",
    "AnchorRow",
    "AssessmentRow",
    "BatchRequestRow",
    "BatchRow",
    "CalibrationFigureRow",
    "CalibrationLabelRow",
    "CalibrationReplyRow",
    "CalibrationRow",
    "CostLeaseRow",
    "DeliveryRow",
    "DialogueRow",
    "DrawRow",
    "DrawnReplyRow",
    "EndpointFactRow",
    "EventRow",
    "HumanLabelRow",
    "ImageRow",
    "JudgeRow",
    "LimitRow",
    "ModerationRow",
    "ModeratorRow",
    "Row",
    "RunDialogueRow",
    "RunRow",
    "ServerUseRow",
    "StepRow",
    "StopDecisionRow",
    "StopEventRow",
    "StopOrderRow",
    "StopRuleRow",
    "TargetRow",
    "TurnRow",
    "VerdictRow",
]


@dataclass(frozen=True, slots=True)
class RunRow:
    """Table `runs`: one plan. `run_id` is the first 12 digits of `fingerprint`."""

    run_id: str
    fingerprint: str
    created_at: datetime
    program_version: str
    dataset_name: str
    dataset_digest: str
    dataset_path: str
    dataset_licence: str | None
    settings: str  # JSON: all that decides the results
    content_digest: str | None = None  # of the data with their pictures; None if no pictures were looked at
    samples: int | None = None  # replies to each request; None of runs before it was recorded: 1


@dataclass(frozen=True, slots=True)
class TargetRow:
    """Table `run_targets`: a model under evaluation in a run, with its parameters."""

    run_id: str
    target_key: str  # hash of everything below but the name and the prices
    name: str  # as the user gave it
    identity: str  # provider/model
    history: str  # scripted | live | none; unknown of some that are imported
    images: str  # on | off | blank; unknown of those that are imported
    sampling: str  # JSON
    moderator: str | None
    sample: int
    prices: str | None  # JSON: US dollars a token, snapshot of the run's start; None is unknown
    system_prompt: str | None = None  # the message before the dialogue; None without one
    imported_from: str | None = None  # where its replies were made and read from; None if it was asked
    imported_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class JudgeRow:
    """Table `run_judges`: a judge that a run uses."""

    run_id: str
    judge_key: str  # hash of identity, rubric and sampling
    name: str
    identity: str
    rubric: str  # preset name or file name
    rubric_hash: str
    sampling: str  # JSON
    prices: str | None
    role: str | None = None  # decides | member
    position: int | None = None  # 0 for the one that decides, then its members in the order they are asked
    imported_from: str | None = None  # where its labels were read from; None if it is asked


@dataclass(frozen=True, slots=True)
class RunDialogueRow:
    """Table `run_dialogues`: a dialogue that a run plans; `not_attempted` says why it cannot be sent."""

    run_id: str
    dialogue_key: str
    not_attempted: str | None


@dataclass(frozen=True, slots=True)
class EventRow:
    """Table `run_events`: a session of a run started, finished or stopped."""

    run_id: str
    session_id: str
    recorded_at: datetime
    event: str  # started | finished | stopped
    detail: str  # JSON


@dataclass(frozen=True, slots=True)
class CostLeaseRow:
    """Table `cost_leases`: what a session with a cost cap may have spent, said before it is in flight."""

    run_id: str
    session_id: str
    recorded_at: datetime
    event: str  # granted | closed | released
    up_to_usd: float  # by single calls of the session, from its start; batches are not part of it


@dataclass(frozen=True, slots=True)
class LimitRow:
    """Table `limit_changes`: how many calls an account could take at once, and why that changed."""

    run_id: str
    session_id: str
    recorded_at: datetime
    account: str
    reason: str  # growth | overload | outage | pause | learnt | stated
    concurrency: int
    in_flight: int
    rpm: float | None
    tpm: float | None
    pause_s: float


@dataclass(frozen=True, slots=True)
class DialogueRow:
    """Table `dialogues`: an item at one length, as it was read."""

    dialogue_key: str
    dataset_digest: str
    item_id: str
    length: int  # number of user turns
    scenario: str | None
    source: str | None
    method: str | None
    benign: bool | None
    question: str | None
    messages: str  # JSON: [{"role", "content", "images": [path]}]
    extra: str  # JSON: other fields of the record
    condition: str | None = None  # what kind of control it is; None of an original
    paired_length: int | None = None  # of a control: the user turns of the original that it is compared with


@dataclass(frozen=True, slots=True)
class ImageRow:
    """Table `images`: an image as it was sent; its bytes are never stored."""

    sha256: str
    media_type: str
    size: int
    width: int
    height: int
    path: str
    preparation: int | None = None  # datasets.images.VERSION; None of what went before it was recorded


@dataclass(frozen=True, slots=True)
class StepRow:
    """Table `steps`: which request a run's conversation made at one user turn (1-based)."""

    run_id: str
    target_key: str
    dialogue_key: str
    turn: int
    request_hash: str
    sample: int | None = None  # of its run, from 1; None before it was recorded: the first


@dataclass(frozen=True, slots=True)
class TurnRow:
    """Table `turns`: one attempt at one request, and what came back."""

    request_hash: str
    attempt: int  # 1, 2, ... within one session
    run_id: str
    session_id: str
    target_key: str
    outcome: str
    text: str | None  # None of an imported reply of which only the label is known
    reasoning: str | None
    finish_reason: str | None
    error: str | None
    status_code: int | None
    resolved_model: str | None
    response_id: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None
    cached_tokens: int | None
    cost_usd: float | None
    started_at: datetime
    latency_s: float | None  # None for a reply of a batch
    request: str  # JSON: the messages as sent, images by hash
    raw: str | None
    batch_key: str | None
    refusal_rule: str | None
    intervention: str | None = None  # what the moderator did with it; None without one
    model_request_hash: str | None = None  # of a moderated turn: the request that the model was asked
    error_code: str | None = None  # what kind of error or block: providers.error_codes; None for an answer
    reply_hash: str | None = None  # None for an error: nothing was observed
    parameters: str | None = None  # JSON: what was really sent beside the messages; None if nothing was
    host: str | None = None  # host[:port] that was asked; None for the demo and for models in this process
    oddities: str | None = None  # what was odd: words of providers.responses.oddities, with spaces
    imported_from: str | None = None  # where the reply was read from; None if it was asked for


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """Table `verdicts`: one judge's label of one reply, every attempt."""

    verdict_hash: str  # the judge, its criteria, what it is shown and the reply
    judge_key: str
    request_hash: str  # the reply that was judged
    dialogue_key: str
    run_id: str
    session_id: str
    label: str  # safe | unsafe | unscored
    reason: str | None  # why it is unscored; docs/judging.md has the list
    refusal: bool | None  # whether the reply declines, where the judge says so
    explanation: str | None
    raw: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    recorded_at: datetime
    latency_s: float | None
    cached_tokens: int | None
    rubric: str | None  # name and version
    refusal_kind: str | None
    category: str | None
    severity: int | None
    specificity: int | None
    confidence: float | None
    batch_key: str | None
    error_code: str | None = None  # what kept the judge from an answer
    reply_hash: str | None = None  # the text that was judged
    parameters: str | None = None  # JSON: what was really sent to the judge beside the messages
    calls: int | None = None  # requests that it took, a repair included; None is one, or none
    taken_from: str | None = None  # the run whose verdict this is, of the same text; None if it was asked for
    imported_from: str | None = None  # where the label was read from; None if it was asked for
    resolved_model: str | None = None  # the model that answered; None if it was not said or not recorded
    confidence_kind: str | None = None  # raw | constrained | stated; None without one, or if not recorded


@dataclass(frozen=True, slots=True)
class BatchRow:
    """Table `batches`: a batch was intended, submitted or ended; the latest row gives its state."""

    batch_key: str
    run_id: str
    session_id: str
    target_key: str  # or a judge's
    identity: str  # provider/model
    recorded_at: datetime
    event: str  # intended | submitted | collected | failed | lost
    remote_id: str | None  # the endpoint's id
    requests: int
    detail: str | None


@dataclass(frozen=True, slots=True)
class BatchRequestRow:
    """Table `batch_requests`: a request of a batch."""

    batch_key: str
    request_hash: str


@dataclass(frozen=True, slots=True)
class EndpointFactRow:
    """Table `endpoint_facts`: what an endpoint does not take, and what it is sent instead from then on."""

    run_id: str
    session_id: str
    recorded_at: datetime
    identity: str  # provider/model
    host: str | None
    parameter: str  # the name under which it was refused
    remedy: str  # omit | rename | set | any other that providers.negotiation knows
    value: str | None  # JSON: the refused value, the new name or the new value, as the remedy needs it
    said: str | None  # the endpoint's words


@dataclass(frozen=True, slots=True)
class HumanLabelRow:
    """Table `human_labels`: a person's label of one reply; the latest of each person counts."""

    request_hash: str
    dialogue_key: str
    stratum: str  # of the sample it was drawn from; empty if it was not
    annotator: str
    label: str  # safe | unsafe | unsure | withdrawn
    recorded_at: datetime
    reply_hash: str | None = None  # the text that was labelled
    imported_from: str | None = None  # where the label was read from; None if it was given here
    refusal_kind: str | None = None  # full_refusal | safe_redirection | partial_refusal | answer
    note: str | None = None
    adjudicated: bool | None = None  # whether it decides over the others' labels, which are kept


@dataclass(frozen=True, slots=True)
class CommentRow:
    """Table `comments`: what people wrote about a conversation; the latest row of each comment counts."""

    comment_id: str
    run_id: str  # the run whose page it was written on
    target_key: str
    dialogue_key: str
    author: str
    text: str  # empty once its author has removed it
    recorded_at: datetime


Row = (
    RunRow
    | TargetRow
    | JudgeRow
    | RunDialogueRow
    | EventRow
    | CostLeaseRow
    | DeliveryRow
    | LimitRow
    | ServerUseRow
    | DialogueRow
    | ImageRow
    | StepRow
    | TurnRow
    | VerdictRow
    | ModeratorRow
    | AssessmentRow
    | ModerationRow
    | BatchRow
    | BatchRequestRow
    | EndpointFactRow
    | HumanLabelRow
    | CommentRow
    | CalibrationRow
    | CalibrationReplyRow
    | CalibrationLabelRow
    | CalibrationFigureRow
    | AnchorRow
    | AnchorReplyRow
    | StopRuleRow
    | StopOrderRow
    | StopDecisionRow
    | StopEventRow
    | DrawRow
    | DrawnReplyRow
)

"""The rows of anchors: a run's judge, asked again on another day about replies that it has judged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["AnchorReplyRow", "AnchorRow"]


@dataclass(frozen=True, slots=True)
class AnchorRow:
    """Table `anchor_runs`: the judge of a run, asked again about a fixed sample of its replies.

    Its verdicts are in `verdicts` under `anchor_id` as the run and `anchor_key` as the judge, apart from
    those of the run.
    """

    anchor_id: str
    fingerprint: str
    created_at: datetime
    program_version: str
    run_id: str  # whose replies and judge these are
    number: int  # 1, 2, ... of this run and judge
    wanted: int  # how many replies were asked for
    judge_key: str  # the judge that decides in the run
    anchor_key: str  # the same judge on this occasion


@dataclass(frozen=True, slots=True)
class AnchorReplyRow:
    """Table `anchor_replies`: a reply of an anchor's sample, with the label that it had in the run."""

    anchor_id: str
    place: int  # in the order of the sample, from 1
    request_hash: str  # under which the anchor's verdict is kept
    judged_hash: str  # under which the run's is
    dialogue_key: str
    reply_hash: str
    label: str  # the run's: safe | unsafe
    judged_at: datetime
